"""What notifications store in the wide store."""

from __future__ import annotations

from paytm_lab.ports.wide_store import WideTable

NOTIFICATIONS = "notifications_by_time"
CLAIMS = "notification_claims"
PREFERENCES = "notification_preferences"

WIDE_TABLES: tuple[WideTable, ...] = (
    # One row per notification that somebody tried to send. ``state``: sent, or failed (the provider
    # refused it for good), or unknown (claimed by somebody who died: perhaps sent).
    # ``possible_repeat`` is 1 where one that was unknown was sent again. ``bucket``: the beginning
    # of the payment's id, which is its time: the notifications of a few seconds lie together, so
    # that a batch of them is one or two writes.
    WideTable(
        NOTIFICATIONS,
        ("bucket",),
        ("notification_id",),
        {
            "bucket": "text",
            "notification_id": "text",
            "payment_id": "text",
            "event_type": "text",
            "user_id": "text",
            "channel": "text",
            "template": "text",
            "state": "text",
            "attempts": "bigint",
            "possible_repeat": "bigint",
            "claimed_at_us": "bigint",
            "ended_at_us": "bigint",
        },
    ),
    # Who is first to store a notification's id here sends it. A claim without a row above is the
    # trace of somebody who died. A batch of claims is one or two votes, by ``bucket`` as above.
    # They are a table of their own: a vote draws its time where it is held, a plain write where it
    # comes from, and of two writes to one column the later counts.
    WideTable(
        CLAIMS,
        ("bucket",),
        ("notification_id",),
        {"bucket": "text", "notification_id": "text"},
    ),
    # Only users who chose something have a row. Each of the three is a comma-separated list of
    # channels, '' for none.
    WideTable(
        PREFERENCES,
        ("user_id",),
        (),
        {"user_id": "text", "paid": "text", "received": "text", "alert": "text"},
    ),
)
