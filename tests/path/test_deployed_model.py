"""A trained model in a running lab: in shadow, then in force, behind both gates."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from paytm_lab import Lab, Workload, wiring
from paytm_lab.core.errors import BadInput, MalformedFile, Unavailable
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud import model_file
from paytm_lab.fraud.array_models import ArrayModel
from paytm_lab.fraud.history import Histories
from paytm_lab.fraud.live_features import LIVE
from paytm_lab.fraud.model_book import PART_BYTES
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.registry import Deployed
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.science.features import OFFLINE, FeatureTable
from paytm_lab.fraud.science.live import live_features
from paytm_lab.fraud.science.models import FOREST, LOGISTIC, TREE, train
from paytm_lab.fraud.science.payments import payments
from paytm_lab.fraud.tables import HISTORY
from tests.waiting import until

RNG = np.random.default_rng(4)
ROWS = np.abs(RNG.normal(size=(800, len(LIVE)))) * 100
FRAUD = ROWS[:, LIVE.index("amount")] > 150
NEVER = Thresholds(1.1, None)


def made(version: int = 1, method: str = TREE, names: tuple[str, ...] = LIVE) -> ModelFile:
    columns = ROWS[:, [LIVE.index(name) for name in names]]
    return train(
        method, FeatureTable(names, columns, np.arange(800)), FRAUD, name="m", version=version
    )


LARGE_IS_BAD = Thresholds(0.9, 0.5)


@pytest.mark.parametrize("gate", ["after", "before"])
def test_shadow_changes_nothing_and_then_it_decides(tmp_path: Path, gate: str) -> None:
    with Lab(data=tmp_path / "lab", seed=7, shards=2, fraud_gate=gate) as lab:
        lab.open_accounts({"1": 10**8, "2": 10**8})
        path = model_file.save(made(), tmp_path / "model")
        lab.deploy_model(path, thresholds=LARGE_IS_BAD)
        watched = [lab.transfer("1", "2", rupees) for rupees in (50, 500)]
        assert [each.status for each in watched] == ["COMPLETED"] * 2
        lab.drain()
        assert lab.reviews() == []
        lab.promote_model()
        decided = lab.transfer("1", "2", 500)
        lab.drain()
        assert decided.status == ("FAILED" if gate == "before" else "COMPLETED")
        lab.withdraw_model()
        rows = lab._features()
        found = {row["payment_id"]: row for row in rows}
        one, other = (found[each.payment] for each in watched)
        assert (one["shadow_model"], one["shadow_score"] < 0.5) == ("m:1", True)
        assert (other["shadow_score"] > 0.9, other["decision"]) == (True, "allow")
        assert (other["model"], other["model_score"]) == ("default", -1.0)
        last = found[decided.payment]
        assert (last["decision"], last["rule"], last["model"]) == ("block", "model", "m:1")
        assert last["model_score"] > 0.9 and last["gate"] == gate
        assert (last["shadow_model"], last["shadow_score"]) == ("", -1.0)
        versions = [each.version for each in lab.system.model_book.history()]
        assert versions == [3, 2, 1]
        lab.audit().require_clean()


@pytest.mark.parametrize("gate", ["after", "before"])
def test_live_scores_are_those_of_recorded_payments(tmp_path: Path, gate: str) -> None:
    """Two runs before the deployment, whose histories are made anew, and one after it."""
    settings = {"seed": 5, "deterministic": True, "fraud_gate": gate, "velocity_limit": 1_000}
    model = made(method=LOGISTIC)
    with Lab(data=tmp_path / "lab", **settings) as lab:
        names = [str(n) for n in range(1, 7)]
        lab.open_accounts(dict.fromkeys(names, 10**9))
        lab.drain()

        def pay(count: int) -> None:
            for _ in range(count):
                payer, payee = RNG.choice(names, 2, replace=False).tolist()
                lab.transfer(payer, payee, int(RNG.integers(1, 500)))
                lab.drain()
                lab.system.clock.advance(int(RNG.integers(1, 40)))

        pay(25)
        lab.deploy_model(model, thresholds=NEVER)
        pay(25)
        rows = sorted(lab._features(), key=lambda row: row["at_us"])
    assert len(rows) == 50
    stream = payments(
        np.array([row["at_us"] for row in rows]) / 1e6,
        [int(row["user_id"]) for row in rows],
        [int(row["to_user_id"]) for row in rows],
        [row["amount"] / 100 for row in rows],
        [False] * 50,
    )
    recorded = ArrayModel(model).scores(live_features(stream).values)
    live = np.array([row["shadow_score"] for row in rows])
    assert (live[:25] == -1).all()
    # Recorded times are whole seconds here, live ones microseconds.
    assert live[25:] == pytest.approx(recorded[25:], rel=0.02, abs=1e-3)
    assert live[25:].std() > 0.01


def test_a_round_before_the_gate_is_scored_as_its_payments_one_after_another(
    tmp_path: Path,
) -> None:
    """With each of them made before the next is asked about."""
    model = made(method=LOGISTIC)
    pairs = [("1", "2"), ("1", "2"), ("2", "1"), ("1", "3"), ("3", "1"), ("1", "2")]
    scores: list[list[float]] = []
    for way in ("alone", "together"):
        with Lab(data=tmp_path / way, seed=7, shards=2, fraud_gate="before") as lab:
            lab.open_accounts(dict.fromkeys("123", 10**8))
            lab.deploy_model(model, shadow=False, thresholds=NEVER)
            lab.drain()
            scorer, start_us = lab.system.scorer, 1_767_225_600_000_000
            candidates = [
                Candidate(f"p{n}", *pair, 1_000 * (n + 1), start_us + 60_000_000 * n)
                for n, pair in enumerate(pairs)
            ]
            if way == "together":
                scorer.decide(candidates)
            else:
                for each in candidates:
                    scorer.decide([each])
                    scorer.remember([each])
            said = scorer.decided([each.payment_id for each in candidates])
            scores.append([each.model_score or 0.0 for each in said if each is not None])
    assert scores[0] == pytest.approx(scores[1], abs=1e-12)
    assert len(set(scores[0])) == len(pairs), "each is another payment to the model"


def test_other_processes_follow_and_a_lab_that_opens_again_too(tmp_path: Path) -> None:
    with Lab(data=tmp_path / "lab", seed=7, shards=2) as lab:
        lab.open_accounts({"1": 10**8, "2": 10**8})
        other = wiring.build(lab.settings)  # as another process opens it
        try:
            lab.deploy_model(made(), shadow=False, thresholds=LARGE_IS_BAD)
            large = made(2, FOREST)
            assert len(model_file.encode(large)) > 2 * PART_BYTES
            lab.deploy_model(large, thresholds=NEVER)
            until(lambda: other.models.deployed.shadow is not None)
            deployed = other.models.deployed
            assert deployed.active is not None and deployed.shadow is not None
            assert (deployed.active.name, deployed.shadow.name) == ("m:1", "m:2")
            assert deployed.active.thresholds == LARGE_IS_BAD
            lab.transfer("1", "2", 70)
            lab.drain()
            previews = [
                system.scorer.preview([_candidate(lab)])[0].facts.model_score
                for system in (lab.system, other)
            ]
            assert previews[0] is not None and previews[0] == previews[1]
        finally:
            other.close()
    with Lab(data=tmp_path / "lab") as lab:
        active = lab.system.models.active
        assert active is not None and active.name == "m:1"
        lab.withdraw_model()
        assert lab.system.models.deployed == Deployed()
        assert lab.run(Workload(users=5, payments=5)).submitted == 5


def _candidate(lab: Lab) -> object:
    from paytm_lab.core.fraud import Candidate

    return Candidate("preview", "1", "2", 12_300, lab.system.clock.now_us())


def test_what_cannot_be_deployed_leaves_what_was(tmp_path: Path) -> None:
    with Lab(data=tmp_path / "lab", seed=7, shards=2) as lab:
        with pytest.raises(BadInput, match="no model is in shadow"):
            lab.promote_model()
        lab.deploy_model(made(), thresholds=NEVER)
        before = lab.system.model_book.read()
        strange = FeatureTable(("amount", "chargeback"), ROWS[:, :2], np.arange(800))
        with pytest.raises(BadInput, match="a live scorer does not know that"):
            lab.deploy_model(train(TREE, strange, FRAUD))
        with pytest.raises(BadInput, match="another model m:1 is deployed"):
            lab.deploy_model(made(method=LOGISTIC))
        with pytest.raises(BadInput, match="not in order"):
            lab.deploy_model(made(2), thresholds=Thresholds(0.2, 0.7))
        with pytest.raises(MalformedFile, match="cannot read"):
            lab.deploy_model(tmp_path / "nothing")
        (tmp_path / "text").write_text("weights = 3")
        with pytest.raises(MalformedFile, match="this is no model"):
            lab.deploy_model(tmp_path / "text")
        with pytest.raises(BadInput, match="dict is no model"):
            lab.deploy_model({"weights": 3})  # type: ignore[arg-type]
        assert lab.system.model_book.read() == before
    with Lab(data=tmp_path / "lab", read_only=True) as lab:
        with pytest.raises(BadInput, match="read-only"):
            lab.withdraw_model()
        assert lab.system.model_book.read() == before


def test_a_shadow_that_fails_costs_nothing(tmp_path: Path) -> None:
    with Lab(data=tmp_path / "lab", seed=7, shards=2, fraud_gate="before") as lab:
        lab.open_accounts({"1": 10**8, "2": 10**8})
        lab.deploy_model(made(), thresholds=NEVER)
        shadow = lab.system.models.deployed.shadow
        assert shadow is not None

        class Broken(Exception):
            pass

        def broken(_: object) -> list[float]:
            raise Broken

        from msgspec.structs import replace

        lab.system.models.use(Deployed(None, replace(shadow, predict=broken)))
        outcome = lab.transfer("1", "2", 20)
        lab.drain()
        assert outcome.status == "COMPLETED" and lab.system.engine.gate_unavailable == 0
        (row,) = [row for row in lab._features() if row["payment_id"] == outcome.payment]
        assert (row["shadow_model"], row["shadow_score"]) == ("m:1", -1.0)


def wide_store_away(lab: Lab) -> None:
    """Histories cannot be read; the rest goes on."""

    class Away:
        def fetch(self, *_: object) -> None:
            raise Unavailable("the wide store is away")

    lab.system.scorer._store = Away()  # type: ignore[assignment]


def test_a_shadow_whose_histories_are_away_costs_nothing_and_one_in_force_does(
    tmp_path: Path,
) -> None:
    with Lab(data=tmp_path / "lab", seed=7, shards=2, fraud_gate="before") as lab:
        lab.open_accounts({"1": 10**8, "2": 10**8})
        lab.deploy_model(made(), thresholds=NEVER)
        kept = lab.system.scorer._store
        wide_store_away(lab)
        assert lab.transfer("1", "2", 50).status == "COMPLETED"
        lab.system.scorer._store = kept
        lab.promote_model()
        wide_store_away(lab)
        assert lab.transfer("1", "2", 50).status == "HELD"  # as where no scorer answers
        lab.system.scorer._store = kept
        assert lab.transfer("1", "2", 50).status == "COMPLETED"


def test_a_model_in_force_that_cannot_be_read_is_a_scorer_that_is_down_until_it_can(
    tmp_path: Path,
) -> None:
    with Lab(data=tmp_path / "lab", seed=7, shards=2, fraud_gate="before") as lab:
        lab.open_accounts({"1": 10**8, "2": 10**8})
        lab.deploy_model(made(), shadow=False, thresholds=NEVER)
    often = {"velocity_limit": 1_000_000}
    with Lab(data=tmp_path / "lab", seed=7, fraud_gate="before", **often) as lab:
        book = lab.system.model_book
        fetch, book._fetch = book._fetch, unreadable  # type: ignore[method-assign, assignment]
        book._loaded, book._version = {}, 0
        book._take(book.read())
        assert lab.transfer("1", "2", 50).status == "HELD"
        book._fetch = fetch  # type: ignore[method-assign]
        until(lambda: lab.transfer("1", "2", 50).status == "COMPLETED", "it was read again")
        assert lab.system.models.active is not None


def unreadable(_: str) -> ModelFile:
    raise Unavailable("the store does not answer")


def test_histories_begin_with_the_first_model_that_needs_them_and_know_what_was_made(
    tmp_path: Path,
) -> None:
    with Lab(data=tmp_path / "lab", seed=7, shards=2, fraud_gate="before") as lab:
        lab.open_accounts({"1": 10**5, "2": 0})
        lab.deploy_model(made(names=("amount",)), thresholds=NEVER)
        paid = [lab.transfer("1", "2", rupees).status for rupees in (10, 5_000, 20)]
        assert paid == ["COMPLETED", "FAILED", "COMPLETED"]  # the second has not the money
        lab.drain()
        assert lab.system.wide.count(HISTORY) == 0
        lab.deploy_model(made(2), thresholds=NEVER)
        known = Histories(lab.system.wide, ["1", "2"])
        for side in (known.of("1").paid, known.of("2").received):
            assert side.sums[-1] == pytest.approx(30, rel=1e-3)
            assert side.counts[-1] == pytest.approx(2, rel=1e-3)


def test_a_model_of_offline_features_is_not_deployed(tmp_path: Path) -> None:
    names = ("amount", "payer_count_7d")
    columns = ROWS[:, [LIVE.index(name) for name in names]]
    offline = train(TREE, FeatureTable(names, columns, np.arange(800), OFFLINE), FRAUD)
    with (
        Lab(data=tmp_path / "lab", seed=7, shards=2) as lab,
        pytest.raises(BadInput, match="offline features"),
    ):
        lab.deploy_model(offline)


def test_facts_that_would_not_be_read_back_are_refused_before() -> None:
    for facts in ({"weights": {0: 1}}, {"rows": np.int64(3)}):
        with pytest.raises(BadInput, match="facts of model m:1 cannot be kept"):
            model_file.encode(msgspec.structs.replace(made(), facts=facts))
