"""run, audit, replay, relay, consume: a lab used from the command line."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from typing import Any

from paytm_lab import preflight
from paytm_lab.core.errors import BadInput
from paytm_lab.lab import Lab
from paytm_lab.ledger.audit.run import MOVED
from paytm_lab.messaging.topics import GROUPS
from paytm_lab.simulation import faults
from paytm_lab.terminal import note, print_audit, print_json, say
from paytm_lab.verbs.common import Common, Source, inherited_fd, on_profile, opened, run_source
from paytm_lab.verbs.ending import told_to_end
from paytm_lab.verbs.trace import crossing_of_last_run
from paytm_lab.wiring import stored_shards

IN_FLIGHT = 1024  # where nothing else is said


def run(
    common: Common,
    source: Source,
    *,
    in_flight: int,
    deterministic: bool,
    fraud_gate: str | None,
    ack_fd: int | None,
    crash_at: str | None,
    relay: bool,
    consumers: bool,
) -> int:
    """Post, relay, consume, audit; the exit code is the verdict's."""
    options: dict[str, Any] = {"deterministic": deterministic, "fraud_gate": fraud_gate}
    acks = _Acks(inherited_fd(ack_fd))
    options |= _crash_options(crash_at, lambda: acks.sent)
    given = []
    if not relay:
        options["relay"] = False
        given.append("--no-relay")
    if not consumers:
        options["consumers"] = ()
        given.append("--no-consumers")
    if not deterministic:  # where these are said in any case
        given += [] if in_flight == IN_FLIGHT else ["--in-flight", str(in_flight)]
        given += [] if fraud_gate is None else ["--fraud-gate", fraud_gate]
    given += common.on_data()
    source.check()
    with opened(common, **options) as lab:
        result = run_source(
            lab, source, common, "run", given, in_flight=in_flight, drain=relay and consumers,
            ack=None if ack_fd is None else acks.send,
        )  # fmt: skip
        report = lab.audit("quiescent" if relay and consumers else "live")
        if any(check.detail == MOVED for check in report.checks):
            report = lab.audit("live")  # another process posts here too
        state = lab.state_hash() if deterministic else None
        to_trace = None if common.quiet else crossing_of_last_run(lab)
    if common.as_json:
        extra = {"state_hash": state} if state else {}
        print_json({"run": result.to_dict() | extra, "audit": report.to_dict()})
    else:
        say(str(result))
        if state:
            say(f"hash of all events and balances: {state}")
        print_audit(report, common.quiet)
        on_it = "".join(f" {shlex.quote(word)}" for word in common.on_data())
        on_it += on_profile(lab.profile)
        verbs = [*([f"trace {to_trace}"] if to_trace else []), "audit", "replay"]
        hints = " | ".join(f"paytm-lab {verb}{on_it}" for verb in verbs)
        note(f"data: {lab.data}\nnext: {hints}", common.quiet)
    return report.exit_code


class _Acks:
    """Each answered payment leaves at once, whole: a line shorter than PIPE_BUF is never torn."""

    def __init__(self, descriptor: int | None) -> None:
        self.sent = 0
        self._descriptor = -1 if descriptor is None else descriptor

    def send(self, payment_id: str, status: str) -> None:
        os.write(self._descriptor, f"{payment_id} {status}\n".encode())
        self.sent += 1


def _crash_options(text: str | None, acknowledged: Callable[[], int] = lambda: 0) -> dict[str, Any]:
    """The lab's option for ``--crash-at``: a real death, possible from the opening on."""
    if text is None:
        return {}
    point, reached = faults.crash_at(text, _die, acknowledged)
    return {"fault_points": {point: reached}}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def audit(common: Common, mode: str) -> int:
    with opened(common, existing=True) as lab:
        report = lab.audit(mode)
    if common.as_json:
        print_json(report.to_dict())
    else:
        print_audit(report, common.quiet)
    return report.exit_code


def replay(common: Common) -> int:
    with opened(common, existing=True) as lab:
        lab.drain()
        report = lab.replay()
    if common.as_json:
        print_json(report.to_dict())
    else:
        say(str(report))
    return report.exit_code


def relay(common: Common, until_drained: bool, crash_at: str | None = None) -> int:
    """Only the relays of a lab, until interrupted (or until the outboxes are empty)."""
    return _work(common, until_drained, relay=True, consumers=(), crash_at=crash_at)


def consume(
    common: Common, names: tuple[str, ...], until_drained: bool, crash_at: str | None = None
) -> int:
    """Only these consumers, until interrupted (or until they are at the log's end)."""
    for name in names:
        if name not in GROUPS:
            raise BadInput(
                f"{name!r} is not a consumer", remedy=f"Name some of {', '.join(sorted(GROUPS))}."
            )
    return _work(common, until_drained, relay=False, consumers=names or None, crash_at=crash_at)


def _work(
    common: Common,
    until_drained: bool,
    relay: bool,
    consumers: tuple[str, ...] | None,
    crash_at: str | None,
) -> int:
    settings = common.settings()
    preflight.require(settings)
    if stored_shards(settings) is None:
        note(f"there was no lab in {settings.data_dir}: a new one is made there", common.quiet)
    with told_to_end() as stop, Lab(
        settings.profile, common.shards, settings.seed, settings.data_dir, relay=relay,
        consumers=consumers, **_crash_options(crash_at),
    ) as lab:  # fmt: skip
        at_work = tuple(lab.system.runners) if consumers is None else consumers
        what = "relays" if relay else f"consumers {', '.join(at_work)}"
        note(f"{what} at work on {lab.data}; Ctrl-C ends", common.quiet)
        lab.system.hurry(until_drained)
        while not stop.wait(0.05):
            if until_drained and not _waiting(lab, relay, at_work):
                break
        done = {worker.name: worker.done for worker in lab.system.workers}
    if common.as_json:
        print_json({"handled": done})
    else:
        say(", ".join(f"{name} handled {count}" for name, count in done.items()))
    return 0


def _waiting(lab: Lab, relay: bool, consumers: tuple[str, ...]) -> bool:
    if relay:
        return any(database.outbox_rows() for database in lab.system.databases.values())
    return any(lab.system.lag(name) for name in consumers)
