"""Faults under load, watched: what payers heard, what was caught, how it healed, what is drawn."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import BadInput
from paytm_lab.reporting import fault_charts
from paytm_lab.reporting.watching import crash_steps
from paytm_lab.simulation import fault_load, fault_watch, faults
from paytm_lab.simulation.fault_load import COMPLETED, NO_ANSWER, PENDING, REFUSED, FaultLoad
from paytm_lab.simulation.fault_watch import FaultRun, Planned

PLAN = (
    Planned("shard-2", "down", 0.8),
    Planned("shard-1", "slow", 0.6),
    Planned("process", "crash-after-leg-a", 0.1),
)
SETTINGS = {"velocity_limit": 10**6, "notification_channel": "memory"}


class Watched:
    def __init__(
        self, run: FaultRun, lost: list[str], lost_of_a_lie: list[str], frames: list[Any]
    ) -> None:
        self.run, self.lost, self.frames = run, lost, frames
        self.lost_of_a_lie = lost_of_a_lie


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    drawn: list[Any] = []
    with Lab("embedded", 4, 7, **SETTINGS) as lab:
        run = fault_watch.watch(
            lab, PLAN, offered_per_s=150, users=80,
            on_look=lambda seen: drawn.append(fault_charts.fault_timeline(seen)),
        )  # fmt: skip
        payments = run.payments.copy()
        payments.loc[0, ["payment_id", "heard"]] = ["gone", COMPLETED]
        acknowledged_and_gone = replace(run, payments=payments)
        yield Watched(run, run.lost(lab), acknowledged_and_gone.lost(lab), drawn)


def test_refusals_name_the_shard_that_is_down_and_take_no_time(watched: Watched) -> None:
    heard = watched.run.payments
    refused = heard[heard["heard"] == REFUSED]
    assert len(refused) > 10
    assert ((refused["from_shard"] == 2) | (refused["to_shard"] == 2)).all()
    assert (
        refused["latency_ms"].median()
        < heard.loc[heard["heard"] == COMPLETED, "latency_ms"].median()
    )
    others = heard[(heard["from_shard"] != 2) & (heard["to_shard"] != 2)]
    down = watched.run.windows[0]
    meanwhile = others[others["submitted_s"].between(down.begin_s, down.end_s)]
    assert len(meanwhile) > 10
    assert set(meanwhile["heard"]) == {COMPLETED}, "others go on"


def test_each_fault_catches_payments_and_recovery_ends_them(watched: Watched) -> None:
    caught = watched.run.caught
    assert set(caught["fault"]) == {"shard-2 down", "process crash-after-leg-a"}
    assert set(caught.loc[caught["fault"] == "shard-2 down", "heard"]) <= {PENDING}
    assert NO_ANSWER in set(caught.loc[caught["fault"] != "shard-2 down", "heard"])
    assert set(caught["ended"]) <= {"COMPLETED", "FAILED", "never written"}
    by_fault = caught[caught["ended"] == "COMPLETED"].groupby("fault")["ended_s"]
    down, slow, crash = watched.run.windows
    assert slow.end_s - slow.begin_s < 4, "who looks does not stretch the fault"
    assert by_fault.min()[down.name] > down.end_s, "nobody finishes them while it is down"
    assert by_fault.max()[down.name] == pytest.approx(down.recovered_s)
    assert 0 < down.recovery_s < 10
    assert watched.run.recoveries[0].startswith("recovery: ")
    assert crash.begin_s < crash.end_s


def test_the_books_are_right_or_unknown_never_wrong(watched: Watched) -> None:
    money, audits = watched.run.money, watched.run.audits
    assert money["difference_paise"].dropna().eq(0).all()
    assert money["difference_paise"].notna().sum() >= 3
    down = watched.run.windows[0]
    during = money[money["at_s"].between(down.begin_s + 0.05, down.end_s - 0.05)]
    assert during["difference_paise"].isna().all(), "no stamp can be closed"
    assert [a.when for a in audits] == [
        "before", "during shard-2 down", "during shard-1 slow", "after"
    ]  # fmt: skip
    found = [a.verdict for a in audits]
    assert (found[0], found[1], found[3]) == ("passed", "unknown", "passed")
    assert found[2] != "failed"
    assert audits[-1].difference_paise == 0
    assert watched.lost == []
    assert watched.lost_of_a_lie == ["gone"], "one that was never made is missed"


def test_the_lab_says_once_what_is_wrong(watched: Watched) -> None:
    assert any("relay of shard 2 fails" in line for line in watched.run.logged)
    assert not [h for h in logging.getLogger("paytm_lab").handlers if h.level == logging.WARNING]


def test_the_table_counts_every_payment_of_a_window(watched: Watched) -> None:
    rows = pd.DataFrame(watched.run.window_rows()).fillna(0).set_index("fault")
    words = [word for word in fault_load.WORDS if word in rows]
    assert (rows[words].sum(axis=1) == rows["payments"]).all()
    assert rows.loc["shard-2 down", "caught"] >= 1
    assert rows.loc["process crash-after-leg-a", fault_load.NO_SERVICE] > 0


def test_the_chart_is_drawn_while_it_runs(watched: Watched) -> None:
    assert len(watched.frames) > 6
    first, last = watched.frames[0], watched.frames[-1]
    assert len(first.layout.shapes) == 0
    assert len(last.layout.shapes) == 3
    assert last.layout.yaxis.title.text == "payments (per s)"
    assert last.layout.yaxis2.title.text == "latency (ms)"
    named = {trace.name for trace in last.data}
    assert {COMPLETED, REFUSED, "shard 0", "shard 3"} <= named
    counted = sum(sum(t.y) for t in last.data if t.type == "bar") * fault_charts.BIN_S
    assert counted == pytest.approx(len(watched.run.payments), abs=6), "those on their way"


def test_the_other_charts_say_what_they_show(watched: Watched) -> None:
    money = fault_charts.money_line(watched.run)
    assert "off by ₹0.00 at worst" in money.layout.title.text.replace("<br>", " ")
    wrong = FaultRun(money=watched.run.money.assign(difference_paise=12.0))
    assert "₹0.12" in fault_charts.money_line(wrong).layout.title.text
    caught = fault_charts.caught(watched.run)
    assert "completed by recovery" in caught.layout.title.text.replace("<br>", " ")
    for draw in (fault_charts.fault_timeline, fault_charts.caught, fault_charts.money_line):
        assert draw(FaultRun()).data[0].mode == "text", "nothing to draw is said"


@pytest.mark.parametrize(
    ("kind", "moving", "ended"),
    [
        ("crash-before-commit", 0, "never written"),
        ("crash-after-leg-a", 250_00, "COMPLETED"),
        ("crash-after-leg-b", 0, "COMPLETED"),
        ("crash-after-leg-c", 0, "COMPLETED"),
    ],
)
def test_one_payment_killed_anywhere(kind: str, moving: int, ended: str) -> None:
    lab = Lab("embedded", 4, 7, deterministic=True, relay=False, consumers=())
    steps = crash_steps(lab, kind)
    killed = steps[steps["what"] == "killed"].iloc[0]
    assert (killed["in_transit_paise"], steps.attrs["ended"]) == (moving, ended)
    assert ("in transit" in faults.find("process", kind).sight) == (moving > 0), "as promised"
    last = steps.iloc[-1]
    assert last["in_transit_paise"] == 0
    assert last["receiver_paise"] == (0 if ended == "never written" else 250_00)
    whole = steps[["sender_paise", "in_transit_paise", "receiver_paise"]].sum(axis=1)
    assert whole.eq(250_00).all()
    drawn = fault_charts.crash_story(steps)
    assert ended in drawn.layout.title.text.replace("<br>", " ")


def test_what_cannot_be_watched_is_said() -> None:
    with Lab("embedded", 2, 7, deterministic=True) as lab:
        with pytest.raises(BadInput, match="stepped"):
            fault_watch.watch(lab, PLAN[2:])
        with pytest.raises(BadInput, match="not a shard of this lab"):
            fault_watch.watch(lab, PLAN)
        with pytest.raises(BadInput, match="is not a fault"):
            fault_watch.watch(lab, [Planned("shard-0", "tired", 1.0)])
        for rate, users in ((0.0, 9), (float("nan"), 9), (-1.0, 9), (1.0, 1)):
            with pytest.raises(BadInput, match="payments a second"):
                FaultLoad(lab, rate, users)
    lab = Lab("embedded", 4, 7, deterministic=True, relay=False, consumers=())
    with pytest.raises(BadInput, match="no payment came"):
        crash_steps(lab, "crash-after-refusal")
