"""All records of ``payment_events``, from the first to the end offsets of this moment."""

from __future__ import annotations

from collections.abc import Iterator

from paytm_lab.core.errors import BadInput, PaytmLabError
from paytm_lab.core.events import Topic
from paytm_lab.ports.event_log import EventLog, Record

RECORDS_A_READ = 4_096
_TOPIC = str(Topic.PAYMENT)


class LogScan:
    """``problems`` says why the records are not all there ever were; ``records`` counts them."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.records = 0
        self.problems: list[str] = []

    def batches(self) -> Iterator[list[Record]]:
        """Partition by partition, in offset order. A problem ends it; nothing is raised."""
        try:
            ends = self._log.end_offsets(_TOPIC)
            starts = self._log.start_offsets(_TOPIC)
        except BadInput:
            return  # the topic is not there: nothing was relayed yet
        except PaytmLabError as error:
            self.problems.append(f"the event log could not be read: {error}")
            return
        self.problems += [
            f"{_TOPIC} partition {partition} starts at offset {start}, not 0"
            for partition, start in enumerate(starts)
            if start != 0
        ]
        if self.problems:
            return
        for partition, end in enumerate(ends):
            yield from self._partition(partition, end)

    def _partition(self, partition: int, end: int) -> Iterator[list[Record]]:
        offset = 0
        while offset < end:
            try:
                records = self._log.read(
                    _TOPIC, partition, offset, min(RECORDS_A_READ, end - offset)
                )
            except PaytmLabError as error:
                self.problems.append(f"{_TOPIC} partition {partition} at {offset}: {error}")
                return
            if not records:
                self.problems.append(f"{_TOPIC} partition {partition} has no offset {offset}")
                return
            offset = records[-1].offset + 1
            self.records += len(records)
            yield records
