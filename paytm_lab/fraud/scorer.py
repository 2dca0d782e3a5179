"""The scorer: facts gathered from the cache and the lists, judged by the rules.

``decide`` answers before posting (the gate), on counts reserved atomically. ``score`` answers after
posting, when nothing can be refused any more and the counts are only read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from paytm_lab.core.fraud import Candidate, Decision, Verdict
from paytm_lab.fraud.lists import FraudLists
from paytm_lab.fraud.registry import ModelInput, ModelRegistry, scores_of
from paytm_lab.fraud.rules import (
    Facts,
    RuleSettings,
    Thresholds,
    at_least,
    blocking_rule,
    judge,
)
from paytm_lab.ports.cache import Cache, Hit

_VERDICT_TTL_S_MIN = (
    600.0  # a retry of the same payment comes within minutes, whatever the window is
)
_encode = msgspec.json.Encoder().encode
_decode_verdict = msgspec.json.Decoder(Verdict).decode


class Scored(NamedTuple):
    """A verdict with what it was made from; None where a part was not asked. ``rules_version``: of
    the rules that judged.
    """

    verdict: Verdict
    velocity_count: int | None
    model_score: float | None
    rules_version: int = 0


class Preview(NamedTuple):
    """What would be said of a payment now, with all that it would be said by. ``thresholds``: of
    the model that was asked.
    """

    verdict: Verdict
    facts: Facts
    settings: RuleSettings
    thresholds: Thresholds | None


def velocity_key(user_id: str) -> str:
    return f"fraud:velocity:{user_id}"


def verdict_key(payment_id: str) -> str:
    return f"fraud:verdict:{payment_id}"


class Scorer:
    """Implements ``ports.fraud_gate.FraudGate``. Thread-safe: its state is in the cache and in
    whole-replaced sets and ``settings``: each call judges by those that it found when it began.

    Raises core.errors.Unavailable when the cache or the active model does not answer; what to do
    then (review, allow, refuse) is the caller's setting.
    """

    def __init__(
        self,
        settings: RuleSettings,
        cache: Cache,
        registry: ModelRegistry | None = None,
        lists: FraudLists | None = None,
    ) -> None:
        self.settings = settings
        self.registry = registry if registry is not None else ModelRegistry()
        self.lists = lists if lists is not None else FraudLists()
        self._cache = cache

    def use(self, settings: RuleSettings) -> None:
        """Judge by these from now on."""
        self.settings = settings

    def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """See FraudGate. A payment that is blocked for any reason keeps no reservation."""
        stored = self._cache.get_many([verdict_key(c.payment_id) for c in candidates])
        verdicts = {
            c.payment_id: _decode_verdict(body)
            for c, body in zip(candidates, stored, strict=True)
            if body is not None
        }
        new = list({c.payment_id: c for c in candidates if c.payment_id not in verdicts}.values())
        if new:
            settings = self.settings
            scored = self._judge_all(new, self._reserve(new, settings), settings)
            self._release_blocked(new, scored)
            fresh = {c.payment_id: s.verdict for c, s in zip(new, scored, strict=True)}
            self._cache.set_many(
                {
                    verdict_key(payment_id): _encode(verdict)
                    for payment_id, verdict in fresh.items()
                },
                max(settings.velocity_window_s, _VERDICT_TTL_S_MIN),
            )
            verdicts.update(fresh)
        return [verdicts[c.payment_id] for c in candidates]

    def cancel(self, candidate: Candidate) -> None:
        self._cache.release(velocity_key(candidate.from_user_id), candidate.payment_id)
        self._cache.delete([verdict_key(candidate.payment_id)])

    def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        """Count and judge payments that are posted already, in one round trip to the cache.

        Within the call they count in the order of their business time, whatever order they came in.
        """
        settings = self.settings
        order = sorted(
            range(len(candidates)), key=lambda i: (candidates[i].at_us, candidates[i].payment_id)
        )
        hits = [
            Hit(velocity_key(c.from_user_id), c.payment_id, c.at_us)
            for c in (candidates[i] for i in order)
        ]
        counts: list[int | None] = [None] * len(candidates)
        for i, count in zip(
            order, self._cache.count_window(hits, settings.velocity_window_s), strict=True
        ):
            counts[i] = count
        return self._judge_all(candidates, counts, settings)

    def preview(self, candidates: Sequence[Candidate]) -> list[Preview]:
        """What each of them would be told if it alone were made at its ``at_us``. Nothing is
        counted or kept; one round trip to the cache for each sender.
        """
        settings = self.settings
        window_us = round(settings.velocity_window_s * 1e6)
        since_us = min((c.at_us for c in candidates), default=0) - window_us
        arrivals = {  # in order of their times
            user_id: [hit.at_us for hit in self._cache.arrivals(velocity_key(user_id), since_us)]
            for user_id in {c.from_user_id: None for c in candidates}
        }
        counts: list[int | None] = [
            1 + bisect_right(times, c.at_us) - bisect_right(times, c.at_us - window_us)
            for c in candidates
            for times in [arrivals[c.from_user_id]]
        ]
        frozen, mules = self.lists.frozen, self.lists.mules
        model = self.registry.active
        thresholds = None if model is None else model.thresholds
        return [
            Preview(
                scored.verdict,
                _facts(c, scored.velocity_count, scored.model_score, frozen, mules),
                settings,
                thresholds,
            )
            for c, scored in zip(
                candidates, self._judge_all(candidates, counts, settings), strict=True
            )
        ]

    def score_blind(self, candidates: Sequence[Candidate], floor: Decision) -> list[Scored]:
        """Judge by amount and lists alone, never milder than ``floor``: for when ``score`` is
        Unavailable.
        """
        frozen, mules = self.lists.frozen, self.lists.mules
        settings = self.settings
        return [
            Scored(
                at_least(judge(_facts(c, None, None, frozen, mules), settings), floor),
                None,
                None,
                settings.version,
            )
            for c in candidates
        ]

    def _judge_all(
        self,
        candidates: Sequence[Candidate],
        counts: Sequence[int | None],
        settings: RuleSettings,
    ) -> list[Scored]:
        frozen, mules = self.lists.frozen, self.lists.mules
        model = self.registry.active
        version = settings.version
        if model is None:
            return [
                Scored(judge(_facts(c, n, None, frozen, mules), settings), n, None, version)
                for c, n in zip(candidates, counts, strict=True)
            ]
        scores = scores_of(
            model, [ModelInput(c, n or 0) for c, n in zip(candidates, counts, strict=True)]
        )
        return [
            Scored(
                judge(
                    _facts(c, n, s, frozen, mules),
                    settings,
                    model=model.name,
                    thresholds=model.thresholds,
                ),
                n,
                s,
                version,
            )
            for c, n, s in zip(candidates, counts, scores, strict=True)
        ]

    def _reserve(self, candidates: Sequence[Candidate], settings: RuleSettings) -> list[int | None]:
        """Each sender's count with this payment in it; one past the limit where it was not
        admitted.

        Payments that the lists block take no place in the window and are not counted (None).
        """
        window_s, limit = settings.velocity_window_s, settings.velocity_limit
        frozen, mules = self.lists.frozen, self.lists.mules
        counts: list[int | None] = []
        for c in candidates:
            if blocking_rule(_facts(c, None, None, frozen, mules), settings):
                counts.append(None)
                continue
            hit = Hit(velocity_key(c.from_user_id), c.payment_id, c.at_us)
            admitted, members = self._cache.reserve(hit, window_s, limit)
            counts.append(members if admitted else limit + 1)
        return counts

    def _release_blocked(self, candidates: Sequence[Candidate], scored: Sequence[Scored]) -> None:
        for c, s in zip(candidates, scored, strict=True):
            if s.verdict.rule == "model" and s.verdict.decision is Decision.BLOCK:
                self._cache.release(velocity_key(c.from_user_id), c.payment_id)


def _facts(
    c: Candidate,
    velocity_count: int | None,
    model_score: float | None,
    frozen: frozenset[str],
    mules: frozenset[str],
) -> Facts:
    return Facts(
        c.amount_paise,
        velocity_count,
        c.from_user_id in frozen,
        bool(mules) and (c.from_user_id in mules or c.to_user_id in mules),
        model_score,
    )
