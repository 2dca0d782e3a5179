"""A sweep on any executor: each point once, kept when done; failures and deaths are outcomes."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.core.errors import BadInput, OutcomeUnknown, StorageFull
from paytm_lab.reporting import sweep_page
from paytm_lab.reporting.grid import Point, points
from paytm_lab.reporting.recording import Recorded
from paytm_lab.reporting.sweep_charts import axes_of, numeric_figures, small_multiples
from paytm_lab.reporting.sweeps import Kept, Outcome, Worked, attempt, run_sweep
from paytm_lab.verbs.executors import processes


def squared(parameters: Mapping[str, Any]) -> Worked:
    n = parameters["n"]
    if n == 3:
        raise BadInput("three is not liked", remedy="Take another.")
    return Worked((Recorded("square", n * n, "apples"),))


def logged(log: Path, parameters: Mapping[str, Any]) -> Worked:
    with log.open("a") as file:
        file.write(f"{parameters['n']}\n")
    return squared(parameters)


def dying(log: Path, parameters: Mapping[str, Any]) -> Worked:
    """The process of n = 2 dies whenever it is tried; its neighbour waits until that happened."""
    with log.open("a") as file:
        file.write(f"{parameters['n']} ")
    if parameters["n"] == 2:
        os._exit(1)
    return Worked((Recorded("n", parameters["n"]),))


def grid(*numbers: int) -> list[Point]:
    return points("test", {"n": list(numbers)})


def in_threads(workers: int = 2) -> Any:
    return lambda: ThreadPoolExecutor(workers)


def test_outcomes_come_in_order_and_a_failure_stops_nobody(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    outcomes = run_sweep(
        grid(5, 3, 4), squared, Kept(tmp_path), in_threads(), at_once=2,
        progress=lambda *said: seen.append(said),
    )  # fmt: skip
    assert [o.state for o in outcomes] == ["done", "failed", "done"]
    assert outcomes[0].worked.figures == (Recorded("square", 25, "apples"),)
    assert outcomes[1].worked.error == "three is not liked. Take another."
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_is_finished_is_not_done_again_and_what_failed_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    work, kept = partial(logged, log), Kept(tmp_path)
    run_sweep(grid(1, 2, 3), work, kept, in_threads(1), at_once=1)
    again = run_sweep(grid(3, 2, 4, 1), work, kept, in_threads(1), at_once=1)
    assert log.read_text().split() == ["1", "2", "3", "3", "4"]
    assert [o.kept for o in again] == [False, True, False, True]
    assert [o.worked.figures[0].value for o in again if o.kept] == [4, 1]


@pytest.mark.parametrize("left", ["", "{", "[]", "null", '{"figures": 3, "seconds": 1}'])
def test_a_torn_file_counts_as_missing(tmp_path: Path, left: str) -> None:
    log = tmp_path / "log"
    (point,) = grid(2)
    run_sweep([point], partial(logged, log), Kept(tmp_path), in_threads(), at_once=1)
    (tmp_path / "points" / f"{point.digest}.json").write_text(left)
    outcomes = run_sweep([point], partial(logged, log), Kept(tmp_path), in_threads(), at_once=1)
    assert log.read_text().split() == ["2", "2"]
    assert outcomes[0].worked.figures[0].value == 4


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    run_sweep(grid(1, 2), squared, Kept(tmp_path), in_threads(), at_once=2)
    names = {path.suffix for path in (tmp_path / "points").iterdir()}
    assert names == {".json"}


def test_results_that_cannot_be_kept_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "points").write_text("in the way")
    with pytest.raises(StorageFull, match="cannot be written"):
        run_sweep(grid(1), squared, Kept(tmp_path), in_threads(), at_once=1)


def test_at_most_so_many_points_are_under_way(tmp_path: Path) -> None:
    under_way, most, lock = [0], [0], threading.Lock()
    together = threading.Barrier(2)

    def work(parameters: Mapping[str, Any]) -> Worked:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        together.wait(30)  # never fewer than two, or this breaks
        with lock:
            under_way[0] -= 1
        return Worked()

    outcomes = run_sweep(grid(*range(6)), work, Kept(tmp_path), in_threads(6), at_once=2)
    assert [o.state for o in outcomes] == ["done"] * 6
    assert most == [2]


@pytest.mark.timeout(60)
def test_a_worker_that_dies_costs_its_own_point_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcomes = run_sweep(
        grid(1, 2, 4, 5), partial(dying, log), Kept(tmp_path),
        partial(processes, 2, tmp_path / "work"), at_once=2,
    )  # fmt: skip
    assert [o.state for o in outcomes] == ["done", "failed", "done", "done"]
    assert "its worker died" in outcomes[1].worked.error
    assert log.read_text().split().count("2") == 2  # once in company, once alone


class Refusing(Executor):
    """An executor whose tasks cannot travel."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        future.set_exception(TypeError("cannot pickle it"))
        return future


