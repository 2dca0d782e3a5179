"""Which trained models are asked: one versioned document that every scorer follows.

A model's bytes lie in the wide store under their digest, in parts; the document in coordination
only names it, so it stays small. First in shadow: the model is asked and its scores are stored, but
it decides nothing. Then it may be promoted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import (
    BadInput,
    Conflict,
    PaytmLabError,
    StorageCorrupt,
    Unavailable,
)
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud import history, model_file
from paytm_lab.fraud.array_models import live_model
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.registry import Deployed, Model, ModelInput, ModelRegistry
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.tables import FEATURES, MODELS, RULE_CHANGES
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.wide_store import Row, WideStore

DOCUMENT = "fraud_models"
BOOK = "models"
RETRY_US = 1_000_000
PART_BYTES = 16 * 1024  # far below what a Cassandra takes in one statement by default
_logger = logging.getLogger(__name__)


class Named(msgspec.Struct, frozen=True):
    """A model as the document names it. ``thresholds`` may differ from the file's own."""

    id: str
    digest: str
    thresholds: Thresholds
    needs_history: bool = False


class Deployment(msgspec.Struct, frozen=True):
    """Version 0: no model was ever deployed."""

    version: int = 0
    active: Named | None = None
    shadow: Named | None = None
    changed_by: str = ""
    changed_at_us: int = 0


_decode = msgspec.json.Decoder(Deployment).decode


