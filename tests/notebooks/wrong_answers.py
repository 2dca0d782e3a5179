"""Wrong answers of a right one's own kind, to try an exercise's check with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd


class Wrong:
    """Nothing is equal to it, and nothing can be computed with it."""


def wrong_answers(right: Any) -> list[list[Any]]:
    """Groups of wrong answers; a good check refuses one of each group at least.

    A table, a mapping or an array is given back with one value changed and, in a second group, with
    one row left out: a check may look at some of its columns or rows only, but not at none. What
    else there is becomes one that is far from it.
    """
    if isinstance(right, pd.DataFrame):
        return [list(_changed(right)), list(_shortened(right))]
    if isinstance(right, pd.Series):
        frame = right.to_frame()
        groups = (_changed(frame), _shortened(frame))
        return [[each.iloc[:, 0].rename(right.name) for each in group] for group in groups]
    if isinstance(right, np.ndarray) and right.ndim:
        return [[_array(right, place) for place in _ends(right)], [right[1:], right[:-1]]]
    if isinstance(right, Mapping):
        return [
            [{**right, key: other(value)} for key, value in right.items()],
            [{k: v for k, v in right.items() if k != key} for key in right],
        ]
    if isinstance(right, (set, frozenset)):
        return [[right - {each} for each in right], [right | {Wrong()}]]
    return [[other(right)]]


def other(right: Any) -> Any:
    """A single value that is far from ``right``. TypeError: none is known for its kind."""
    if isinstance(right, (bool, np.bool_)):
        return not right
    if isinstance(right, (tuple, list)):
        return type(right)(other(each) for each in right)
    if isinstance(right, str):
        return right + " or another"
    if isinstance(right, (pd.Timestamp, np.datetime64)):
        return right + np.timedelta64(400, "D")
    if right is None or pd.isna(right):
        return 1
    return right * 3 + 1


def _ends(rows: Any) -> list[int]:
    return sorted({0, len(rows) - 1}) if len(rows) else []


def _array(right: Any, place: int) -> Any:
    changed = right.copy()
    changed[place] = other(right[place])
    return changed


def _shortened(right: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for row in _ends(right):
        yield right.iloc[[place for place in range(len(right)) if place != row]]


def _changed(right: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """One value is another; the types of the columns stay, so that no check can go by them."""
    for column in range(right.shape[1]):
        for row in _ends(right):
            values = right.iloc[:, column].tolist()
            kind = right.dtypes.iloc[column]
            if isinstance(kind, pd.CategoricalDtype):
                others = [name for name in kind.categories if name != values[row]]
                if not others:
                    continue
                values[row] = others[0]
            else:
                values[row] = other(values[row])
            changed = right.copy()
            try:
                new = pd.Series(values, index=right.index, dtype=kind)
            except (OverflowError, ValueError, TypeError):
                continue  # the type holds no such value
            changed.isetitem(column, new)
            yield changed
