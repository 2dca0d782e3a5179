"""Payments and events as numpy columns: a million of them in some tens of megabytes.

A payment id is two unsigned 64-bit columns (``high``, ``low``); words are small codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from paytm_lab.core.ids import FUNDING, payment_id_text
from paytm_lab.ledger.schema import transactions

ROWS_A_STEP = 5_000

SOURCE, DESTINATION, LOCAL = 0, 1, 2
HELD, PENDING, COMPLETED, FAILED, CANCELLED = 0, 1, 2, 3, 4
OTHER = 255  # a word that no row should hold
ROLE_CODES = {"source": SOURCE, "destination": DESTINATION, "local": LOCAL}
STATUS_CODES = {
    "HELD": HELD,
    "PENDING": PENDING,
    "COMPLETED": COMPLETED,
    "FAILED": FAILED,
    "CANCELLED": CANCELLED,
}
# One bit an event type, so that the types seen of a payment are one number.
INITIATED, EVENT_COMPLETED, EVENT_FAILED, EVENT_CANCELLED = 1, 2, 4, 8
TERMINALS = EVENT_COMPLETED | EVENT_FAILED | EVENT_CANCELLED
EVENT_CODES = {
    "PaymentInitiated": INITIATED,
    "PaymentCompleted": EVENT_COMPLETED,
    "PaymentFailed": EVENT_FAILED,
    "PaymentCancelled": EVENT_CANCELLED,
}

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.uint8]
Shards = npt.NDArray[np.int16]
Flags = npt.NDArray[np.bool_]

_T = transactions.c
_ALL = select(
    _T.transaction_id,
    _T.role,
    _T.status,
    _T.amount,
    _T.stamp,
    _T.from_shard,
    _T.to_shard,
    _T.from_user_id,
    _T.to_user_id,
    _T.receivable,
)


class PaymentColumns(NamedTuple):
    """Rows of ``transactions``. ``shard`` is where a row lies; ``terms`` stands for both users, the
    amount, the receivable and both shards: equal on both sides of a payment (within one process).
    ``opening``: it pays an account's opening balance.
    """

    high: Words
    low: Words
    shard: Shards
    to_shard: Shards
    role: Codes
    status: Codes
    amount: Ints
    stamp: Ints
    terms: Ints
    opening: Flags

    @classmethod
    def empty(cls) -> PaymentColumns:
        words, ints, codes = _none(np.uint64), _none(np.int64), _none(np.uint8)
        shards, flags = _none(np.int16), _none(np.bool_)
        return cls(words, words, shards, shards, codes, codes, ints, ints, ints, flags)

    def take(self, which: Any) -> PaymentColumns:
        """The rows that a mask or an index array selects."""
        return PaymentColumns(*(column[which] for column in self))


class EventColumns(NamedTuple):
    """Payment events. ``code`` is the event type's bit. ``odd``: event ids that are not
    '{payment}.{type}', of which a payment could have several.
    """

    high: Words
    low: Words
    code: Codes
    stamp: Ints
    odd: list[str]

    @classmethod
    def empty(cls) -> EventColumns:
        return cls(_none(np.uint64), _none(np.uint64), _none(np.uint8), _none(np.int64), [])


def _none(dtype: Any) -> Any:
    return np.empty(0, dtype=dtype)


def join_payments(parts: Sequence[PaymentColumns]) -> PaymentColumns:
    columns = zip(*parts, strict=True) if parts else iter(())
    joined = [np.concatenate(column) for column in columns]
    return PaymentColumns(*joined) if joined else PaymentColumns.empty()


def join_events(parts: Sequence[EventColumns]) -> EventColumns:
    if not parts:
        return EventColumns.empty()
    return EventColumns(
        np.concatenate([part.high for part in parts]),
        np.concatenate([part.low for part in parts]),
        np.concatenate([part.code for part in parts]),
        np.concatenate([part.stamp for part in parts]),
        [odd for part in parts for odd in part.odd],
    )


def names_of(high: Words, low: Words) -> list[str]:
    """Payment ids as text."""
    return [
        payment_id_text(int(h).to_bytes(8, "big") + int(w).to_bytes(8, "big"))
        for h, w in zip(high, low, strict=True)
    ]


def group_starts(high: Words, low: Words) -> Ints:
    """Where each run of equal ids begins, of columns that are sorted by id."""
    if not len(high):
        return np.empty(0, dtype=np.int64)
    changes = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return np.concatenate(([0], np.flatnonzero(changes) + 1)).astype(np.int64)


def payment_columns(connection: Connection, shard: int) -> PaymentColumns:
    """All rows of a shard's ``transactions`` in a snapshot."""
    parts: list[PaymentColumns] = []
    for rows in connection.execute(_ALL).partitions(ROWS_A_STEP):
        ids, roles, states, amounts, stamps, sources, targets, senders, receivers, receivable = zip(
            *rows, strict=True
        )
        high, low = split_ids(b"".join(ids), len(rows))
        terms = map(
            hash, zip(senders, receivers, amounts, receivable, sources, targets, strict=True)
        )
        parts.append(
            PaymentColumns(
                high,
                low,
                np.full(len(rows), shard, dtype=np.int16),
                np.array(targets, dtype=np.int16),
                np.array([ROLE_CODES.get(role, OTHER) for role in roles], dtype=np.uint8),
                np.array([STATUS_CODES.get(state, OTHER) for state in states], dtype=np.uint8),
                np.array(amounts, dtype=np.int64),
                np.array(stamps, dtype=np.int64),
                np.fromiter(terms, dtype=np.int64, count=len(rows)),
                np.fromiter(map(FUNDING.__eq__, senders), dtype=np.bool_, count=len(rows)),
            )
        )
    return join_payments(parts)


