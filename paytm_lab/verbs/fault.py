"""fault: break something by name under a steady load, see it, heal it, audit."""

from __future__ import annotations

import os
import random
import secrets
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from paytm_lab import preflight, wiring
from paytm_lab.core.errors import (
    BadInput,
    OutcomeUnknown,
    PaytmLabError,
)
from paytm_lab.core.ids import parse_payment_id
from paytm_lab.lab import Lab
from paytm_lab.ledger import queries
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result
from paytm_lab.simulation import faults
from paytm_lab.simulation.fault_setters import shard_of
from paytm_lab.stack.faults import server_name
from paytm_lab.terminal import entry, note, print_audit, print_json, say, table
from paytm_lab.verbs.common import Common, on_profile, opened
from paytm_lab.verbs.ending import Told, told_to_end

USERS = 400
OPENING_PAISE = 10**8
OFFERED_PER_S = 200
BEFORE_S = 1.0
AFTER_S = 2.0
BACKLOG_EVERY_S = 0.1
CLOSED_USERS = 40
CHILD_USERS_MAX = 10**6  # more would hide the closed ones among them
CHILD_PAYMENTS = 20_000
ACKS_BEFORE_CRASH = 300
REFUSAL_POINTS = ("leg_b:refused", "leg_c:given_back")


def fault(common: Common, target: str | None, kind: str | None, seconds: float) -> int:
    if target is None or kind is None:
        return _list(common, target)
    found = faults.find(target, kind)
    settings = common.settings()
    preflight.require(settings)  # where servers are away, removing would wait for them
    if target.startswith("shard"):  # before there is a lab
        shard_of(target, range(wiring.stored_shards(settings) or settings.shards))
    if common.data is None:
        with tempfile.TemporaryDirectory(prefix="paytm_lab-fault-") as folder:
            own = replace(common, data=Path(folder))
            try:
                return _on(own, found, target, seconds, temporary=True)
            finally:
                _remove(own)
    return _on(common, found, target, seconds)


def _remove(common: Common) -> None:
    """What the lab in a temporary folder has on the servers."""
    settings = common.settings()
    if settings.source("namespace") != "default":  # one that somebody named is theirs
        return
    try:
        wiring.remove(settings)
    except PaytmLabError as error:
        note(f"the namespace {settings.namespace} stays on the servers: {error}", common.quiet)


def _list(common: Common, target: str | None) -> int:
    """The faults there are, or those of a target."""
    found = faults.FAULTS if target is None else faults.faults_of(target)
    if common.as_json:
        print_json(
            [
                {
                    "target": faults.pattern(fault),
                    "fault": fault.kind,
                    "on servers": f"{fault.signal} to it" if fault.signal else "the same",
                    "what one sees": fault.sight,
                    "how it heals": fault.heals,
                }
                for fault in found
            ]
        )
        return 0
    for fault in found:
        on_servers = f"  (on servers: {fault.signal} to it)" if fault.signal else ""
        entry(
            f"{faults.pattern(fault)} {fault.kind}{on_servers}",
            f"sees: {fault.sight}",
            f"heals: {fault.heals}",
        )
    return 0