def test_a_task_that_cannot_travel_is_a_failed_point(tmp_path: Path) -> None:
    outcomes = run_sweep(
        grid(1, 2), squared, Kept(tmp_path), lambda: nullcontext(Refusing()), at_once=2
    )
    assert {o.worked.error for o in outcomes} == {"TypeError: cannot pickle it"}


def test_whatever_a_point_raises_comes_back_as_words() -> None:
    def raises(parameters: Mapping[str, Any]) -> Worked:
        raise OutcomeUnknown("lost", payment_id="p")  # its pickle cannot be opened again

    assert attempt(raises, {}).error.startswith("lost. Repeat with the same key")
    assert attempt(lambda parameters: Worked(), {}).seconds > 0


def test_an_interruption_ends_the_workers(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path)
    assert not multiprocessing.active_children()


def _interrupted(scratch: Path) -> None:
    with processes(2, scratch) as executor:
        executor.submit(squared, {"n": 1}).result(30)
        raise KeyboardInterrupt


def outcome_world() -> list[Outcome]:
    values = {"shards": [4, 8, 16], "zipf_s": [0.8, 1.1], "rule": ["a", "b"], "seed": [7]}
    found = []
    for point in points("w", values):
        p = point.parameters
        worked = Worked(
            (Recorded("load", p["shards"] * p["zipf_s"], "legs"), Recorded("same", 1),
             Recorded("word", "x"))
        )  # fmt: skip
        broken = p["shards"] == 8 and p["rule"] == "b"
        found.append(Outcome(point, Worked(error="a <b>cell</b> raised") if broken else worked))
    return found


def test_small_multiples_use_the_longest_parameter_as_x() -> None:
    outcomes = outcome_world()
    axes = axes_of(outcomes)
    assert axes == ("shards", "zipf_s", ("rule",))
    assert numeric_figures(outcomes) == (["load"], ["same"])
    drawn = small_multiples(outcomes, "embedded")
    assert [fig.layout.meta["title"] for fig in drawn] == ["load, rule a", "load, rule b"]
    for fig in drawn:
        assert fig.layout.xaxis.title.text == "shards" and fig.layout.yaxis.title.text == "legs"
        assert [trace.name for trace in fig.data] == ["0.8", "1.1"]
        assert list(fig.data[0].x) == [4, 8, 16]
    assert drawn[0].layout.yaxis.range == drawn[1].layout.yaxis.range
    assert list(drawn[0].data[0].y) == [4 * 0.8, 8 * 0.8, 16 * 0.8]
    assert list(drawn[1].data[0].y) == [4 * 0.8, None, 16 * 0.8]  # a gap, not a zero


def test_every_figure_gets_a_panel_however_many_there_are() -> None:
    found = []
    for point in points("w", {"n": [1, 2], "m": [1, 2], "k": list(range(10))}):
        figures = tuple(Recorded(f"f{i}", point.parameters["n"] * i + 1) for i in range(1, 31))
        found.append(Outcome(point, Worked(figures)))
    drawn = small_multiples(found, "simulation")
    assert {fig.layout.meta["title"].split(",")[0] for fig in drawn} == {
        f"f{i}" for i in range(1, 31)
    }


def test_the_page_shows_failures_and_stands_alone(tmp_path: Path) -> None:
    outcomes = outcome_world()
    write = partial(sweep_page.write_sweep, tmp_path, "01_x", "Where & why?", outcomes)
    files = write(profile="embedded", command="paytm-lab sweep x")
    first = files.page.read_bytes()
    write(profile="embedded", command="paytm-lab sweep x")
    assert files.page.read_bytes() == first
    html = first.decode()
    assert "2 of 12 failed" in html and "Where &amp; why?" in html
    assert "a &lt;b&gt;cell&lt;/b&gt; raised" in html and "<b>cell</b>" not in html
    assert html.count('<figure class="chart"') == 2
    assert '<div class="scroll" tabindex="0" role="region" aria-label="Every point">' in html
    body = html[html.index("<body>") : html.index("<script>")]
    assert "http" not in body
    rows = json.loads(files.json.read_text())["rows"]
    assert len(rows) == 12 and rows[0]["load"] == 3.2 and rows[0]["state"] == "done"
    lines = files.csv.read_text().splitlines()
    assert lines[0] == "shards,zipf_s,rule,seed,load,same,word,state,error"
    assert lines[1] == "4,0.8,a,7,3.2,1,x,done,"


def test_one_point_or_nothing_recorded_is_a_page_too(tmp_path: Path) -> None:
    (point,) = grid(1)
    for worked in (Worked(), Worked((Recorded("n", 1),)), Worked(error="no")):
        files = sweep_page.write_sweep(
            tmp_path, "x", "X", [Outcome(point, worked)], profile="embedded", command="c"
        )
        assert "one point" in files.page.read_text()


def test_a_figure_with_a_parameters_name_keeps_both() -> None:
    (point,) = grid(1)
    (row,) = sweep_page.rows([Outcome(point, Worked((Recorded("n", 5),)))])
    assert row == {"n": 1, "n_": 5, "state": "done", "error": ""}
