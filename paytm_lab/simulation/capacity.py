"""How many shards a load needs, how busy they are, what is left when one is lost, and how sure.

The answer comes from the model of the writers (``queueing.group_commit``), fitted on a measured
run, with every shard on a host of its own. It is a simulation, so everything has its interval; each
replication draws its own payments and, where refits are given, its own fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing.estimates import Estimate, interval
from paytm_lab.simulation.queueing.fitting import refits
from paytm_lab.simulation.queueing.group_commit import (
    SHARDS_MAX,
    Flows,
    WriterModel,
    open_loop,
    places,
    poisson_times,
)
from paytm_lab.simulation.queueing.theory import count_of, positive

__all__ = ["Plan", "Setting", "legs_per_payment", "plan", "refits"]

_PAYMENTS_MIN, _PAYMENTS_MAX = 10_000, 400_000
_BATCHES = 150  # of the busiest shard in a run: latency is made by batches, not by payments
_FLOOR_LOAD = 0.005
# So many shards stand for all where there are more, each with the load it would have. The busiest
# then carries more of all payments than it would, so the p99 errs on the safe side.
_SHARDS_SIMULATED = 24


@dataclass(frozen=True, slots=True)
class Setting:
    """What a plan supposes. ``cross_shard_share``: None for random pairs, 1 - 1/N. ``hottest``: the
    busiest shard over the mean. ``lose_one``: the target must hold with a shard gone, its users
    carried by the others. ``compared``: measured over predicted throughput, of loads that the model
    was held against; where the lab did less than predicted, the plan is for so much more.
    """

    target_payments_per_s: float
    p99_ms: float
    cross_shard_share: float | None = None
    hottest: float = 1.2
    lose_one: bool = True
    level: float = 0.95
    compared: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for ratio in self.compared:
            positive("measured over predicted", ratio)
        positive("target_payments_per_s", self.target_payments_per_s)
        positive("p99_ms", self.p99_ms)
        if self.cross_shard_share is not None and not 0 <= self.cross_shard_share <= 1:
            raise BadInput(
                f"cross_shard_share = {self.cross_shard_share!r:.40} is no share",
                remedy="Give a number from 0 to 1, or None for random pairs.",
            )
        if not 1 <= self.hottest < math.inf:
            raise BadInput(
                f"hottest = {self.hottest!r:.40} cannot be",
                remedy="Give the busiest shard over the mean: 1 (all alike) or more.",
            )

    @property
    def safety(self) -> float:
        """The model's promises over what the lab did, where it was furthest short of them."""
        return 1 / min((1.0, *self.compared))

    @property
    def planned_per_s(self) -> float:
        return self.target_payments_per_s * self.safety

    def crossing(self, shards: int) -> float:
        if shards == 1:
            return 0.0
        return 1 - 1 / shards if self.cross_shard_share is None else self.cross_shard_share

    def hottest_share(self, shards: int) -> float:
        """Of all that is done, by the busiest shard."""
        return min(1.0, self.hottest / shards)


@dataclass(frozen=True, slots=True)
class Plan:
    """``shards``: the answer. ``utilisation``: of the busiest shard, operations over the most it
    can do (0..1); ``p99_ms`` with its interval; both again with one shard lost. ``headroom``: how
    much more than what was planned for all shards bear within ``p99_ms`` (0.5: half as much again).
    All of them under ``setting.planned_per_s``: the target, times the safety factor. ``sure``:
    share of the replications in which every demand is met; they hold the model's noise, not its
    error. ``tried``: a row for each number of shards that was looked at, for a chart.
    """

    setting: Setting
    shards: int
    utilisation: float
    utilisation_one_lost: float
    p99_ms: Estimate
    p99_ms_one_lost: Estimate | None
    headroom: float
    sure: float
    replications: int
    tried: list[dict[str, Any]]

    def __str__(self) -> str:
        setting, lost = self.setting, self.p99_ms_one_lost
        lines = [
            f"{self.shards} shards for {setting.target_payments_per_s:,.0f} payments/s"
            f" at p99 <= {setting.p99_ms:.4g} ms",
            f"  all there: busiest {self.utilisation:.0%} busy, p99 {self.p99_ms} ms,"
            f" headroom {self.headroom:.0%}",
        ]
        if lost is not None:
            lines.append(
                f"  one lost:  busiest {self.utilisation_one_lost:.0%} busy, p99 {lost} ms"
            )
        lines.append(
            f"  met in {self.sure:.0%} of {self.replications} replications, which hold the model's"
            " noise, not its error"
        )
        lines.append(f"  {self.error}")
        return "\n".join(lines)

    @property
    def error(self) -> str:
        """How far the model was from the lab, and what the plan makes of it."""
        setting = self.setting
        if not setting.compared:
            return "its error: unknown here, as no load of the lab was held against it"
        low, high = min(setting.compared), max(setting.compared)
        seen = f"its error: the lab did {low:.2f} to {high:.2f} of the throughput predicted"
        if setting.safety == 1:
            return f"{seen}, never less, so the target itself is planned for"
        return (
            f"{seen}, so {setting.planned_per_s:,.0f}/s are planned for, {setting.safety:.2f} times"
            " the target"
        )


