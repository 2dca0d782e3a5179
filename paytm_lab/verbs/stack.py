"""stack: the real servers on this machine, up and down, looked at, their logs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paytm_lab.analytics.rollups import COMPLETED
from paytm_lab.config import Settings
from paytm_lab.config_servers import ServerSettings
from paytm_lab.core.errors import Unavailable
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.ledger.operations import Outcome
from paytm_lab.notifications.tables import NOTIFICATIONS
from paytm_lab.stack.control import DIED, READY, STOPPED, Stack, State
from paytm_lab.stack.down import down as stop_servers
from paytm_lab.stack.processes import tail
from paytm_lab.stack.up import up as start_servers
from paytm_lab.terminal import live_table, note, print_json, say, table

if TYPE_CHECKING:
    from paytm_lab.lab import Lab

FOLLOW_EVERY_S = 0.2
CHECK_NAMESPACE = "stack_check"
CHECK_SHARDS = 4
CHECK_WAIT_S_MAX = 60.0
DOWN_CODE = 3


def folder(given: Path | None) -> Path:
    """Where the stack is: the option, else the setting."""
    return given or Settings().stack_dir


def up(
    stack_dir: Path | None, port_offset: int | None, reset: bool, fetch: bool,
    quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    root = folder(stack_dir)
    with live_table(quiet) as show:
        done = start_servers(
            root,
            port_offset=port_offset,
            reset=reset,
            fetch_missing=fetch,
            verify=verify_payment,
            progress=lambda states: show([_row(s) for s in states]),
            say=lambda line: note(line, quiet),
        )
    if as_json:
        servers = [s._asdict() | {"ready_s": round(done.ready_s[s.server], 1)} for s in done.states]
        print_json({"stack_dir": str(root), "servers": servers, "verified": done.verified})
        return 0
    if not quiet:
        table([_row(s) | {"ready_s": round(done.ready_s[s.server], 1)} for s in done.states])
        _say_memory(done.states)
    say(done.verified, not done.verified)
    note(f"how to log in: {Stack(root).layout.connection} (read by --profile servers)", quiet)
    return 0


def verify_payment(settings: Settings) -> str:
    """Pay from shard to shard in a lab of its own on these servers, and look for what each server
    has of it afterwards. What was seen, in words; Unavailable when anything is not there in time.
    """
    from paytm_lab.lab import Lab  # half a second of drivers that no other verb here needs

    started = time.monotonic()
    names = [*ServerSettings.model_fields, "stack_dir"]
    where = {name: getattr(settings, name) for name in names if name != "namespace"}
    # Four users in a row live on four shards; new ones each time, whatever an earlier check left.
    first = secrets.randbelow(10**15) * CHECK_SHARDS
    users = [str(first + n) for n in range(CHECK_SHARDS)]
    with Lab(
        "servers", CHECK_SHARDS, notification_channel="memory", namespace=CHECK_NAMESPACE, **where
    ) as lab:
        counted = lab.rollups().outcome(COMPLETED).payments
        for user in users:
            lab.create_account(user, 100)
        paid = [lab.transfer(*pair, 1) for pair in ((users[0], users[1]), (users[2], users[3]))]
        lab.system.drain(deadline_s=CHECK_WAIT_S_MAX)
        missing = _not_arrived(
            lab, paid, users, lab.rollups().outcome(COMPLETED).payments - counted
        )
    if missing:
        raise Unavailable(f"of two cross-shard payments, {'; '.join(missing)}")
    return (
        "two cross-shard payments crossed all eight servers: posted on four shards, relayed by"
        " Kafka, scored and stored in Cassandra, counted, notified, routes in Redis, shard map in"
        f" ZooKeeper ({time.monotonic() - started:.1f} s)"
    )


def _not_arrived(lab: Lab, paid: list[Outcome], users: list[str], counted: int) -> list[str]:
    ids = [outcome.payment for outcome in paid]
    missing = [
        f"{outcome.payment} is {outcome.status} {outcome.reason} on shards"
        f" {outcome.from_shard} and {outcome.to_shard}"
        for outcome in paid
        if outcome.status != "COMPLETED" or outcome.from_shard == outcome.to_shard
    ]
    features = len(lab.system.wide.fetch(FEATURES, [(payment,) for payment in ids]))
    if features != len(ids):
        missing.append(f"Cassandra has the features of {features}")
    if counted != len(ids):
        missing.append(f"analytics counted {counted}")
    sent = {n["payment_id"] for n in lab.system.wide.scan(NOTIFICATIONS) if n["state"] == "sent"}
    if not sent >= set(ids):
        missing.append(f"{len(sent & set(ids))} were notified")
    if (routes := len(lab.system.routes.read(users))) != len(users):
        missing.append(f"Redis has the routes of {routes} of {len(users)} users")
    return missing


def down(stack_dir: Path | None, names: Sequence[str], quiet: bool, as_json: bool) -> int:
    lines = stop_servers(Stack(folder(stack_dir)), names)
    if as_json:
        print_json(
            [dict(zip(("server", "how"), line.split(": ", 1), strict=True)) for line in lines]
        )
    else:
        say("\n".join(lines) or "nothing was running", quiet)
    return 0


def status(stack_dir: Path | None, quiet: bool, as_json: bool) -> int:
    """0 when all are ready, 3 when one is not."""
    stack = Stack(folder(stack_dir))
    states = [stack.state(server) for server in stack.servers()]
    if as_json:
        print_json([s._asdict() for s in states])
    else:
        table([_row(s) for s in states])
        _say_memory(states)
        for s in states:
            if s.state == DIED:
                note(f"{s.server} died, last lines of {stack.log(s.server)}:\n{s.said}", quiet)
    return 0 if all(s.state == READY for s in states) else DOWN_CODE


def logs(stack_dir: Path | None, name: str, lines: int, follow: bool) -> int:
    """The end of a server's log; with ``follow`` what it writes, until Ctrl-C."""
    stack = Stack(folder(stack_dir))
    log = stack.log(name)
    last, size = tail(log, lines)
    say("\n".join(last), quiet=not last)
    if follow:
        _follow(log, size)
    return 0


def _follow(log: Path, at: int) -> None:
    """What is written after the first ``at`` bytes, whole lines."""
    while True:
        size = log.stat().st_size if log.exists() else 0
        if size < at:  # a new log
            at = 0
        if size > at:
            with log.open("rb") as file:
                file.seek(at)
                piece = file.read()
            whole = piece[: piece.rfind(b"\n") + 1]
            at += len(whole)
            if whole:
                say(whole.decode(errors="replace").removesuffix("\n"))
        time.sleep(FOLLOW_EVERY_S)


def _row(state: State) -> dict[str, Any]:
    row = state._asdict()
    del row["said"]
    # Ports and pids are names, not amounts: no thousands separators.
    row |= {"port": str(state.port), "pid": "" if state.pid is None else str(state.pid)}
    return row | {"memory_mib": "" if state.memory_mib is None else state.memory_mib}


def _say_memory(states: Sequence[State]) -> None:
    running = [s for s in states if s.state not in (STOPPED, DIED)]
    memory = sum(s.memory_mib or 0 for s in running)
    say(f"{len(running)} of {len(states)} run, {memory / 1024:.2f} GiB of memory together")
