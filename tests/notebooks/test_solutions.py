"""Every exercise can be solved: its folded solution passes its check, and a wrong answer does not.

A notebook is run from top to bottom with each exercise cell replaced by its solution; after each
check the same check is given an answer that is surely wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from paytm_lab.core.errors import NotebookFailed
from paytm_lab.reporting.export import read_notebook
from paytm_lab.reporting.notebooks import execute

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
START = "answer = None  # your answer"
KINDS = ("exercise", "exercise-check", "solution")
# Nothing is equal to the first, and nothing can be computed with it; the second is of the right
# answer's own kind, and far from it.
WRONG = """
def other(right):
    if isinstance(right, bool):
        return not right
    if isinstance(right, (tuple, list)):
        return type(right)(other(each) for each in right)
    if isinstance(right, str):
        return right + " or another"
    try:
        return right * 3 + 1
    except Exception:
        return None if right is not None else 1

for answer in (type("Wrong", (), {{}})(), other(answer)):
    try:
        exec({check!r})
    except (Exception, SystemExit):
        pass
    else:
        raise SystemExit("this check passes any answer")
"""


def tagged(notebook: Any, tag: str) -> list[Any]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def with_exercises() -> list[Path]:
    return [path for path in NOTEBOOKS if tagged(read_notebook(path), "exercise")]


def solved(notebook: Any) -> Any:
    """The notebook with its solutions in place of the empty answers, and each check tested."""
    cells: list[Any] = []
    solutions = iter(tagged(notebook, "solution"))
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            cell.source = next(solutions).source
        elif "solution" in tags:
            continue
        cells.append(cell)
        if "exercise-check" in tags:
            said = "raise SystemExit('not answered')"
            check = cell.source.replace('print("not answered yet")', said)
            cell.source = check
            cells.append(nbformat.v4.new_code_cell(WRONG.format(check=check)))
    notebook.cells = cells
    return notebook


def test_there_are_notebooks_with_exercises() -> None:
    stems = {path.stem for path in with_exercises()}
    assert {"06_latency_and_load", "07_capacity_planning", "09_growing"} <= stems


@pytest.mark.parametrize("path", with_exercises(), ids=lambda path: path.stem)
def test_exercises_have_the_agreed_form(path: Path) -> None:
    notebook = read_notebook(path)
    order = [
        kind for cell in notebook.cells for kind in KINDS if kind in cell.metadata.get("tags", [])
    ]
    assert order == list(KINDS) * (len(order) // 3) and len(order) >= 6, "at least two, in order"
    assert {cell.source for cell in tagged(notebook, "exercise")} == {START}
    for check in tagged(notebook, "exercise-check"):
        assert 'print("not answered yet")' in check.source and "assert " in check.source
        assert check.outputs[0].text == "not answered yet\n"
    for solution in tagged(notebook, "solution"):
        assert solution.metadata["jupyter"]["source_hidden"], "folded"
        assert "answer = " in solution.source and not solution.outputs
    titles = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    titles = [title for title in titles if title.startswith("### Exercise ")]
    assert len(titles) == len(order) // 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", with_exercises(), ids=lambda path: path.stem)
def test_solutions_pass_their_checks_and_wrong_answers_do_not(path: Path, tmp_path: Path) -> None:
    made = tmp_path / path.name
    nbformat.write(solved(read_notebook(path)), made)
    execute(made, tmp_path / "done.ipynb")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "solution", "said"),
    [
        ('assert answer == 4, "no"', "answer = 5", "AssertionError"),
        ("assert answer is not None", "answer = 4", "passes any answer"),
        ("assert True", "answer = None", "not answered"),
    ],
)
def test_a_bad_exercise_is_found(check: str, solution: str, said: str, tmp_path: Path) -> None:
    source = f'if answer is None:\n    print("not answered yet")\nelse:\n    {check}'
    cells = [
        nbformat.v4.new_code_cell(text, metadata={"tags": [tag]})
        for text, tag in (
            ("seed = 7", "parameters"), (START, "exercise"), (source, "exercise-check"),
            (solution, "solution"),
        )
    ]  # fmt: skip
    path = tmp_path / "bad.ipynb"
    nbformat.write(solved(nbformat.v4.new_notebook(cells=cells)), path)
    with pytest.raises(NotebookFailed, match=said):
        execute(path, tmp_path / "done.ipynb")
