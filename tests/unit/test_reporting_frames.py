"""Frames: names with units, whole paise, nothing lost on the way."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.core.events import EventType
from paytm_lab.reporting import frames
from tests.unit import reporting_samples as samples


def test_payments_have_the_promised_columns_and_derive_cross_shard() -> None:
    frame = samples.payments()
    assert tuple(frame.columns) == frames.PAYMENT_COLUMNS
    assert frame["amount_paise"].dtype == "int64"
    assert (frame["cross_shard"] == (frame["from_shard"] != frame["to_shard"])).all()
    assert frame["cross_shard"].any() and not frame["cross_shard"].all()


def test_a_refusal_before_routing_is_not_cross_shard() -> None:
    columns = {n: ["x"] for n in frames.PAYMENT_COLUMNS if n != "cross_shard"}
    columns |= {"from_shard": [2], "to_shard": [-1], "amount_paise": [1]}
    columns |= {"latency_ms": [float("nan")], "submitted_s": [0.0], "at_us": [0]}
    assert not frames.payments_frame(columns)["cross_shard"].iloc[0]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(BadInput, match="lacks latency_ms"):
        frames.payments_frame({n: [] for n in frames.PAYMENT_COLUMNS if n != "latency_ms"})
    with pytest.raises(BadInput, match="the shards frame lacks accounts"):
        frames.shards_frame([{"shard": 0}])


def test_paise_stay_exact_up_to_the_largest_amount() -> None:
    largest = 2**53 - 1
    row = {"payment_id": "p", "user_id": "u", "amount": largest, "score": 1.0}
    frame = frames.features_frame([{**row, "decision": "review", "rule": "amount"}])
    assert int(frame["amount_paise"].iloc[0]) == largest
    assert int(frames.drift_frame({"u": largest}, {})["drift_paise"].iloc[0]) == -largest


def test_the_hours_of_a_day_are_24_and_hold_every_payment() -> None:
    payments = samples.payments()
    hours = frames.hourly_frame(payments)
    assert tuple(hours.columns) == frames.HOURLY_COLUMNS
    assert list(hours["hour"]) == list(range(24))
    assert hours["payments"].sum() == len(payments)
    assert (hours["completed"] + hours["failed"]).sum() == len(payments)
    done = payments[payments["status"] == "COMPLETED"]
    assert hours["amount_paise"].sum() == done["amount_paise"].sum()
    first = payments[payments["at_us"] % 86_400_000_000 < 3_600_000_000]
    assert hours["payments"][0] == len(first)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "unknown"], "unknown"),
        (["unknown", "failed"], "failed"),
        ([], "unknown"),
    ],
)
def test_failed_outranks_unknown_outranks_passed(states: list[str], said: str) -> None:
    assert frames.verdict_state(frames.verdict_frame([("c", s, "") for s in states])) == said


def test_a_verdict_takes_rows_triples_and_objects() -> None:
    object_ = SimpleNamespace(name="a", state="passed", detail="x")
    for check in (object_, ("a", "passed", "x"), {"name": "a", "state": "passed", "detail": "x"}):
        assert frames.verdict_frame([check]).iloc[0].tolist() == ["a", "passed", "x"]


def test_all_13_event_types_have_a_row_and_strangers_are_kept() -> None:
    frame = frames.events_frame({"PaymentInitiated": 5, "(unreadable)": 1})
    assert set(frame["type"]) == {str(t) for t in EventType} | {"(unreadable)"}
    assert frame["events"].sum() == 6
    assert frame.set_index("type").loc["EmailSent", "topic"] == "notification_events"


def test_users_that_only_one_side_knows_drift() -> None:
    drift = frames.drift_frame({"a": 5}, {"b": 7}).set_index("user_id")["drift_paise"]
    assert drift.to_dict() == {"a": -5, "b": 7}


def test_drift_of_a_replay_names_what_the_report_names() -> None:
    rows = [{"user_id": "b", "rebuilt_paise": 3, "ledger_paise": 9}]
    drift = frames.drift_of_replay({"a": 5, "b": 9}, rows).set_index("user_id")
    assert drift["drift_paise"].to_dict() == {"a": 0, "b": -6}


def test_steps_come_in_order_of_time() -> None:
    steps = frames.steps_frame(samples.steps().iloc[::-1].to_dict("records"))
    assert list(steps["at_us"]) == [1_000, 3_500, 6_000, 9_000]


def test_latency_of_untimed_payments_is_left_out() -> None:
    payments = samples.payments()
    payments.loc[payments.index[:100], "latency_ms"] = float("nan")
    table = frames.latency_summary(payments).set_index("path")
    assert table.loc["all", "payments"] == table["payments"].iloc[:2].sum()
    assert table.notna().all().all()
    same, cross = table.loc["same shard"], table.loc["cross shard"]
    assert cross["latency_ms_p50"] > same["latency_ms_p50"]


def test_a_closed_loop_is_named_by_what_it_keeps_under_way() -> None:
    """Three callers, each asking again as soon as it is answered after 10 ms."""
    at = [
        turn * 0.010 + 0.0001 * turn + caller * 0.001 for turn in range(50) for caller in range(3)
    ]
    payments = samples.payments(n=150).assign(submitted_s=at, latency_ms=10.0)
    assert frames.in_flight_max(payments) == 3
    assert frames.in_flight_max(payments.sample(frac=1, random_state=1)) == 3
    assert frames.closed_loop(payments) == "closed loop, 3 in flight: queueing included"
    assert frames.closed_loop(payments.iloc[::3]) == "closed loop, 1 in flight"
    assert frames.closed_loop(payments.assign(latency_ms=float("nan"))) == ""
    assert frames.in_flight_max(payments.iloc[:0]) == 0
