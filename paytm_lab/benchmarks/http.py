"""Payments over HTTP: `paytm-lab serve` in a process of its own, wrk as the client."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import shutil
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from paytm_lab import children
from paytm_lab.core.errors import IntegrityError, MissingPart, Unavailable
from paytm_lab.ledger import queries

USERS = 10_000
OPENING_PAISE = 10**9
SEED = 7
SECONDS = 8.0
WARM_S = 4.0
CONNECTIONS = (1, 16, 64, 256)
WORKERS = 2
HOT_ACCOUNTS = 10
HOT_CONNECTIONS = 64
HOT_ROUNDS = 3
BULK = 100
BULK_CONNECTIONS = 8
OFFERED_PER_S = 100
OFFERED_CONNECTIONS = 32
TIMER_S = 0.002
START_S_MAX = 60.0
ANSWER_S_MAX = 30.0
PASSWORD = "a bench needs one too"  # noqa: S105 - of a lab that is removed
SCRIPT = Path(__file__).with_name("http_wrk.lua")
# Ports of the system's own choosing: a bench may run beside a served lab.
PORTS = ("auth", "shard_manager")
SETTINGS = {
    "access_token_s": 3_600,
    "log_level": "warning",
    "velocity_limit": 1_000_000,  # ten accounts pay more often than anybody may
    "outbox_rows_max": 10_000_000,  # nobody empties them in most rows, and a fast run fills them
}


class Place(NamedTuple):
    """A served lab: where its shard manager listens, and what to say there."""

    port: int
    token: str
    service: psutil.Process
    servers: Mapping[str, psutil.Process]


def run(
    data_dir: Path,
    quick: bool,
    open_lab: Callable[..., Any],
    server_pids: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Rows ``workers`` (processes that serve), ``events`` (whether relay and consumers ran, in two
    more processes), ``connections``, ``bulk`` (payments a
    request), ``offered_per_s`` (None: as fast as answers come), ``hot_accounts``,
    ``transfers_per_s``, ``latency_ms_p50``, ``_p95``, ``_p99`` (of requests), ``errors``, and
    ``cpu_s_client``, ``cpu_s_service``, ``cpu_s_databases``, ``cpu_s_others`` in all.
    ``hot_ratio``: payments among ten accounts against payments among all, the median of three turns
    of each. Each request has a token and an idempotency key.

    Ends in an audit: IntegrityError when it is not clean, or misses an answered payment.
    """
    require_wrk()
    seconds = 1.0 if quick else SECONDS
    users = USERS // 10 if quick else USERS
    with open_lab(data=data_dir / "lab", seed=SEED, relay=False, consumers=()) as lab:
        lab.open_accounts({str(n): OPENING_PAISE for n in range(1, users + 1)})
        profile = lab.profile
    rows: list[dict[str, Any]] = []
    for events, workers in ((False, 1), (True, 1), (False, WORKERS)):
        if workers > 1 and profile == "embedded":
            continue  # one process serves it
        with _served(data_dir / "lab", profile, events, server_pids, workers) as place:
            _wrk(place, 64, users, 1.0 if quick else WARM_S)
            of_all = []
            for connections in (64,) if events else CONNECTIONS:
                of_all.append(_row(place, connections, users, seconds))
            of_all.append(_row(place, BULK_CONNECTIONS, users, seconds, bulk=BULK))
            of_all.append(_offered(place, users, seconds))
            if not events:
                of_all.append(_hot(place, users, seconds / 2))
            rows += [{"workers": workers, "events": events} | row for row in of_all]
    answered = sum(row.pop("_answered") for row in rows)
    with open_lab(data=data_dir / "lab", seed=SEED, consumers=()) as lab:
        lab.audit("live").require_clean()
        _require_posted(lab, answered, users)
    return rows


def require_wrk() -> str:
    """The path of wrk. MissingPart where there is none."""
    found = shutil.which("wrk")
    if found is None:
        raise MissingPart(
            "there is no wrk, the client of this benchmark",
            remedy="Install it (Debian: apt-get install wrk; macOS: brew install wrk).",
        )
    return found


