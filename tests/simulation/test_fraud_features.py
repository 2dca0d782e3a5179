"""Features as of their time: against a plain loop, and deaf to what comes later."""

from __future__ import annotations

import numpy as np
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud.history import Histories, decode, encode
from paytm_lab.fraud.live_features import LIVE, feature_rows
from paytm_lab.fraud.registry import ModelInput
from paytm_lab.fraud.science.features import HANDBOOK, OURS, make_features
from paytm_lab.fraud.science.live import VELOCITY_WINDOW_S, live_features
from paytm_lab.fraud.science.payments import DAY_S, Payments, payments
from paytm_lab.fraud.science.protocol import prequential, split
from paytm_lab.simulation import handbook as hb


@pytest.fixture(scope="module")
def data() -> Payments:
    world = hb.handbook(5, customers=60, terminals=80, days=70, radius=20)
    return payments(
        world.time_s + hb.FIRST_DAY_S, world.customer, world.terminal, world.amount, world.fraud
    )


def plainly(data: Payments, row: int) -> dict[str, float]:
    """The Handbook's features of one payment, by looking at every payment before it."""
    now, before = data.time_s[row], np.arange(len(data)) <= row
    found = {
        "amount": data.amount[row],
        "weekend": float((now // DAY_S + 3) % 7 >= 5),
        "night": float(now % DAY_S // 3600 <= 6),
    }
    for days in (1, 7, 30):
        mine = before & (data.payer == data.payer[row]) & (data.time_s > now - days * DAY_S)
        found[f"payer_count_{days}d"] = mine.sum()
        found[f"payer_mean_{days}d"] = data.amount[mine].mean()
        there = (
            before
            & (data.payee == data.payee[row])
            & (data.time_s <= now - 7 * DAY_S)
            & (data.time_s > now - (7 + days) * DAY_S)
        )
        found[f"payee_count_{days}d"] = there.sum()
        found[f"payee_risk_{days}d"] = data.fraud[there].mean() if there.any() else 0.0
    return found


def test_the_fifteen_are_what_a_plain_loop_finds(data: Payments) -> None:
    assert len(HANDBOOK) == 15
    rows = np.arange(0, len(data), 37)
    table = make_features(data, rows)
    for place, row in enumerate(rows):
        wanted = plainly(data, int(row))
        assert table.values[place] == pytest.approx([wanted[name] for name in HANDBOOK])


@pytest.mark.parametrize("names", [HANDBOOK, OURS])
def test_nothing_later_and_no_young_label_is_looked_at(
    data: Payments, names: tuple[str, ...]
) -> None:
    row = len(data) // 2
    now = data.time_s[row]
    seen = make_features(data, np.array([row]), names).values
    later = np.arange(len(data)) > row
    unknown = data.time_s > now - 7 * DAY_S
    changed = Payments(
        data.time_s,
        data.payer,
        data.payee,
        np.where(later, data.amount * 9, data.amount),
        np.where(unknown, ~data.fraud, data.fraud),
    )
    assert make_features(changed, np.array([row]), names).values == pytest.approx(seen)
    # What is known and lies before does count.
    known = Payments(data.time_s, data.payer, data.payee, data.amount, ~data.fraud)
    assert make_features(known, np.array([row]), names).values != pytest.approx(seen)
    assert live_features(changed, np.array([row])).values == pytest.approx(
        live_features(data, np.array([row])).values
    )


def test_live_and_recorded_features_are_the_same_numbers(data: Payments) -> None:
    """The stream is what a lab sees: some pay each other, several in one minute."""
    rng = np.random.default_rng(2)
    burst = np.sort(data.time_s[:3_000] - data.time_s[:3_000] % 40)
    stream = payments(
        burst, data.payer[:3_000], rng.integers(0, 60, 3_000), data.amount[:3_000],
        data.fraud[:3_000],
    )  # fmt: skip
    recorded = live_features(stream)
    histories, live, times = Histories(None, ()), [], {}
    for row in range(len(stream)):
        payer, payee = str(stream.payer[row]), str(stream.payee[row])
        at = int(stream.time_s[row])
        times.setdefault(payer, []).append(at)
        count = sum(each > at - VELOCITY_WINDOW_S for each in times[payer])
        paise = round(float(stream.amount[row]) * 100)
        each = Candidate(str(row), payer, payee, paise, at * 1_000_000)
        given = ModelInput(each, count, histories.of(payer), histories.of(payee))
        live.append(feature_rows([given])[0])
        histories.note(each)
    assert np.array(live) == pytest.approx(recorded.values, rel=1e-9, abs=1e-9)
    spread = recorded.values.std(0) > 0
    assert spread.all(), [n for n, varies in zip(LIVE, spread, strict=True) if not varies]
    some = histories.of("3")
    assert encode(decode(encode(some))) == encode(some) and len(encode(some)) == 208


def test_time_that_goes_back_is_no_trouble() -> None:
    histories = Histories(None, ())
    for at_us in (10**15, 10**15 - 5_000_000, 10**15 + 1):
        histories.note(Candidate("p", "a", "b", 100, at_us))
    row = feature_rows(
        [ModelInput(Candidate("q", "a", "b", 100, 10**14), 1, histories.of("a"), histories.of("b"))]
    )
    assert np.isfinite(row).all() and row[0, LIVE.index("payer_count_1h")] == pytest.approx(
        3, abs=0.01
    )


def test_the_order_in_which_payments_are_seen_changes_no_sum() -> None:
    seen = [Candidate(str(n), "a", "b", 100 + n, 10**15 + n * 977_000_000) for n in range(20)]
    one, other = Histories(None, ()), Histories(None, ())
    for each, late in zip(seen, np.random.default_rng(1).permutation(20), strict=True):
        one.note(each)
        other.note(seen[late])
    for side in ("paid", "received"):
        user = "a" if side == "paid" else "b"
        left, right = getattr(one.of(user), side), getattr(other.of(user), side)
        assert left.last_us == right.last_us
        assert left.sums == pytest.approx(right.sums) and left.counts == pytest.approx(right.counts)


def test_the_split_waits_for_labels_and_forgets_known_cards(data: Payments) -> None:
    first = int(data.day[0]) + 40
    parts = split(data, first)
    assert set(data.day[parts.train]) == set(range(first, first + 7))
    assert set(data.day[parts.test]) <= set(range(first + 14, first + 21))
    for number in range(7):
        known = data.payer[data.fraud & (data.day >= first) & (data.day < first + 7 + number)]
        today = parts.test[data.day[parts.test] == first + 14 + number]
        assert not np.isin(data.payer[today], known).any()
    folds = list(prequential(data, first - 14, 2))
    assert [each.train_first_day for each in folds] == [first - 14, first - 7]
    with pytest.raises(BadInput, match="no payments to"):
        split(data, first + 1_000)
    with pytest.raises(BadInput):
        next(prequential(data, first, 0))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("amount", [1.0, float("nan"), 3.0]),
        ("amount", [1.0, -2.0, 3.0]),
        ("time_s", [3, 2, 1]),
        ("payer", [0, -1, 0]),
        ("payee", ["a", "b", "c"]),
        ("fraud", [True]),
    ],
)
def test_columns_that_are_none_are_refused(column: str, values: list[object]) -> None:
    good = {
        "time_s": [1, 2, 3], "payer": [0, 1, 0], "payee": [1, 0, 1],
        "amount": [1.0, 2.0, 3.0], "fraud": [False, True, False],
    }  # fmt: skip
    assert len(payments(**good)) == 3
    with pytest.raises(BadInput):
        payments(**(good | {column: values}))


def test_features_that_are_not_there(data: Payments) -> None:
    with pytest.raises(BadInput, match="no feature balance"):
        make_features(data, np.array([1]), ("amount", "balance"))
    nothing = data.rows(slice(0, 0))
    assert live_features(nothing).values.shape == (0, len(LIVE))
