"""A deployed model over HTTP: POST /score gives what its arrays give, with reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud.array_models import ArrayModel
from paytm_lab.fraud.history import Histories
from paytm_lab.fraud.live_features import LIVE, feature_rows
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.registry import ModelInput
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.science.features import FeatureTable
from paytm_lab.fraud.science.models import BOOSTING, FOREST, LOGISTIC, train
from tests.services.fraud_world import FraudWorld

RNG = np.random.default_rng(8)
ROWS = np.abs(RNG.normal(size=(600, len(LIVE)))) * 50
FRAUD = ROWS[:, LIVE.index("amount")] + ROWS[:, LIVE.index("payer_count_1d")] > 120
OPTIONS = {FOREST: {"n_estimators": 10}, BOOSTING: {"max_iter": 20}}
METHODS = (LOGISTIC, FOREST, BOOSTING)


def made(method: str) -> ModelFile:
    table = FeatureTable(LIVE, ROWS, np.arange(600))
    return train(method, table, FRAUD, name=method[:8], **OPTIONS.get(method, {}))


@pytest.mark.parametrize("gate", ["after", "before"])
def test_the_service_gives_the_scores_of_the_arrays(tmp_path: Path, gate: str) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2, fraud_gate=gate) as world:
        lab = world.lab
        lab.open_accounts({"1": 10**9, "2": 10**9, "3": 10**9})
        lab.deploy_model(made(LOGISTIC), thresholds=Thresholds(1.0, None))
        for rupees in (20, 35, 50, 10):
            lab.transfer("1", "2", rupees)
        lab.drain()
        asked = [("1", "2", 75), ("2", "3", 40), ("3", "1", 110)]
        for method in METHODS:
            model = made(method)
            lab.deploy_model(model, shadow=False, thresholds=Thresholds(0.9, 0.5))
            said = world.score(
                *({"from_user": a, "to_user": b, "amount": str(r)} for a, b, r in asked)
            )
            now_us = lab.system.clock.now_us()
            candidates = [
                Candidate("p", payer, payee, 100 * rupees, now_us) for payer, payee, rupees in asked
            ]
            histories = Histories(lab.system.wide, "123")
            rows = feature_rows(
                [
                    ModelInput(c, n, histories.of(c.from_user_id), histories.of(c.to_user_id))
                    for c, n in zip(candidates, (5, 1, 1), strict=True)
                ]
            )
            assert rows[0, LIVE.index("payer_count_1d")] == pytest.approx(4, abs=0.01)
            wanted = ArrayModel(model).scores(rows)
            scores = [each["facts"]["model_score"] for each in said]
            # A few milliseconds lie between the two looks at the clock.
            assert scores == pytest.approx(wanted.tolist(), abs=1e-4)
            assert {each["model"] for each in said} == {model.id}
            why = [e["why"] for e in said[0]["explanation"] if e["rule"] == "model"]
            assert "most of it from" in why[0] and "amount" in why[0]
        shown = {"name": model.id, "block_score": 0.9, "review_score": 0.5}
        assert (world.rules()["model"], world.rules()["shadow_model"]) == (shown, None)
        lab.deploy_model(made(LOGISTIC), thresholds=Thresholds(1.0, None))
        assert world.rules()["model"] == shown
        assert world.rules()["shadow_model"]["name"] == "logistic:1"
        # What the service says is what the gate, or the consumer, then does.
        (said_now,) = world.score({"from_user": "3", "to_user": "1", "amount": "110"})
        payment = lab.transfer("3", "1", 110)
        lab.drain()
        (row,) = [row for row in lab._features() if row["payment_id"] == payment.payment]
        assert row["model_score"] == pytest.approx(said_now["facts"]["model_score"], abs=1e-4)
        assert row["decision"] == said_now["decision"]
