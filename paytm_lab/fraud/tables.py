"""What the fraud side stores in the wide store."""

from __future__ import annotations

from paytm_lab.ports.wide_store import WideTable

FEATURES = "features"
LISTS = "fraud_lists"
FLAGGED = "fraud_flagged"
RULE_CHANGES = "fraud_rule_changes"
LIST_CHANGES = "fraud_list_changes"
HISTORY = "fraud_history"
MODELS = "fraud_models"

WIDE_TABLES: tuple[WideTable, ...] = (
    # One row per scored payment: what was known, and the answer. The row is the answer for good.
    # ``gate``: 'before' when the decision came with the event, 'after' when it was made on reading
    # it. ``velocity_count`` is -1 where nothing was counted; ``model_score`` is -1 where no model
    # was asked; ``rules_version`` is 0 or null where it is not known which rules judged;
    # ``shadow_model`` and ``shadow_score``: of a model that was asked but did not decide; ``made``:
    # 1 where the payment was completed, 0 where it failed or was cancelled.
    WideTable(
        FEATURES,
        ("payment_id",),
        (),
        {
            "payment_id": "text",
            "user_id": "text",
            "amount": "bigint",
            "score": "double",
            "decision": "text",
            "rule": "text",
            "model": "text",
            "model_score": "double",
            "velocity_count": "bigint",
            "to_user_id": "text",
            "at_us": "bigint",
            "scored_at_us": "bigint",
            "gate": "text",
            "rules_version": "bigint",
            "shadow_model": "text",
            "shadow_score": "double",
            "made": "bigint",
        },
    ),
    # The decisions about a sender's payments that were not "allow", the newest first
    # (``newest_first`` is the payment's ``at_us`` with a minus). What each was is in ``features``.
    WideTable(
        FLAGGED,
        ("user_id",),
        ("newest_first", "payment_id"),
        {
            "user_id": "text",
            "newest_first": "bigint",
            "payment_id": "text",
            "decision": "text",
        },
    ),
    # ``list``: 'frozen' or 'mule'; ``listed``: 1, or 0 once taken off (the row stays as history).
    WideTable(
        LISTS,
        ("list",),
        ("user_id",),
        {
            "list": "text",
            "user_id": "text",
            "listed": "bigint",
            "note": "text",
            "changed_at_us": "bigint",
            "changed_by": "text",
        },
    ),
    # Every version of the rules, never written twice. ``book``: 'rules'; ``newest_first``: the
    # version with a minus; ``change``: a rule_book.Change as JSON.
    WideTable(
        RULE_CHANGES,
        ("book",),
        ("newest_first",),
        {"book": "text", "newest_first": "bigint", "change": "text"},
    ),
    # Every change of a list, twice: under its day ('day:2026-01-31', UTC) and under its user
    # ('user:asha'). ``newest_first``: its time in microseconds with a minus; ``listed``: 1 put on,
    # 0 taken off; ``was``: the same, before.
    WideTable(
        LIST_CHANGES,
        ("list", "part"),
        ("newest_first", "change_id"),
        {
            "list": "text",
            "part": "text",
            "newest_first": "bigint",
            "change_id": "text",
            "user_id": "text",
            "was": "bigint",
            "listed": "bigint",
            "changed_by": "text",
            "note": "text",
        },
    ),
    # What trained models know of a user: decaying sums of what they paid and received, as
    # history.py packs them. Kept while a model is deployed.
    WideTable(HISTORY, ("user_id",), (), {"user_id": "text", "sums": "blob"}),
    # Trained models, in parts. ``model``: its digest.
    WideTable(
        MODELS,
        ("model",),
        ("part",),
        {"model": "text", "part": "bigint", "body": "blob"},
    ),
)
