"""Replay: every balance rebuilt from ``payment_events`` alone is the ledger's: drift is zero.

An event id counts once, however often it was delivered. A payment takes effect at its
PaymentCompleted, debit and credit at once; the ledger debits earlier, so the debits of payments
that are still under way are added back to the ledger's side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from html import escape
from typing import Any

import msgspec
from sqlalchemy import select

from paytm_lab.core.clock import Clock, SystemClock
from paytm_lab.core.errors import IntegrityError, PaytmLabError, StorageCorrupt
from paytm_lab.core.ids import FUNDING, RECEIVABLE, event_id, payment_id_text
from paytm_lab.core.money import in_words
from paytm_lab.core.words import plural
from paytm_lab.ledger.as_of import (
    OpenPayment,
    balances_as_of,
    net_of_account,
    open_payments_as_of,
    open_payments_now,
)
from paytm_lab.ledger.audit.report import EXIT_CODES, FAILED, OFFENDERS_MAX, PASSED, UNKNOWN
from paytm_lab.ledger.log_scan import LogScan
from paytm_lab.ledger.queries import Databases, balances, shards_of
from paytm_lab.ledger.schema import FUNDING_ID, RECEIVABLE_ID, outbox_events
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase

_COMPLETED = "PaymentCompleted"


class Drift(msgspec.Struct, frozen=True):
    """A user (or system account) whose rebuilt balance is not the ledger's. Paise."""

    user_id: str
    rebuilt_paise: int
    ledger_paise: int


class ReplayReport(msgspec.Struct, frozen=True):
    """``drift``: at most ``OFFENDERS_MAX`` of ``drift_total``. ``not_relayed``: completed payments
    whose event still waited in an outbox and was read there. ``added_back``: payments under way.
    """

    verdict: str
    accounts: int
    events: int
    applied: int
    duplicates: int
    not_relayed: int
    added_back: int
    added_back_paise: int
    drift: tuple[Drift, ...]
    drift_total: int
    unknown: tuple[str, ...]
    stamp_us: int | None
    seconds: float

    @property
    def exit_code(self) -> int:
        """What a command line returns: 0 passed, 1 failed, 4 unknown."""
        return EXIT_CODES[self.verdict]

    def require_clean(self) -> None:
        """IntegrityError unless the rebuilt balances are the ledger's (unknown is not clean)."""
        if self.verdict != PASSED:
            error = IntegrityError(f"the replay {self.verdict}: {self._detail()}")
            error.exit_code = self.exit_code
            raise error

    def rows(self) -> list[dict[str, Any]]:
        """One plain dict per account that drifted."""
        return [
            {
                "user_id": drift.user_id,
                "rebuilt_paise": drift.rebuilt_paise,
                "ledger_paise": drift.ledger_paise,
                "drift_paise": drift.rebuilt_paise - drift.ledger_paise,
            }
            for drift in self.drift
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {**plain, "exit_code": self.exit_code}

    def _detail(self) -> str:
        if self.unknown:
            return "; ".join(self.unknown)
        if not self.drift:
            return "drift is zero"
        named = [f"{d.user_id} by {in_words(d.rebuilt_paise - d.ledger_paise)}" for d in self.drift]
        if more := self.drift_total - len(named):
            named.append(f"and {more} more")
        verb = "balance drifts" if self.drift_total == 1 else "balances drift"
        return f"{self.drift_total} {verb} from the ledger: {', '.join(named)}"

    def __str__(self) -> str:
        under_way = f"{self.added_back} {plural(self.added_back, 'payment')} under way"
        if self.added_back:
            under_way += f" with {in_words(self.added_back_paise)}"
        return (
            f"{self.accounts} balances rebuilt from {self.applied} completed payments in"
            f" {self.events} events ({self.duplicates} repeated, {self.not_relayed} not relayed,"
            f" {under_way}): {self._detail()}\n"
            f"money verdict: {self.verdict}"
        )

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(line)}</p>" for line in str(self).splitlines())


class _Data(msgspec.Struct, gc=False):
    from_user_id: str
    to_user_id: str
    amount_paise: int
    stamp_us: int
    receivable_paise: int = 0


class _Event(msgspec.Struct, gc=False):
    id: str
    type: str
    data: _Data


_decode = msgspec.json.Decoder(_Event).decode
_decode_data = msgspec.json.Decoder(_Data).decode


class Rebuilt:
    """Balances from completed payments, each event id once; with a stamp, only those up to it.

    ``later``: event ids of payments stamped by it that were completed only after it all the same.
    """

    def __init__(self, stamp_us: int | None = None, later: Collection[str] = ()) -> None:
        self.balances: defaultdict[str, int] = defaultdict(int)
        self.applied = self.duplicates = 0
        self._stamp_us = stamp_us
        self._later = later
        self._seen: set[str] = set()

    def apply(self, event: str, data: _Data) -> bool:
        """True if the event was new (and its payment stamped by the stamp)."""
        if event in self._seen:
            self.duplicates += 1
            return False
        self._seen.add(event)
        if self._stamp_us is not None and data.stamp_us > self._stamp_us:
            return False
        if event in self._later:
            return False
        self.applied += 1
        owed = data.receivable_paise
        self.balances[data.from_user_id] -= data.amount_paise - owed
        self.balances[data.to_user_id] += data.amount_paise
        if owed:
            self.balances[RECEIVABLE] -= owed
        return True


