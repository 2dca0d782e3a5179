"""What lies in the log, read from its first record to its end: for reports, audits and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from paytm_lab.messaging.topics import PARTITIONS
from paytm_lab.ports.event_log import EventLog, Record

READ_RECORDS_MAX = 5_000


class _Typed(msgspec.Struct, gc=False):
    type: str


_decode_type = msgspec.json.Decoder(_Typed).decode


def all_records(log: EventLog) -> Iterator[Record]:
    """Every record of every topic, by topic, partition and offset."""
    for topic in PARTITIONS:
        starts = log.start_offsets(topic)
        for partition, end in enumerate(log.end_offsets(topic)):
            offset = starts[partition]
            while offset < end:
                records = log.read(topic, partition, offset, READ_RECORDS_MAX)
                if not records:
                    break
                yield from records
                offset = records[-1].offset + 1


def event_counts(log: EventLog) -> dict[str, int]:
    """Records in the log by event type; an event that was delivered twice counts twice."""
    counts: Counter[str] = Counter()
    for record in all_records(log):
        try:
            counts[_decode_type(record.value).type] += 1
        except msgspec.DecodeError:
            counts["(unreadable)"] += 1
    return dict(counts)
