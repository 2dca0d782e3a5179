"""The audit: look at every shard once, and at the log after that, then let the checks speak.

quiescent   everything was drained first; no payment may be pending
live        payments go on; what is checked across shards are payments stamped by a closed stamp
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from paytm_lab.core.clock import Clock, SystemClock
from paytm_lab.core.errors import InvalidSetting, PaytmLabError
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.audit.columns import DESTINATION, PaymentColumns, names_of
from paytm_lab.ledger.audit.cross_checks import (
    Payments,
    funded_paise,
    funding_matches_users_and_open,
    in_transit_matches_pending,
    match_sides,
    no_pending_after_drain,
    open_by_pair,
    open_rows,
    states_agree_across_shards,
    users_paise,
)
from paytm_lab.ledger.audit.events import NAME as EVENTS
from paytm_lab.ledger.audit.events import LogReader, one_initiated_one_terminal_event
from paytm_lab.ledger.audit.facts import ShardFacts, read_rows, read_sums
from paytm_lab.ledger.audit.report import (
    OFFENDERS_MAX,
    PASSED,
    UNKNOWN,
    AuditReport,
    Check,
)
from paytm_lab.ledger.audit.shard_checks import SHARD_CHECKS
from paytm_lab.ledger.closing import Help, close_stamp, last_stamp
from paytm_lab.ledger.queries import Databases, ledger_mark, shards_of
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase

MODES = ("quiescent", "live")
QUIET_TRIES_MAX = 3
MOVED = "payments were posted while the shards were looked at; audit in live mode"
READERS_MAX = 2  # each keeps a page cache and a sorter; more threads only cost memory
_CROSS_NAMES = (
    "states_agree_across_shards",
    "in_transit_matches_pending",
    "funding_matches_users_and_open",
)


def audit(
    databases: Databases,
    event_log: EventLog | None = None,
    *,
    mode: str = "quiescent",
    clock: Clock | None = None,
    drain: Callable[[], object] | None = None,
    help: Help | None = None,  # noqa: A002
    wait_s: float = 5.0,
) -> AuditReport:
    """Check that no money was lost or made. Changes nothing (a live audit closes a stamp).

    ``drain`` (quiescent) must end what is under way; where others post meanwhile it is done again,
    a few times, and then what is checked across shards is unknown. ``help`` and ``wait_s`` (live)
    are those of ``closing.close_stamp``. Without an ``event_log`` the check of events is left out.
    Damaged or absent shards end up in the report, not in an exception; InvalidSetting for an
    unknown mode.
    """
    if mode not in MODES:
        raise InvalidSetting(f"{mode!r} is not an audit mode", remedy=f"Use {' or '.join(MODES)}.")
    clock = clock if clock is not None else SystemClock()
    started_s = clock.monotonic_s()
    shards = shards_of(databases)
    live = mode == "live"
    if live:
        stamp_us, opening = _close(shards, clock, help, wait_s)
        facts, reader = _look(shards, stamp_us, event_log)
        moved = False
    else:
        stamp_us = None
        opening, facts, reader, moved = _look_at_rest(shards, event_log, drain)
    payments = match_sides(facts, stamp_us)
    for shard in facts:
        shard.payments = PaymentColumns.empty()  # joined now; a million rows are worth freeing
    checks = opening + [check(facts) for check in SHARD_CHECKS]
    if moved or (live and stamp_us is None):
        names = _CROSS_NAMES if reader is None else (*_CROSS_NAMES, EVENTS)
        why = "no stamp could be closed" if live else MOVED
        checks += [Check(name, UNKNOWN, why) for name in names]
    else:
        checks += [
            states_agree_across_shards(facts, payments),
            in_transit_matches_pending(facts, payments, stamp_us),
            funding_matches_users_and_open(facts, payments),
        ]
        if not live:
            drained = all(check.state == PASSED for check in opening)
            checks.append(no_pending_after_drain(facts, payments, drained))
        if reader is not None:
            checks.append(one_initiated_one_terminal_event(facts, payments, reader, stamp_us))
    return _report(mode, checks, stamp_us, facts, payments, reader, clock.monotonic_s() - started_s)


def _close(
    shards: dict[int, ShardDatabase],
    clock: Clock,
    help: Help | None,  # noqa: A002
    wait_s: float,
) -> tuple[int | None, list[Check]]:
    try:
        # Where the clock was set back there are stamps past it; they are to be looked at too.
        latest_us = max(map(last_stamp, shards.values()), default=0)
        closed = close_stamp(shards, max(clock.now_us(), latest_us), help, wait_s=wait_s)
    except PaytmLabError as error:
        return None, [Check("stamp_closed", UNKNOWN, str(error))]
    detail = f"the ledger up to stamp {closed.stamp_us} is final"
    return closed.stamp_us, [Check("stamp_closed", PASSED, detail)]


def _look_at_rest(
    shards: dict[int, ShardDatabase],
    event_log: EventLog | None,
    drain: Callable[[], object] | None,
    tries_left: int = QUIET_TRIES_MAX,
) -> tuple[list[Check], list[ShardFacts], LogReader | None, bool]:
    """Drain and look, again where somebody posted meanwhile. The last value: they still did."""
    opening = _drain(drain)
    before = _marks(shards)
    facts, reader = _look(shards, None, event_log)
    moved = before != _marks(shards)
    if moved and tries_left > 1 and all(check.state == PASSED for check in opening):
        return _look_at_rest(shards, event_log, drain, tries_left - 1)
    return opening, facts, reader, moved


def _drain(drain: Callable[[], object] | None) -> list[Check]:
    if drain is None:
        return []
    try:
        drain()
    except PaytmLabError as error:
        return [Check("drained", UNKNOWN, f"draining did not end: {error}")]
    return [Check("drained", PASSED, "nothing was under way")]


def _marks(shards: dict[int, ShardDatabase]) -> list[tuple[int, ...] | str]:
    """What changes when anybody posts: between two equal ones the shards stood still."""
    marks: list[tuple[int, ...] | str] = []
    for database in shards.values():
        try:
            marks.append(ledger_mark(database))
        except PaytmLabError as error:
            marks.append(error.code)
    return marks


def _look(
    shards: dict[int, ShardDatabase], stamp_us: int | None, event_log: EventLog | None
) -> tuple[list[ShardFacts], LogReader | None]:
    """Every shard, then the log up to its end after the last outbox was seen.

    The databases add up in threads of their own. Rows are fetched in this thread alone: each row
    gives the interpreter lock away, which several fetching threads would only pass around.
    """
    databases = list(shards.values())
    reader = LogReader(event_log) if event_log is not None else None
    facts = [ShardFacts(database.shard_id) for database in databases]
    with ThreadPoolExecutor(max_workers=READERS_MAX, thread_name_prefix="audit") as pool:
        sums = [
            pool.submit(read_sums, database, shard, stamp_us)
            for database, shard in zip(databases, facts, strict=True)
        ]
        for database, shard in zip(databases, facts, strict=True):
            read_rows(database, shard, stamp_us, reader is not None)
        if reader is not None:
            reader.read_to_end()
        for future in sums:
            future.result()
    # Of a shard that failed half way nothing is used.
    kept = [
        shard if shard.error is None else ShardFacts(shard.shard, shard.error) for shard in facts
    ]
    return kept, reader


def _report(
    mode: str,
    checks: list[Check],
    stamp_us: int | None,
    facts: list[ShardFacts],
    payments: Payments,
    reader: LogReader | None,
    seconds: float,
) -> AuditReport:
    rows = open_rows(payments)
    names = names_of(rows.high, rows.low) + [
        payment_id_text(payment.payment_id) for shard in facts for payment in shard.ended_later
    ]
    return AuditReport(
        mode=mode,
        checks=tuple(checks),
        stamp_us=stamp_us,
        shards=len(facts),
        entries=sum(shard.entries for shard in facts),
        payments=int(np.count_nonzero(payments.rows.role != DESTINATION)),
        events=reader.records if reader is not None else None,
        users_paise=users_paise(facts),
        funded_paise=funded_paise(facts),
        receivable_paise=sum(shard.receivable for shard in facts),
        open_payments=tuple(names[:OFFENDERS_MAX]),
        open_total=len(names),
        open_paise=sum(open_by_pair(facts, payments).values()),
        seconds=seconds,
    )
