"""What the command line shows: progress on stderr, results on stdout, errors in words."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from paytm_lab.core.errors import PaytmLabError

_stderr = Console(stderr=True)
_stdout = Console(soft_wrap=True)
_STATE_STYLE = {
    "passed": "green", "failed": "bold red", "unknown": "yellow",
    "ready": "green", "died": "bold red", "no answer": "bold red", "frozen": "yellow",
}  # fmt: skip


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")


class Bars:
    """One bar per phase. A phase counts up to a total, or shows how much still waits."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._most: dict[str, int] = {}

    def __call__(self, phase: str, number: int, total: int | None) -> None:
        """``number`` more of ``total`` are done; without a total, so many still wait."""
        if self._progress is None:
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total)
        task = self._tasks[phase]
        if total is not None:
            self._progress.advance(task, number)
            return
        most = self._most[phase] = max(self._most.get(phase, 0), number)
        self._progress.update(task, total=most, completed=most - number)

    def set(self, phase: str, done: int, total: int) -> None:
        """So many of ``total`` are done."""
        if self._progress is None:
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total)
        self._progress.update(self._tasks[phase], completed=done, total=total)


@contextmanager
def bars(quiet: bool) -> Iterator[Bars]:
    """Progress bars on stderr; none when quiet, and plain where stderr is no terminal."""
    if quiet or not _stderr.is_terminal:
        yield Bars(None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_stderr) as progress:
        yield Bars(progress)


def say(text: str, quiet: bool = False) -> None:
    """A line on stdout, exactly as given."""
    if not quiet:
        print(text, flush=True)


def note(text: str, quiet: bool = False) -> None:
    """A line beside the result, on stderr."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, default=str), flush=True)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as a table; the first row's names are the columns unless they are given.

    A terminal's width is kept by folding, nothing is cut off; elsewhere each row is one line.
    """
    if not rows:
        return
    names = list(columns or rows[0])
    if not _stdout.is_terminal:
        say(_plain(rows, names))
        return
    _stdout.print(_rich(rows, names))


def entry(title: str, *lines: str) -> None:
    """A line and what belongs to it, set in. A terminal's width is kept by folding between words;
    elsewhere each is one line.
    """
    say(title)
    width = _stdout.width if _stdout.is_terminal else sys.maxsize
    for line in lines:
        folded = textwrap.fill(
            line, max(20, width), initial_indent=" " * 4, subsequent_indent=" " * 6,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        say(folded)


def _rich(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        # Words instead of underscores: a heading folds between its words.
        shown.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(row.get(name, "")) for name in names))
    return shown


def _plain(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Aligned columns, numbers to the right, as wide as they need to be."""
    lines = [names, *([_words(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    right = [all(_is_number(row.get(name, "")) for row in rows) for name in names]
    return "\n".join(
        "  ".join(
            word.rjust(width) if to_right else word.ljust(width)
            for word, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(value: Any) -> str:
    if not _is_number(value):
        return str(value)
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def _cell(value: Any) -> Text:
    words = _words(value)
    if _is_number(value):
        return Text(words, justify="right")
    return Text(words, style=_STATE_STYLE.get(words, ""))


@contextmanager
def live_table(quiet: bool) -> Iterator[Callable[[Sequence[Mapping[str, Any]]], None]]:
    """Rows that are shown anew, on stderr, each time they are given; gone at the end. Nothing when
    quiet or where stderr is no terminal.
    """
    if quiet or not _stderr.is_terminal:
        yield lambda rows: None
        return
    with Live(console=_stderr, transient=True) as live:
        yield lambda rows: live.update(_rich(rows, list(rows[0])), refresh=True)


def print_audit(report: Any, quiet: bool = False) -> None:
    """The checks as a table, then the verdict on a line of its own."""
    if not quiet and _stdout.is_terminal:
        table(report.rows(), ("state", "check", "detail", "offenders"))
    elif not quiet:
        say("\n".join(str(report).splitlines()[:-1]))
    say(f"money verdict: {report.verdict}")


@contextmanager
def errors_in_words(as_json: bool) -> Iterator[None]:
    """A named error becomes its message on stderr (and JSON on stdout) and its exit code."""
    try:
        yield
    except PaytmLabError as error:
        if as_json:
            print_json({"error": error.code, "message": str(error), "exit_code": error.exit_code})
        print(f"paytm-lab: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print(
            "paytm-lab: interrupted; opening the lab again recovers what was under way",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
