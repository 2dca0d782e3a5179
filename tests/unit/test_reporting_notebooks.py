"""Notebooks run strictly: what is wrong is an error that names it, and nothing is left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest

from paytm_lab.core.errors import BadInput, InvalidSetting, MalformedFile, NotebookFailed
from paytm_lab.reporting import notebooks
from paytm_lab.reporting.export import export_notebook, read_notebook
from paytm_lab.reporting.notebooks import Task, execute, execute_all
from paytm_lab.reporting.page import Link

PARAMETERS = ("data = ''\nusers = 10\nrate = 0.5", "parameters")


def write(path: Path, *cells: tuple[str, ...]) -> Path:
    made = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "source": source,
            "metadata": {"tags": list(tags)},
            "outputs": [],
            "execution_count": None,
        }
        for i, (source, *tags) in enumerate(cells)
    ]
    nb = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(nb), encoding="utf-8")
    return path


def printed(path: Path) -> str:
    return "".join(
        output.get("text", "")
        for cell in read_notebook(path).cells
        for output in cell.get("outputs", [])
    )


def test_it_runs_in_this_interpreter_with_the_given_parameters(tmp_path: Path) -> None:
    notebook = write(
        tmp_path / "a.ipynb",
        PARAMETERS,
        ("import os, sys, paytm_lab\nprint(users, rate, sys.executable)",),
        ("print(os.environ['PLOTLY_RENDERER'], os.getcwd())",),
    )
    seen: list[tuple[str, int, int]] = []
    out = execute(
        notebook,
        tmp_path / "out" / "a.ipynb",
        {"users": 25, "rate": 2},
        progress=lambda *said: seen.append(said),
    )
    assert printed(out) == f"25 2 {sys.executable}\nplotly_mimetype {tmp_path}\n"
    assert seen == [("a", n, 4) for n in (1, 2, 3, 4)]
    counts = [cell.execution_count for cell in read_notebook(out).cells]
    assert counts == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"user": 1}, r"no parameter user\. It has: data, users, rate"),
        ({"users": "many"}, r"users of a.ipynb is 'many', a str\. Give a int"),
        ({"users": 1.5}, "users of a.ipynb is 1.5"),
        ({"data": True}, "data of a.ipynb is True"),
    ],
)
def test_a_wrong_parameter_is_an_error_before_any_kernel(
    tmp_path: Path, given: dict[str, object], said: str
) -> None:
    notebook = write(tmp_path / "a.ipynb", PARAMETERS, ("1 / 0",))
    with pytest.raises(InvalidSetting, match=said):
        execute(notebook, tmp_path / "out.ipynb", given)
    with pytest.raises(InvalidSetting, match=said):
        execute_all([Task(notebook, tmp_path / "out.ipynb", given)])
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([("users = 10",)], "has 0 cells tagged 'parameters'"),
        ([PARAMETERS, PARAMETERS], "has 2 cells tagged"),
        ([("a = 1\nb = a + 1", "parameters")], "b on line 2 is not a literal"),
        ([("import os", "parameters")], "line 1 is not an assignment"),
        ([("a.b = 1", "parameters")], "line 1 does not assign a value to one name"),
        ([("a = (", "parameters")], "was never closed"),
    ],
)
def test_a_parameters_cell_holds_literals_only(
    tmp_path: Path, cells: list[tuple[str, ...]], said: str
) -> None:
    notebook = write(tmp_path / "a.ipynb", *cells)
    with pytest.raises(MalformedFile, match=said):
        execute(notebook, tmp_path / "out.ipynb")


def test_what_is_no_notebook_is_said(tmp_path: Path) -> None:
    with pytest.raises(MalformedFile, match="there is no notebook"):
        execute(tmp_path / "none.ipynb", tmp_path / "out.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(MalformedFile, match="cannot be read as a notebook"):
        execute(tmp_path / "text.ipynb", tmp_path / "out.ipynb")


def test_failures_show_the_cell_and_do_not_stop_the_others(tmp_path: Path) -> None:
    raises = write(
        tmp_path / "raises.ipynb",
        PARAMETERS,
        ("print('before')",),
        ("left = users - 10\nraise ValueError(f'{left} users left')",),
        ("print('after')",),
    )
    dies = write(tmp_path / "dies.ipynb", PARAMETERS, ("import os\nos._exit(3)",))
    sleeps = write(tmp_path / "sleeps.ipynb", PARAMETERS, ("import time\ntime.sleep(600)",))
    fine = write(tmp_path / "fine.ipynb", PARAMETERS, ("print('fine')",))
    out = tmp_path / "out"
    tasks = [Task(path, out / path.name, {}) for path in (raises, dies, sleeps, fine)]
    failures = execute_all(tasks, timeout_s=5)
    assert [failure.task.notebook.stem for failure in failures] == ["raises", "dies", "sleeps"]
    said = [str(failure.error) for failure in failures]
    assert "    left = users - 10\n" in said[0] and "ValueError: 0 users left" in said[0]
    assert "os._exit(3)" in said[1] and "Kernel died" in said[1]
    assert "time.sleep(600)" in said[2] and "took longer than 5 s" in said[2]
    assert printed(out / "raises.ipynb") == "before\n"
    assert printed(out / "fine.ipynb") == "fine\n"


def test_a_kernel_that_does_not_start_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = tmp_path / "tried"
    start = (
        "import pathlib, runpy, sys\n"
        f"tried = pathlib.Path({str(tried)!r})\n"
        "tried.write_text(tried.read_text() + 'x' if tried.exists() else 'x')\n"
        "if len(tried.read_text()) < 3: sys.exit(1)\n"
        "runpy.run_module('ipykernel_launcher', run_name='__main__')\n"
    )
    monkeypatch.setattr(notebooks, "kernel_command", lambda: [sys.executable, "-c", start])
    notebook = write(tmp_path / "a.ipynb", PARAMETERS, ("print('up')",))
    assert printed(execute(notebook, tmp_path / "out.ipynb")) == "up\n"
    assert tried.read_text() == "xxx"


def test_a_kernel_that_never_starts_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebooks, "kernel_command", lambda: [sys.executable, "-c", "1/0"])
    notebook = write(tmp_path / "a.ipynb", PARAMETERS)
    with pytest.raises(NotebookFailed, match="Kernel died"):
        execute(notebook, tmp_path / "out.ipynb")


def test_kernels_leave_no_files_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    real = notebooks.tempfile.mkdtemp

    def watched(**more: object) -> str:
        made.append(Path(real(**more)))
        return str(made[-1])

    monkeypatch.setattr(notebooks.tempfile, "mkdtemp", watched)
    execute(write(tmp_path / "a.ipynb", PARAMETERS), tmp_path / "out.ipynb")
    assert made and not any(path.exists() for path in made)


def test_what_a_failing_notebook_did_not_remove_is_shown_then_gone(tmp_path: Path) -> None:
    makes = "import os, tempfile\nfolder = tempfile.mkdtemp(prefix='lab-')\nprint(folder)"
    closes = write(tmp_path / "a.ipynb", PARAMETERS, (makes,), ("os.rmdir(folder)",))
    fails = write(tmp_path / "b.ipynb", PARAMETERS, (makes,), ("1 / 0",), ("os.rmdir(folder)",))
    seen: list[Path] = []

    def abandoned(folder: Path) -> None:
        assert folder.is_dir()
        seen.append(folder)

    tasks = [Task(path, tmp_path / "out" / path.name, {}) for path in (closes, fails)]
    failures = execute_all(tasks, abandoned=abandoned)
    assert [failure.task.notebook for failure in failures] == [fails]
    assert [f"{folder}\n" for folder in seen] == [printed(tasks[1].out)]
    assert not seen[0].parent.exists()


def test_a_page_would_not_load_anything_from_elsewhere(tmp_path: Path) -> None:
    source = "from IPython.display import HTML\nHTML('<img src=\"https://x.example/a.png\">')"
    notebook = write(tmp_path / "a.ipynb", PARAMETERS, (source,))
    out = execute(notebook, tmp_path / "out.ipynb")
    with pytest.raises(BadInput, match=r"would load https://x.example/a.png \(at out.ipynb, cell"):
        export_notebook(out, tmp_path / "a.html")


def test_a_page_folds_solutions_and_links_only_to_pages_that_are_there(tmp_path: Path) -> None:
    notebook = write(tmp_path / "a.ipynb", PARAMETERS, ("answer = 42",))
    nb = read_notebook(notebook)
    nb.cells[-1].metadata["tags"] = ["solution"]
    words = "[one](01_one.ipynb), [two](02_two.ipynb#here)"
    nb.cells.append(nbformat.v4.new_markdown_cell(words))
    there = [Link("02_two.html", "two")]
    page = export_notebook(notebook, tmp_path / "a.html", links=there, notebook=nb).path
    html = page.read_text(encoding="utf-8")
    folded = html.partition("<details><summary>A solution</summary>")[2].partition("</details>")[0]
    assert "42" in folded and html.count("42") == folded.count("42")
    assert 'one, <a href="02_two.html#here">two</a>' in html and "01_one" not in html
