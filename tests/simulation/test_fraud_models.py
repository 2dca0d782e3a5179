"""Trained models as plain numbers: the same scores as scikit-learn's, and no trust in files."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from paytm_lab.core.errors import BadInput, MalformedFile
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud import model_file
from paytm_lab.fraud.array_models import ArrayModel, live_model
from paytm_lab.fraud.live_features import LIVE
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.registry import ModelInput, scores_of
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.science import published
from paytm_lab.fraud.science.explain import importance, in_words, reasons
from paytm_lab.fraud.science.features import FeatureTable
from paytm_lab.fraud.science.models import BOOSTING, FOREST, LOGISTIC, METHODS, TREE, train
from paytm_lab.simulation import handbook as hb

RNG = np.random.default_rng(11)
NAMES = ("amount", "night", "payer_count_1d", "known_payee")
ROWS = np.column_stack(
    [
        RNG.lognormal(5, 1, 3_000),
        RNG.random(3_000) < 0.2,
        RNG.poisson(2, 3_000),
        RNG.random(3_000) < 0.5,
    ]
).astype(float)
FRAUD = RNG.random(3_000) < 1 / (1 + np.exp(5 - ROWS[:, 0] / 150 - 2 * ROWS[:, 1]))
TABLE = FeatureTable(NAMES, ROWS, np.arange(3_000))
SMALL = {FOREST: {"n_estimators": 12, "max_depth": 6}, BOOSTING: {"max_iter": 25}}


@pytest.fixture(params=METHODS)
def model(request: pytest.FixtureRequest) -> ModelFile:
    return train(request.param, TABLE, FRAUD, seed=3, **SMALL.get(request.param, {}))


def test_it_scores_as_it_was_trained(model: ModelFile) -> None:
    """``train`` compares every model with scikit-learn's own scores, and refuses a difference."""
    scores = ArrayModel(model).scores(ROWS)
    assert scores.min() >= 0 and scores.max() <= 1 and scores.std() > 0.01
    assert scores[FRAUD].mean() > 1.5 * scores[~FRAUD].mean()
    for rows in (1, 7):
        assert ArrayModel(model).scores(ROWS[:rows]) == pytest.approx(scores[:rows], abs=1e-12)
    method = str(model.facts["method"])
    again = train(method, TABLE, FRAUD, seed=3, **SMALL.get(method, {}))
    assert again.digest == model.digest and model_file.encode(again) == model_file.encode(model)


def test_an_export_that_scores_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from paytm_lab.core.errors import IntegrityError
    from paytm_lab.fraud.science import models

    monkeypatch.setattr(models, "_threshold", lambda thresholds: np.asarray(thresholds) + 40.0)
    with pytest.raises(IntegrityError, match="away from the trained one"):
        train(TREE, TABLE, FRAUD)


def test_the_effects_add_up_to_the_score(model: ModelFile) -> None:
    arrays, scorer = model.arrays, ArrayModel(model)
    effects, scores = scorer.effects(ROWS[:40]).sum(1), scorer.scores(ROWS[:40])
    if model.kind == "linear":
        start = float(arrays["bias"][0] + arrays["mean"] @ arrays["weights"])
    elif model.kind == "forest":
        start = float(arrays["value"][arrays["roots"]].mean())
    else:
        start = float(arrays["value"][arrays["roots"]].sum() + arrays["base"][0])
    total = start + effects
    if model.kind != "forest":
        total = 1 / (1 + np.exp(-total))
    assert total == pytest.approx(scores, abs=1e-9)
    assert {each.feature for each in importance(model, TABLE)[:2]} == {"amount", "night"}
    top = int(np.argmax(scorer.scores(ROWS)))
    assert " = " in in_words(reasons(model, TABLE, top))


def test_an_inner_value_lies_between_those_below_it(model: ModelFile) -> None:
    """Or an effect would be a step from one scale to another."""
    if model.kind == "linear":
        assert float(np.abs(model.arrays["mean"] - ROWS.mean(0)).max()) < 1e-9
        return
    value = model.arrays["value"]
    inner = np.flatnonzero(model.arrays["feature"] >= 0)
    left, right = value[model.arrays["left"][inner]], value[model.arrays["right"][inner]]
    assert (value[inner] >= np.minimum(left, right) - 1e-9).all()
    assert (value[inner] <= np.maximum(left, right) + 1e-9).all()


def test_a_file_comes_back_as_it_was(model: ModelFile, tmp_path: Path) -> None:
    path = model_file.save(model, tmp_path / "model.msgpack")
    back = model_file.load(path)
    assert (back.id, back.digest, back.facts) == (model.id, model.digest, model.facts)
    assert ArrayModel(back).scores(ROWS).tobytes() == ArrayModel(model).scores(ROWS).tobytes()
    assert [each.name for each in tmp_path.iterdir()] == ["model.msgpack"]