def _require_posted(lab: Any, answered: int, opened: int) -> None:
    """Nothing that was answered may be missing; the last answers may never have been read."""
    posted = Counter[str]()
    for database in lab.system.databases.values():
        posted.update(queries.totals(database).payments)
    if posted["COMPLETED"] - opened < answered or posted["FAILED"]:
        raise IntegrityError(f"{answered} payments were answered, in the ledger are {posted}")


# -- the served lab ------------------------------------------------------------------------------


@contextmanager
def _served(
    data: Path, profile: str, events: bool, server_pids: Mapping[str, int], workers: int
) -> Iterator[Place]:
    ports = _free_ports()
    settings = SETTINGS | {f"{name}_port": port for name, port in ports.items()}
    common = ["--data", str(data), "--profile", profile, "--quiet"]
    verbs = [["serve", *PORTS, "--no-events", "--workers", str(workers)]]
    verbs += [["relay"], ["consume"]] if events else []
    with ExitStack() as started:
        log = started.enter_context((data.parent / "serve.log").open("a+"))
        processes = [
            started.enter_context(children.running([*verb, *common], settings, log))
            for verb in verbs
        ]
        until = time.monotonic() + START_S_MAX
        while not _is_up(ports["shard_manager"]):
            if processes[0].poll() is not None or time.monotonic() > until:
                log.seek(0)
                raise Unavailable(f"the services did not start:\n{log.read()[-2000:]}")
            time.sleep(0.05)
        token = _token(ports["auth"], data)
        servers = {name: psutil.Process(pid) for name, pid in server_pids.items()}
        yield Place(ports["shard_manager"], token, psutil.Process(processes[0].pid), servers)
        if any(each.poll() is not None for each in processes):
            log.seek(0)
            raise Unavailable(f"a process ended by itself:\n{log.read()[-2000:]}")


def _free_ports() -> dict[str, int]:
    with ExitStack() as held:
        found = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in PORTS}
        return {name: place.getsockname()[1] for name, place in found.items()}


def _is_up(port: int) -> bool:
    with suppress(OSError):
        return children.ask("127.0.0.1", port, "GET", "/ready")[0] == HTTPStatus.OK
    return False


def _token(port: int, data: Path) -> str:
    """Of an admin, who may pay for everybody, as a till does."""
    login = {"user_id": "bench", "password": PASSWORD}
    offered = data / "admin.token"
    if offered.exists():
        once = offered.read_text().strip()
        status, answer = children.ask(
            "127.0.0.1", port, "POST", "/admin", login | {"admin_token": once}
        )
        if status != HTTPStatus.CREATED:
            raise Unavailable(f"no admin could be made: {answer}")
    status, answer = children.ask("127.0.0.1", port, "POST", "/login", login)
    if status != HTTPStatus.OK:
        raise Unavailable(f"the admin could not log in: {answer}")
    return str(answer["access_token"])


# -- rows ----------------------------------------------------------------------------------------


