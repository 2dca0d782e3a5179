"""Labelled payments, features, models against the published ones, and what live scoring adds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud.array_models import ArrayModel
from paytm_lab.fraud.model_file import ModelFile, encode
from paytm_lab.fraud.registry import Deployed
from paytm_lab.fraud.science import published
from paytm_lab.fraud.science.evaluation import interval
from paytm_lab.fraud.science.features import make_features
from paytm_lab.fraud.science.live import live_features
from paytm_lab.fraud.science.models import BOOSTING, FOREST, LOGISTIC, NEVER_BLOCKS, train
from paytm_lab.fraud.science.payments import Payments
from paytm_lab.simulation import handbook as hb
from paytm_lab.simulation.payments import Workload

SEED = 7
_ROUNDS = 3
ROUNDS = (1, 64, 256)  # payments that are asked about together
_ASKED, _ASKED_QUICKLY = 1_500, 300
_OPTIONS: dict[str, dict[str, Any]] = {
    LOGISTIC: {},
    FOREST: {"n_estimators": 100, "max_leaf_nodes": 256},
    BOOSTING: {},
}


def run(data_dir: Path, quick: bool, open_lab: Callable[..., Any]) -> list[dict[str, Any]]:
    """Rows by ``what``.

    ``generator``: ``payments_per_s``, labelled, in memory, by one core (best of three).
    ``features``, ``scores``: ``rows_per_s`` from payments to features and from features to scores,
    ``raw_to_score_rows_per_s`` all the way, ``train_s``, ``model_bytes``. ``published``: the
    Handbook's results and their means here, over ten seeds (when quick two, and one model), with
    ``sd`` of a seed, a 95 % interval and ``within``; beside them the ceiling, of perfect scores.
    ``ours``: our model's means, and its gain over the forest, paired by seed. ``live``: what a
    deployed model adds to the gate's answer about one payment (``added_ms_p50``, ``p99``), by turns
    with and without it; in force and in shadow. ``rounds``: what the whole gate, with that model in
    force, adds to each of ``round`` payments that are asked about together (``gate_ms_p50``; of
    which the model ``added_ms_p50``), by turns over all sizes; ``ratio``: to one asked about alone;
    ``round_ms_p50``: how long the round waits.
    """
    rows = [_generator(quick)]
    data = hb.published_world(SEED, days=20 if quick else 183)
    models = _models(data, quick)
    rows += _offline(data, models, quick)
    rows += _published(quick)
    files = {name: file for name, (file, _) in models.items()}
    rows += _live(open_lab, data_dir / "live", files, _ASKED_QUICKLY if quick else _ASKED)
    return rows


def _generator(quick: bool) -> dict[str, Any]:
    days = 20 if quick else 183
    best_s, made = _best(lambda: hb.handbook(SEED, days=days), quick)
    return {
        "what": "generator",
        "payments": len(made),
        "frauds": int(made.fraud.sum()),
        "payments_per_s": round(len(made) / best_s),
    }


def _models(data: Payments, quick: bool) -> dict[str, tuple[ModelFile, float]]:
    """On the live features of a week (when quick a day), and the seconds that training took."""
    first, days = int(data.day[0]) + (10 if quick else 45), 1 if quick else 7
    rows = np.flatnonzero((data.day >= first) & (data.day < first + days))
    table = live_features(data, rows)
    found = {}
    for name, options in _OPTIONS.items():
        if quick and name == FOREST:
            options = {**options, "n_estimators": 10}
        started = time.perf_counter()
        file = train(name, table, data.fraud[rows], seed=SEED, **options)
        found[name] = (file, time.perf_counter() - started)
    return found


def _offline(
    data: Payments, models: dict[str, tuple[ModelFile, float]], quick: bool
) -> Iterator[dict[str, Any]]:
    count = len(data)
    handbook_s, _ = _best(lambda: make_features(data), quick)
    live_s, table = _best(lambda: live_features(data), quick)
    for names, seconds in (("handbook", handbook_s), ("live", live_s)):
        yield {"what": "features", "features": names, "rows_per_s": round(count / seconds)}
    for name, (file, train_s) in models.items():
        part = table.values if name == LOGISTIC else table.values[:100_000]
        model = ArrayModel(file)
        score_s, _ = _best(partial(model.scores, part), quick)
        per_row_s = score_s / len(part)
        yield {
            "what": "scores",
            "model": name,
            "rows_per_s": round(1 / per_row_s),
            "raw_to_score_rows_per_s": round(1 / (per_row_s + live_s / count)),
            "train_s": round(train_s, 2),
            "model_bytes": len(encode(file)),
        }


def _published(quick: bool) -> Iterator[dict[str, Any]]:
    if quick:
        results = published.reproduce(hb.published_world, (0, 1), (LOGISTIC,))
    else:
        results = published.reproduce(hb.published_world)
    for row in published.compared(results):
        yield {"what": "published", **{k: _short(v) for k, v in row._asdict().items()}}
    ceilings = results[LOGISTIC].values("ceiling")
    yield {
        "what": "published",
        "model": "perfect scores",
        "metric": "card_precision",
        "published": published.PUBLISHED_CEILING,
        "mean": _short(np.mean(ceilings)),
        "sd": _short(np.std(ceilings, ddof=1)),
    }
    for metric in published.METRICS if published.OUR_MODEL in results else ():
        own = interval(results[published.OUR_MODEL].values(metric))
        gain = published.gain(results, metric)
        yield {
            "what": "ours",
            "metric": metric,
            "published": published.PUBLISHED[FOREST][published.METRICS.index(metric)],
            **{name: _short(value) for name, value in own._asdict().items()},
            **{f"gain_{name}": _short(value) for name, value in gain._asdict().items()},
        }


def _live(
    open_lab: Callable[..., Any], folder: Path, models: dict[str, ModelFile], asked: int
) -> Iterator[dict[str, Any]]:
    with open_lab(data=folder, seed=SEED, fraud_gate="before") as lab:
        lab.run(Workload(users=1_000, payments=3_000))
        scorer, registry = lab.system.scorer, lab.system.models
        number = 0

        def ask(deployed: Deployed) -> float:
            nonlocal number
            registry.use(deployed)
            number += 1
            user = 1 + number % 900
            candidate = Candidate(
                f"bench-{number}", str(user), str(user + 1), 12_345, lab.system.clock.now_us()
            )
            started = time.perf_counter()
            scorer.decide([candidate])
            took = time.perf_counter() - started
            scorer.cancel(candidate)
            return 1e3 * took

        for name, file in models.items():
            lab.deploy_model(file, shadow=False, thresholds=NEVER_BLOCKS)
            model = registry.deployed.active
            ways = {
                "none": Deployed(), "active": Deployed(model), "shadow": Deployed(None, model),
            }  # fmt: skip
            took = {way: np.empty(asked) for way in ways}
            for turn in range(asked):
                for way, deployed in ways.items():
                    took[way][turn] = ask(deployed)
            yield from _rounds(lab, name, asked)
            lab.withdraw_model()
            none = {q: float(np.quantile(took["none"], q)) for q in (0.5, 0.99)}
            for way in ("active", "shadow"):
                p50, p99 = (float(np.quantile(took[way], q)) - none[q] for q in (0.5, 0.99))
                yield {
                    "what": "live",
                    "model": name,
                    "as": way,
                    "payments": asked,
                    "added_ms_p50": round(p50, 3),
                    "added_ms_p99": round(p99, 3),
                    "without_ms_p50": round(none[0.5], 3),
                }


def _rounds(lab: Any, name: str, asked: int) -> Iterator[dict[str, Any]]:
    scorer, registry, now_us = lab.system.scorer, lab.system.models, lab.system.clock.now_us
    active = Deployed(registry.deployed.shadow or registry.deployed.active)
    serial = 0

    def ask_ms(size: int, deployed: Deployed) -> float:
        nonlocal serial
        registry.use(deployed)
        users = [1 + (serial + n) % 900 for n in range(size)]
        candidates = [
            Candidate(f"round-{serial + n}", str(user), str(user + 1), 12_345, now_us())
            for n, user in enumerate(users)
        ]
        serial += size
        started = time.perf_counter()
        scorer.decide(candidates)
        took_s = time.perf_counter() - started
        for each in candidates:
            scorer.cancel(each)
        return 1e3 * took_s

    ways = {"with": active, "without": Deployed()}
    took: dict[tuple[int, str], list[float]] = {(n, way): [] for n in ROUNDS for way in ways}
    for _ in range(max(4, asked // 75)):
        for size in ROUNDS:
            for _ in range(max(ROUNDS) // size):  # a large round leaves a cold cache to the next
                for way, deployed in ways.items():
                    took[size, way].append(ask_ms(size, deployed))
    registry.use(active)
    alone_ms = float(np.median(took[1, "with"]))
    for size in ROUNDS:
        whole_ms, without_ms = (float(np.median(took[size, way])) for way in ways)
        yield {
            "what": "rounds",
            "model": name,
            "round": size,
            "rounds": len(took[size, "with"]),
            "gate_ms_p50": round(whole_ms / size, 4),
            "added_ms_p50": round((whole_ms - without_ms) / size, 4),
            "ratio": round(whole_ms / size / alone_ms, 3),
            "round_ms_p50": round(whole_ms, 3),
        }


def _best(call: Callable[[], Any], quick: bool) -> tuple[float, Any]:
    taken, made = [], None
    for _ in range(1 if quick else _ROUNDS):
        started = time.perf_counter()
        made = call()
        taken.append(time.perf_counter() - started)
    return min(taken), made


def _short(value: Any) -> Any:
    return round(float(value), 4) if isinstance(value, float | np.floating) else value