def replay(
    event_log: EventLog,
    databases: Databases,
    stamp_us: int | None = None,
    clock: Clock | None = None,
) -> ReplayReport:
    """Rebuild all balances and compare them. Changes nothing.

    Without a stamp nothing may be running (drain first). With a stamp that is closed
    (``closing.close_stamp``) payments may go on: both sides are taken as of it. Unknown where the
    log does not begin at offset 0, or a shard or the log cannot be read.
    """
    clock = clock if clock is not None else SystemClock()
    started_s = clock.monotonic_s()
    shards = shards_of(databases)
    scan = LogScan(event_log)
    rebuilt = Rebuilt(stamp_us)
    ledger: dict[str, int] = {}
    under_way: list[OpenPayment] = []
    not_relayed = 0
    try:
        # The outboxes before the log: what leaves one in between is found in the other.
        waiting = [event for database in shards.values() for event in _outbox(database)]
        ledger = _ledger_side(shards, stamp_us)
        under_way = _under_way(shards, stamp_us)
        rebuilt = Rebuilt(stamp_us, _completed_later(under_way))
        _apply_log(scan, rebuilt)
        not_relayed = sum(rebuilt.apply(*event) for event in waiting)
    except PaytmLabError as error:
        scan.problems.append(str(error))
    for payment in under_way:
        _add(ledger, payment.from_user_id, payment.amount_paise - payment.receivable_paise)
        _add(ledger, RECEIVABLE, payment.receivable_paise)
    drift = [] if scan.problems else _drift(rebuilt.balances, ledger)
    return ReplayReport(
        verdict=UNKNOWN if scan.problems else FAILED if drift else PASSED,
        accounts=len(ledger.keys() - {FUNDING, RECEIVABLE}),
        events=scan.records,
        applied=rebuilt.applied,
        duplicates=rebuilt.duplicates,
        not_relayed=not_relayed,
        added_back=len(under_way),
        added_back_paise=sum(payment.amount_paise for payment in under_way),
        drift=tuple(drift[:OFFENDERS_MAX]),
        drift_total=len(drift),
        unknown=tuple(scan.problems),
        stamp_us=stamp_us,
        seconds=clock.monotonic_s() - started_s,
    )


def _apply_log(scan: LogScan, rebuilt: Rebuilt) -> None:
    for records in scan.batches():
        for record in records:
            try:
                event = _decode(record.value)
            except msgspec.DecodeError:  # a poison message; consumers put it aside too
                continue
            if event.type == _COMPLETED:
                rebuilt.apply(event.id, event.data)


def _outbox(database: ShardDatabase) -> list[tuple[str, _Data]]:
    wanted = select(outbox_events.c.event_id, outbox_events.c.event_data).where(
        outbox_events.c.event_type == _COMPLETED
    )
    with database.read() as connection:
        rows = connection.execute(wanted).all()
    try:
        return [(row[0], _decode_data(row[1])) for row in rows]
    except msgspec.DecodeError as error:
        place = f"shard-{database.shard_id}"
        raise StorageCorrupt(f"an outbox row is not an event: {error}", place=place) from error


def _ledger_side(shards: dict[int, ShardDatabase], stamp_us: int | None) -> dict[str, int]:
    """User balances, and those of the funding and receivable accounts over all shards."""
    found: dict[str, int] = {}
    if stamp_us is not None:
        found = balances_as_of(shards, stamp_us)
    for database in shards.values():
        if stamp_us is None:
            for user_id, balance in balances(database).items():
                _add(found, user_id, balance)
        with database.read() as connection:
            for name, account_id in ((FUNDING, FUNDING_ID), (RECEIVABLE, RECEIVABLE_ID)):
                _add(found, name, net_of_account(connection, account_id, stamp_us))
    return found


def _under_way(shards: dict[int, ShardDatabase], stamp_us: int | None) -> list[OpenPayment]:
    return open_payments_now(shards) if stamp_us is None else open_payments_as_of(shards, stamp_us)


def _completed_later(under_way: list[OpenPayment]) -> set[str]:
    """A receiver that moved to the sender's shard is credited there under a later stamp, though the
    event carries the payment's.
    """
    return {
        event_id(payment_id_text(payment.payment_id), _COMPLETED)
        for payment in under_way
        if payment.from_shard == payment.to_shard and not payment.refused
    }


def _add(balances_: dict[str, int], user_id: str, amount_paise: int) -> None:
    balances_[user_id] = balances_.get(user_id, 0) + amount_paise


def _drift(rebuilt: dict[str, int], ledger: dict[str, int]) -> list[Drift]:
    return [
        Drift(user_id, rebuilt.get(user_id, 0), ledger.get(user_id, 0))
        for user_id in sorted(rebuilt.keys() | ledger.keys())
        if rebuilt.get(user_id, 0) != ledger.get(user_id, 0)
    ]
