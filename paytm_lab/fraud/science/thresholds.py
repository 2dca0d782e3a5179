"""Thresholds chosen by what decisions cost, in rupees.

Each payment has a cost under each decision; the best thresholds are those whose sum over the
payments is least (Elkan, 2001, "The foundations of cost-sensitive learning"; with costs by payment:
Bahnsen et al., 2013).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.science.payments import Floats

_PLACE = "costs"


class Costs(msgspec.Struct, frozen=True):
    """Rupees. A fraud that passes costs its amount. A review costs ``review_rupees`` and stops a
    fraud with chance ``review_catches``. Blocking a genuine payment costs ``wrong_block_rupees``
    and ``wrong_block_share`` of its amount; blocking a fraud costs nothing.
    """

    review_rupees: float = 40.0
    review_catches: float = 0.9
    wrong_block_rupees: float = 150.0
    wrong_block_share: float = 0.02

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"{name}={value!r}", place=_PLACE, remedy="Give 0 or more.")
        if self.review_catches > 1:
            raise BadInput(
                f"review_catches={self.review_catches!r}", place=_PLACE, remedy="Give 0 to 1."
            )


class Choice(NamedTuple):
    """``cost_rupees`` of the payments it was chosen on; ``allow_all_rupees``: with no model."""

    thresholds: Thresholds
    cost_rupees: float
    allow_all_rupees: float
    reviews: int
    blocks: int


def choose(
    fraud: ArrayLike, score: ArrayLike, amount: ArrayLike, costs: Costs | None = None
) -> Choice:
    """The thresholds of least cost, of all there are: in one pass over the sorted scores.

    A threshold is half way between two scores that occur. Where blocking never pays, the block
    threshold lies above 1; where reviewing never does, there is no review threshold.
    """
    used = costs or Costs()
    labels, scores, rupees = _checked(fraud, score, amount)
    allow, review, block = _by_decision(labels, rupees, used)
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    # Cuts are possible before the first row, after the last, and where the score changes.
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(ordered) > 0) + 1, [len(ordered)]])
    allow_sum, review_sum, block_sum = (
        np.concatenate([[0.0], np.cumsum(each[order])])[cuts] for each in (allow, review, block)
    )
    first = allow_sum - review_sum  # rows below the cut are allowed, those above reviewed
    best_first = np.minimum.accumulate(first)
    total = best_first + review_sum - block_sum + block_sum[-1]
    second = int(np.argmin(total))
    one = int(np.argmin(first[: second + 1]))
    return Choice(
        _thresholds(ordered, int(cuts[one]), int(cuts[second])),
        float(total[second]),
        float(allow_sum[-1]),
        int(cuts[second] - cuts[one]),
        int(len(ordered) - cuts[second]),
    )


def cost_of(
    thresholds: Thresholds,
    fraud: ArrayLike,
    score: ArrayLike,
    amount: ArrayLike,
    costs: Costs | None = None,
) -> Choice:
    """What these thresholds cost on these payments."""
    labels, scores, rupees = _checked(fraud, score, amount)
    allow, review, block = _by_decision(labels, rupees, costs or Costs())
    blocked = scores >= thresholds.block_score
    at = thresholds.review_score
    reviewed = ~blocked & (scores >= at) if at is not None else np.zeros(len(scores), np.bool_)
    cost = float(np.where(blocked, block, np.where(reviewed, review, allow)).sum())
    return Choice(thresholds, cost, float(allow.sum()), int(reviewed.sum()), int(blocked.sum()))


def review_curve(
    fraud: ArrayLike,
    score: ArrayLike,
    amount: ArrayLike,
    costs: Costs | None = None,
    points: int = 200,
) -> list[dict[str, float]]:
    """``threshold``, ``cost_rupees``, ``reviews``: every payment from a score on is reviewed, and
    none is blocked; at up to ``points`` scores that occur, from the least to past the largest.
    """
    labels, scores, rupees = _checked(fraud, score, amount)
    allow, review, _ = _by_decision(labels, rupees, costs or Costs())
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    changes = np.flatnonzero(np.diff(ordered, prepend=-1.0) > 0)
    # Most scores are small and alike; what matters lies in the few large ones.
    back = np.unique(np.geomspace(1, len(changes), min(points, len(changes))).astype(np.int64))
    cuts = np.append(changes[len(changes) - back[::-1]], len(ordered))
    allowed = np.concatenate([[0.0], np.cumsum(allow[order])])
    reviewed = np.concatenate([[0.0], np.cumsum(review[order])])
    total = allowed[cuts] + reviewed[-1] - reviewed[cuts]
    return [
        {
            "threshold": _between(ordered, cut) if cut < len(ordered) else 1.0,
            "cost_rupees": float(cost),
            "reviews": float(len(ordered) - cut),
        }
        for cut, cost in zip(cuts.tolist(), total, strict=True)
    ]


def with_thresholds(model: ModelFile, thresholds: Thresholds) -> ModelFile:
    """The same model, deciding by these."""
    return msgspec.structs.replace(model, thresholds=thresholds)


def _by_decision(fraud: Floats, rupees: Floats, costs: Costs) -> tuple[Floats, Floats, Floats]:
    return (
        fraud * rupees,
        costs.review_rupees + fraud * rupees * (1 - costs.review_catches),
        (1 - fraud) * (costs.wrong_block_rupees + costs.wrong_block_share * rupees),
    )


def _thresholds(ordered: Floats, review_cut: int, block_cut: int) -> Thresholds:
    count = len(ordered)
    block = 1.1 if block_cut == count else _between(ordered, block_cut)
    review = None if review_cut == block_cut else _between(ordered, review_cut)
    return Thresholds(block, review)


def _between(ordered: Floats, cut: int) -> float:
    """A number above every score before the cut and not above any behind it."""
    if cut == 0:
        return 0.0
    low, high = float(ordered[cut - 1]), float(ordered[cut])
    middle = (low + high) / 2
    return middle if middle > low else high


def _checked(
    fraud: ArrayLike, score: ArrayLike, amount: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    labels = np.asarray(fraud).astype(np.float64)
    scores, rupees = np.asarray(score, np.float64), np.asarray(amount, np.float64)
    if not len(labels) or labels.shape != scores.shape or labels.shape != rupees.shape:
        raise BadInput(
            f"{labels.shape} labels, {scores.shape} scores and {rupees.shape} amounts do not"
            " belong together",
            place=_PLACE,
        )
    if not (np.isfinite(scores).all() and np.isfinite(rupees).all()) or rupees.min() < 0:
        raise BadInput("a score or an amount is NaN, infinite or negative", place=_PLACE)
    return labels, scores, rupees