def _on(
    common: Common, found: faults.FaultKind, target: str, seconds: float, temporary: bool = False
) -> int:
    settings = common.settings()
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    common = replace(common, seed=seed)
    on_server = found.signal if settings.profile == "servers" else ""
    on_it = "" if temporary else "".join(f" {shlex.quote(word)}" for word in common.on_data())
    words = (
        f"seed {common.seed}; to repeat: paytm-lab fault {target} {found.kind}"
        f" --seconds {seconds:g} --seed {common.seed}{on_it}{on_profile(settings.profile)}\n"
        f"{target} {found.kind}: {found.sight}.\nheals: {found.heals}."
    )
    if found.target == "process":
        note(words, common.quiet)
        return _crash(common, found)
    with opened(common) as lab:
        faults.require_target(lab.system, target)
        note(words, common.quiet)
        lab.open_accounts({str(n): OPENING_PAISE for n in range(1, USERS + 1)})
        lab.drain()  # so that events behind are the load's
        load = _Load(lab)
        load.start()
        load.run_for("before", BEFORE_S)
        if on_server:
            note(
                f"{on_server} to {server_name(target)} of the stack in {settings.stack_dir}: away"
                " for everybody who uses it, until it is healed (Ctrl-C heals, too)",
                common.quiet,
            )
        healed_s = _break(lab, load, target, found.kind, seconds)
        load.run_for("after", AFTER_S)
        load.stop()
        stopped_s = time.monotonic()
        lab.drain()
        drained_s = time.monotonic() - stopped_s
        report = lab.audit()
        set_aside = sum(runner.counts.dead_lettered for runner in lab.system.runners.values())
    result = {
        "target": target, "fault": found.kind, "profile": settings.profile, "load": load.rows(),
        "healed_s": round(healed_s, 2), "drained_s": round(drained_s, 2),
        "dead_lettered": set_aside, "audit": report.to_dict(),
    }  # fmt: skip
    if common.as_json:
        print_json(result)
        return report.exit_code
    table(load.rows())
    say(f"healed in {healed_s:.1f} s; drained {drained_s:.1f} s after the load")
    if set_aside:
        say(f"set aside as dead letters: {set_aside}")
    print_audit(report, common.quiet)
    return report.exit_code


def _break(lab: Lab, load: _Load, target: str, kind: str, seconds: float) -> float:
    """The fault, for so long or until Ctrl-C; how long the healing took, which nothing cuts short.
    KeyboardInterrupt, after the healing, where Ctrl-C was pressed.
    """
    with told_to_end() as told:
        with lab.fault(target, kind):
            load.run_for("during", seconds, told)
            load.enter("healing")
            began = time.monotonic()
        healed_s = time.monotonic() - began
        interrupted = told.is_set()
    if interrupted:
        load.stop()
        raise KeyboardInterrupt
    return healed_s


