from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.analytics.rollups import (
    CANCELLED,
    COMPLETED,
    DAY_US,
    FAILED,
    HOUR_US,
    INITIATED,
    SCORED,
    Sum,
    Totals,
    add_part,
    day_number,
    day_text,
    latency_bin,
    latency_bin_top_us,
    part_body,
)
from paytm_lab.core.errors import StorageCorrupt
from paytm_lab.core.events import FraudData, PaymentData

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def payment(
    amount_paise: int = 100,
    route: tuple[int, int] = (0, 1),
    at_us: int = START_US,
    kind: str = "transfer",
    reason: str = "",
) -> PaymentData:
    return PaymentData("p", "a", "b", amount_paise, *route, at_us, at_us, kind=kind, reason=reason)


def fraud(score: float, decision: str, rule: str = "amount") -> FraudData:
    return FraudData("p", "a", 100, score, decision, rule, at_us=START_US)


@st.composite
def random_events(draw: st.DrawFn) -> list[tuple[str, PaymentData | FraudData, int | None]]:
    rng = random.Random(draw(st.integers(0, 2**32)))
    events: list[tuple[str, PaymentData | FraudData, int | None]] = []
    for _ in range(draw(st.integers(0, 40))):
        if rng.random() < 0.3:
            events.append((SCORED, fraud(rng.random(), rng.choice(["allow", "review"])), None))
            continue
        kind = rng.choice([INITIATED, COMPLETED, FAILED, CANCELLED])
        data = payment(
            rng.randrange(1, 10**6),
            (rng.randrange(4), rng.randrange(4)),
            START_US + rng.randrange(5 * DAY_US),
            rng.choice(["transfer", "funding", "refund"]),
            rng.choice(["", "insufficient_funds"]),
        )
        events.append((kind, data, rng.randrange(10**7) if kind == COMPLETED else None))
    return events


def totals_of(events: list[tuple[str, PaymentData | FraudData, int | None]]) -> Totals:
    totals = Totals()
    for event_type, data, latency_us in events:
        if isinstance(data, FraudData):
            totals.add_fraud(event_type, data)
        else:
            totals.add_payment(event_type, data, latency_us)
    return totals


def contents(totals: Totals) -> tuple[object, ...]:
    return (totals.cells, totals.days, totals.latency)


@given(random_events(), st.integers(0, 40), st.randoms())
def test_any_split_in_any_order_merges_to_the_same(
    events: list[tuple[str, PaymentData | FraudData, int | None]], cut: int, rng: random.Random
) -> None:
    whole = totals_of(events)
    shuffled = list(events)
    rng.shuffle(shuffled)
    merged = totals_of(shuffled[cut:])
    merged.merge(totals_of(shuffled[:cut]))
    assert contents(merged) == contents(whole)


@given(random_events())
def test_stored_parts_read_back_the_same(
    events: list[tuple[str, PaymentData | FraudData, int | None]],
) -> None:
    whole = totals_of(events)
    back = Totals()
    add_part(back, "", part_body(whole, None))
    for day in whole.days:
        add_part(back, day_text(day), part_body(whole, day))
    assert contents(back) == contents(whole)


def test_the_views() -> None:
    totals = Totals()
    totals.add_payment(COMPLETED, payment(100, (0, 1)), 1_000)
    totals.add_payment(COMPLETED, payment(200, (0, 0), START_US + 5 * HOUR_US), 3_000)
    totals.add_payment(COMPLETED, payment(400, (2, 0), START_US + DAY_US + 5 * HOUR_US), 9_000)
    totals.add_payment(COMPLETED, payment(10_000, (0, 3), kind="funding"), None)
    totals.add_payment(COMPLETED, payment(50, (1, 0), kind="refund"), None)
    totals.add_payment(FAILED, payment(7, reason="insufficient_funds"), None)
    totals.add_payment(FAILED, payment(8, reason="account_missing"), None)
    totals.add_payment(CANCELLED, payment(9, reason="expired"), None)
    assert totals.outcome(COMPLETED) == Sum(3, 700)
    assert totals.outcome(COMPLETED, "funding") == Sum(1, 10_000)
    assert totals.outcome(COMPLETED, "refund") == Sum(1, 50)
    assert totals.reasons(FAILED) == {"account_missing": Sum(1, 8), "insufficient_funds": Sum(1, 7)}
    assert totals.reasons(CANCELLED) == {"expired": Sum(1, 9)}
    assert totals.success_rate() == 0.5
    assert totals.routes() == {(0, 0): Sum(1, 200), (0, 1): Sum(1, 100), (2, 0): Sum(1, 400)}
    assert totals.same_and_cross() == (Sum(1, 200), Sum(2, 500))
    assert totals.shards() == {
        0: {"out": Sum(2, 300), "in": Sum(2, 600)},
        1: {"out": Sum(0, 0), "in": Sum(1, 100)},
        2: {"out": Sum(1, 400), "in": Sum(0, 0)},
    }
    assert totals.by_day() == {"2026-01-01": Sum(2, 300), "2026-01-02": Sum(1, 400)}
    hours = totals.by_hour_of_day()
    assert (hours[0], hours[5], sum(h.payments for h in hours)) == (Sum(1, 100), Sum(2, 600), 3)
    assert totals.outcomes_by_kind()[COMPLETED, "refund"] == Sum(1, 50)
    half, top = totals.latency_ms(0.5), totals.latency_ms(1.0)
    assert half is not None
    assert top is not None
    assert 3.0 <= half <= 3.0 * 1.125
    assert 9.0 <= top <= 9.0 * 1.125


def test_nothing_counted_gives_no_rate_and_no_latency() -> None:
    assert Totals().success_rate() is None
    assert Totals().latency_ms(0.5) is None


def test_fraud_views() -> None:
    totals = Totals()
    for score, decision, rule in [
        (0.0, "allow", "amount"),
        (0.69, "allow", "amount"),
        (0.7, "review", "amount"),
        (1.0, "review", "amount"),
        (0.05, "block", "velocity"),
    ]:
        totals.add_fraud(SCORED, fraud(score, decision, rule))
    totals.add_fraud("TransactionBlocked", fraud(0.05, "block", "velocity"))
    assert {k: v.payments for k, v in totals.fraud_decisions().items()} == {
        ("allow", "amount"): 2,
        ("block", "velocity"): 1,
        ("review", "amount"): 2,
    }
    assert totals.score_histogram() == [2, 0, 0, 0, 0, 0, 1, 1, 0, 1]


@given(st.integers(0, 2**50))
def test_a_latency_bin_is_at_most_an_eighth_wide(latency_us: int) -> None:
    top = latency_bin_top_us(latency_bin(latency_us))
    assert latency_us <= top <= latency_us * 1.125
    assert latency_bin(top) == latency_bin(latency_us)
    assert latency_bin(top + 1) == latency_bin(latency_us) + 1


def test_a_clock_that_went_back_counts_as_no_latency() -> None:
    assert latency_bin(-5) == 0


@given(st.integers(-(10**5), 10**5))
def test_days_have_names(day: int) -> None:
    assert day_number(day_text(day)) == day


@pytest.mark.parametrize(
    ("part", "body"), [("", "{"), ("2026-01-01", '{"cells":[[1]]}'), ("monday", '{"cells":[]}')]
)
def test_a_damaged_rollup_is_named(part: str, body: str) -> None:
    with pytest.raises(StorageCorrupt, match="rollup"):
        add_part(Totals(), part, body)
