from __future__ import annotations

from collections.abc import Sequence

import pytest

from paytm_lab.core.errors import InvalidSetting, Unavailable
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud.registry import Model, ModelInput, ModelRegistry, scores_of
from paytm_lab.fraud.rules import Thresholds

INPUTS = [ModelInput(Candidate(f"p{n}", "a", "b", 100, n), n) for n in range(3)]


def test_models_are_chosen_by_name() -> None:
    registry = ModelRegistry()
    assert registry.active is None
    registry.register("trees:2", lambda inputs: [0.5] * len(inputs), block_score=0.9)
    registry.register("line:1", lambda inputs: [0.1] * len(inputs), block_score=0.8)
    assert registry.names() == ["line:1", "trees:2"]
    assert registry.active is None  # registering does not activate
    registry.activate("trees:2")
    assert registry.active is not None
    assert registry.active.thresholds == Thresholds(0.9, None)
    registry.activate(None)
    assert registry.active is None
    with pytest.raises(InvalidSetting, match=r"no model is named 'oak'.*line:1, trees:2"):
        registry.activate("oak")


def _raises(inputs: Sequence[ModelInput]) -> list[float]:
    raise ZeroDivisionError("weights")


@pytest.mark.parametrize(
    "predict",
    [
        _raises,
        lambda inputs: [0.5],
        lambda inputs: [0.5, float("nan"), 0.5],
        lambda inputs: [0.5, 1.01, 0.5],
        lambda inputs: ["much", 0.1, 0.2],
    ],
)
def test_a_model_without_usable_scores_is_unavailable(predict: object) -> None:
    model = Model("bad:1", predict, Thresholds(0.9))  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="bad:1"):
        scores_of(model, INPUTS)


def test_scores_come_in_order_and_nothing_is_asked_for_nothing() -> None:
    model = Model(
        "count:1", lambda inputs: [i.velocity_count / 10 for i in inputs], Thresholds(0.9)
    )
    assert scores_of(model, INPUTS) == [0.0, 0.1, 0.2]
    assert scores_of(Model("bad:1", _raises, Thresholds(0.9)), []) == []
