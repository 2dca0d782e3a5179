"""What exercises are tried with: of the answer's own kind, and not the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.notebooks.wrong_answers import wrong_answers

FRAME = pd.DataFrame(
    {
        "text": ["x", "y", "y"],
        "whole": np.array([1, 2, 3], dtype=np.int8),
        "real": [0.5, np.nan, 2.0],
        "yes": [True, False, True],
        "kind": pd.Categorical(["p", "q", "p"]),
        "at": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"]),
    },
    index=[7, 7, 8],
)


def test_every_column_of_a_frame_is_changed_and_rows_are_dropped() -> None:
    changed, shorter = wrong_answers(FRAME)
    found = set()
    for wrong in changed:
        assert wrong.dtypes.equals(FRAME.dtypes) and wrong.index.equals(FRAME.index)
        differs = ~((wrong == FRAME) | (wrong.isna() & FRAME.isna()))
        assert differs.to_numpy().sum() == 1, "one value"
        found.update(differs.columns[differs.any()])
    assert found == set(FRAME.columns)
    assert [each.whole.tolist() for each in shorter] == [[2, 3], [1, 2]]
    assert FRAME.whole.tolist() == [1, 2, 3], "the answer itself stays"


@pytest.mark.parametrize(
    ("right", "groups"),
    [
        (True, [[False]]),
        (4, [[13]]),
        ("a", [["a or another"]]),
        ((1, "a"), [[(4, "a or another")]]),
        ({1: 2, 3: True}, [[{1: 7, 3: True}, {1: 2, 3: False}], [{3: True}, {1: 2}]]),
        (FRAME.iloc[:0], [[], []]),
    ],
)
def test_what_is_no_table(right: Any, groups: list[list[Any]]) -> None:
    assert wrong_answers(right) == groups


def test_arrays_and_columns() -> None:
    changed, shorter = wrong_answers(np.array([1, 2, 3]))
    assert [each.tolist() for each in changed] == [[4, 2, 3], [1, 2, 10]]
    assert [each.tolist() for each in shorter] == [[2, 3], [1, 2]]
    changed, shorter = wrong_answers(FRAME.text)
    assert {each.name for each in [*changed, *shorter]} == {"text"}
    assert changed[0].tolist() == ["x or another", "y", "y"]


def test_a_kind_nobody_knows_is_said() -> None:
    with pytest.raises(TypeError):
        wrong_answers(object())
