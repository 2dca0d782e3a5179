"""Named faults under a steady load: what payers heard, what the books said, how it healed.

``watch`` runs a plan of faults one after the other on an open lab and writes everything down; it
decides nothing, so what it shows on one profile it shows on the other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from paytm_lab.core.errors import BadInput, PaytmLabError, Unavailable
from paytm_lab.ledger import as_of, queries
from paytm_lab.ledger.audit import audit
from paytm_lab.simulation import faults
from paytm_lab.simulation.fault_load import (
    COMPLETED,
    NO_ANSWER,
    PENDING,
    UNKNOWN,
    FaultLoad,
)

OPENING_PAISE = 10_000_00
BURST = 12
BEFORE_S, BETWEEN_S, DEAD_S = 1.0, 0.8, 0.4
LOOK_EVERY_S = 0.4
CLOSE_WAIT_S = 0.2
BOOKS_PAUSE = 3.0  # after a look into the books, so many times as long as it took: none of the load
RECOVERY_PATIENCE_S = 30.0
CRASH_PATIENCE_S = 10.0
CAUGHT = (PENDING, UNKNOWN, NO_ANSWER)


class Planned(NamedTuple):
    """A fault for so long. A crash of the process lasts until the lab is opened again."""

    target: str
    kind: str
    seconds: float


KILLED_SLOW_CRASHED = (
    Planned("shard-2", "down", 2.0),
    Planned("shard-1", "slow", 1.5),
    Planned("process", "crash-after-leg-a", DEAD_S),
)


class Window(NamedTuple):
    """When a fault began and ended, seconds since the load's start. ``recovered_s``: when the last
    payment that it had caught was ended. ``sight``: what the fault's name promises.
    """

    name: str
    begin_s: float
    end_s: float
    recovered_s: float
    sight: str

    @property
    def recovery_s(self) -> float:
        """From the fault's end to the last payment's."""
        return max(0.0, self.recovered_s - self.end_s)


class Audited(NamedTuple):
    """One audit, begun ``when``. Amounts in paise, of the shards that could be read; ``verdict``:
    passed | failed | unknown. ``at_s``: when it was done.
    """

    when: str
    at_s: float
    mode: str
    verdict: str
    not_passed: str
    users_paise: int
    open_paise: int
    funded_paise: int

    @property
    def difference_paise(self) -> int:
        """Of a verdict that passed, zero: users + on the way - funded."""
        return self.users_paise + self.open_paise - self.funded_paise


@dataclass
class FaultRun:
    """What was seen so far.

    ``payments``: see ``FaultLoad.frame``. ``money``: one row a look: ``at_s``, ``pending``
    (payments under way on the shards that answer), ``asked`` (whether it looked into the books),
    ``difference_paise`` of the books as of a closed stamp (nan where none could be closed).
    ``caught``: one row a payment whose caller did not hear how it ended; ``fault`` caught it,
    ``ended`` is what the ledger says. ``logged``: the lab's own warnings. ``open_since``: the fault
    that is set now, and since when.
    """

    windows: list[Window] = field(default_factory=list)
    audits: list[Audited] = field(default_factory=list)
    payments: pd.DataFrame = field(default_factory=pd.DataFrame)
    money: pd.DataFrame = field(default_factory=pd.DataFrame)
    caught: pd.DataFrame = field(default_factory=pd.DataFrame)
    recoveries: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    open_since: tuple[str, float] | None = None

    def window_rows(self) -> list[dict[str, Any]]:
        """A table: each fault, how long it was there, who was hit, how long the rest took."""
        rows = []
        for window in self.windows:
            hit = self.payments[self.payments["submitted_s"].between(window.begin_s, window.end_s)]
            heard = hit["heard"].value_counts()
            rows.append(
                {"fault": window.name, "lasted_s": round(window.end_s - window.begin_s, 2)}
                | {"payments": len(hit), "completed": int(heard.get(COMPLETED, 0))}
                | {str(word): int(n) for word, n in heard.items() if word != COMPLETED}
                | {"caught": self._caught_by(window), "recovery_s": round(window.recovery_s, 2)}
            )
        return rows

    def lost(self, lab: Any) -> list[str]:
        """Payments that were acknowledged as completed, and that the ledger does not have so."""
        acknowledged = self.payments.loc[self.payments["heard"] == COMPLETED, "payment_id"]
        rows = queries.payment_columns(lab.system.databases)
        status = dict(zip(rows["payment_id"], rows["status"], strict=True))
        return [payment for payment in acknowledged if status.get(payment) != "COMPLETED"]

    def _caught_by(self, window: Window) -> int:
        return int((self.caught["fault"] == window.name).sum()) if len(self.caught) else 0


OnLook = Callable[[FaultRun], None]


def watch(
    lab: Any,
    plan: Sequence[Planned] = KILLED_SLOW_CRASHED,
    *,
    offered_per_s: float = 200.0,
    users: int = 200,
    on_look: OnLook | None = None,
) -> FaultRun:
    """Break an open lab (with threads) by ``plan``, under load, and see it heal after each fault.

    When a shard goes down a dozen payments are sent to it in that moment, beside the steady load.
    ``on_look`` is called about twice a second with what was seen so far, for a live chart.
    BadInput for a fault that there is not. The lab is drained at the end.
    """
    for each in plan:
        faults.find(each.target, each.kind)
        faults.require_target(lab.system, each.target)
    if lab.deterministic:
        raise BadInput("a stepped lab cannot be watched", remedy="Use Lab() with threads.")
    lab.open_accounts({str(n): OPENING_PAISE for n in range(1, users + 1)})
    lab.drain()
    watcher = _Watcher(lab, FaultLoad(lab, offered_per_s, users), on_look)
    with _log_kept(watcher.seen.logged):
        return watcher.run(plan)


@contextmanager
def _log_kept(lines: list[str]) -> Iterator[None]:
    """Warnings of the package, kept beside where they go otherwise."""
    keep = logging.Handler(logging.WARNING)
    keep.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("paytm_lab")
    logger.addHandler(keep)
    try:
        yield
    finally:
        logger.removeHandler(keep)


class _Watcher:
    def __init__(self, lab: Any, load: FaultLoad, on_look: OnLook | None) -> None:
        self._lab = lab
        self._load = load
        self._on_look = on_look
        self._looks: list[dict[str, float]] = []
        self._books_due_s = 0.0
        self._frozen = False
        self._marks = queries.payment_marks(lab.system.databases)
        self.seen = FaultRun()

    def run(self, plan: Sequence[Planned]) -> FaultRun:
        load, seen = self._load, self.seen
        load.start()
        try:
            self._look_for(BEFORE_S)
            self._audit("before", "live")
            for each in plan:
                name = f"{each.target} {each.kind}"
                if each.target == "process":
                    self._crash(each, name)
                else:
                    self._break(each, name)
                self._wait_until_recovered(name)
                self._look_for(BETWEEN_S)
        finally:
            load.stop()
        self._lab.drain()
        self._look()
        self._audit("after", "quiescent")
        seen.windows = [self._with_recovery(window) for window in seen.windows]
        return seen

    def _break(self, each: Planned, name: str) -> None:
        load, seen = self._load, self.seen
        if each.kind == "down":  # some of these have left their shard and cannot arrive
            load.burst(int(each.target.removeprefix("shard-")), BURST)
        began_s = load.now_s()
        seen.open_since = (name, began_s)
        if each.kind != "down":  # a shard that is slow is slow to close a stamp, too
            self._books_due_s = np.inf
        self._frozen = each.kind == "frozen"  # who asks such a shard waits, the watcher too
        # In a thread of its own: an audit waits for a shard that is slow, and the fault's end must
        # not wait for the audit.
        with ThreadPoolExecutor(1, thread_name_prefix="audit") as auditor:
            with self._lab.fault(each.target, each.kind) as fault:
                self._look_for(each.seconds / 2)
                audited = auditor.submit(self._audit, f"during {name}", "live")
                self._look_for(began_s + each.seconds - load.now_s())
            self._frozen, self._books_due_s = False, 0.0
            self._ended(name, began_s, fault.sight)
            audited.result()

    def _crash(self, each: Planned, name: str) -> None:
        lab, load = self._lab, self._load
        with lab.fault(each.target, each.kind) as fault:
            until = time.monotonic() + CRASH_PATIENCE_S
            while not lab.crashed_at and time.monotonic() < until:
                load.wait(0.005)
            if not lab.crashed_at:
                raise BadInput(
                    f"no payment came to {each.kind} within {CRASH_PATIENCE_S:.0f} s",
                    remedy="Offer more payments, on more shards.",
                )
            began_s = load.now_s()
        self.seen.open_since = (name, began_s)
        self._look_for(each.seconds)
        self.seen.recoveries.append(str(lab.recover()))
        self._ended(name, began_s, fault.sight)

    def _ended(self, name: str, began_s: float, sight: str) -> None:
        end_s = self._load.now_s()
        self.seen.windows.append(Window(name, began_s, end_s, end_s, sight))
        self.seen.open_since = None

    # -- looking ----------------------------------------------------------------------------------

    def _look_for(self, seconds: float) -> None:
        until_s = self._load.now_s() + seconds
        while (left_s := until_s - self._load.now_s()) > 0:
            self._load.wait(min(LOOK_EVERY_S, left_s))
            self._look()

    def _look(self) -> None:
        self._looks.append(self._money() | {"at_s": self._load.now_s()})
        self.seen.money = pd.DataFrame(self._looks)
        self.seen.payments = self._load.frame()
        if self._on_look is not None:
            self._on_look(self.seen)

    def _money(self) -> dict[str, float]:
        """As of a stamp closed for it, which a shard that is away, or slow, may prevent."""
        nothing = {"pending": np.nan, "asked": 1.0, "difference_paise": np.nan}
        if self._lab.crashed_at:
            return nothing
        if self._frozen:
            return nothing | {"asked": 0.0}
        system = self._lab.system
        found = nothing | {"pending": float(_pending(system.databases))}
        began_s = self._load.now_s()
        if began_s < self._books_due_s:
            return found | {"asked": 0.0}
        try:
            closed = as_of.close_stamp(system.databases, system.clock.now_us(), wait_s=CLOSE_WAIT_S)
            books = as_of.ledger_as_of(system.databases, closed)
        except PaytmLabError:
            return found
        finally:
            took_s = self._load.now_s() - began_s
            self._books_due_s = began_s + (1 + BOOKS_PAUSE) * took_s
        return found | {"difference_paise": float(books.difference_paise)}

    def _audit(self, when: str, mode: str) -> None:
        system = self._lab.system
        report = audit(
            system.databases,
            system.log,
            mode=mode,
            clock=system.clock,
            drain=self._lab.drain if mode == "quiescent" else None,
        )
        names = ", ".join(f"{check.name} {check.state}" for check in report.not_passed())
        self.seen.audits.append(
            Audited(
                when, self._load.now_s(), mode, report.verdict, names, report.users_paise,
                report.open_paise + report.receivable_paise, report.funded_paise,
            )
        )  # fmt: skip

    # -- recovery ---------------------------------------------------------------------------------

    def _wait_until_recovered(self, name: str) -> None:
        """Nobody helps: the lab's own housekeeping does it, within its interval."""
        until = time.monotonic() + RECOVERY_PATIENCE_S
        while True:
            self._look()
            self.seen.caught = self._caught()
            if not self.seen.caught["ended"].eq("PENDING").any():
                return
            if time.monotonic() > until:
                raise Unavailable(
                    f"payments that {name} caught are PENDING {RECOVERY_PATIENCE_S:.0f} s later",
                    remedy="Call lab.recover() and look at what it says.",
                )
            self._load.wait(LOOK_EVERY_S)

    def _caught(self) -> pd.DataFrame:
        """The payments whose callers do not know how they ended, and what the ledger knows."""
        heard = self._load.frame()
        heard["fault"] = heard["heard"].where(heard["heard"].isin(CAUGHT), "")
        for window in self.seen.windows:
            told = heard["heard"].isin((PENDING, UNKNOWN)) & (heard["answered_s"] >= window.begin_s)
            # Who hears nothing was there before the process died.
            lost = heard["heard"].eq(NO_ANSWER) & (heard["submitted_s"] <= window.end_s)
            crashed = window.name.startswith("process")
            heard.loc[told | (lost if crashed else False), "fault"] = window.name
        named = [window.name for window in self.seen.windows]
        caught = heard[heard["fault"].isin(named) & (heard["payment_id"] != "")]
        rows = pd.DataFrame(queries.payment_columns(self._lab.system.databases, self._marks))
        known = rows.set_index("payment_id")[["status", "amount_paise", "updated_at_us"]]
        caught = caught.join(known, on="payment_id")
        caught["ended"] = caught["status"].fillna("never written")
        caught["ended_s"] = (caught["updated_at_us"] - self._load.started_us) / 1e6
        return caught.drop(columns=["status", "updated_at_us"]).reset_index(drop=True)

    def _with_recovery(self, window: Window) -> Window:
        hit = self.seen.caught
        if hit.empty:
            return window
        ended_s = hit.loc[hit["fault"] == window.name, "ended_s"].max()
        return window._replace(recovered_s=float(np.nanmax([window.end_s, ended_s])))


def _pending(databases: Any) -> int:
    """PENDING payments of the shards that answer."""
    found = 0
    for database in databases.values():
        try:
            found += queries.open_counts(database).get("PENDING", 0)
        except PaytmLabError:
            continue
    return found
