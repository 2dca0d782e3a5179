"""Tables: whole and one line a row where nobody looks, folded and never cut on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from paytm_lab import terminal
from paytm_lab.simulation.payments import Workload
from paytm_lab.simulation.simulate import COLUMNS_SHOWN, simulate

WIDE = [
    {"what_one_sees": "payments wait " * 20, "payments": 1234567, "share": 0.123456, "ok": True},
    {"what_one_sees": "short", "payments": 7, "share": 12.0, "ok": False},
]


def test_a_piped_table_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table(WIDE)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == list(WIDE[0])
    assert len(lines) == len(WIDE)
    assert lines[0].startswith(("payments wait " * 20).strip())
    assert lines[0].split()[-3:] == ["1,234,567", "0.1235", "True"]
    numbers = ("1,234,567", "7")
    ends = {line.index(n) + len(n) for line, n in zip(lines, numbers, strict=True)}
    assert len(ends) == 1, "numbers stand at the right of their column"


def test_a_table_without_rows_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table([])
    assert capsys.readouterr().out == ""


def test_the_strategies_fit_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80, soft_wrap=True, color_system=None)
    monkeypatch.setattr(terminal, "_stdout", console)
    rows = simulate(Workload(users=200, payments=500), 1, [4, 5])
    terminal.table(rows, COLUMNS_SHOWN)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown.getvalue()
    assert {str(row["strategy"]) for row in rows} <= set(shown.getvalue().split())


def test_long_words_are_folded_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=40, color_system=None)
    monkeypatch.setattr(terminal, "_stdout", console)
    terminal.table([{"a": "x" * 100, "b": 1}])
    assert shown.getvalue().count("x") == 100
