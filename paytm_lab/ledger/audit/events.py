"""One PaymentInitiated and one terminal event of each payment, in the outbox or in the log.

A shard's payments and outbox are read in one snapshot, and the log to end offsets taken after it.
An event leaves the outbox only once the log has it, so each one that is due is in one place or the
other (or in both: copies of one event id are one event).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from paytm_lab.ledger.audit.columns import (
    CANCELLED,
    COMPLETED,
    DESTINATION,
    EVENT_CANCELLED,
    EVENT_CODES,
    EVENT_COMPLETED,
    EVENT_FAILED,
    FAILED,
    HELD,
    INITIATED,
    LOCAL,
    PENDING,
    TERMINALS,
    Codes,
    EventColumns,
    counted,
    event_columns,
    group_starts,
    join_events,
    names_of,
)
from paytm_lab.ledger.audit.cross_checks import Payments
from paytm_lab.ledger.audit.facts import ShardFacts, unreadable
from paytm_lab.ledger.audit.report import UNKNOWN, Check, checked
from paytm_lab.ledger.log_scan import LogScan
from paytm_lab.ports.event_log import EventLog, Record

NAME = "one_initiated_one_terminal_event"


class _Stamp(msgspec.Struct, gc=False):
    stamp_us: int = 0


class _Seen(msgspec.Struct, gc=False):
    """What the check needs of an envelope; the rest is skipped while decoding."""

    id: str
    type: str
    data: _Stamp


_decode = msgspec.json.Decoder(_Seen).decode


class LogReader:
    """What ``payment_events`` holds; ``problems`` says what of it could not be read."""

    def __init__(self, log: EventLog) -> None:
        self._scan = LogScan(log)
        self._parts: list[EventColumns] = []
        self.undecodable = 0

    @property
    def records(self) -> int:
        return self._scan.records

    @property
    def problems(self) -> list[str]:
        return self._scan.problems

    def read_to_end(self) -> None:
        """Read the log up to the end offsets as they are now."""
        for records in self._scan.batches():
            self._parts.append(event_columns(self._decoded(records)))

    def _decoded(self, records: Sequence[Record]) -> list[tuple[str, str, str, int]]:
        found = []
        for record in records:
            try:
                seen = _decode(record.value)
            except msgspec.DecodeError:  # a poison message; consumers put it aside too
                self.undecodable += 1
                continue
            found.append((record.key, seen.id, seen.type, seen.data.stamp_us))
        return found

    def events(self) -> EventColumns:
        return join_events(self._parts)


def one_initiated_one_terminal_event(
    shards: Sequence[ShardFacts], payments: Payments, reader: LogReader, stamp_us: int | None
) -> Check:
    """Missing, doubled and contradicting events, and events of payments that no shard knows."""
    unknown = [*unreadable(shards), *reader.problems]
    if unknown:
        return Check(NAME, UNKNOWN, "; ".join(unknown))
    events = join_events([*(facts.outbox for facts in shards), reader.events()])
    seen, strangers = _types_seen(payments, events, stamp_us)
    required, allowed = _expected(payments, live=stamp_us is not None)
    terminals = seen & TERMINALS
    wrong = (
        ((seen & required) != required)
        | ((seen & ~allowed) != 0)
        | ((terminals & (terminals - 1)) != 0)  # more than one bit
    )
    # A credit seen without its younger source row: what is wrong there is not its events.
    wrong &= payments.rows.role != DESTINATION
    names = names_of(payments.rows.high[wrong], payments.rows.low[wrong])
    bad = [f"{name}: {_words(types)}" for name, types in zip(names, seen[wrong], strict=True)]
    bad += [f"{name}: no such payment" for name in strangers]
    bad += [f"{event_id}: not the id of a payment's event" for event_id in events.odd]
    waiting = sum(len(facts.outbox.code) for facts in shards)
    aside = f", {reader.undecodable} undecodable" if reader.undecodable else ""
    return checked(
        NAME, bad,
        f"{counted(payments.rows)}, {reader.records:,} events in the log,"
        f" {waiting:,} in outboxes{aside}",
        "payments or events that do not belong together",
    )  # fmt: skip


def _types_seen(
    payments: Payments, events: EventColumns, stamp_us: int | None
) -> tuple[Codes, list[str]]:
    """The event types of each payment (a bit each), and the names of payments that no shard has."""
    order = np.lexsort((events.low, events.high))
    high, low = events.high[order], events.low[order]
    starts = group_starts(high, low)
    seen = np.zeros(len(payments.rows.high), dtype=np.uint8)
    if not len(starts):
        return seen, []
    types = np.bitwise_or.reduceat(events.code[order], starts)
    stamps = np.minimum.reduceat(events.stamp[order], starts)
    high, low = high[starts], low[starts]
    # Payments and event groups sorted together: a group that follows its payment belongs to it.
    is_group = np.repeat(np.array([0, 1], dtype=np.uint8), [len(seen), len(high)])
    all_high = np.concatenate([payments.rows.high, high])
    all_low = np.concatenate([payments.rows.low, low])
    merged = np.lexsort((is_group, all_low, all_high))
    before, after = merged[:-1], merged[1:]
    same = (all_high[before] == all_high[after]) & (all_low[before] == all_low[after])
    pairs = same & (is_group[before] == 0) & (is_group[after] == 1)
    groups = after[pairs] - len(seen)
    seen[before[pairs]] = types[groups]
    strange = np.ones(len(high), dtype=np.bool_)
    strange[groups] = False
    if stamp_us is not None:  # a younger payment may be later than the snapshots
        strange &= stamps <= stamp_us
    return seen, names_of(high[strange], low[strange])


def _expected(payments: Payments, live: bool) -> tuple[Codes, Codes]:
    """The event types that a payment must have, and those that it may have.

    While a lab runs, a payment that was open in the snapshot may end before the log is read.
    """
    rows, destination = payments.rows, payments.destination
    due = np.zeros(256, dtype=np.uint8)
    due[COMPLETED], due[FAILED], due[CANCELLED] = EVENT_COMPLETED, EVENT_FAILED, EVENT_CANCELLED
    terminal = due[rows.status]
    credited = (rows.status == PENDING) & (destination == COMPLETED)
    terminal = np.where(credited, EVENT_COMPLETED, terminal).astype(np.uint8)
    is_open = (rows.status == HELD) | ((rows.status == PENDING) & ~credited)
    # A source row's terminal event may lie on a shard whose snapshot is older.
    loose = (is_open | (~payments.settled & (rows.role != LOCAL))) & live
    required = np.where(loose, INITIATED, terminal | INITIATED).astype(np.uint8)
    allowed = np.where(loose, INITIATED | TERMINALS, required).astype(np.uint8)
    return required, allowed


def _words(types: int) -> str:
    names = [name for name, bit in EVENT_CODES.items() if types & bit]
    return "has " + " and ".join(names) if names else "has no event"
