"""Cross-shard payments to look at: the first one that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, select

from paytm_lab.ledger.schema import transactions
from paytm_lab.ports.shard_database import ShardDatabase

_ROLE = transactions.c.role == "source"  # a payment within one shard is 'local'


def crossings_after(
    databases: Mapping[int, ShardDatabase], marks: Mapping[int, int]
) -> list[bytes]:
    """Ids of the first cross-shard payments made since these ``payment_marks``, at most one a
    shard: completed ones first.
    """
    return _first(
        databases,
        {shard: transactions.c.id > marks.get(shard, 0) for shard in databases},
    )


def crossings_among(databases: Mapping[int, ShardDatabase], ids: Sequence[bytes]) -> list[bytes]:
    """The same of these payments, a few hundred at most."""
    among = transactions.c.transaction_id.in_(ids)
    return _first(databases, dict.fromkeys(databases, among))


def _first(
    databases: Mapping[int, ShardDatabase], wanted: Mapping[int, ColumnElement[bool]]
) -> list[bytes]:
    completed: list[bytes] = []
    others: list[bytes] = []
    for shard, database in databases.items():
        statement = (
            select(transactions.c.transaction_id)
            .where(_ROLE, transactions.c.kind == "transfer", wanted[shard])
            .order_by(transactions.c.id)
            .limit(1)
        )
        with database.read() as connection:
            done = connection.execute(statement.where(transactions.c.status == "COMPLETED"))
            if (found := done.scalar()) is not None:
                completed.append(bytes(found))
            elif (found := connection.execute(statement).scalar()) is not None:
                others.append(bytes(found))
    return completed + others
