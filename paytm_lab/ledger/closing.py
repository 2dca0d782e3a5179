"""Closing a stamp: from then on the ledger up to it can not change.

A stamp S is closed when (1) every shard's ``shard_meta.stamp`` is at least S, so that no shard can
commit a new stamp at or below it, and (2) no PENDING payment stamped at or below S lacks its row on
its destination (where the credit, or the refusal, carries the same stamp).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from paytm_lab.core import errors
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.queries import Databases, destination_status, shards_of
from paytm_lab.ledger.schema import shard_meta, transactions
from paytm_lab.ports.shard_database import PaymentRow, ShardDatabase

ATTEMPTS_MAX = 5
HELP_ROUNDS_MIN = 3
PAUSE_S = 0.002
PAUSE_S_MAX = 0.05
NAMED_MAX = 5

Help = Callable[[Sequence[PaymentRow]], None]
_T = transactions.c


class ClosedStamp(NamedTuple):
    """``rounds``: how often payments under way had to be waited for (0: none was)."""

    stamp_us: int
    rounds: int = 0


def close_stamp(
    databases: Databases,
    now_us: int,
    help: Help | None = None,  # noqa: A002
    *,
    wait_s: float = 5.0,
    wait: Callable[[float], None] = time.sleep,
) -> ClosedStamp:
    """Close a stamp that covers what was committed before the call; at least ``now_us``.

    Payments that lack their destination row are waited for, up to about ``wait_s``; ``help`` is
    called with them on each round and may push them (a deterministic lab steps its writers there).
    Unavailable, naming them, when some are still without; ShardUnavailable when a shard is away.
    """
    shards = shards_of(databases)
    # Past the last closed stamp too: where the clock stands still, stamps go on from there.
    stamp = max([now_us, *(stamp + 1 for stamp in map(closed_up_to, shards.values()))])
    return close_at(shards, stamp, help, wait_s=wait_s, wait=wait)


def close_at(
    databases: Databases,
    stamp_us: int,
    help: Help | None = None,  # noqa: A002
    *,
    wait_s: float = 5.0,
    wait: Callable[[float], None] = time.sleep,
) -> ClosedStamp:
    """Close exactly this stamp. One in the future pushes new payments' stamps past the clock."""
    shards = shards_of(databases)
    for database in shards.values():
        _advance(database, stamp_us)
    rounds, waited_s, pause_s = 0, 0.0, PAUSE_S
    while lagging := payments_without_destination(shards, stamp_us):
        if rounds >= HELP_ROUNDS_MIN and waited_s >= wait_s:
            raise _still_open(stamp_us, lagging)
        if help is not None:
            help(lagging)
        wait(pause_s)
        rounds, waited_s, pause_s = rounds + 1, waited_s + pause_s, min(pause_s * 1.5, PAUSE_S_MAX)
    return ClosedStamp(stamp_us, rounds)


def _still_open(stamp_us: int, lagging: Sequence[PaymentRow]) -> errors.Unavailable:
    names = ", ".join(payment_id_text(row.transaction_id) for row in lagging[:NAMED_MAX])
    return errors.Unavailable(
        f"stamp {stamp_us} cannot be closed: {len(lagging)} payments have not reached their"
        f" destination ({names}{', ...' if len(lagging) > NAMED_MAX else ''})",
        remedy="Run recovery, then repeat.",
    )


def closed_up_to(database: ShardDatabase) -> int:
    """No payment can be stamped at or below this on the shard any more."""
    with database.read() as connection:
        return int(connection.execute(select(shard_meta.c.stamp)).scalar_one())


def last_stamp(database: ShardDatabase) -> int:
    """The latest stamp of any payment on the shard, 0 where there is none. Scans them all."""
    with database.read() as connection:
        last = connection.execute(select(func.max(transactions.c.stamp))).scalar_one()
    return last or 0


def _advance(database: ShardDatabase, stamp_us: int) -> None:
    """Raise the shard's stamp; when this returns, no open transaction has read an older one."""
    for attempt in range(ATTEMPTS_MAX):
        tx = database.begin()
        try:
            # The update waits for every transaction that has read the old value.
            if tx.meta().stamp < stamp_us:
                tx.update("shard_meta", ("id",), ("stamp",), [(1, stamp_us)])
                tx.commit()
            return
        except errors.TransientStoreError:
            if attempt + 1 == ATTEMPTS_MAX:
                raise
        finally:
            tx.rollback()


def payments_without_destination(databases: Databases, stamp_us: int) -> list[PaymentRow]:
    """PENDING payments stamped by ``stamp_us`` that have no row on their destination yet."""
    shards = shards_of(databases)
    pending: dict[int, list[PaymentRow]] = {}
    for database in shards.values():
        with database.read() as connection:
            for row in pending_sources(connection, stamp_us):
                pending.setdefault(row.to_shard, []).append(row)
    lagging: list[PaymentRow] = []
    for shard, rows in pending.items():
        if shard not in shards:
            lagging += rows
            continue
        with shards[shard].read() as connection:
            arrived = destination_status(connection, [row.transaction_id for row in rows])
        lagging += [row for row in rows if row.transaction_id not in arrived]
    return lagging


def pending_sources(connection: Connection, stamp_us: int | None) -> list[PaymentRow]:
    """PENDING source rows of a snapshot, stamped at or below ``stamp_us`` (None: all)."""
    statement = select(*[_T[name] for name in PaymentRow._fields]).where(
        _T.open_since > 0, _T.status == "PENDING", _T.role == "source"
    )
    if stamp_us is not None:
        statement = statement.where(_T.stamp <= stamp_us)
    return [PaymentRow._make(row) for row in connection.execute(statement)]