def legs_per_payment(cross_shard_share: float) -> float:
    """Operations of writers a payment: a debit; of one that crosses, credit and completion too."""
    return 1 + 2 * cross_shard_share


def plan(
    target_payments_per_s: float,
    p99_ms: float,
    models: WriterModel | Sequence[WriterModel],
    *,
    cross_shard_share: float | None = None,
    hottest: float = 1.2,
    lose_one: bool = True,
    level: float = 0.95,
    replications: int = 12,
    shards_max: int = 256,
    seed: int = 7,
    compared: Sequence[float] = (),
) -> Plan:
    """The smallest number of shards whose p99 stays within ``p99_ms`` milliseconds, by the upper
    end of its interval, at ``target_payments_per_s``; also with one shard lost unless told not to.

    ``models``: a fit, or a fit and its refits (``capacity.refits``), whose spread then is part of
    every interval. Shards are on hosts of their own. On a single shard nothing crosses, so one may
    bear what two or three do not. ``compared``: measured over predicted throughput under other
    loads (``experiments.rates``); the plan is then for as much more than the target as the lab was
    short of the model. The same seed gives the same plan. Raises
    BadInput where no number of shards up to ``shards_max`` will do, and says why.
    """
    setting = Setting(
        target_payments_per_s, p99_ms, cross_shard_share, hottest, lose_one, level, tuple(compared)
    )
    several = [models] if isinstance(models, WriterModel) else list(models)
    if not several:
        raise BadInput("no model to plan with", remedy="Fit one: queueing.fitting.fit.")
    count_of("replications", replications, 1_000)
    count_of("shards_max", shards_max, SHARDS_MAX)
    search = _Search(setting, [m.on_own_hosts() for m in several], max(3, replications), seed)
    search.require_possible()
    found = search.smallest(shards_max)
    return search.plan(found)


