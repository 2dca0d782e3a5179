"""The lab's rules: one versioned document that every scorer follows, and a history of its changes.

The document lies in coordination and holds its own last change whole: who made it, of which rules,
when and why. Before it is replaced, that change is in the history for sure; so a crash at any point
leaves no version of the rules out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import (
    Conflict,
    InvalidSetting,
    StorageCorrupt,
    StoreError,
    Unavailable,
)
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.tables import RULE_CHANGES
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.wide_store import Row, WideStore

DOCUMENT = "fraud_rules"
BOOK = "rules"
BY_SETTINGS = "system:settings"
_OPEN_TRIES_MAX = 20
_logger = logging.getLogger(__name__)
Use = Callable[[RuleSettings], None]


class Change(msgspec.Struct, frozen=True):
    """A version of the rules, and how it came to be. ``before``: the rules that it replaced, None
    for the first. ``changed_by``: a user id, or ``BY_SETTINGS``.
    """

    rules: RuleSettings
    before: RuleSettings | None
    changed_by: str
    changed_at_us: int
    reason: str

    @property
    def version(self) -> int:
        return self.rules.version


_decode = msgspec.json.Decoder(Change).decode


class RuleBook:
    """Opens the book, and begins it with ``first`` where there is none. Then it is followed until
    the coordination is closed: ``follow`` says who is told.

    ``given``: values that somebody set on purpose for this process. They count as long as no person
    has changed the rules; from then on the book does, and what differs is logged.
    """

    def __init__(
        self,
        coordination: Coordination,
        store: WideStore,
        clock: Clock,
        first: RuleSettings,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self._coordination = coordination
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._uses: list[Use] = []
        self._newest = self._open(first, given or {})
        coordination.watch_document(DOCUMENT, lambda body, _: self._take(_read(body)))
        self._take(self._stored()[0])  # a change between the reading and the watch

    @property
    def rules(self) -> RuleSettings:
        """Those in use in this process; no I/O."""
        return self._newest.rules

    def follow(self, use: Use) -> None:
        """``use`` is told the rules, now and after each change, from any thread."""
        with self._lock:
            self._uses.append(use)
            use(self.rules)

    def read(self) -> Change:
        """The newest, from where all processes read them."""
        newest = self._stored()[0]
        self._take(newest)
        return newest

    def change(self, version: int, values: Mapping[str, Any], by: str, reason: str) -> Change:
        """Replace ``values`` of the rules, durable when it returns. Nothing happens where they are
        so already. Conflict where ``version`` is not the newest: of two changes of one version one
        is made. Unavailable where the history cannot be kept; then nothing was changed.
        """
        stored, document_version = self._stored()
        if stored.version != version:
            raise _changed_meanwhile(version, stored.version)
        after = msgspec.structs.replace(stored.rules, **values)
        if after == stored.rules:
            return stored
        after = msgspec.structs.replace(after, version=version + 1)
        self._keep(stored)
        change = Change(after, stored.rules, by, self._clock.now_us(), reason)
        try:
            self._coordination.write_document(
                DOCUMENT, msgspec.json.encode(change), document_version
            )
        except Conflict:
            raise _changed_meanwhile(version, version + 1) from None
        self._take(change)
        with suppress(Unavailable, StoreError):  # the next change, or reader, does it otherwise
            self._keep(change)
        return change

    def history(self, before: int | None, changes_max: int) -> list[Change]:
        """Versions below ``before`` (None: all), the newest first."""
        newest = self.read()
        last = newest.version if before is None else min(before - 1, newest.version)
        versions = range(last, max(0, last - changes_max), -1)
        kept = self._store.fetch(RULE_CHANGES, [(BOOK, -version) for version in versions])
        found = {-key[1]: _decode(row["change"]) for key, row in kept.items()}
        found.setdefault(newest.version, newest)
        return [found[version] for version in versions if version in found]

    # -- inside -----------------------------------------------------------------------------------

    def _stored(self) -> tuple[Change, int]:
        """The document, and the version that coordination gave it."""
        found = self._coordination.read_document(DOCUMENT)
        if found is None:
            raise StorageCorrupt(
                "the fraud rules are not there any more", place=DOCUMENT,
                remedy="Open the lab again: it begins the book anew.",
            )  # fmt: skip
        return _read(found[0]), found[1]

    def _take(self, newest: Change) -> None:
        with self._lock:
            if newest.version <= self._newest.version:
                return
            self._newest = newest
            _logger.info("fraud rules: version %d, by %s", newest.version, newest.changed_by)
            for use in self._uses:
                use(newest.rules)

    def _keep(self, change: Change) -> None:
        """In the history, once: what is there is never written again."""
        row: Row = {
            "book": BOOK,
            "newest_first": -change.version,
            "change": msgspec.json.encode(change).decode(),
        }
        self._store.insert_if_absent(RULE_CHANGES, [row])

    def _open(self, first: RuleSettings, given: Mapping[str, Any]) -> Change:
        for attempt in range(_OPEN_TRIES_MAX):
            try:
                found = self._coordination.read_document(DOCUMENT)
                if found is None:
                    return self._begin(first)
                stored = _read(found[0])
                wanted = msgspec.structs.replace(stored.rules, **given)
                if wanted == stored.rules:
                    return stored
                if stored.changed_by != BY_SETTINGS:
                    _say_what_is_not_used(stored, given)
                    return stored
                return self._replace_by_settings(stored, found[1], wanted)
            except Conflict:  # another process was faster
                if attempt == _OPEN_TRIES_MAX - 1:
                    raise
        raise Conflict("the fraud rules change too fast", place=DOCUMENT)

    def _begin(self, first: RuleSettings) -> Change:
        now_us = self._clock.now_us()
        kept = self._store.partition(RULE_CHANGES, (BOOK,), rows_max=1)
        if kept:
            last = _decode(kept[0]["change"])
            rules = msgspec.structs.replace(last.rules, version=last.version + 1)
            change = Change(rules, last.rules, BY_SETTINGS, now_us, "the document was lost")
        else:
            rules = msgspec.structs.replace(first, version=1)
            change = Change(rules, None, BY_SETTINGS, now_us, "the lab's settings")
        self._coordination.write_document(DOCUMENT, msgspec.json.encode(change), None)
        return change

    def _replace_by_settings(
        self, stored: Change, document_version: int, wanted: RuleSettings
    ) -> Change:
        self._keep(stored)
        change = Change(
            msgspec.structs.replace(wanted, version=stored.version + 1),
            stored.rules,
            BY_SETTINGS,
            self._clock.now_us(),
            "the lab was opened with other settings",
        )
        self._coordination.write_document(DOCUMENT, msgspec.json.encode(change), document_version)
        return change


def _read(body: bytes) -> Change:
    try:
        return _decode(body)
    except (msgspec.DecodeError, InvalidSetting) as error:
        raise StorageCorrupt(f"the fraud rules cannot be read: {error}", place=DOCUMENT) from error


def _changed_meanwhile(version: int, newest: int) -> Conflict:
    return Conflict(
        f"the rules have version {newest} by now, not {version}",
        place="version",
        remedy="Read them again (GET /rules), and repeat the change if it is still right.",
    )


def _say_what_is_not_used(stored: Change, given: Mapping[str, Any]) -> None:
    differing: Sequence[str] = [
        f"{name}={value!r}" for name, value in given.items() if getattr(stored.rules, name) != value
    ]
    _logger.warning(
        "the fraud rules were last changed by %s (version %d); settings not used: %s",
        stored.changed_by,
        stored.version,
        ", ".join(differing),
    )
