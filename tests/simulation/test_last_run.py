"""A run is there for whoever opens the folder later, read-only, in another process or this one."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import tracemalloc
from contextlib import closing
from math import isnan
from pathlib import Path

import pandas as pd
import pytest

from paytm_lab import Lab, Workload
from paytm_lab.core.clock import SystemClock
from paytm_lab.core.errors import BadInput, StorageCorrupt
from paytm_lab.core.ids import PaymentIds, payment_id_text
from paytm_lab.simulation import last_run
from paytm_lab.simulation.driver import Posted


def digests(folder: Path) -> dict[str, str]:
    """Every file's bytes; of the wide store the contents: opening it declares its tables anew."""
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "wide.sqlite" and path.suffix != ".lock"
    }
    with closing(sqlite3.connect(folder / "wide.sqlite")) as wide:
        contents = "\n".join(wide.iterdump())
    return {**found, "wide.sqlite": hashlib.sha256(contents.encode()).hexdigest()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, dict[str, object]]:
    folder = tmp_path_factory.mktemp("lab")
    with Lab(seed=3, data=folder) as lab:
        lab.run(Workload(users=50, payments=200))
        run = lab.run(Workload(users=60, payments=300, zipf_s=0.5), command="the second")
        return folder, run.payments, run.to_dict()


def test_the_last_run_is_read_back_as_it_was(
    made: tuple[Path, pd.DataFrame, dict[str, object]],
) -> None:
    folder, payments, figures = made
    with Lab(data=folder, read_only=True) as lab:
        run = lab.last_run()
        pd.testing.assert_frame_equal(run.payments, payments)
        assert run.to_dict() == figures
        assert len(run.payments) == 300 and run.payments["latency_ms"].gt(0).all()


def test_a_run_whose_shard_went_down_midway_is_read_back(tmp_path: Path) -> None:
    """Payments that were not admitted, or whose outcome nobody knows, have no id."""
    workload = Workload(users=50, payments=200)
    with Lab(seed=3, data=tmp_path) as lab:
        lab.open_accounts(workload.openings(lab.seed))
        shard = lab.system.switches[2]
        run = lab.run(
            workload, in_flight=4, drain=False, ack=lambda *_: setattr(shard, "down", True)
        )
        assert run.not_admitted
        shard.heal()
        lab.drain()
        later = lab.last_run()
        pd.testing.assert_frame_equal(later.payments, run.payments)
        assert later.to_dict() == run.to_dict()
        answered = later.payments["latency_ms"].notna()
        assert answered.sum() == sum(run.answers.values()) > 0


def test_looking_changes_nothing_and_a_run_is_refused(
    made: tuple[Path, pd.DataFrame, dict[str, object]],
) -> None:
    folder, payments, _ = made
    before = digests(folder)
    with Lab(data=folder, read_only=True) as lab:
        lab.audit().require_clean()
        lab.replay().require_clean()
        assert lab.trace(payments["payment_id"].iloc[0]).steps
        assert lab.last_run().events["events"].sum() > 1_000
        with pytest.raises(BadInput, match="read-only"):
            lab.run(Workload(users=5, payments=5))
    assert digests(folder) == before


def test_two_readers_at_once(made: tuple[Path, pd.DataFrame, dict[str, object]]) -> None:
    folder, *_ = made
    with Lab(data=folder, read_only=True) as one, Lab(data=folder, read_only=True) as two:
        assert one.balances() == two.balances()
        assert one.audit().verdict == two.audit().verdict == "passed"


def test_no_run_and_a_damaged_file_are_said(tmp_path: Path) -> None:
    with Lab(seed=3, data=tmp_path) as lab:
        with pytest.raises(BadInput, match="no run was made"):
            lab.last_run()
        (tmp_path / "last_run.npz").write_bytes(b"PK\x03\x04 not really")
        with pytest.raises(StorageCorrupt, match="last run cannot be read"):
            lab.last_run()


def saved(folder: Path, payments: int) -> list[str]:
    """A last run whose payment n was answered after n ms; its ids as text."""
    ids = PaymentIds(SystemClock(), random.Random(5))
    posted = Posted()
    posted.make_room(payments)
    for n in range(payments):
        posted.ids[n], posted.latency_ms[n] = ids.next(n % 1024), float(n)
    last_run.save(folder, {"repeated": 0}, {0: 0}, posted)
    return [payment_id_text(each) for each in posted.ids]


def test_one_payments_latency_is_that_of_the_whole_run_read_back(tmp_path: Path) -> None:
    ids = saved(tmp_path, 300)
    whole = last_run.load(tmp_path).latency_by_payment
    assert [last_run.latency_of(tmp_path, each) for each in ids] == [whole[i][1] for i in ids]
    assert last_run.latency_of(tmp_path, ids[7].upper()) == 7.0
    assert isnan(last_run.latency_of(tmp_path, "no payment id"))
    assert isnan(last_run.latency_of(tmp_path, ids[7][:-4] + "0000"))


def test_one_payments_latency_costs_no_object_for_each_of_the_others(tmp_path: Path) -> None:
    """24 bytes a payment are read (id and latency); the texts of all ids alone would take 85."""
    payments = 20_000
    ids = saved(tmp_path, payments)
    tracemalloc.start()
    found = last_run.latency_of(tmp_path, ids[12_345])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 12_345.0
    assert peak < 60 * payments
