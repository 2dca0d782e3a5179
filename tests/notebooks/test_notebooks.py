"""The notebooks' shape: question, parameters, run, charts, check; recorded, and thin."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.reporting.export import PLOTLY_MIME, headline, read_notebook
from paytm_lab.reporting.notebooks import known_parameters

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
LINES_MAX = 6  # imports and a line that shows something included


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return read_notebook(request.param)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_five_are_there() -> None:
    stems = [path.stem for path in NOTEBOOKS]
    assert stems[:5] == ["00_start_here", "01_routing", "02_ledger", "03_events", "04_fraud"]


def test_it_asks_a_question_first(notebook: Any) -> None:
    title, about = headline(notebook, "")
    assert title.endswith("?") and len(about) > 60
    assert notebook.cells[0].cell_type == "markdown"


def test_parameters_come_before_anything_runs(notebook: Any) -> None:
    known = known_parameters(notebook, "it")
    assert {"data": "", "profile": "embedded", "seed": 7}.items() <= known.items()
    assert "parameters" in code(notebook)[0].metadata["tags"]


def test_it_was_recorded_from_top_to_bottom_without_an_error(notebook: Any) -> None:
    assert [cell.execution_count for cell in code(notebook)] == list(
        range(1, len(code(notebook)) + 1)
    )
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum(PLOTLY_MIME in output.get("data", {}) for output in outputs) >= 2


def test_it_narrates_and_the_package_computes(notebook: Any) -> None:
    for cell in code(notebook)[1:]:
        tree = ast.parse(cell.source)
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= LINES_MAX, cell.source
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]


def test_it_checks_what_it_shows(notebook: Any) -> None:
    checks = [cell for cell in code(notebook) if "assert " in cell.source]
    assert checks
    # A checked cell compares strictly, or what it asserts could change unseen.
    assert not any("nbval-ignore-output" in cell.metadata.get("tags", []) for cell in checks)


def test_results_are_printed_not_typed(notebook: Any) -> None:
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    # Settings and names may be typed; a decimal or a percentage could only be a result.
    typed = re.findall(r"\b\d+(?:\.\d+)?\s?%|\b\d+\.\d+\b", prose)
    assert typed == []


def test_what_differs_between_runs_is_not_compared(notebook: Any) -> None:
    for cell in code(notebook):
        if "nbval-ignore-output" not in cell.metadata.get("tags", []):
            text = "".join(output.get("text", "") for output in cell.outputs)
            assert not re.search(r"/tmp|\bms\b|\d s\b|per second", text), text
