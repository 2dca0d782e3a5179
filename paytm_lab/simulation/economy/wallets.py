"""Double entry over a day: running balances, and the top-ups without which one would go negative.

A wallet that is short tops up, in multiples of its own unit, right before the payment. With S_k its
balance after its k-th movement as if it never did, the top-ups up to there must come to
``T_k = ceil(max(0, -min(S_0..S_k)) / unit) * unit``, the least that keeps ``S_k + T_k >= 0``. So a
running sum and a running minimum over each wallet's movements are all that it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from paytm_lab.core.errors import IntegrityError
from paytm_lab.simulation.economy.batch import BANK, I8, I32, TOP_UP, Accounts
from paytm_lab.simulation.population import F64, I64

_PLACE_BITS = 32
_PLACE_MASK = (1 << _PLACE_BITS) - 1
_ROOM = 2**62
SHARE_UNIT_PAISE = 1_000


@dataclass(frozen=True, slots=True)
class Movements:
    """Payments before they are settled; arrays of shape (n,). ``share`` > 0: the amount is this
    share of what the payer then holds (see ``with_shares``), not ``amount_paise``.
    """

    at_us: I64
    from_account: I64
    to_account: I64
    amount_paise: I64
    kind: I8
    pattern: I8
    ring: I32
    share: F64

    def __len__(self) -> int:
        return len(self.at_us)

    def take(self, rows: I64) -> Movements:
        return Movements(*(getattr(self, field.name)[rows] for field in fields(self)))


def laid_out(parts: list[Movements]) -> Movements:
    """One after another."""
    names = [field.name for field in fields(Movements)]
    return Movements(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def together(parts: list[Movements]) -> Movements:
    """All of them in order of time; what has the same time keeps its order."""
    whole = laid_out(parts)
    if not len(whole):
        return whole
    # Unique keys of time and place sort faster than a stable argsort.
    bits = max(1, (len(whole) - 1).bit_length())
    since_us = whole.at_us - whole.at_us.min()
    keys = (since_us << bits) | np.arange(len(whole))
    keys.sort()
    return whole.take(keys & ((1 << bits) - 1))


class Running(NamedTuple):
    """Wallets' movements by (account, time): ``place`` is 2 * row for the payer's side, 2 * row + 1
    for the payee's. ``balance_paise`` after each, top-ups included; ``top_up_paise`` right before
    each. ``last``: the place in these arrays of each account's last movement.
    """

    place: I64
    account: I64
    balance_paise: I64
    top_up_paise: I64
    last: I64


def running(rows: Movements, accounts: Accounts, opening_paise: I64, unit_paise: I64) -> Running:
    """``rows`` in order of time; ``opening_paise`` (>= 0) and ``unit_paise`` (> 0) by wallet."""
    places = np.arange(2 * len(rows))
    sides = np.empty(2 * len(rows), dtype=np.int64)
    sides[0::2], sides[1::2] = rows.from_account, rows.to_account
    keys = ((sides << _PLACE_BITS) | places)[sides < accounts.wallets]
    keys.sort()
    account, place = keys >> _PLACE_BITS, keys & _PLACE_MASK
    amount = rows.amount_paise[place >> 1]
    signed = np.where(place & 1, amount, -amount)
    starts = np.empty(len(keys), dtype=bool)
    starts[:1] = True
    np.not_equal(account[1:], account[:-1], out=starts[1:])
    heads = np.flatnonzero(starts)
    segment = np.cumsum(starts) - 1
    total = np.cumsum(signed)
    before = (total - signed)[heads] - opening_paise[account[heads]]
    bare = total - before[segment]
    short = -_running_minimum(np.minimum(bare, 0), segment)
    unit = unit_paise[account]
    topped = -(-short // unit) * unit
    top_up = np.diff(topped, prepend=0)
    top_up[heads] = topped[heads]
    last = np.append(heads[1:], len(keys))[: len(heads)] - 1
    return Running(place, account, bare + topped, top_up, last)


def _running_minimum(values: I64, segment: I64) -> I64:
    """The minimum so far within each segment; ``values`` <= 0, ``segment`` ascending from 0.

    Each segment is laid so far below the one before that no earlier value can be its minimum.
    """
    if not len(values):
        return values
    step = 1 - int(values.min())
    at_once = _ROOM // step
    if not at_once:
        raise IntegrityError(
            f"a wallet would be {step} paise short in a day", remedy="Use smaller amounts."
        )
    out = np.empty_like(values)
    firsts = np.arange(0, int(segment[-1]) + 1, at_once)
    edges = np.append(np.searchsorted(segment, firsts), len(values))
    for first, start, end in zip(firsts, edges[:-1], edges[1:], strict=True):
        below = (segment[start:end] - first) * step
        np.minimum.accumulate(values[start:end] - below, out=out[start:end])
        out[start:end] += below
    return out


def with_shares(
    rows: Movements, accounts: Accounts, opening_paise: I64, unit_paise: I64
) -> Movements:
    """The rows with amounts in place of shares, rounded down to ``SHARE_UNIT_PAISE``.

    Nobody has two such rows a day. A share depends on earlier rows of its payer alone, and those
    are the same with and without the other shares, so one look at the payers' rows is enough.
    """
    asking = np.flatnonzero(rows.share > 0)
    if not len(asking):
        return rows
    asked = np.zeros(accounts.count, dtype=bool)
    asked[rows.from_account[asking]] = True
    nearby = np.flatnonzero(asked[rows.from_account] | asked[rows.to_account])
    part = running(rows.take(nearby), accounts, opening_paise, unit_paise)
    row = nearby[part.place >> 1]
    marks = (part.place & 1 == 0) & (rows.share[row] > 0)
    taken = part.balance_paise[marks] * rows.share[row[marks]]
    amount = rows.amount_paise.copy()
    amount[row[marks]] = taken.astype(np.int64) // SHARE_UNIT_PAISE * SHARE_UNIT_PAISE
    return replace(rows, amount_paise=amount)


def settled(
    rows: Movements, accounts: Accounts, balance_paise: I64, unit_paise: I64
) -> tuple[Movements, I64, I64]:
    """The rows with the top-ups they need, and both sides' balances after each row.

    ``balance_paise`` (by account, all of them) is moved on to the end. A top-up carries the labels
    of the payment that it is for.
    """
    wallets = accounts.wallets
    run = running(rows, accounts, balance_paise[:wallets], unit_paise)
    after = np.zeros(2 * len(rows), dtype=np.int64)
    after[run.place] = run.balance_paise
    from_after, to_after = after[0::2], after[1::2]
    topping = np.flatnonzero(run.top_up_paise)
    cause = run.place[topping] >> 1
    order = np.argsort(cause)
    cause, amount = cause[order], run.top_up_paise[topping][order]
    out = _with_top_ups(rows, cause, amount, accounts.outside(BANK))
    place = np.arange(len(rows)) + np.cumsum(np.bincount(cause, minlength=len(rows)))
    out_from, out_to = np.zeros((2, len(out)), dtype=np.int64)
    out_from[place], out_to[place] = from_after, to_after
    out_to[place[cause] - 1] = from_after[cause] + rows.amount_paise[cause]
    balance_paise[run.account[run.last]] = run.balance_paise[run.last]
    for which in range(wallets, accounts.count):
        _outside(out, which, out_from, out_to, balance_paise)
    return out, out_from, out_to


def _with_top_ups(rows: Movements, cause: I64, amount_paise: I64, bank: int) -> Movements:
    """One more row right before each of ``cause`` (ascending), from the bank to its payer."""
    count = len(rows)
    place = np.arange(count) + np.cumsum(np.bincount(cause, minlength=count))
    source = np.empty(count + len(cause), dtype=np.int64)
    source[place] = np.arange(count)
    added = place[cause] - 1
    source[added] = cause
    out = rows.take(source)
    out.to_account[added] = out.from_account[added]
    out.from_account[added] = bank
    out.amount_paise[added] = amount_paise
    out.kind[added] = TOP_UP
    return out


def _outside(out: Movements, which: int, out_from: I64, out_to: I64, balance_paise: I64) -> None:
    pays, gets = out.from_account == which, out.to_account == which
    touched = np.flatnonzero(pays | gets)
    if not len(touched):
        return
    amount = out.amount_paise[touched]
    after = balance_paise[which] + np.cumsum(np.where(gets[touched], amount, -amount))
    out_from[touched[pays[touched]]] = after[pays[touched]]
    out_to[touched[gets[touched]]] = after[gets[touched]]
    balance_paise[which] = after[-1]
