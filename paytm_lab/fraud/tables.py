"""What the fraud side stores in the wide store."""

from __future__ import annotations

from paytm_lab.ports.wide_store import WideTable

FEATURES = "features"
LISTS = "fraud_lists"

WIDE_TABLES: tuple[WideTable, ...] = (
    # One row per scored payment: what was known, and the answer. The row is the answer for good.
    # ``gate``: 'before' when the decision came with the event, 'after' when it was made on reading
    # it. ``velocity_count`` is -1 where nothing was counted; ``model_score`` is -1 where no model
    # was asked.
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
        },
    ),
)
