"""Models by name. The scorer asks the active one, if any; the rules work without."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from paytm_lab.core.errors import InvalidSetting, Unavailable
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud.history import History
from paytm_lab.fraud.rules import Thresholds


class ModelInput(msgspec.Struct, frozen=True, gc=False):
    """What a model sees of one payment: the candidate, the sender's count in the velocity window,
    and for a model that needs them the histories of both sides (None: nothing is known).
    """

    candidate: Candidate
    velocity_count: int
    payer: History | None = None
    payee: History | None = None


def _no_words(_: ModelInput) -> str:
    return ""


Predict = Callable[[Sequence[ModelInput]], Sequence[float]]


class Model(msgspec.Struct, frozen=True):
    """``predict`` gives one score in 0..1 per input, in order. ``name`` with its version is stored
    with each decision. ``why``: what made the score of one input, in words.
    """

    name: str
    predict: Predict
    thresholds: Thresholds
    needs_history: bool = False
    why: Callable[[ModelInput], str] = _no_words


class Deployed(NamedTuple):
    """The model that decides, and the one that is only watched."""

    active: Model | None = None
    shadow: Model | None = None

    @property
    def needs_history(self) -> bool:
        return any(model is not None and model.needs_history for model in self)


class ModelRegistry:
    """Register models, activate one, watch another in shadow; threads see either the old two or
    the new ones, never a mixture.
    """

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self.deployed = Deployed()

    def register(
        self, name: str, predict: Predict, *, block_score: float, review_score: float | None = None
    ) -> None:
        self._models[name] = Model(name, predict, Thresholds(block_score, review_score))

    def names(self) -> list[str]:
        return sorted(self._models)

    def activate(self, name: str | None) -> None:
        """Ask this model from now on; None: none. InvalidSetting for an unknown name."""
        if name is not None and name not in self._models:
            raise InvalidSetting(
                f"no model is named {name!r}",
                place="fraud model registry",
                remedy=f"Registered: {', '.join(self.names()) or 'none'}.",
            )
        active = None if name is None else self._models[name]
        self.deployed = self.deployed._replace(active=active)

    def use(self, deployed: Deployed) -> None:
        """These two from now on."""
        self.deployed = deployed

    @property
    def active(self) -> Model | None:
        return self.deployed.active


def scores_of(model: Model, inputs: Sequence[ModelInput]) -> list[float]:
    """The model's scores; Unavailable when it fails or what it gives is no score."""
    if not inputs:
        return []
    try:
        scores = [float(score) for score in model.predict(inputs)]
    except Exception as error:  # a model is foreign code: whatever it raises, it gave no score
        raise Unavailable(f"model {model.name!r} failed: {error!r}", place="fraud model") from error
    if len(scores) != len(inputs) or any(math.isnan(s) or not 0.0 <= s <= 1.0 for s in scores):
        raise Unavailable(
            f"model {model.name!r} did not give one score in 0..1 per payment", place="fraud model"
        )
    return scores
