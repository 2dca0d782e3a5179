"""The bank test: its judge, its readers, and that a wrong ledger or reader makes it fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab import Lab
from paytm_lab.core.errors import BadInput
from paytm_lab.simulation import bank_test
from paytm_lab.simulation.bank_test import (
    AS_OF,
    JEPSEN,
    NAIVE,
    READERS,
    UNCLOSED,
    Bank,
    Read,
    check,
)

STEPS = 40


def nobody() -> None:
    """Nothing moves while it is read."""


def stepped(seed: int = 7) -> Lab:
    return Lab("embedded", 4, seed, deterministic=True, relay=False, consumers=())


@pytest.fixture(scope="module")
def reads() -> list[Read]:
    with stepped() as lab:
        found = bank_test.step_bank(lab, STEPS, readers=list(READERS))
        lab.audit().require_clean()
    return found


def of(reads: list[Read], reader: str) -> list[Read]:
    return [read for read in reads if read.reader == reader]


def read(balances: dict[str, int], at: float = 0.0, open_paise: int = 0) -> Read:
    return Read("me", at, balances, open_paise)


def test_it_is_jepsens_bank() -> None:
    assert (JEPSEN.accounts, JEPSEN.total_rupees, JEPSEN.rupees_max) == (8, 100, 5)
    opening = JEPSEN.openings()
    assert sum(opening.values()) == 100_00 == JEPSEN.total_paise
    assert max(opening.values()) - min(opening.values()) <= 100
    assert len(opening) == 8


def test_what_the_judge_finds() -> None:
    good = JEPSEN.openings()
    more, less = good | {"1": 14_00}, good | {"1": 3_00}
    negative = good | {"1": -1_00, "2": good["2"] + good["1"] + 1_00}
    strange = {user: paise for user, paise in good.items() if user != "8"} | {"9": good["8"]}
    found = check(
        [read(good), read(more, 1), read(less, 2), read(negative, 3), read(strange, 4), read(good)]
    )
    assert [(v.kind, v.at, v.paise, v.what) for v in found.violations] == [
        ("wrong total", 1, 100, "too much"),
        ("wrong total", 2, -1000, "too little"),
        ("negative balance", 3, -100, "1"),
        ("unknown account", 4, good["8"], "9"),
        ("missing account", 4, 0, "8"),
    ]
    assert (found.reads, found.passed) == (6, False)
    assert found.first and found.worst and found.last
    assert (found.first.at, found.worst.paise, found.last.kind) == (1, 1200, "missing account")
    assert [row["which"] for row in found.rows()] == ["first", "worst", "last"]
    assert "5 violations" in str(found)


def test_money_under_way_counts_as_there() -> None:
    short = JEPSEN.openings() | {"1": 10_00}
    assert check([read(short, open_paise=3_00)]).passed
    assert not check([read(short)]).passed


def test_without_a_read_nothing_is_known() -> None:
    assert not check([]).passed
    assert "nothing is known" in str(check([]))
    assert check([]).rows() == []


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 500)), max_size=20),
    st.integers(-500, 500),
)
def test_only_moved_money_passes(moves: list[tuple[int, int, int]], made: int) -> None:
    balances = JEPSEN.openings()
    for payer, payee, paise in moves:
        if balances[str(payer)] >= paise:
            balances[str(payer)] -= paise
            balances[str(payee)] += paise
    assert check([read(balances)]).passed
    balances["1"] += made
    assert check([read(balances)]).passed == (made == 0)


def test_every_read_of_a_closed_stamp_sums_to_the_total(reads: list[Read]) -> None:
    found = of(reads, AS_OF)
    assert check(found).passed
    assert len(found) == STEPS // 4
    assert len({tuple(sorted(r.balances.items())) for r in found}) > 3, "money moved meanwhile"


@pytest.mark.parametrize("reader", [NAIVE, UNCLOSED])
def test_readers_that_close_nothing_are_found_out(reads: list[Read], reader: str) -> None:
    found = check(of(reads, reader))
    assert not found.passed
    assert {v.kind for v in found.violations} == {"wrong total"}


def test_the_same_seed_reads_the_same(reads: list[Read]) -> None:
    with stepped() as lab:
        again = bank_test.step_bank(lab, STEPS // 2, readers=list(READERS))
    assert again == [r for r in reads if r.at < STEPS // 2]


@pytest.fixture
def bank_lab() -> Iterator[Lab]:
    with stepped() as lab:
        bank_test.open_bank(lab)
        yield lab


def post_one_side(lab: Lab, user: str, paise: int, direction: str) -> None:
    """Half a payment: one entry, as a ledger does that keeps no record of the rest. The balance
    column stays: the shard's own constraint would keep it from becoming negative.
    """
    database = lab.system.databases[lab.system.router.locate(user)[1]]
    transaction = database.begin()
    account = transaction.lock_accounts([user])[0]
    stamp = transaction.meta().stamp + 1
    transaction.update("shard_meta", ("id",), ("stamp",), [(1, stamp)])
    entry = (bytes(16), account.id, paise, direction, stamp, stamp)
    transaction.insert("ledger_entries", [entry])
    transaction.commit()


def test_a_ledger_of_two_commits_and_no_record_between_is_found_out(bank_lab: Lab) -> None:
    def look() -> Read:
        return Read(AS_OF, 0, *bank_test.read_as_of(bank_lab, nobody))

    assert check([look()]).passed
    post_one_side(bank_lab, "1", 2_00, "debit")
    between = look()
    post_one_side(bank_lab, "2", 2_00, "credit")
    found = check([between, look()])
    assert [(v.kind, v.paise) for v in found.violations] == [("wrong total", -200)]
    post_one_side(bank_lab, "1", 20_00, "debit")
    post_one_side(bank_lab, "2", 20_00, "credit")
    assert {v.kind for v in check([look()]).violations} == {"negative balance"}


def test_in_flight_on_a_lab_with_threads() -> None:
    with Lab("embedded", 4, 7, velocity_limit=10**6) as lab:
        found = bank_test.run_bank(lab, 0.8, readers=(AS_OF,))
        lab.audit().require_clean()
        assert check(found).passed
        assert len({tuple(sorted(r.balances.items())) for r in found}) > 1, "money moved meanwhile"


def test_it_wants_a_lab_of_its_own(bank_lab: Lab) -> None:
    bank_lab.create_account("99", 1)
    with pytest.raises(BadInput, match="lab of its own"):
        bank_test.open_bank(bank_lab)


@pytest.mark.parametrize("bank", [Bank(accounts=1), Bank(total_rupees=0), Bank(in_flight=0)])
def test_a_bank_that_cannot_pay_is_refused(bank: Bank, bank_lab: Lab) -> None:
    with pytest.raises(BadInput, match="bank"):
        bank_test.open_bank(bank_lab, bank)


def test_a_reader_that_there_is_not(bank_lab: Any) -> None:
    with pytest.raises(BadInput, match="as of a closed stamp"):
        bank_test.step_bank(bank_lab, 1, readers=("by guessing",))
