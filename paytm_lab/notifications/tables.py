"""What notifications store in the wide store."""

from __future__ import annotations

from paytm_lab.ports.wide_store import WideTable

NOTIFICATIONS = "notifications_by_time"
CLAIMS = "notification_claims"
PREFERENCES = "notification_preferences"
INBOX = "notification_inbox"
INBOX_HOURS = "notification_inbox_hours"
WAITING = "notifications_waiting"
SWEEPS = "notification_sweeps"
DEAD_LETTERS = "notification_dead_letters"
CONTACTS = "notification_contacts"
PARTS = "notification_parts"

WIDE_TABLES: tuple[WideTable, ...] = (
    # One row per notification that somebody tried to send. ``state``: sent; waiting (for the end of
    # quiet hours, or for the next try); sending (by the sweeper, from ``waiting``); failed (refused
    # for good: a dead letter); unknown (claimed by somebody who died: perhaps sent).
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
            "due_at_us": "bigint",
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
    # Only users who chose something have a row. Each of the four is a comma-separated list of
    # channels, '' for none, null for the default. Quiet hours are minutes of the day in ``zone``;
    # null: none.
    WideTable(
        PREFERENCES,
        ("user_id",),
        (),
        {
            "user_id": "text",
            "paid": "text",
            "received": "text",
            "alert": "text",
            "system": "text",
            "quiet_from": "bigint",
            "quiet_to": "bigint",
            "zone": "text",
        },
    ),
    # What a user was or is to be sent, by the hour. ``part`` divides an hour by the user, so that a
    # batch is a write for each part. One for each user cost the store half as much as all the rest
    # of a payment. ``place`` begins with the time left to the end of time, so that a user's newest
    # comes first. ``shown`` is what an inbox shows of it, as JSON: the store works by cells.
    WideTable(
        INBOX,
        ("hour", "part"),
        ("user_id", "place"),
        {
            "hour": "bigint",
            "part": "bigint",
            "user_id": "text",
            "place": "text",
            "state": "text",
            "shown": "text",
        },
    ),
    # In which hours a user has anything; stored with the first row of an hour. ``hours_left``
    # is to the end of time, so that the newest comes first.
    WideTable(
        INBOX_HOURS,
        ("user_id", "month"),
        ("hours_left",),
        {"user_id": "text", "month": "text", "hours_left": "bigint"},
    ),
    # What is to be sent later, by the minute in which it is due; ``lane`` divides a minute.
    # ``parcel`` is all that sending it needs, as JSON. Rows go when they were dealt with.
    WideTable(
        WAITING,
        ("minute", "lane"),
        ("due_us", "notification_id"),
        {
            "minute": "bigint",
            "lane": "bigint",
            "due_us": "bigint",
            "notification_id": "text",
            "attempts": "bigint",
            "parcel": "text",
        },
    ),
    # One row: every minute before this one holds nothing that waits.
    WideTable(SWEEPS, ("name",), (), {"name": "text", "minute": "bigint"}),
    # What was given up, by the day on which it was.
    WideTable(
        DEAD_LETTERS,
        ("day",),
        ("notification_id",),
        {
            "day": "text",
            "notification_id": "text",
            "error": "text",
            "attempts": "bigint",
            "failed_at_us": "bigint",
            "parcel": "text",
        },
    ),
    # Where users are reached, as far as they said.
    WideTable(
        CONTACTS,
        ("user_id",),
        (),
        {"user_id": "text", "email": "text", "phone": "text", "push_token": "text"},
    ),
    # What was told of each part of the lab: up or down, since when, and how many checks in a row
    # have said otherwise.
    WideTable(
        PARTS,
        ("part",),
        (),
        {
            "part": "text",
            "state": "text",
            "checked_us": "bigint",
            "against": "bigint",
            "changes": "bigint",
            "told_us": "bigint",
        },
    ),
)