class ModelBook:
    """Opens the book and follows it: ``registry`` holds what it says, in every process.

    A model that cannot be read here is one that fails: in force the scorer is down, in shadow there
    is no score. Whoever asks it next has it read again, at most once in ``RETRY_US``.
    """

    def __init__(
        self, coordination: Coordination, store: WideStore, clock: Clock, registry: ModelRegistry
    ) -> None:
        self._coordination = coordination
        self._store = store
        self._clock = clock
        self._registry = registry
        self._lock = threading.Lock()
        self._version = 0
        self._loaded: dict[str, ModelFile] = {}
        coordination.watch_document(DOCUMENT, lambda body, _: self._take(_read(body)))
        self._take(self.read())

    def read(self) -> Deployment:
        """The newest, from where all processes read it."""
        found = self._coordination.read_document(DOCUMENT)
        return Deployment() if found is None else _read(found[0])

    def deploy(
        self,
        model: ModelFile,
        *,
        shadow: bool = True,
        thresholds: Thresholds | None = None,
        by: str = "lab",
    ) -> Deployment:
        """Ask this model too, from now on, in every process; in shadow unless told otherwise. The
        model in its place before goes. ``thresholds``: instead of the file's own.

        BadInput where it is no sound model, needs what a live scorer does not know, or is another
        model under an id that is deployed. Conflict where somebody else deployed meanwhile.
        """
        body = model_file.encode(model)
        needs_history = live_model(model).needs_history
        used = thresholds or model.thresholds
        model_file.check_thresholds(used)
        before = self.read()
        named = Named(model.id, model.digest, used, needs_history)
        for other in (before.active, before.shadow):
            if other is not None and other.id == named.id and other.digest != named.digest:
                raise BadInput(
                    f"another model {named.id} is deployed",
                    place="deploy",
                    remedy="Give this one a new version.",
                )
        in_use = [each for each in (before.active, before.shadow) if each is not None]
        if needs_history and not any(each.needs_history for each in in_use):
            self._rebuild_histories()  # nobody has kept them
        self._keep_body(named.digest, body)
        place = {"shadow": named} if shadow else {"active": named, "shadow": None}
        return self._write(before, by, **place)

    def promote(self, by: str = "lab") -> Deployment:
        """The model in shadow decides from now on. BadInput where there is none."""
        before = self.read()
        if before.shadow is None:
            raise BadInput(
                "no model is in shadow", place="promote", remedy="Deploy one with shadow=True."
            )
        return self._write(before, by, active=before.shadow, shadow=None)

    def withdraw(self, by: str = "lab") -> Deployment:
        """Ask no model from now on, neither to decide nor in shadow."""
        return self._write(self.read(), by, active=None, shadow=None)

    def history(self, changes_max: int = 100) -> list[Deployment]:
        """Deployments before the one in force, and it; the newest first."""
        rows = self._store.partition(RULE_CHANGES, (BOOK,), rows_max=changes_max)
        newest = self.read()
        kept = [_decode(row["change"]) for row in rows]
        return [newest, *(each for each in kept if each.version < newest.version)][:changes_max]

    # -- inside -----------------------------------------------------------------------------------

    def _write(self, before: Deployment, by: str, **places: Named | None) -> Deployment:
        found = self._coordination.read_document(DOCUMENT)
        stored = Deployment() if found is None else _read(found[0])
        if stored.version != before.version:
            raise _meanwhile()
        after = msgspec.structs.replace(
            stored,
            version=stored.version + 1,
            changed_by=by,
            changed_at_us=self._clock.now_us(),
            **places,
        )
        if stored.version:
            row: Row = {
                "book": BOOK,
                "newest_first": -stored.version,
                "change": msgspec.json.encode(stored).decode(),
            }
            self._store.insert_if_absent(RULE_CHANGES, [row])
        try:
            self._coordination.write_document(
                DOCUMENT, msgspec.json.encode(after), None if found is None else found[1]
            )
        except Conflict:
            raise _meanwhile() from None
        self._take(after)
        return after

    def _take(self, newest: Deployment) -> None:
        with self._lock:
            if newest.version <= self._version:
                return
            self._version = newest.version
            used = [each for each in (newest.active, newest.shadow) if each is not None]
            digests = {each.digest for each in used}
            self._loaded = {d: file for d, file in self._loaded.items() if d in digests}
            self._registry.use(Deployed(self._model(newest.active), self._model(newest.shadow)))
            _logger.info(
                "fraud models: active %s, shadow %s (version %d, by %s)",
                newest.active and newest.active.id,
                newest.shadow and newest.shadow.id,
                newest.version,
                newest.changed_by,
            )

    def _model(self, named: Named | None) -> Model | None:
        if named is None:
            return None
        try:
            if named.digest not in self._loaded:
                self._loaded = {named.digest: self._fetch(named.digest), **self._loaded}
            file = self._loaded[named.digest]
            return live_model(msgspec.structs.replace(file, thresholds=named.thresholds))
        except PaytmLabError as error:
            _logger.warning("model %s cannot be used: %s", named.id, error)
            return self._missing(named, str(error))

    def _missing(self, named: Named, why: str) -> Model:
        """In place of a model that could not be read: fails, and has it read again."""
        tried_us = self._clock.now_us()

        def predict(_: Sequence[ModelInput]) -> list[float]:
            with self._lock:
                if self._clock.now_us() - tried_us >= RETRY_US:
                    now = self.read()
                    if now.version == self._version:
                        active, shadow = self._model(now.active), self._model(now.shadow)
                        self._registry.use(Deployed(active, shadow))
            raise Unavailable(f"the model {named.id} cannot be read: {why}", place=MODELS)

        return Model(named.id, predict, named.thresholds)

    def _fetch(self, digest: str) -> ModelFile:
        parts = self._store.partition(MODELS, (digest,))
        if not parts:
            raise Unavailable(f"the model {digest} is not in the store", place=MODELS)
        file = model_file.decode(b"".join(row["body"] for row in parts), MODELS)
        if file.digest != digest:
            raise StorageCorrupt(f"the model {digest} is another one", place=MODELS)
        return file

    def _keep_body(self, digest: str, body: bytes) -> None:
        for part, start in enumerate(range(0, len(body), PART_BYTES)):
            row: Row = {
                "model": digest, "part": part, "body": body[start : start + PART_BYTES],
            }  # fmt: skip
            self._store.insert_if_absent(MODELS, [row])

    def _rebuild_histories(self) -> None:
        """From all payments that were scored and made. What completes between this and the
        deployment is left out of the sums.
        """
        history.rebuild(
            self._store,
            (
                Candidate(
                    row["payment_id"], row["user_id"], row["to_user_id"], row["amount"],
                    row["at_us"],
                )
                for row in self._store.scan(FEATURES)
                if row.get("made") != 0  # rows of before this was kept say nothing
            ),
        )  # fmt: skip


def _read(body: bytes) -> Deployment:
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise StorageCorrupt(f"the models cannot be read: {error}", place=DOCUMENT) from error


def _meanwhile() -> Conflict:
    return Conflict(
        "somebody else deployed a model meanwhile",
        place="deploy",
        remedy="Look at lab.models.read(), and repeat it if it is still right.",
    )
