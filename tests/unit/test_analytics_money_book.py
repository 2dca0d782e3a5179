"""What the money line makes of readings of the shards that are not of one moment."""

from __future__ import annotations

import pytest

from paytm_lab.analytics.checks import Finding
from paytm_lab.analytics.money import COUNTING, EQUAL, MISMATCH, UNKNOWN, MoneyBook
from paytm_lab.analytics.seldom import Seldom
from paytm_lab.analytics.shard_watch import ShardNow
from paytm_lab.ledger.schema import FUNDING_ID, IN_TRANSIT_ID_BASE, RECEIVABLE_ID
from paytm_lab.ledger.watching import Heads, OpenRow, PaymentKind, SystemEntry, UserSums

PAYMENT, OTHER = b"p" * 16, b"q" * 16


def entry(number: int, account: int, net: int, payment: bytes = PAYMENT) -> SystemEntry:
    return SystemEntry(number, payment, account, net, 1_000)


def reading(
    shard: int,
    balance: int,
    *new: SystemEntry,
    caught_up: bool = True,
    counted: float = 1.0,
    findings: list[Finding] | None = None,
    pending: list[bytes] | None = None,
) -> ShardNow:
    kind = PaymentKind("PENDING", "transfer", 1)
    return ShardNow(
        shard, 0, counted, Heads(0, 0, 0), UserSums(1, balance, 0), True, {},
        [OpenRow(1, kind, 1, payment, 1_000) for payment in pending or []], 0, None, 0, None, 0,
        [], list(new), caught_up, findings or [], 0.0,
    )  # fmt: skip


def funded(shard: int, paise: int) -> SystemEntry:
    return entry(1, FUNDING_ID, -paise, OTHER)


def test_money_on_its_way_is_held() -> None:
    book = MoneyBook()
    debit = entry(2, IN_TRANSIT_ID_BASE + 1, 30)
    assert book.take(reading(0, 70, funded(0, 100), debit)) == 0
    assert book.take(reading(1, 50, funded(1, 50))) == 0
    line = book.line([0, 1], [], {})
    assert (line.state, line.difference_paise) == (EQUAL, 0)
    assert (line.funded_paise, line.users_paise) == (150, 120)
    assert (line.under_way_paise, line.payments_under_way) == (30, 1)
    book.take(reading(1, 80, entry(2, IN_TRANSIT_ID_BASE, -30)))
    line = book.line([0, 1], [], {})
    assert (line.users_paise, line.under_way_paise, line.payments_under_way) == (150, 0, 0)


def test_a_credit_that_was_read_before_its_debit_has_not_begun() -> None:
    book = MoneyBook()
    book.take(reading(0, 100, funded(0, 100)))
    book.take(reading(1, 80, funded(1, 50), entry(2, IN_TRANSIT_ID_BASE, -30)))
    line = book.line([0, 1], [], {})
    assert (line.state, line.users_paise, line.under_way_paise) == (EQUAL, 150, 0)
    book.take(reading(0, 70, entry(2, IN_TRANSIT_ID_BASE + 1, 30)))
    assert book.line([0, 1], [], {}).users_paise == 150


def test_what_is_owed_back_is_no_mismatch() -> None:
    book = MoneyBook()
    book.take(reading(0, 120, funded(0, 100), entry(2, RECEIVABLE_ID, -20)))
    line = book.line([0], [], {})
    assert (line.state, line.receivable_paise, line.difference_paise) == (EQUAL, -20, 0)


@pytest.mark.parametrize("by", [5, -5])
def test_a_balance_that_is_off(by: int) -> None:
    book = MoneyBook()
    assert book.take(reading(0, 100 + by, funded(0, 100))) == by
    line = book.line([0], [], {})
    assert (line.state, line.difference_paise, line.users_paise) == (MISMATCH, by, 100 + by)


@pytest.mark.parametrize(("debited", "credited"), [(30, 25), (25, 30)])
def test_a_debit_that_is_not_its_credit(debited: int, credited: int) -> None:
    book = MoneyBook()
    book.take(reading(0, 100 - debited, funded(0, 100), entry(2, IN_TRANSIT_ID_BASE + 1, debited)))
    book.take(reading(1, 50 + credited, funded(1, 50), entry(2, IN_TRANSIT_ID_BASE, -credited)))
    (suspect,) = book.suspects(now_us=10_000_000)
    assert suspect == PAYMENT and book.net(PAYMENT) == debited - credited
    line = book.line([0, 1], [], {PAYMENT: book.net(PAYMENT)})
    assert (line.state, line.difference_paise) == (MISMATCH, credited - debited)
    assert line.findings[0].difference_paise == credited - debited
    assert line.users_paise + line.under_way_paise == 150 + credited - debited


def test_what_is_pending_or_young_is_no_suspect() -> None:
    book = MoneyBook()
    debit = entry(2, IN_TRANSIT_ID_BASE + 1, 30)
    book.take(reading(0, 70, funded(0, 100), debit, pending=[PAYMENT]))
    assert book.suspects(now_us=10_000_000) == []
    book.take(reading(0, 70))
    assert book.suspects(now_us=2_000) == [] and book.suspects(now_us=10_000_000) == [PAYMENT]


def test_nothing_is_said_before_all_is_known() -> None:
    book = MoneyBook()
    assert book.line([0, 1], [], {}).state == UNKNOWN
    book.take(reading(0, 7, caught_up=False, counted=0.4))
    assert book.line([0, 1], [], {}).state == UNKNOWN
    book.take(reading(1, 0))
    line = book.line([0, 1], [], {})
    assert (line.state, line.counted) == (COUNTING, 0.4)
    assert book.line([0, 1], [1], {}).state == UNKNOWN
    book.take(reading(0, 0))
    assert book.line([0, 1], [], {}).state == EQUAL
    book.restart()
    assert book.line([0, 1], [], {}).state == COUNTING


def test_a_finding_is_shown_until_its_shard_is_away() -> None:
    book = MoneyBook()
    found = Finding(0, "p", "u", 1, "wrong")
    book.take(reading(0, 0, findings=[found]))
    assert book.line([0], [], {}).findings == [found]
    assert book.line([0], [], {}).state == MISMATCH
    assert book.line([0], [0], {}).state == UNKNOWN


def test_what_takes_long_is_done_seldom() -> None:
    now = [0.0]
    seldom = Seldom(0.1, now_s=lambda: now[0])

    def take(seconds: float) -> None:
        with seldom.taking():
            now[0] += seconds

    take(5.0)  # held up once: it counts when it happens again
    assert seldom.due()
    take(2.0)
    now[0] += 19
    assert not seldom.due()
    now[0] += 2
    assert seldom.due()
