"""`paytm-lab report` on whichever backends were asked for: the same verdict, nothing left behind.

`make test` leaves this out (it builds the embedded report in other tests); `make test-stack` runs
it on the real servers.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from paytm_lab import Lab, wiring
from paytm_lab.config import PREFIX, Settings
from paytm_lab.core.errors import NotebookFailed
from paytm_lab.reporting.export import read_notebook
from paytm_lab.verbs.common import Common, Source
from paytm_lab.verbs.report import What, report
from paytm_lab.wiring import stored_shards
from tests import servers

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
Report = Callable[[Path], int]


@pytest.fixture
def make_report(profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """``make_report(notebooks)``: a small report in tmp_path / "report"; its exit code."""
    if servers.STACK_DIR:
        monkeypatch.setenv(f"{PREFIX}STACK_DIR", servers.STACK_DIR)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def make(notebooks: Path) -> int:
        return report(
            Common(profile=profile, seed=7, quiet=True),
            What(Source(users=60, payments=300), notebooks=notebooks, in_flight=64),
            tmp_path / "report",
        )

    return make


def measured_on(page: Path) -> list[str]:
    """The profile that each chart of a page says, in order."""
    return re.findall(r"measured on: (\w+)", page.read_text(encoding="utf-8"))


@pytest.mark.timeout(240)
def test_a_report_is_the_same_on_every_profile_and_says_which(
    make_report: Report, profile: str, tmp_path: Path
) -> None:
    assert make_report(NOTEBOOKS) == 0
    out = tmp_path / "report"
    first = (out / "index.html").read_text(encoding="utf-8")
    assert "<strong>Passed</strong>" in first and "14 of 14 checks passed" in first
    assert set(measured_on(out / "index.html")) == {profile}
    assert set(measured_on(out / "00_start_here.html")) == {profile}
    assert set(measured_on(out / "01_routing.html")) == {"simulation", profile}
    assert set(measured_on(out / "02_ledger.html")) == {"embedded", profile}
    assert set(measured_on(out / "03_events.html")) == {"embedded", profile}
    assert set(measured_on(out / "04_fraud.html")) == {profile}
    assert ("MySQL servers" in first) == (profile == "servers")
    assert ("--profile servers" in first) == (profile == "servers")
    # A lab in files stays in the report; on servers it is gone, and so are the notebooks' own.
    kept = stored_shards(Settings(profile=profile, data_dir=out / "data"))
    assert kept == (None if profile == "servers" else 4)
    assert list((tmp_path / "temporary").iterdir()) == []


def write_notebook(path: Path, cells: Sequence[tuple[str, list[str]]]) -> Path:
    """A notebook of code cells, each with its tags."""
    path.parent.mkdir()
    written = [
        {
            "cell_type": "code",
            "id": f"c{n}",
            "source": source,
            "metadata": {"tags": tags},
            "outputs": [],
            "execution_count": None,
        }
        for n, (source, tags) in enumerate(cells)
    ]
    body = {"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


@pytest.mark.timeout(120)
def test_a_lab_whose_money_does_not_add_up_stays_to_be_looked_at(
    make_report: Report, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = Lab.audit

    def broken(lab: Lab, **how: Any) -> Any:
        """Somebody changed a balance behind the ledger's back."""
        database = lab.system.databases[0]
        with database.read() as connection:
            row = connection.execute(text("SELECT id, balance FROM accounts LIMIT 1")).one()
        tx = database.begin()
        tx.update("accounts", ("id",), ("balance",), [(row.id, row.balance + 1)])
        tx.commit()
        return audit(lab, **how)

    monkeypatch.setattr(Lab, "audit", broken)
    cells = [("data = ''\nprofile = ''\nseed = 0", ["parameters"]), ("print(seed)", [])]
    notebook = write_notebook(tmp_path / "notebooks" / "00_fine.ipynb", cells)
    assert make_report(notebook.parent) == 1
    settings = Settings(profile=profile, data_dir=tmp_path / "report" / "data")
    assert stored_shards(settings) == 4
    wiring.remove(settings)


@pytest.mark.timeout(120)
def test_a_notebook_that_fails_leaves_no_lab_behind(
    make_report: Report, profile: str, tmp_path: Path
) -> None:
    cells = [
        ("data = ''\nprofile = ''\nseed = 0", ["parameters"]),
        ("from paytm_lab import Lab\nlab = Lab(profile, seed=seed).open()", []),
        ("print(lab.data)", []),
        ("lab.no_such_thing()", []),
    ]
    notebook = write_notebook(tmp_path / "notebooks" / "00_fails.ipynb", cells)
    with pytest.raises(NotebookFailed, match="no_such_thing"):
        make_report(notebook.parent)
    out = tmp_path / "report"
    run = read_notebook(out / "notebooks" / "00_fails.ipynb")
    outputs = [output for cell in run.cells for output in cell.get("outputs", [])]
    (folder,) = [output.text.strip() for output in outputs if "text" in output]
    assert Path(folder).name.startswith("paytm_lab-") and not Path(folder).exists()
    assert stored_shards(Settings(profile=profile, data_dir=Path(folder))) is None
    if profile == "servers":
        assert stored_shards(Settings(profile=profile, data_dir=out / "data")) is None
