"""Which payments a model may learn from, and which it is judged on.

The published protocol (Fraud-Detection-Handbook, chapter 3 "Baseline fraud detection system"):
train on a week, wait a week until its labels are known, test on the week after; payers who are
known to be defrauded by then no longer count. Prequential: the same again, a day or a week later
(Gama et al., 2013, "On evaluating stream learning algorithms").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.science.payments import Payments

PUBLISHED_FIRST_DAY = 17_737  # 2018-07-25, in days since 1970


@dataclass(frozen=True)
class Split:
    """Row numbers to learn from, and to be judged on. Days are days since 1970."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    train_first_day: int
    train_days: int
    test_first_day: int
    test_days: int


def split(
    data: Payments,
    train_first_day: int = PUBLISHED_FIRST_DAY,
    *,
    train_days: int = 7,
    delay_days: int = 7,
    test_days: int = 7,
) -> Split:
    """Known by test day n are the frauds of the training days and of the first n delay days: each
    becomes known ``delay_days`` after it happened. BadInput where a part would be empty.
    """
    day = data.day
    test_first = train_first_day + train_days + delay_days
    train = np.flatnonzero((day >= train_first_day) & (day < train_first_day + train_days))
    cards = int(data.payer.max()) + 1 if len(data) else 0
    known = np.zeros(cards, np.bool_)
    known[data.payer[train[data.fraud[train]]]] = True
    tests = []
    for number in range(test_days):
        newly = data.fraud & (day == train_first_day + train_days + number - 1)
        known[data.payer[newly]] = True
        today = np.flatnonzero(day == test_first + number)
        tests.append(today[~known[data.payer[today]]])
    test = np.concatenate(tests) if tests else np.zeros(0, np.int64)
    for name, rows in (("train on", train), ("test on", test)):
        if not len(rows):
            raise BadInput(
                f"there are no payments to {name}",
                place="split",
                remedy="Choose a first day that lies within the data.",
            )
    return Split(train, test, train_first_day, train_days, test_first, test_days)


def prequential(
    data: Payments,
    first_day: int,
    folds: int,
    *,
    step_days: int = 7,
    train_days: int = 7,
    delay_days: int = 7,
    test_days: int = 7,
) -> Iterator[Split]:
    """The split, ``folds`` times, each ``step_days`` after the one before."""
    if folds < 1 or step_days < 1:
        raise BadInput(
            f"folds={folds!r}, step_days={step_days!r}", place="prequential",
            remedy="Give 1 or more.",
        )  # fmt: skip
    for fold in range(folds):
        yield split(
            data,
            first_day + fold * step_days,
            train_days=train_days,
            delay_days=delay_days,
            test_days=test_days,
        )
