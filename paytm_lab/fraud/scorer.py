"""The scorer: facts gathered from the cache and the lists, judged by the rules.

``decide`` answers before posting (the gate), on counts reserved atomically. ``score`` answers after
posting, when nothing can be refused any more and the counts are only read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from paytm_lab.core.errors import PaytmLabError, StoreError, Unavailable
from paytm_lab.core.fraud import Candidate, Decision, Verdict
from paytm_lab.fraud.history import Histories, users_of
from paytm_lab.fraud.lists import FraudLists
from paytm_lab.fraud.registry import Deployed, Model, ModelInput, ModelRegistry, scores_of
from paytm_lab.fraud.rules import (
    DEFAULT_MODEL,
    Facts,
    RuleSettings,
    Thresholds,
    at_least,
    blocking_rule,
    judge,
)
from paytm_lab.ports.cache import Cache, Hit
from paytm_lab.ports.wide_store import WideStore

_VERDICT_TTL_S_MIN = (
    600.0  # a retry of the same payment comes within minutes, whatever the window is
)
_encode = msgspec.json.Encoder().encode
_decode_verdict = msgspec.json.Decoder(Verdict).decode


class Scored(NamedTuple):
    """A verdict with what it was made from; None where a part was not asked. ``rules_version``: of
    the rules that judged. ``shadow_model``: the model that was only watched, and its score; None
    where it gave none.
    """

    verdict: Verdict
    velocity_count: int | None
    model_score: float | None
    rules_version: int = 0
    shadow_model: str = ""
    shadow_score: float | None = None


_decode_scored = msgspec.json.Decoder(Scored).decode


class Preview(NamedTuple):
    """What would be said of a payment now, with all that it would be said by. ``thresholds``: of
    the model that was asked; ``model_why``: what made its score, in words.
    """

    verdict: Verdict
    facts: Facts
    settings: RuleSettings
    thresholds: Thresholds | None
    model_why: str = ""


def velocity_key(user_id: str) -> str:
    return f"fraud:velocity:{user_id}"


def verdict_key(payment_id: str) -> str:
    return f"fraud:verdict:{payment_id}"


def scored_key(payment_id: str) -> str:
    return f"fraud:scored:{payment_id}"


class Scorer:
    """Implements ``ports.fraud_gate.FraudGate``. Thread-safe: its state is in the cache and in
    whole-replaced sets and ``settings``: each call judges by those that it found when it began.

    Raises core.errors.Unavailable when the cache, the active model, or the store of the histories
    that it needs does not answer; what to do then (review, allow, refuse) is the caller's setting.
    A shadow model that fails gives no score, and changes nothing.
    """

    def __init__(
        self,
        settings: RuleSettings,
        cache: Cache,
        registry: ModelRegistry | None = None,
        lists: FraudLists | None = None,
        store: WideStore | None = None,
    ) -> None:
        self.settings = settings
        self.registry = registry if registry is not None else ModelRegistry()
        self.lists = lists if lists is not None else FraudLists()
        self._cache = cache
        self._store = store

    def use(self, settings: RuleSettings) -> None:
        """Judge by these from now on."""
        self.settings = settings

    def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """See FraudGate. A payment that is blocked for any reason keeps no reservation. So many
        candidates are told what each would be told if they were asked about one after another.
        """
        stored = self._cache.get_many([verdict_key(c.payment_id) for c in candidates])
        verdicts = {
            c.payment_id: _decode_verdict(body)
            for c, body in zip(candidates, stored, strict=True)
            if body is not None
        }
        new = list({c.payment_id: c for c in candidates if c.payment_id not in verdicts}.values())
        if new:
            settings = self.settings
            deployed = self.registry.deployed
            deployed, histories = self._histories(new, deployed)
            scored = self._decide_new(new, settings, deployed, histories)
            fresh = {name: each.verdict for name, each in scored.items()}
            values = {verdict_key(name): _encode(verdict) for name, verdict in fresh.items()}
            if deployed != Deployed():  # its event will carry only the decision
                values |= {scored_key(name): _encode(each) for name, each in scored.items()}
            self._cache.set_many(values, max(settings.velocity_window_s, _VERDICT_TTL_S_MIN))
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
        deployed, histories = self._histories(candidates, self.registry.deployed)
        if not deployed.needs_history:
            return self._judge_all(candidates, counts, settings, deployed, histories)
        # Each is scored on what came before it, the earlier ones of this call included.
        scored: dict[int, Scored] = {}
        for i in order:
            scored[i] = self._judge_all(
                [candidates[i]], [counts[i]], settings, deployed, histories
            )[0]
            histories.note(candidates[i])
        return [scored[i] for i in range(len(candidates))]

    def decided(self, payment_ids: Sequence[str]) -> list[Scored | None]:
        """What ``decide`` made its verdicts from, while the cache has it and a model was deployed;
        in one round trip, None for what is not known (any more).
        """
        if self.registry.deployed == Deployed():
            return [None] * len(payment_ids)
        try:
            stored = self._cache.get_many([scored_key(each) for each in payment_ids])
        except Unavailable:
            return [None] * len(payment_ids)
        return [None if body is None else _decode_scored(body) for body in stored]

    def remember(self, payments: Sequence[Candidate]) -> None:
        """Add payments that were made to the histories that models look at, if one does."""
        deployed = self.registry.deployed
        if payments and deployed.needs_history:
            _, histories = self._histories(payments, deployed)
            for each in sorted(payments, key=lambda c: (c.at_us, c.payment_id)):
                histories.note(each)
            histories.write()

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
        deployed = self.registry.deployed
        model = deployed.active
        thresholds = None if model is None else model.thresholds
        deployed, histories = self._histories(candidates, deployed)
        judged = self._judge_all(candidates, counts, settings, deployed, histories)
        return [
            Preview(
                scored.verdict,
                _facts(c, scored.velocity_count, scored.model_score, frozen, mules),
                settings,
                thresholds,
                "" if model is None else model.why(_input(c, scored.velocity_count, histories)),
            )
            for c, scored in zip(candidates, judged, strict=True)
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

    def _histories(
        self, candidates: Sequence[Candidate], deployed: Deployed
    ) -> tuple[Deployed, Histories]:
        """Of all who take part; empty where no model asks for them. Where the store does not answer
        a model that is only watched goes unasked; one that decides makes it Unavailable.
        """
        if not deployed.needs_history or self._store is None:
            return deployed, Histories(None, ())
        try:
            return deployed, Histories(self._store, users_of(candidates))
        except (StoreError, Unavailable) as error:
            if deployed.active is not None and deployed.active.needs_history:
                raise Unavailable(f"histories: {error}", place="fraud histories") from error
            return deployed._replace(shadow=None), Histories(None, ())

    def _judge_all(
        self,
        candidates: Sequence[Candidate],
        counts: Sequence[int | None],
        settings: RuleSettings,
        deployed: Deployed,
        histories: Histories,
        together: bool = False,
    ) -> list[Scored]:
        """``together``: each knows those before it, as if they were made; but for those that a rule
        blocks before any model is asked.
        """
        frozen, mules = self.lists.frozen, self.lists.mules
        version = settings.version
        model, shadow = deployed
        if model is None and shadow is None:
            return [
                Scored(judge(_facts(c, n, None, frozen, mules), settings), n, None, version)
                for c, n in zip(candidates, counts, strict=True)
            ]
        if not together or not deployed.needs_history:
            inputs = [_input(c, n, histories) for c, n in zip(candidates, counts, strict=True)]
        else:
            inputs, before = [], histories.copy()
            for c, n in zip(candidates, counts, strict=True):
                inputs.append(_input(c, n, before))
                if not blocking_rule(_facts(c, n, None, frozen, mules), settings):
                    before.note(c)
        scores: Sequence[float | None] = [None] * len(inputs)
        name, thresholds = DEFAULT_MODEL, None
        if model is not None:
            scores, name, thresholds = scores_of(model, inputs), model.name, model.thresholds
        return [
            Scored(
                judge(_facts(c, n, s, frozen, mules), settings, model=name, thresholds=thresholds),
                n,
                s,
                version,
                "" if shadow is None else shadow.name,
                watched,
            )
            for c, n, s, watched in zip(
                candidates, counts, scores, _shadow_scores(shadow, inputs), strict=True
            )
        ]

    def _decide_new(
        self,
        candidates: Sequence[Candidate],
        settings: RuleSettings,
        deployed: Deployed,
        histories: Histories,
    ) -> dict[str, Scored]:
        """By payment id. All are counted and scored at once. Where the model blocks one, what came
        after it from the same sender had been counted with a payment that is not there: it gives
        its count back and is judged again, one of each such sender at a time.
        """
        found: dict[str, Scored] = {}
        part: Sequence[Candidate] = candidates
        later: list[Candidate] = []
        while part:
            counts = self._reserve(part, settings)
            blocked: set[str] = set()
            judged = self._judge_all(part, counts, settings, deployed, histories, together=True)
            for c, scored in zip(part, judged, strict=True):
                verdict = scored.verdict
                again = c.from_user_id in blocked
                if again:
                    later.append(c)
                else:
                    found[c.payment_id] = scored
                    if verdict.decision is not Decision.BLOCK:
                        histories.note(c)
                if again or (verdict.rule == "model" and verdict.decision is Decision.BLOCK):
                    blocked.add(c.from_user_id)
                    self._cache.release(velocity_key(c.from_user_id), c.payment_id)
            first = {c.from_user_id: c for c in reversed(later)}
            part = list(first.values())
            later = [c for c in later if first[c.from_user_id] is not c]
        return found

    def _reserve(self, candidates: Sequence[Candidate], settings: RuleSettings) -> list[int | None]:
        """Each sender's count with this payment in it; one past the limit where it was not
        admitted.

        Payments that the lists block take no place in the window and are not counted (None).
        """
        window_s, limit = settings.velocity_window_s, settings.velocity_limit
        frozen, mules = self.lists.frozen, self.lists.mules
        counted = [
            c
            for c in candidates
            if not blocking_rule(_facts(c, None, None, frozen, mules), settings)
        ]
        hits = [Hit(velocity_key(c.from_user_id), c.payment_id, c.at_us) for c in counted]
        reserved = self._cache.reserve_many(hits, window_s, limit) if hits else []
        found = {
            c.payment_id: members if admitted else limit + 1
            for c, (admitted, members) in zip(counted, reserved, strict=True)
        }
        return [found.get(c.payment_id) for c in candidates]


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


def _input(c: Candidate, velocity_count: int | None, histories: Histories) -> ModelInput:
    payer, payee = histories.of(c.from_user_id), histories.of(c.to_user_id)
    return ModelInput(c, velocity_count or 0, payer, payee)


def _shadow_scores(shadow: Model | None, inputs: Sequence[ModelInput]) -> Sequence[float | None]:
    if shadow is not None:
        with suppress(PaytmLabError):
            return scores_of(shadow, inputs)
    return [None] * len(inputs)
