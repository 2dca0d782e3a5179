"""The times of a payment's trace: what was measured, named as what it is, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import isnan
from pathlib import Path

import pytest

from paytm_lab import Lab, Workload
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.ids import parse_payment_id
from paytm_lab.ledger.operations import PaymentRequest
from paytm_lab.reporting.results import RunResult
from paytm_lab.reporting.steps import CLIENT, LOG, answer, steps_of
from paytm_lab.reporting.trace import UNANSWERED
from paytm_lab.simulation import last_run
from paytm_lab.simulation.transfers_file import open_transfers


@pytest.fixture(scope="module")
def run_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, RunResult]]:
    with Lab(seed=5, data=tmp_path_factory.mktemp("traced")) as lab:
        yield lab, lab.run(Workload(users=40, payments=600, opening_rupees=2_000))


def test_the_answer_stands_where_its_caller_measured_it(run_lab: tuple[Lab, RunResult]) -> None:
    lab, run = run_lab
    for status in ("COMPLETED", "FAILED"):
        rows = run.payments[run.payments.status == status]
        assert len(rows) >= 3
        for row in rows.head(20).itertuples():
            traced = lab.trace(row.payment_id).answered_in(run)
            answered = [step for step in traced.steps if "answered after" in step.label]
            assert len(answered) == 1 and answered[0].to == CLIENT
            since_ms = (answered[0].at_us - traced.steps[0].at_us) / 1e3
            # The id counts whole milliseconds, so the answer may be up to one late.
            assert row.latency_ms - 0.001 <= since_ms <= row.latency_ms + 1.001
            assert f"{row.latency_ms:.2f} ms" in answered[0].label
            assert UNANSWERED not in str(traced)
            again = traced.answered_in(run)
            assert again.steps == traced.steps, "an answer is not given twice"


def test_an_answer_that_nobody_measured_has_no_time(run_lab: tuple[Lab, RunResult]) -> None:
    lab, run = run_lab
    raw = parse_payment_id(run.payments.payment_id.iloc[0])
    system = lab.system
    _, steps = steps_of(
        raw, system.engine.source_of(raw), system.databases, system.log, system.wide
    )
    asked, *others = steps
    assert asked.actor == CLIENT
    assert not [step for step in others if step.to == CLIENT and not step.notified]


def test_events_of_one_moment_stand_in_the_logs_order(run_lab: tuple[Lab, RunResult]) -> None:
    lab, run = run_lab
    refused = run.payments[run.payments.status == "FAILED"]
    same_moment = 0
    for payment_id in refused.payment_id:
        events = [s for s in lab.trace(payment_id).steps if s.to == LOG and "payment_ev" in s.label]
        offsets = [int(step.label.rpartition(" ")[2]) for step in events]
        assert len(offsets) == 2 and offsets == sorted(offsets), "Initiated, then Failed"
        same_moment += any(one.at_us == two.at_us for one, two in pairwise(events))
    assert same_moment, "none was appended at one moment, so nothing was tested"


def test_time_in_the_queue_is_seen_and_a_shards_time_is_its_batchs_beginning() -> None:
    with Lab(seed=5, deterministic=True) as lab:
        lab.open_accounts({str(user): 100_000 for user in range(8)})
        lab.drain()
        clock = lab.system.clock
        assert isinstance(clock, SimulatedClock)
        raw = lab.system.engine.submit(PaymentRequest("1", "2", 500), lambda _: None)
        clock.advance(0.04)
        lab.drain()
        source = lab.system.engine.source_of(raw)
        _, steps = steps_of(raw, source, lab.system.databases, lab.system.log, lab.system.wide)
    assert steps[0].actor == CLIENT
    first = next(step for step in steps if "leg (a)" in step.label)
    assert "begins the batch" in first.label
    assert first.at_us - steps[0].at_us >= 40_000
    credit = next(step for step in steps if "leg (b)" in step.label)
    told = answer(steps, raw, 0.001)
    assert told.at_us == credit.at_us, "no answer before the batch that it tells of"


def test_the_folder_remembers_what_its_last_runs_callers_measured(
    run_lab: tuple[Lab, RunResult], tmp_path: Path
) -> None:
    lab, run = run_lab
    first = run.payments.iloc[0]
    assert last_run.latency_of(lab.data, first.payment_id) == pytest.approx(first.latency_ms)
    stranger = "01a22830-84e3-743f-b68e-7c60fd090171"
    assert isnan(last_run.latency_of(lab.data, stranger))
    assert isnan(last_run.latency_of(tmp_path, first.payment_id)), "no run was made there"
    (tmp_path / "last_run.npz").write_bytes(b"damaged")
    assert isnan(last_run.latency_of(tmp_path, first.payment_id))


def test_a_repeats_wait_is_not_its_originals(tmp_path: Path) -> None:
    file = tmp_path / "two.csv"
    file.write_text("payment_id,from_user,to_user,amount\nx,a,b,1.00\ny,b,a,1.00\n")
    with Lab(seed=5, data=tmp_path / "lab") as lab:
        with open_transfers(file) as source:
            made = lab.run(source)
        payment = made.payments.payment_id.iloc[0]
        assert last_run.latency_of(lab.data, payment) > 0
        with open_transfers(file) as source:
            assert lab.run(source).repeated == 2
        assert isnan(last_run.latency_of(lab.data, payment))
