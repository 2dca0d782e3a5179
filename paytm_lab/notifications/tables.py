"""What notifications store in the wide store."""

from __future__ import annotations

from paytm_lab.ports.wide_store import WideTable

NOTIFICATIONS = "notifications"
PREFERENCES = "notification_preferences"

WIDE_TABLES: tuple[WideTable, ...] = (
    # One row per notification. ``state``: claimed -> sent, or failed (the provider refused it for
    # good), or unknown (claimed by somebody who died: perhaps sent). ``possible_repeat`` is 1 where
    # one that was unknown was sent again.
    WideTable(
        NOTIFICATIONS,
        ("notification_id",),
        (),
        {
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
    # Only users who chose something have a row. Each of the three is a comma-separated list of
    # channels, '' for none.
    WideTable(
        PREFERENCES,
        ("user_id",),
        (),
        {"user_id": "text", "paid": "text", "received": "text", "alert": "text"},
    ),
)