class _Load:
    """A steady open load of payments between random users; counts what callers heard, by phase."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._rng = random.Random(lab.seed)
        self._phase = "before"
        self._entered = time.monotonic()
        self._heard: dict[str, Counter[str]] = {}
        self._latency_ms: dict[str, list[float]] = {}
        self._backlog: dict[str, int] = {}
        self._seconds: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("load", self._offer), ("backlog", self._look_at_backlog))
        ]

    def start(self) -> None:
        self._entered = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.enter("stopped")
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def enter(self, phase: str) -> None:
        """What is submitted from now on counts as this phase's."""
        now = time.monotonic()
        self._seconds[self._phase] += round((now - self._entered) * 1000)
        self._phase, self._entered = phase, now

    def run_for(self, phase: str, seconds: float, told: Told | None = None) -> None:
        """``told``: ends it early."""
        self.enter(phase)
        (told or self._stop).wait(seconds)

    def _look_at_backlog(self) -> None:
        """In a thread of its own: a frozen shard keeps who asks it waiting."""
        while not self._stop.wait(BACKLOG_EVERY_S):
            phase = self._phase
            backlog = self._lab.system.backlog()
            self._backlog[phase] = max(self._backlog.get(phase, 0), backlog)

    def _offer(self) -> None:
        started = time.monotonic()
        number = 0
        while not self._stop.wait(max(0.0, started + number / OFFERED_PER_S - time.monotonic())):
            number += 1
            sender, receiver = self._rng.sample(range(1, USERS + 1), 2)
            request = PaymentRequest(str(sender), str(receiver), self._rng.randrange(100, 50_000))
            phase, at = self._phase, time.perf_counter()
            try:
                self._lab.system.engine.submit(request, partial(self._hear, phase, at))
            except PaytmLabError as error:
                self._hear(phase, at, error)

    def _hear(self, phase: str, started: float, result: Result) -> None:
        word = result.status if isinstance(result, Outcome) else result.code
        if isinstance(result, OutcomeUnknown):
            word = "outcome_unknown"
        with self._lock:
            self._heard.setdefault(phase, Counter())[word] += 1
            self._latency_ms.setdefault(phase, []).append((time.perf_counter() - started) * 1e3)

    def rows(self) -> list[dict[str, Any]]:
        """One row a phase: what callers heard, their latency, and how far events lagged."""
        words = sorted({word for heard in self._heard.values() for word in heard})
        rows: list[dict[str, Any]] = []
        for phase in ("before", "during", "healing", "after"):
            heard = self._heard.get(phase, Counter())
            if phase == "healing" and not heard:  # of a switch it takes no time
                continue
            latency = sorted(self._latency_ms.get(phase, [0.0]))
            seconds = self._seconds[phase] / 1000
            rows.append(
                {"phase": phase, "seconds": seconds}
                | {word: heard[word] for word in words}
                | {
                    "latency_ms_p50": round(latency[len(latency) // 2], 2),
                    "latency_ms_p99": round(latency[len(latency) * 99 // 100], 2),
                    "events_behind_max": self._backlog.get(phase, 0),
                }
            )
        return rows


def _crash(common: Common, found: faults.FaultKind) -> int:
    """A real process, killed at the point; what it acknowledged must be there afterwards."""
    point = faults.CRASH_POINTS[found.kind]
    users = _close_some(common) if point in REFUSAL_POINTS else USERS + CLOSED_USERS
    acknowledged = _run_child(common, point, users)
    started = time.monotonic()
    with opened(common) as lab:
        recovery = str(lab.recovered)
        opened_s = time.monotonic() - started
        lost = [
            payment
            for payment, status in acknowledged.items()
            if not _is_there(lab, payment, status)
        ]
        report = lab.audit()
    result = {
        "fault": found.kind, "point": point, "acknowledged": len(acknowledged), "lost": len(lost),
        "recovery": recovery, "opened_s": round(opened_s, 2), "audit": report.to_dict(),
    }  # fmt: skip
    if common.as_json:
        print_json(result)
    else:
        say(f"killed at {point} after {len(acknowledged)} acknowledged payments")
        say(f"opened again in {opened_s:.2f} s; {recovery}")
        say(f"acknowledged and lost: {len(lost)}")
        print_audit(report, common.quiet)
    return 1 if lost else report.exit_code


def _close_some(common: Common) -> int:
    """Accounts that refuse what the child pays them, the last ones of its workload; how many users
    that has. In a lab that was used they come after its own, as who has money cannot be closed.
    """
    with opened(common) as lab:
        there = lab.balances()
        for first in range(USERS + 1, CHILD_USERS_MAX, CLOSED_USERS):
            users = [str(n) for n in range(first, first + CLOSED_USERS)]
            if all(user not in there or _is_closed(lab, user) for user in users):
                lab.open_accounts(dict.fromkeys(users, 0))
                for user in users:
                    lab.close_account(user)
                return first + CLOSED_USERS - 1
    raise BadInput(
        f"the lab has users of all numbers up to {CHILD_USERS_MAX:,}: none is left to refuse money",
        remedy="Give an empty folder by --data, or none.",
    )


def _is_closed(lab: Lab, user: str) -> bool:
    account = lab.account(user)
    return account is not None and account.state == "closed"


def _run_child(common: Common, point: str, users: int) -> dict[str, str]:
    readable, writable = os.pipe()
    profile = common.settings().profile
    verb = (
        f"run --quiet --profile {profile} --users {users} --payments {CHILD_PAYMENTS}"
        f" --in-flight 64 --zipf-s 0 --seed {common.seed} --ack-fd {writable}"
        f" --crash-at {point}@{ACKS_BEFORE_CRASH} --data"
    )
    process = subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-m", "paytm_lab.cli", *verb.split(), str(common.data)],
        pass_fds=(writable,),
        stdout=subprocess.DEVNULL,
    )
    os.close(writable)
    acknowledged: dict[str, str] = {}
    with os.fdopen(readable, encoding="ascii") as acks:
        for line in acks:
            payment, status = line.split()
            acknowledged[payment] = status
    if process.wait(timeout=60) == 0:
        raise BadInput(
            f"the run of {CHILD_PAYMENTS:,} payments ended before it reached {point}: nothing was"
            " killed",
            remedy="Repeat it with another --seed, or in an empty folder.",
        )
    return acknowledged


def _is_there(lab: Lab, payment: str, status: str) -> bool:
    """The ledger has this payment as it was acknowledged, or as PENDING ended."""
    raw = parse_payment_id(payment)
    rows = queries.payment_on_all_sides(lab.system.databases, lab.system.engine.source_of(raw), raw)
    if not rows:
        return False
    return status == "PENDING" or rows[0].status == status