def test_a_file_with_one_changed_bit_is_refused(tmp_path: Path) -> None:
    body = bytearray(model_file.encode(train(TREE, TABLE, FRAUD)))
    for place in range(0, len(body), 13):
        changed = bytearray(body)
        changed[place] ^= 4
        with pytest.raises(MalformedFile):
            model_file.decode(bytes(changed))
    for cut in (0, 1, len(body) // 2, len(body) - 1):
        with pytest.raises(MalformedFile):
            model_file.decode(bytes(body[:cut]))
    with pytest.raises(MalformedFile, match="cannot read"):
        model_file.load(tmp_path / "nothing")
    (tmp_path / "large").write_bytes(bytes(model_file.BYTES_MAX + 1))
    with pytest.raises(MalformedFile, match="more than"):
        model_file.load(tmp_path / "large")


def _changed(model: ModelFile, **arrays: object) -> ModelFile:
    return msgspec.structs.replace(model, arrays={**model.arrays, **arrays})


def unsound() -> dict[str, ModelFile]:
    tree = train(TREE, TABLE, FRAUD)
    line = train(LOGISTIC, TABLE, FRAUD)
    replace = msgspec.structs.replace
    one = np.array([1], np.int32)
    return {
        "a loop": _changed(tree, left=np.zeros_like(tree.arrays["left"])),
        "a feature that is not there": _changed(tree, feature=tree.arrays["feature"] + np.int16(9)),
        "a child beyond the end": _changed(tree, right=tree.arrays["right"] + np.int32(99)),
        "a root beyond the end": _changed(tree, roots=np.array([99], np.int32)),
        "no tree": _changed(tree, roots=one[:0]),
        "a share above 1": _changed(tree, value=tree.arrays["value"] + 1),
        "no number": _changed(line, bias=np.array([np.nan])),
        "too few weights": _changed(line, weights=line.arrays["weights"][:-1]),
        "another type": _changed(line, weights=line.arrays["weights"].astype(np.float32)),
        "one array too many": _changed(line, more=one),
        "another kind": replace(line, kind="pickle"),
        "no name": replace(line, name=""),
        "a name that is a path": replace(line, name="../x"),
        "version 0": replace(line, version=0),
        "a feature twice": replace(line, features=("amount", "amount", "night", "known_payee")),
        "no thresholds": replace(line, thresholds=Thresholds(float("nan"), None)),
        "thresholds the wrong way": replace(line, thresholds=Thresholds(0.5, 0.6)),
    }


def test_models_that_are_none_are_never_written() -> None:
    written = []
    for what, model in unsound().items():
        with suppress(BadInput):
            written.append((what, model_file.encode(model)))
    assert written == []


def test_what_cannot_be_learnt_is_refused() -> None:
    for fraud in (np.zeros(3_000, bool), FRAUD[:-1]):
        with pytest.raises(BadInput):
            train(TREE, TABLE, fraud)
    with pytest.raises(BadInput, match="no method"):
        train("magic", TABLE, FRAUD)
    broken = ROWS.copy()
    broken[5, 0] = np.inf
    with pytest.raises(BadInput, match="NaN or infinite"):
        train(TREE, FeatureTable(NAMES, broken, np.arange(3_000)), FRAUD)
    with pytest.raises(BadInput, match="do not fit"):
        ArrayModel(train(TREE, TABLE, FRAUD)).scores(ROWS[:, :2])


def test_a_live_model_needs_only_what_is_known_live() -> None:
    model = live_model(train(TREE, TABLE, FRAUD, name="tree", version=4))
    assert model.name == "tree:4" and model.needs_history
    inputs = [ModelInput(Candidate("p", "a", "b", 90_000, 10**15), 1)]
    assert 0 <= scores_of(model, inputs)[0] <= 1 and "amount" in model.why(inputs[0])
    later = FeatureTable(("amount", "chargeback"), ROWS[:, :2], np.arange(3_000))
    with pytest.raises(BadInput, match="needs chargeback"):
        live_model(train(TREE, later, FRAUD))
    plain = FeatureTable(("amount", "night"), ROWS[:, :2], np.arange(3_000))
    assert not live_model(train(TREE, plain, FRAUD)).needs_history
    assert len(set(LIVE)) == len(LIVE) == 25


def test_scoring_loads_no_library_of_training(tmp_path: Path) -> None:
    path = model_file.save(train(TREE, TABLE, FRAUD), tmp_path / "tree")
    code = f"""
import sys
from paytm_lab.fraud.array_models import live_model
from paytm_lab.fraud.model_file import load
import paytm_lab.fraud.model_book, paytm_lab.fraud.scorer, paytm_lab.fraud.service
live_model(load({str(path)!r}))
loaded = [name for name in ("sklearn", "scipy", "pandas", "numba") if name in sys.modules]
loaded += [name for name in sys.modules if name.startswith("paytm_lab.fraud.science")]
sys.exit(", ".join(loaded) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_published_results_come_out_again() -> None:
    """Three of the ten seeds, and the fast models; `bench fraud` has all."""
    results = published.reproduce(hb.published_world, range(3), (LOGISTIC, TREE))
    rows = {(row.model, row.metric): row for row in published.compared(results)}
    assert len(rows) == 6
    for metric in published.METRICS:
        row = rows[LOGISTIC, metric]
        assert row.within, row
        assert row.low < row.mean < row.high
    # The tree of depth two hangs on one threshold: better than published, never near the line.
    assert 0.74 < rows[TREE, "auc"].mean < 0.84
    ceiling = np.mean(results[LOGISTIC].values("ceiling"))
    assert ceiling == pytest.approx(published.PUBLISHED_CEILING, abs=0.06)
    with pytest.raises(BadInput):
        published.reproduce(hb.published_world, (), (TREE,))
