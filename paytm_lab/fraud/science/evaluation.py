"""How good scores are: ranking, the alerts an investigator gets, rupees, calibration.

Scores and labels are arrays of one entry a payment; a higher score is more suspicious.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paytm_lab.core.errors import BadInput
from paytm_lab.core.extras import need
from paytm_lab.fraud.science.payments import Flags, Floats

_PLACE = "evaluation"
CARDS_A_DAY = 100


class Metrics(NamedTuple):
    """``card_precision`` at 100 cards a day, ``ceiling``: what perfect scores would get there."""

    auc: float
    average_precision: float
    card_precision: float
    ceiling: float


class Calibration(NamedTuple):
    """A reliability curve: per bin of scores the mean score, the share of frauds, the payments.
    ``brier``: mean squared error of the scores (Brier, 1950); ``error``: mean distance of the two
    weighted by payments (expected calibration error; Naeini et al., 2015).
    """

    score: Floats
    fraud_share: Floats
    payments: NDArray[np.int64]
    brier: float
    error: float


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


def auc_roc(fraud: ArrayLike, score: ArrayLike) -> float:
    """The chance that a fraud scores above a genuine payment, ties counted half (Hanley and
    McNeil, 1982): from the ranks, as the Mann-Whitney statistic. BadInput with only one class.
    """
    labels, scores = _checked(fraud, score)
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    positive = int(labels.sum())
    negative = len(labels) - positive
    above = ranks[labels].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def average_precision(fraud: ArrayLike, score: ArrayLike) -> float:
    """Precision at each threshold, weighted by the recall that it adds (Zhu, 2004); equal scores
    are one threshold.
    """
    labels, scores = _checked(fraud, score)
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    recall_step = np.diff(np.concatenate([[0], hits[last]])) / hits[-1]
    return float(np.sum(recall_step * hits[last] / (last + 1)))


def card_precision(
    day: ArrayLike, payer: ArrayLike, fraud: ArrayLike, score: ArrayLike, k: int = CARDS_A_DAY
) -> float:
    """Card precision at k (Dal Pozzolo et al., 2017; Handbook chapter 4): each day the k payers
    with the highest score are looked at; the share of them who were defrauded that day, as a mean
    over days. Whoever was found is taken out of the days after.
    """
    labels, scores = _checked(fraud, score)
    if k < 1:
        raise BadInput(f"k={k!r}", place=_PLACE, remedy="Give 1 or more.")
    days, payers = np.asarray(day), np.asarray(payer)
    found = np.zeros(int(payers.max()) + 1, np.bool_)
    shares = []
    for each in np.unique(days):
        rows = np.flatnonzero((days == each) & ~found[payers])
        cards, first = np.unique(payers[rows], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, first, scores[rows])
        hit = np.zeros(len(cards), np.bool_)
        np.logical_or.at(hit, first, labels[rows])
        top = np.argsort(-highest, kind="stable")[:k]
        shares.append(hit[top].sum() / k)
        found[cards[top][hit[top]]] = True
    return float(np.mean(shares))


def card_ceiling(day: ArrayLike, payer: ArrayLike, fraud: ArrayLike, k: int = CARDS_A_DAY) -> float:
    """Card precision of scores that know the answer."""
    return card_precision(day, payer, fraud, np.asarray(fraud, np.float64), k)


def evaluate(
    day: ArrayLike, payer: ArrayLike, fraud: ArrayLike, score: ArrayLike, k: int = CARDS_A_DAY
) -> Metrics:
    return Metrics(
        auc_roc(fraud, score),
        average_precision(fraud, score),
        card_precision(day, payer, fraud, score, k),
        card_ceiling(day, payer, fraud, k),
    )


def calibration(fraud: ArrayLike, score: ArrayLike, bins: int = 10) -> Calibration:
    """Bins of equal numbers of payments above the lowest score; empty ones are left out."""
    labels, scores = _checked(fraud, score)
    if scores.min() < 0 or scores.max() > 1:
        raise BadInput("scores are no probabilities", place=_PLACE, remedy="Give scores in 0..1.")
    edges = np.unique(np.quantile(scores, 1 - np.geomspace(1, 1 / len(scores), bins + 1)))
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, len(edges) - 1)
    count = np.bincount(place, minlength=len(edges))
    some = count > 0
    mean = np.bincount(place, scores, len(edges))[some] / count[some]
    share = np.bincount(place, labels, len(edges))[some] / count[some]
    brier = float(np.mean((scores - labels) ** 2))
    error = float(np.sum(np.abs(mean - share) * count[some]) / len(scores))
    return Calibration(mean, share, count[some].astype(np.int64), brier, error)


def interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean of a few seeds with Student's t interval (Gosset, 1908). BadInput for fewer than two."""
    need("scipy")
    from scipy.stats import t

    each = np.asarray(values, np.float64)
    if each.ndim != 1 or len(each) < 2:
        raise BadInput("an interval needs two values", place=_PLACE, remedy="Use more seeds.")
    mean = float(each.mean())
    half = float(t.ppf((1 + confidence) / 2, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5)
    return Interval(mean, mean - half, mean + half)


def _checked(fraud: ArrayLike, score: ArrayLike) -> tuple[Flags, Floats]:
    labels, scores = np.asarray(fraud).astype(np.bool_), np.asarray(score, np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise BadInput(
            f"{labels.shape} labels and {scores.shape} scores do not belong together", place=_PLACE
        )
    if not np.isfinite(scores).all():
        raise BadInput("a score is NaN or infinite", place=_PLACE)
    if not labels.any() or labels.all():
        raise BadInput(
            "only one class is there: nothing can be told apart",
            place=_PLACE,
            remedy="Take more payments, with frauds and genuine ones.",
        )
    return labels, scores