class _Search:
    """Looks at numbers of shards, and remembers what it saw."""

    def __init__(
        self, setting: Setting, models: list[WriterModel], replications: int, seed: int
    ) -> None:
        self.setting, self.models, self.seed = setting, models, seed
        self.replications = replications
        self._p99: dict[tuple[int, float], list[float]] = {}

    def utilisation(self, shards: int, per_s: float, model: WriterModel | None = None) -> float:
        """Operations of the busiest shard over the most it can do."""
        legs = legs_per_payment(self.setting.crossing(shards))
        asked = per_s * legs * self.setting.hottest_share(shards)
        return asked / (model or self.models[0]).operations_per_s_max()

    def p99_ms(self, shards: int, per_s: float) -> list[float]:
        """One value a replication; inf where the busiest shard cannot bear its load at all."""
        key = (shards, per_s)
        if key not in self._p99:
            children = np.random.SeedSequence(self.seed).spawn(self.replications)
            self._p99[key] = [
                self._once(shards, per_s, self.models[i % len(self.models)], child)
                for i, child in enumerate(children)
            ]
        return self._p99[key]

    def _once(
        self, shards: int, per_s: float, model: WriterModel, child: np.random.SeedSequence
    ) -> float:
        if self.utilisation(shards, per_s, model) >= 1:
            return math.inf
        rng = np.random.default_rng(child)
        standing = min(shards, _SHARDS_SIMULATED)
        simulated_per_s = per_s * standing / shards
        hot = self.setting.hottest_share(standing)
        weights = np.full(standing, (1 - hot) / max(standing - 1, 1))
        weights[0] = hot
        batch_s = model.fixed_s + model.commit_s + model.gather_s
        free = max(0.05, 1 - self.utilisation(shards, per_s, model))
        wanted = simulated_per_s * batch_s * _BATCHES / free
        payments = round(min(max(wanted, _PAYMENTS_MIN), _PAYMENTS_MAX))
        where = places(payments, standing, self.setting.crossing(shards), rng, weights)
        due = poisson_times(payments, simulated_per_s, rng)
        seen: Flows = open_loop(model, where, due, rng)
        return seen.latency_ms(0.99)

    def meets(self, shards: int) -> bool:
        return all(self._within(count) for count in self._states(shards))

    def _states(self, shards: int) -> list[int]:
        return [shards, shards - 1] if self.setting.lose_one else [shards]

    def _within(self, shards: int, per_s: float | None = None) -> bool:
        if shards < 1:
            return False
        values = self.p99_ms(shards, per_s or self._target)
        if not all(map(math.isfinite, values)):
            return False
        return interval(values, self.setting.level).high <= self.setting.p99_ms

    def require_possible(self) -> None:
        """At next to no load the p99 is what commits take; no number of shards makes it less."""
        shards = 8
        one = self.models[0].operations_per_s_max()
        idle = _FLOOR_LOAD * one * shards / legs_per_payment(self.setting.crossing(shards))
        floor = float(np.mean(self.p99_ms(shards, idle)))
        if floor > self.setting.p99_ms:
            raise BadInput(
                f"no number of shards reaches a p99 of {self.setting.p99_ms:g} ms: idle ones take"
                f" {floor:.1f} ms",
                remedy="Allow more time, make commits faster, or let fewer payments cross shards.",
            )

    def smallest(self, shards_max: int) -> int:
        """By doubling, then halving: more shards are never slower (up to what crosses)."""
        start = 2 if self.setting.lose_one else 1
        while start < shards_max and self.utilisation(start, self._target) >= 1:
            start += 1
        high = start
        while not self.meets(high):
            if high >= shards_max:
                raise BadInput(
                    f"{self._target:,.0f} payments/s at p99 <= {self.setting.p99_ms:g} ms need more"
                    f" than {shards_max} shards",
                    remedy="Allow more shards (shards_max) or time, or spread the hottest users.",
                )
            high = min(high + max(1, high - start), shards_max)
        low = start
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.meets(middle) else (middle + 1, high)
        return high

    @property
    def _target(self) -> float:
        return self.setting.planned_per_s

    def plan(self, shards: int) -> Plan:
        """All there is to say about this number, and its neighbours for the chart."""
        level = self.setting.level
        around = range(max(1, shards - 3), min(shards + 3, SHARDS_MAX) + 1)
        for count in around:
            self.p99_ms(count, self._target)
        met = np.ones(self.replications, dtype=bool)
        for count in self._states(shards):
            met &= np.asarray(self.p99_ms(count, self._target)) <= self.setting.p99_ms
        lost = self._states(shards)[1:]
        return Plan(
            self.setting,
            shards,
            self.utilisation(shards, self._target),
            self.utilisation(shards - 1, self._target) if shards > 1 else math.inf,
            interval(self.p99_ms(shards, self._target), level),
            interval(self.p99_ms(lost[0], self._target), level) if lost else None,
            self._headroom(shards),
            float(met.mean()),
            self.replications,
            [self._row(n) for n in sorted({n for n, per_s in self._p99 if per_s == self._target})],
        )

    def _headroom(self, shards: int) -> float:
        """By halving between the target and what the busiest shard can do at most."""
        low, high = 1.0, 1 / self.utilisation(shards, self._target)
        for _ in range(5):
            middle = (low + high) / 2
            within = self._within(shards, self._target * middle)
            low, high = (middle, high) if within else (low, middle)
        return low - 1

    def _row(self, shards: int) -> dict[str, Any]:
        values = self.p99_ms(shards, self._target)
        finite = all(map(math.isfinite, values))
        seen = interval(values, self.setting.level) if finite else None
        return {
            "shards": shards,
            "utilisation": self.utilisation(shards, self._target),
            "p99_ms": seen.value if seen else math.inf,
            "p99_ms_low": seen.low if seen else math.inf,
            "p99_ms_high": seen.high if seen else math.inf,
            "within": self._within(shards),
        }
