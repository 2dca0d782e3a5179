"""Every exercise can be solved: its folded solution passes its check, and a wrong answer does not.

A notebook is run from top to bottom with each exercise cell replaced by its solution; after each
check the same check is given answers that are surely wrong: of tables, too.
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
FRAME = "import pandas as pd\nanswer = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})"
KINDS = ("exercise", "exercise-check", "solution")
# After a check: it must refuse what is nothing like the answer, and one of each group of wrong
# answers.
WRONG = """
from tests.notebooks.wrong_answers import Wrong, wrong_answers

for group in ([Wrong()], *wrong_answers(answer)):
    for answer in group:
        try:
            exec({check!r})
        except (Exception, SystemExit):
            break
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


# What is wrong with each, and what the notebook then fails with.
BAD = [
    ('assert answer == 4, "no"', "answer = 5", AssertionError, "no"),
    ("assert answer is not None", "answer = 4", SystemExit, "passes any answer"),
    ("assert True", "answer = None", SystemExit, "not answered"),
    ("assert list(answer) == ['a', 'b']", FRAME, SystemExit, "passes any answer"),
    (
        "assert answer.dtypes.a == 'int64' and len(answer) == 2",
        FRAME,
        SystemExit,
        "passes any answer",
    ),
    ("assert (answer.a > 0).all()", FRAME, SystemExit, "passes any answer"),
    ("assert answer.name == 'a'", f"{FRAME}.a", SystemExit, "passes any answer"),
    ("assert set(answer) == {1, 2}", "answer = {1: 'x', 2: 'y'}", SystemExit, "passes any answer"),
]


@pytest.mark.parametrize(("check", "solution", "error", "said"), BAD)
def test_a_bad_exercise_is_found(
    check: str, solution: str, error: type[BaseException], said: str
) -> None:
    with pytest.raises(error, match=said):
        run_here(exercise(check, solution))


@pytest.mark.slow
@pytest.mark.parametrize(("check", "solution", "error", "said"), BAD[:2])
def test_a_bad_exercise_fails_the_notebook(
    check: str, solution: str, error: type[BaseException], said: str, tmp_path: Path
) -> None:
    """Whatever ends a cell: an assertion, or what would end a program."""
    path = tmp_path / "one.ipynb"
    nbformat.write(exercise(check, solution), path)
    with pytest.raises(NotebookFailed, match=f"{error.__name__}: .*{said}"):
        execute(path, tmp_path / "done.ipynb")


@pytest.mark.parametrize(
    ("check", "solution"),
    [
        ("assert answer.a.sum() == 3", FRAME),
        ("assert answer.set_index('b').a.to_dict() == {'x': 1, 'y': 2}", FRAME),
        ("assert answer.tolist() == ['x', 'y']", f"{FRAME}.b"),
        ("assert answer == {1: 'x', 2: 'y'}", "answer = {1: 'x', 2: 'y'}"),
    ],
)
def test_a_check_that_looks_at_a_table_is_good(check: str, solution: str) -> None:
    assert run_here(exercise(check, solution)) == 4, "all cells, the one after the check too"


def run_here(notebook: Any) -> int:
    """Its cells in one namespace, as a kernel has them, without one; how many there were."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook.cells):
        exec(compile(cell.source, f"cell {number}", "exec"), names)
    return len(notebook.cells)


def exercise(check: str, solution: str) -> Any:
    """A notebook with one, solved."""
    source = f'if answer is None:\n    print("not answered yet")\nelse:\n    {check}'
    cells = [
        nbformat.v4.new_code_cell(text, metadata={"tags": [tag]})
        for text, tag in (
            ("seed = 7", "parameters"), (START, "exercise"), (source, "exercise-check"),
            (solution, "solution"),
        )
    ]  # fmt: skip
    return solved(nbformat.v4.new_notebook(cells=cells))
