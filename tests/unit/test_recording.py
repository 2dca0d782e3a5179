"""Figures that a notebook records are in its outputs, checked when recorded, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paytm_lab.core.errors import BadInput, InvalidSetting, MalformedFile
from paytm_lab.reporting.export import export_notebook, read_notebook
from paytm_lab.reporting.notebooks import execute
from paytm_lab.reporting.recording import FIGURE_MIME, Recorded, record, recorded, shown
from tests.unit.test_reporting_notebooks import PARAMETERS, write


def test_an_executed_notebook_holds_what_it_recorded(tmp_path: Path) -> None:
    cell = (
        "import numpy as np\nfrom paytm_lab.reporting.recording import record\n"
        "record('posted', users * 2, 'payments')\nrecord('share', np.float64(rate))\n"
        "record('clean', True)\nrecord('verdict', 'passed')"
    )
    source = write(tmp_path / "a.ipynb", PARAMETERS, (cell,))
    out = execute(source, tmp_path / "out.ipynb", {"users": 21})
    assert recorded(read_notebook(out)) == [
        Recorded("posted", 42, "payments"),
        Recorded("share", 0.5),
        Recorded("clean", True),
        Recorded("verdict", "passed"),
    ]
    page = export_notebook(out, tmp_path / "a.html").path.read_text()
    assert "posted = 42 payments" in page and "share = 0.5<" in page
    assert "posted" not in json.dumps(json.loads(source.read_text())["cells"][1]["outputs"])


def test_one_name_twice_is_an_error() -> None:
    output = {"data": {FIGURE_MIME: {"name": "n", "value": 1, "unit": ""}}}
    one = SimpleNamespace(get=lambda name, default: [output])
    assert recorded(SimpleNamespace(cells=[one])) == [Recorded("n", 1)]
    with pytest.raises(MalformedFile, match="02 records n twice"):
        recorded(SimpleNamespace(cells=[one, one]), "02")


@pytest.mark.parametrize("name", ["", "Share", "a-b", "1a", "a b", "x" * 64, None, 3, "é"])
def test_a_name_is_lower_case_words(name: Any) -> None:
    with pytest.raises(InvalidSetting, match="is no name of a figure"):
        record(name, 1)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), np.nan, None, [1], {"a": 1}, np.arange(3), "x" * 201, 1j, b"x"],
    ids=repr,
)
def test_a_value_is_a_finite_number_a_truth_or_a_short_text(value: Any) -> None:
    with pytest.raises(BadInput, match="n cannot be recorded as"):
        record("n", value)


def test_outside_a_notebook_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    record("n", np.int64(3), "apples")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345, "12,345"), (0.75002, "0.75002"), (1 / 3, "0.333333"), (0.0, "0"), (1e-7, "1e-07"),
     (1234567.8, "1,234,568"), (1e20, "1e+20"), (True, "True"), ("word", "word"), (-2.5, "-2.5")],
)  # fmt: skip
def test_figures_are_shown_as_people_read_them(value: Any, text: str) -> None:
    assert shown(value) == text
