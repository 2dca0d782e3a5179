"""Money in the wallet economy: kept to the paisa, never below zero, whatever is asked of it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paytm_lab.core.errors import IntegrityError
from paytm_lab.simulation.economy import PATTERNS, Books, Economy, EconomyBatch, joined
from paytm_lab.simulation.economy.batch import PEER, TOP_UP, Accounts
from paytm_lab.simulation.economy.wallets import (
    SHARE_UNIT_PAISE,
    Movements,
    _running_minimum,
    settled,
    together,
    with_shares,
)
from tests.simulation.economies import SEED, cheated

ACCOUNTS = Accounts(users=3, merchants=2)
UNIT = np.array([1_000, 7_000, 50_000, 10_000, 10_000])
# Small sums, and such that a day's wallets do not fit on one line of 63 bits.
AMOUNTS = st.one_of(st.integers(1, 50_000), st.integers(10**14, 2 * 10**16))


def movements(rows: list[tuple[int, int, int, int, float]]) -> Movements:
    columns = np.array([row[:4] for row in rows], dtype=np.int64).reshape(-1, 4).T
    zeros = np.zeros(len(rows), dtype=np.int8)
    return Movements(
        *(column.copy() for column in columns),
        *(zeros, zeros + 3, np.arange(len(rows), dtype=np.int32)),
        share=np.array([row[4] for row in rows]),
    )


@st.composite
def days(draw: st.DrawFn) -> list[tuple[int, int, int, int, float]]:
    """(time, payer, payee, amount, share): at most one share a payer, of user to bank."""
    rows = []
    shares: set[int] = set()
    for _ in range(draw(st.integers(0, 25))):
        at_us = draw(st.integers(0, 40))
        payer = draw(st.integers(0, ACCOUNTS.count - 1))
        if payer < 3 and payer not in shares and draw(st.booleans()):
            shares.add(payer)
            rows.append((at_us, payer, ACCOUNTS.outside(0), 0, draw(st.floats(0.1, 1))))
            continue
        payee = draw(st.integers(0, ACCOUNTS.count - 1).filter(lambda a, p=payer: a != p))
        rows.append((at_us, payer, payee, draw(AMOUNTS), 0.0))
    return rows


@settings(max_examples=150, deadline=None)
@given(days(), st.lists(st.integers(0, 10**15), min_size=5, max_size=5))
def test_a_day_is_settled_as_one_would_by_hand(
    rows: list[tuple[int, int, int, int, float]], opening: list[int]
) -> None:
    """Against a loop over dictionaries that tops up when a payment meets too little."""
    balance = np.array([*opening, 0, 0, 0], dtype=np.int64)
    day = with_shares(together([movements(rows)]), ACCOUNTS, balance[:5], UNIT)
    out, from_after, to_after = settled(day, ACCOUNTS, balance, UNIT)

    by_hand = dict(enumerate([*opening, 0, 0, 0]))
    expected = []
    for at_us, payer, payee, amount, share in sorted(rows, key=lambda row: row[0]):
        if share:
            amount = int(by_hand[payer] * share) // SHARE_UNIT_PAISE * SHARE_UNIT_PAISE
        if payer < 5 and by_hand[payer] < amount:
            unit = int(UNIT[payer])
            top_up = -((by_hand[payer] - amount) // unit) * unit
            by_hand[5] -= top_up
            by_hand[payer] += top_up
            expected.append((at_us, 5, payer, top_up, by_hand[5], by_hand[payer]))
        by_hand[payer] -= amount
        by_hand[payee] += amount
        expected.append((at_us, payer, payee, amount, by_hand[payer], by_hand[payee]))
    found = zip(
        out.at_us.tolist(), out.from_account.tolist(), out.to_account.tolist(),
        out.amount_paise.tolist(), from_after.tolist(), to_after.tolist(), strict=True,
    )  # fmt: skip
    assert list(found) == expected
    assert balance.tolist() == list(by_hand.values())
    assert balance[:5].min() >= 0 and balance.sum() == sum(opening)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(-(2**53), 0), min_size=1, max_size=4), min_size=1, max_size=700),
    st.integers(0, 9),
)
def test_a_running_minimum_starts_anew_in_each_segment(parts: list[list[int]], deep: int) -> None:
    """Also where all segments together do not fit on one line of 63 bits."""
    parts[min(deep, len(parts) - 1)][0] = -(2**53)
    values = np.array([value for part in parts for value in part])
    segment = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    expected = [min(part[: at + 1]) for part in parts for at in range(len(part))]
    assert _running_minimum(values, segment).tolist() == expected


def test_a_wallet_too_short_for_any_line_is_an_error() -> None:
    with pytest.raises(IntegrityError, match="short"):
        _running_minimum(np.array([-(2**62)]), np.array([0]))


def test_a_top_up_has_the_labels_of_the_payment_it_is_for() -> None:
    day = movements([(0, 0, 1, 300, 0.0), (1, 1, 2, 100, 0.0), (2, 1, 2, 500, 0.0)])
    day.kind[:] = PEER
    out, _, _ = settled(day, ACCOUNTS, np.zeros(8, dtype=np.int64), UNIT)
    assert [(int(k), int(r)) for k, r in zip(out.kind, out.ring, strict=True)] == [
        (TOP_UP, 0), (PEER, 0), (PEER, 1), (TOP_UP, 2), (PEER, 2),
    ]  # fmt: skip
    assert set(out.pattern.tolist()) == {3}


@settings(max_examples=12, deadline=None)
@given(
    users=st.integers(250, 700), day_count=st.integers(1, 5), seed=st.integers(0, 2**63 - 1),
    rings=st.dictionaries(st.sampled_from(PATTERNS[1:]), st.integers(0, 2), max_size=8),
    employed=st.floats(0, 1), joining=st.floats(0, 0.3), activity=st.floats(0, 2),
    threshold=st.floats(100, 1e6),
)  # fmt: skip
def test_money_is_kept_in_any_economy(
    users: int, day_count: int, seed: int, rings: dict[str, int], employed: float, joining: float,
    activity: float, threshold: float,
) -> None:  # fmt: skip
    economy = Economy(
        users=users, days=day_count, fraud=rings, employed_share=employed, joining_share=joining,
        activity_sigma=activity, threshold_rupees=threshold,
    )  # fmt: skip
    opening = economy.opening_paise(seed)
    books = Books(economy.accounts, opening)
    balance = dict(enumerate(opening.tolist()))
    for batch in economy.generate(seed):
        books.add(batch)
        for payer, payee, paise in zip(
            batch.from_account.tolist(), batch.to_account.tolist(), batch.amount_paise.tolist(),
            strict=True,
        ):  # fmt: skip
            balance[payer] -= paise
            balance[payee] += paise
            assert balance[payer] >= 0 or payer >= economy.accounts.wallets
    books.require_clean()
    assert books.balance_paise.tolist() == list(balance.values())
    assert sum(balance.values()) == opening.sum()


def changed(batch: EconomyBatch, **columns: dict[int, int]) -> EconomyBatch:
    made = {name: getattr(batch, name).copy() for name in columns}
    for name, places in columns.items():
        for place, value in places.items():
            made[name][place] = value
    return replace(batch, **made)


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [
        ("amount_paise", 0, "amounts_positive"),
        ("amount_paise", 12_345, "balances_add_up"),
        ("from_balance_paise", -1, "never_negative"),
        ("to_balance_paise", 10**15, "balances_add_up"),
        ("from_account", 10**6, "accounts_known"),
        ("at_us", 0, "in_order_of_time"),
    ],
)
def test_the_books_find_a_payment_that_was_changed(column: str, value: int, check: str) -> None:
    economy, batch = cheated()
    books = Books(economy.accounts, economy.opening_paise(SEED))
    place = int(np.flatnonzero(batch.from_account < economy.users)[500])
    books.add(changed(batch, **{column: {place: value}}))
    found = {row["check"]: row for row in books.checks()}
    assert found[check]["state"] == "failed", found
    with pytest.raises(IntegrityError, match=check):
        books.require_clean()


def test_the_books_find_a_payment_that_is_gone_and_one_to_oneself() -> None:
    economy, batch = cheated()
    opening = economy.opening_paise(SEED)
    columns = [field.name for field in fields(batch)][1:]
    lost = {name: np.delete(getattr(batch, name), 700) for name in columns}
    books = Books(economy.accounts, opening)
    books.add(EconomyBatch(1, **lost))
    assert {r["check"] for r in books.checks() if r["state"] == "failed"} == {"balances_add_up"}
    books = Books(economy.accounts, opening)
    books.add(changed(batch, to_account={700: int(batch.from_account[700])}))
    assert "two_accounts" in {r["check"] for r in books.checks() if r["state"] == "failed"}


def test_books_without_a_payment_know_nothing() -> None:
    books = Books(ACCOUNTS, np.zeros(8, dtype=np.int64))
    assert {row["state"] for row in books.checks()} == {"unknown"}
    with pytest.raises(IntegrityError):
        books.require_clean()


def test_every_batch_is_a_day_in_order_and_lines_go_on() -> None:
    economy = Economy(users=300, days=3)
    batches = list(economy.generate(SEED))
    first = 1
    for day, batch in enumerate(batches):
        assert batch.first_line == first
        assert np.all((batch.at_us - economy.start_us) // 86_400_000_000 == day)
        assert np.all(np.diff(batch.at_us) >= 0)
        first += len(batch)
    assert len(joined(batches)) == first - 1
