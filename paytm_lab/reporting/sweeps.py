"""Runs the points of a grid on any ``concurrent.futures.Executor``, and keeps what is finished.

The story is ``run_sweep``: read what an earlier, perhaps killed, sweep kept; run the rest; keep
each point when it is done. A point that fails is an outcome, and the others go on. A worker that
dies (``BrokenExecutor``) is replaced: what ran at that moment is repeated one at a time, so that
only the point whose worker dies again is blamed.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from paytm_lab.core.errors import PaytmLabError, StorageFull
from paytm_lab.reporting.grid import Point
from paytm_lab.reporting.recording import Recorded

Executors = Callable[[], AbstractContextManager[Executor]]
Progress = Callable[[int, int], object]
_DIED = "its worker died (killed, or out of memory)"


@dataclass(frozen=True, slots=True)
class Worked:
    """What one point gave. ``error`` is empty when it went well; ``notebook`` is the executed
    notebook's text, if it was one; ``seconds`` are wall-clock.
    """

    figures: tuple[Recorded, ...] = ()
    error: str = ""
    notebook: str = ""
    seconds: float = 0.0


Work = Callable[[Mapping[str, Any]], Worked]


@dataclass(frozen=True, slots=True)
class Outcome:
    point: Point
    worked: Worked
    kept: bool = False  # from an earlier sweep

    @property
    def state(self) -> Literal["done", "failed"]:
        return "failed" if self.worked.error else "done"


class Kept:
    """Finished points on disk: ``points/DIGEST.json``, of notebooks ``notebooks/DIGEST.ipynb`` too.

    Each file appears whole or not at all. A file that cannot be read counts as not there. What
    failed is not kept, so that the next sweep tries it again.
    """

    def __init__(self, folder: Path) -> None:
        self._points, self._notebooks = folder / "points", folder / "notebooks"

    def read(self, point: Point) -> Worked | None:
        try:
            found = json.loads((self._points / f"{point.digest}.json").read_text("utf-8"))
            figures = tuple(Recorded(*figure) for figure in found["figures"])
            return Worked(figures, seconds=float(found["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, point: Point, worked: Worked) -> None:
        """StorageFull, or the system's error, where it cannot be kept."""
        if worked.notebook:
            replace_file(self._notebooks / f"{point.digest}.ipynb", worked.notebook)
        if not worked.error:
            said = {
                "parameters": dict(point.parameters),
                "figures": worked.figures,
                "seconds": round(worked.seconds, 3),
            }
            replace_file(self._points / f"{point.digest}.json", json.dumps(said, default=repr))


def replace_file(path: Path, text: str) -> None:
    """``path`` holds ``text``, or what it held before: never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StorageFull(
            f"{path.name} cannot be written ({error.strerror})", place=str(path.parent),
            remedy="Free some space, or choose another folder with --out.",
        ) from error  # fmt: skip


def run_sweep(
    points: Sequence[Point],
    work: Work,
    kept: Kept,
    executors: Executors,
    *,
    at_once: int,
    progress: Progress = lambda done, total: None,
) -> list[Outcome]:
    """Outcomes in the order of ``points``.

    ``work`` must be picklable where the executor needs it. ``executors()`` gives an executor for
    the length of a ``with``; a new one is asked for when one broke. At most ``at_once`` points are
    given to it at a time. ``progress(done, in all)`` is called after each point.
    """
    outcomes: dict[str, Outcome] = {}

    def ended(point: Point, worked: Worked, was_kept: bool = False) -> None:
        if not was_kept:
            kept.write(point, worked)
        outcomes[point.digest] = Outcome(point, replace(worked, notebook=""), was_kept)
        progress(len(outcomes), len(points))

    waiting: deque[Point] = deque()
    for point in points:
        worked = kept.read(point)
        if worked is None:
            waiting.append(point)
        else:
            ended(point, worked, was_kept=True)
    suspects: deque[Point] = deque()
    while waiting or suspects:
        alone = bool(suspects)
        queue = suspects if alone else waiting
        with executors() as executor:
            lost = _run_until_broken(executor, queue, work, 1 if alone else at_once, ended)
        if alone:
            for point in lost:
                ended(point, Worked(error=_DIED))
        else:
            suspects.extend(lost)
    return [outcomes[point.digest] for point in points]


def attempt(work: Work, parameters: Mapping[str, Any]) -> Worked:
    """What a worker does with one point: whatever it raises becomes words, which travel well."""
    started = time.monotonic()
    try:
        worked = work(parameters)
    except PaytmLabError as error:
        worked = Worked(error=str(error))
    except Exception as error:
        worked = Worked(error=f"{type(error).__name__}: {error}")
    return replace(worked, seconds=time.monotonic() - started)


def _run_until_broken(
    executor: Executor,
    queue: deque[Point],
    work: Work,
    at_once: int,
    ended: Callable[[Point, Worked], None],
) -> list[Point]:
    """Take points from ``queue`` until it is empty; the points under way when the executor broke
    (none, if it did not). A point that was not yet begun stays in the queue.
    """
    running: dict[Future[Worked], Point] = {}
    lost: list[Point] = []
    while (queue and not lost) or running:
        while queue and not lost and len(running) < at_once:
            try:
                running[executor.submit(attempt, work, queue[0].parameters)] = queue[0]
            except BrokenExecutor:
                if not running:
                    lost.append(queue.popleft())
                break
            queue.popleft()
        for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
            point = running.pop(future)
            try:
                ended(point, future.result())
            except (BrokenExecutor, CancelledError):
                lost.append(point)
            except PaytmLabError:
                raise  # it could not be kept
            except Exception as error:  # of the executor itself: a task that cannot travel
                ended(point, Worked(error=f"{type(error).__name__}: {error}"))
    return lost