class _Cpu:
    """CPU seconds used since it was made, by whom."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._began = self._used()

    def spent(self) -> dict[str, float]:
        now = self._used()
        return {f"cpu_s_{name}": round(now[name] - self._began[name], 2) for name in now}

    def _used(self) -> dict[str, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = resource.getrusage(resource.RUSAGE_SELF)
        used = {
            "client": children.ru_utime + children.ru_stime + own.ru_utime + own.ru_stime,
            "service": _cpu_s(self._place.service)
            + sum(map(_cpu_s, self._place.service.children(recursive=True))),
            "databases": 0.0,
            "others": 0.0,
        }
        for name, process in self._place.servers.items():
            used["databases" if name.startswith("mysql") else "others"] += _cpu_s(process)
        return used


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _row(
    place: Place, connections: int, users: int, seconds: float, bulk: int = 1
) -> dict[str, Any]:
    cpu = _Cpu(place)
    told = _wrk(place, connections, users, seconds, bulk)
    return _as_row(connections, bulk, told) | cpu.spent()


def _as_row(connections: int, bulk: int, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "connections": connections,
        "bulk": bulk,
        "offered_per_s": told.get("offered_per_s"),
        "hot_accounts": None,
        "transfers_per_s": round(told["requests"] * bulk / told["seconds"], 1),
        "latency_ms_p50": round(told["p50_ms"], 2),
        "latency_ms_p95": round(told["p95_ms"], 2),
        "latency_ms_p99": round(told["p99_ms"], 2),
        "errors": told["errors"],
        "_answered": told["requests"] * bulk,
    }


def _hot(place: Place, users: int, seconds: float) -> dict[str, Any]:
    """Among ten accounts and among all, in turns."""
    rates: dict[int, list[float]] = {HOT_ACCOUNTS: [], users: []}
    told: dict[str, Any] = {}
    answered = 0
    cpu = _Cpu(place)
    for _ in range(HOT_ROUNDS):
        for accounts, seen in rates.items():
            each = _wrk(place, HOT_CONNECTIONS, accounts, seconds)
            seen.append(each["requests"] / each["seconds"])
            answered += each["requests"]
            told = each if accounts == HOT_ACCOUNTS else told
    hot, among_all = (statistics.median(seen) for seen in rates.values())
    return _as_row(HOT_CONNECTIONS, 1, told) | cpu.spent() | {
        "hot_accounts": HOT_ACCOUNTS,
        "transfers_per_s": round(hot, 1),
        "hot_ratio": round(hot / among_all, 3),
        "_answered": answered,
    }  # fmt: skip


def _wrk(
    place: Place, connections: int, users: int, seconds: float, bulk: int = 1
) -> dict[str, Any]:
    """``requests``, ``seconds``, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``errors``."""
    command = [
        require_wrk(), "--threads", "1", "--connections", str(connections),
        "--duration", f"{max(1, round(seconds))}s", "--timeout", f"{ANSWER_S_MAX:.0f}s",
        "--script", str(SCRIPT), f"http://127.0.0.1:{place.port}", "--",
        place.token, str(users), str(bulk), str(time.time_ns()),
    ]  # fmt: skip
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, timeout=seconds + 2 * ANSWER_S_MAX
    )
    line = next((x for x in reversed(done.stderr.splitlines()) if x.startswith("{")), None)
    if done.returncode or line is None:
        raise Unavailable(f"wrk failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    told: dict[str, Any] = json.loads(line)
    return told


def _offered(place: Place, users: int, seconds: float) -> dict[str, Any]:
    """An open loop: requests go out on time, whatever became of those before them; latency counts
    from the time a request was due.
    """
    cpu = _Cpu(place)
    count = round(OFFERED_PER_S * seconds)
    began = time.perf_counter()
    took_ms, errors = asyncio.run(_at_rate(place, count, users))
    p50, p95, p99 = np.quantile(np.asarray(took_ms), (0.5, 0.95, 0.99))
    told = {
        "requests": count - errors, "seconds": time.perf_counter() - began, "errors": errors,
        "p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99),
        "offered_per_s": OFFERED_PER_S,
    }  # fmt: skip
    return _as_row(OFFERED_CONNECTIONS, 1, told) | cpu.spent()


async def _at_rate(place: Place, count: int, users: int) -> tuple[list[float], int]:
    rng = random.Random(SEED)
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(OFFERED_CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", place.port))
    started = time.perf_counter() + 0.05
    took_ms: list[float] = []
    errors = 0

    async def pay(number: int) -> None:
        nonlocal errors
        payer, payee = rng.sample(range(1, users + 1), 2)
        head = (
            f"POST /transfer/{payer}/{payee}/1.25 HTTP/1.1\r\nHost: bench\r\n"
            f"Authorization: Bearer {place.token}\r\nIdempotency-Key: {started}-{number}\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        connection = reader, writer = await free.get()
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        took_ms.append((time.perf_counter() - started - number / OFFERED_PER_S) * 1e3)
        errors += b" 201 " not in answer[:16]
        free.put_nowait(connection)

    paying = []
    for number in range(count):
        due = started + number / OFFERED_PER_S
        # A timer fires up to a millisecond late, which is not the service's: the rest is waited
        # for awake.
        await asyncio.sleep(max(0.0, due - time.perf_counter() - TIMER_S))
        while time.perf_counter() < due:
            await asyncio.sleep(0)
        paying.append(asyncio.ensure_future(pay(number)))
    await asyncio.wait_for(asyncio.gather(*paying), ANSWER_S_MAX)
    while not free.empty():
        free.get_nowait()[1].close()
    return took_ms, errors
