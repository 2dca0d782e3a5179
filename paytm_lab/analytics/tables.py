"""What analytics stores in the wide store."""

from __future__ import annotations

from paytm_lab.ports.wide_store import WideTable

EVENTS = "events"
EVENTS_BY_HOUR = "events_by_hour"
ROLLUPS = "rollups"

WIDE_TABLES: tuple[WideTable, ...] = (
    # Payment and fraud events by key; ``body`` is the whole envelope. The last three columns say
    # where in the log the event was first seen: a copy at another place is a duplicate and is not
    # counted again.
    WideTable(
        EVENTS,
        ("payment_id",),
        ("type",),
        {
            "payment_id": "text",
            "type": "text",
            "body": "text",
            "log_topic": "text",
            "log_partition": "bigint",
            "log_offset": "bigint",
        },
    ),
    # Which events an hour of business time had, in order: an index into the table above, whose key
    # each row ends with. One wide partition per hour and bucket (the log's partition number, which
    # spreads a busy hour), so that a batch of events is a few writes. ``hour``: hours since 1970
    # UTC.
    WideTable(
        EVENTS_BY_HOUR,
        ("hour", "bucket"),
        ("at_us", "payment_id", "type"),
        {
            "hour": "bigint",
            "bucket": "bigint",
            "at_us": "bigint",
            "payment_id": "text",
            "type": "text",
        },
    ),
    # Totals of one partition of the log, all in one wide partition, so that they and the offset
    # they reach become visible together. ``part``: '' for the totals over all time (its
    # ``next_offset`` counts for all parts), else a day 'YYYY-MM-DD'. ``body``: JSON of
    # rollups.TotalsPart.
    WideTable(
        ROLLUPS,
        ("log_topic", "log_partition"),
        ("part",),
        {
            "log_topic": "text",
            "log_partition": "bigint",
            "part": "text",
            "next_offset": "bigint",
            "body": "text",
        },
    ),
)