def split_ids(joined: bytes, count: int) -> tuple[Words, Words]:
    """``count`` ids of 16 bytes, end to end, as two columns; ValueError for another length."""
    if len(joined) != 16 * count:
        raise ValueError(f"{count} payment ids are {len(joined)} bytes long")
    words = np.frombuffer(joined, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    # Copies: a view would keep both columns alive for each.
    return words[:, 0].copy(), words[:, 1].copy()


def event_columns(rows: Iterable[Any]) -> EventColumns:
    """(payment id as text, event id, event type[, stamp]) tuples as columns; a row whose payment id
    is not one counts as odd.
    """
    texts: list[str] = []
    codes: list[int] = []
    stamps: list[int] = []
    odd: list[str] = []
    for row in rows:
        payment, event_id, event_type = row[0], row[1], row[2]
        code = EVENT_CODES.get(event_type)
        if code is None or len(payment) != 36 or event_id != f"{payment}.{event_type}":
            odd.append(event_id)
            continue
        texts.append(payment)
        codes.append(code)
        stamps.append(row[3] if len(row) > 3 else 0)
    try:
        joined = bytes.fromhex("".join(texts).replace("-", ""))
        high, low = split_ids(joined, len(texts))
    except ValueError:
        return _one_by_one(texts, codes, stamps, odd)
    return EventColumns(
        high, low, np.array(codes, dtype=np.uint8), np.array(stamps, dtype=np.int64), odd
    )


def _one_by_one(
    texts: list[str], codes: list[int], stamps: list[int], odd: list[str]
) -> EventColumns:
    """The slow way through a part that holds something that is not a payment id."""
    good: list[tuple[str, str, str, int]] = []
    names = {code: event_type for event_type, code in EVENT_CODES.items()}
    for text, code, stamp in zip(texts, codes, stamps, strict=True):
        event_id = f"{text}.{names[code]}"
        try:
            whole = len(bytes.fromhex(text.replace("-", ""))) == 16
        except ValueError:
            whole = False
        if whole:
            good.append((text, event_id, names[code], stamp))
        else:
            odd.append(event_id)
    columns = event_columns(good)
    return columns._replace(odd=odd)


def counted(rows: PaymentColumns, which: Flags | None = None) -> str:
    """'1,000 payments and 200 openings': opening balances are payments too, one an account."""
    openings = rows.opening if which is None else rows.opening & which
    made = len(rows.opening) if which is None else int(np.count_nonzero(which))
    opened = int(np.count_nonzero(openings))
    words = f"{made - opened:,} payments"
    return f"{words} and {opened:,} openings" if opened else words
