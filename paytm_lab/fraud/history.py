"""What is kept of each user for trained models: a few decaying sums, of a fixed size.

A sum with half-life h weighs a payment of age a by 2^(-a/h), so it needs no list of payments (an
exponentially weighted moving window; Brown, "Smoothing, Forecasting and Prediction", 1963). The
rows lie in the wide store, so every process sees the same; the fraud consumer writes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

from paytm_lab.core.errors import StorageCorrupt
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud.tables import HISTORY
from paytm_lab.ports.wide_store import Row, WideStore

HALF_LIVES_US = (3_600e6, 86_400e6, 7 * 86_400e6, 30 * 86_400e6)
PAYEES = 8
USERS_A_WRITE = 5_000
_SIDE = 1 + 2 * len(HALF_LIVES_US)
_FORMAT = struct.Struct(f"<{2 * _SIDE + PAYEES}d")


class Side:
    """What a user paid, or what they received. ``counts`` and ``sums`` (rupees): one per half-life,
    as of ``last_us`` (0: nothing yet).
    """

    __slots__ = ("counts", "last_us", "sums")

    def __init__(self, last_us: float, counts: Sequence[float], sums: Sequence[float]) -> None:
        self.last_us = last_us
        self.counts = counts
        self.sums = sums

    def decays(self, at_us: int) -> tuple[float, ...]:
        """What each sum is to be multiplied by at that time; time never goes back."""
        age_us = max(0.0, at_us - self.last_us) if self.last_us else 0.0
        return tuple(2.0 ** (-age_us / half) for half in HALF_LIVES_US)

    def after(self, rupees: float, at_us: int) -> Side:
        """With one payment more. In whatever order payments come, the sums become the same."""
        decays = self.decays(at_us)
        late_us = max(0.0, self.last_us - at_us)
        weights = [2.0 ** (-late_us / half) for half in HALF_LIVES_US]
        return Side(
            max(self.last_us, float(at_us)),
            [c * decay + w for c, decay, w in zip(self.counts, decays, weights, strict=True)],
            [
                s * decay + w * rupees
                for s, decay, w in zip(self.sums, decays, weights, strict=True)
            ],
        )


class History:
    """``payees``: marks of those whom the user paid last, the newest first."""

    __slots__ = ("paid", "payees", "received")

    def __init__(self, paid: Side, received: Side, payees: tuple[float, ...]) -> None:
        self.paid = paid
        self.received = received
        self.payees = payees


_NONE = Side(0.0, (0.0,) * len(HALF_LIVES_US), (0.0,) * len(HALF_LIVES_US))
EMPTY = History(_NONE, _NONE, ())


def mark(user_id: str) -> float:
    """A number for a user; two of the eight last payees are taken for each other once in 10^9."""
    return float(crc32(user_id.encode()) + 1)


def encode(history: History) -> bytes:
    payees = history.payees + (0.0,) * (PAYEES - len(history.payees))
    paid, received = history.paid, history.received
    return _FORMAT.pack(
        paid.last_us, *paid.counts, *paid.sums,
        received.last_us, *received.counts, *received.sums,
        *payees,
    )  # fmt: skip


def decode(body: bytes) -> History:
    if len(body) != _FORMAT.size:
        raise StorageCorrupt(
            f"a history of {len(body)} bytes is none",
            place=HISTORY,
            remedy="Deploy the model again: histories are then made anew.",
        )
    numbers = _FORMAT.unpack(body)
    sides = []
    width = len(HALF_LIVES_US)
    for start in (0, _SIDE):
        counts = numbers[start + 1 : start + 1 + width]
        sides.append(Side(numbers[start], counts, numbers[start + 1 + width : start + _SIDE]))
    payees = tuple(each for each in numbers[2 * _SIDE :] if each)
    return History(sides[0], sides[1], payees)


class Histories:
    """Histories of some users, read in one round trip; ``note`` advances them in memory."""

    def __init__(self, store: WideStore | None, users: Iterable[str]) -> None:
        self._known: dict[str, History] = {}
        self._changed: set[str] = set()
        self._store = store
        keys = [(user,) for user in dict.fromkeys(users)]
        if store is not None and keys:
            rows = store.fetch(HISTORY, keys)
            self._known = {key[0]: decode(row["sums"]) for key, row in rows.items()}

    def copy(self) -> Histories:
        """The same, to be advanced apart."""
        other = Histories(None, ())
        other._known = dict(self._known)
        return other

    def of(self, user_id: str) -> History:
        return self._known.get(user_id, EMPTY)

    def note(self, payment: Candidate) -> None:
        payer, payee = payment.from_user_id, payment.to_user_id
        rupees = payment.amount_paise / 100
        was = self.of(payer)
        payees = (mark(payee), *was.payees)[:PAYEES]
        self._known[payer] = History(was.paid.after(rupees, payment.at_us), was.received, payees)
        was = self.of(payee)
        self._known[payee] = History(
            was.paid, was.received.after(rupees, payment.at_us), was.payees
        )
        self._changed |= {payer, payee}

    def write(self) -> None:
        """Store what ``note`` changed."""
        rows: list[Row] = [
            {"user_id": user, "sums": encode(self._known[user])} for user in sorted(self._changed)
        ]
        for start in range(0, len(rows) if self._store is not None else 0, USERS_A_WRITE):
            if self._store is not None:
                self._store.upsert(HISTORY, rows[start : start + USERS_A_WRITE])
        self._changed.clear()


def users_of(payments: Iterable[Candidate]) -> list[str]:
    return [user for each in payments for user in (each.from_user_id, each.to_user_id)]


def rebuild(store: WideStore, payments: Iterable[Candidate]) -> int:
    """Histories from all payments so far, in order of their times; how many payments they hold."""
    histories, count = Histories(None, ()), 0
    for payment in sorted(payments, key=lambda each: (each.at_us, each.payment_id)):
        histories.note(payment)
        count += 1
    histories._store = store
    histories.write()
    return count
