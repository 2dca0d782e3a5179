"""The whole way of payments: posted, relayed, scored, counted, notified; where the time goes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from paytm_lab import children
from paytm_lab.benchmarks.cpu import CpuTable
from paytm_lab.benchmarks.engine import plan
from paytm_lab.core.errors import IntegrityError, Unavailable
from paytm_lab.core.events import EventType, Topic, unwrap
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.operations import PaymentRequest, Result
from paytm_lab.simulation.driver import LoadDriver
from paytm_lab.simulation.payments import Transfer, Workload

USERS = 10_000
PAYMENTS = 50_000
IN_FLIGHT = 256
SEED = 7
OPENING_PAISE = 10**9
SHARE = 0.75
WARM_PAYMENTS = 2_000
SUSTAINED_S = 60.0
BACKLOG_EVENTS = 12_000  # the slowest consumer is then about four seconds behind, at most
FILL_PAYMENTS = BACKLOG_EVENTS // 3  # analytics reads three events of each
OFFERED_PER_S = 200
OFFERED_S = 20.0
HERE, ELSEWHERE = ("shard_manager",), ("fraud", "analytics", "notifications")
DRAIN_S_MAX = 120.0
STORED_MIN = 0.005  # writes a payment: fewer are the lab's own bookkeeping
PART = 256
_MS = timedelta(milliseconds=1)


def run(
    data_dir: Path, quick: bool, open_lab: Callable[..., Any], server_pids: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Three measurements, by ``what``, and who used the processors.

    ``at once``: a workload posted as fast as it goes; ``payments_per_s`` from the first post to the
    last consumer done, ``posted_per_s``, ``drain_ratio`` (that time over the posting time).
    ``sustained``: uniform payments for a minute, never far ahead of the slowest consumer:
    ``payments_per_s`` posted in that minute, ``done_per_s`` that went all the way in it (as many as
    the slowest consumer handled), and ``lag_s``, the time until all was done after it.
    ``cpu``: in that minute, by process and the lab's own by thread: ``cpu_ms_per_payment`` and
    ``cpu_share`` of all that was used. ``stored``, where Cassandra does it: ``writes_per_payment``
    of each ``table``, from the warm-up until all of it was done. ``offered``: an open loop of 200
    a second; ``decision_ms_p50`` and ``p99`` from the time of the event to the decision about it.
    ``processes``: 1, all in one process; 4, as the services run: the consumers of fraud, analytics
    and notifications in processes of their own.

    Both labs end in a full audit: IntegrityError when one is not clean.
    """
    scale = 10 if quick else 1
    rows = []
    with open_lab(data=data_dir / "workload", seed=SEED) as lab:
        rows.append(_at_once(lab, scale))
        lab.audit().require_clean()
    with open_lab(data=data_dir / "uniform", seed=SEED) as lab:
        lab.open_accounts({str(n): OPENING_PAISE for n in range(1, USERS + 1)})
        lab.drain()
        rows += _sustained(lab, scale, server_pids)
        rows.append(_offered(lab, OFFERED_S / scale))
        lab.audit().require_clean()
    with open_lab(data=data_dir / "uniform", seed=SEED, consumers=HERE) as lab, ExitStack() as all_:
        words = ["--profile", lab.profile, "--data", str(data_dir / "uniform"), "--quiet"]
        pids = dict(server_pids)
        for group in ELSEWHERE:
            process = all_.enter_context(children.running(["consume", group, *words], {}))
            pids[f"lab: consume {group}"] = process.pid
        _offered(lab, WARM_PAYMENTS / OFFERED_PER_S / scale)  # until all of them have begun
        apart = {"processes": 1 + len(ELSEWHERE)}
        rows += [row | apart for row in _sustained(lab, scale, pids)]
        rows.append(_offered(lab, OFFERED_S / scale) | apart)
        all_.close()
        lab.audit().require_clean()
    return rows


def _at_once(lab: Any, scale: int) -> dict[str, Any]:
    payments = PAYMENTS // scale // (5 if lab.profile == "servers" else 1)
    run = lab.run(Workload(users=USERS // scale, payments=payments), in_flight=IN_FLIGHT)
    return {
        "what": "at once",
        "payments": run.submitted,
        "payments_per_s": round(run.submitted / run.drained_s, 1),
        "posted_per_s": round(run.payments_per_s, 1),
        "drain_ratio": round(run.drained_s / run.posting_s, 3),
        "seconds": round(run.drained_s, 2),
    }


def _sustained(lab: Any, scale: int, server_pids: Mapping[str, int]) -> list[dict[str, Any]]:
    rng = random.Random(f"{SEED}/sustained")
    system, seconds = lab.system, SUSTAINED_S / scale

    def payments(until: Callable[[int], bool]) -> Iterator[list[Transfer]]:
        made = 0
        while not until(made):
            rows = plan(SHARE, PART, rng, len(system.databases), USERS)
            made += PART
            yield [Transfer(n, row[0], row[1], row[4]) for n, row in enumerate(rows)]

    def post(until: Callable[[int], bool]) -> int:
        driver = LoadDriver(
            system.engine,
            in_flight=IN_FLIGHT,
            backlog=system.backlog,
            backlog_max=BACKLOG_EVENTS // scale,
        )
        posted = driver.run(payments(until))
        if posted.answers["COMPLETED"] != len(posted):
            raise IntegrityError(f"only {posted.answers} of {len(posted)} payments completed")
        return len(posted)

    writes: Callable[[], dict[str, int]] = getattr(system.wide, "writes", dict)
    written, produced = writes(), _produced(system)
    # Until the queues are as full as they will be: what fills them is no part of a rate.
    warm = post(lambda made: made >= FILL_PAYMENTS // scale)
    waiting, handled = system.backlog(), _handled(system)
    cpu = CpuTable(server_pids)
    started = time.monotonic()
    count = post(lambda _: time.monotonic() - started >= seconds)
    posted_s = time.monotonic() - started
    left, handled_then = system.backlog(), _handled(system)
    used = cpu.rows(count)
    ended = time.monotonic()
    _done_everywhere(lab)
    lag_s = time.monotonic() - ended
    records = {group: now - produced[group] for group, now in _produced(system).items()}
    done = min(
        (handled_then[group] - handled[group]) * (warm + count) / records[group]
        for group in records
    )
    row = {
        "what": "sustained",
        "payments": count,
        "payments_per_s": round(count / posted_s, 1),
        "done_per_s": round(done / posted_s, 1),
        "seconds": round(posted_s, 2),
        "lag_s": round(lag_s, 2),
        "events_waiting_first": waiting,
        "events_waiting_last": left,
        "processes": 1,
    }
    stored = {
        table: (now - written.get(table, 0)) / (warm + count) for table, now in writes().items()
    }
    return [
        row,
        *({"what": "cpu", **each, "processes": 1} for each in used),
        *(
            {"what": "stored", "table": t, "writes_per_payment": round(n, 3), "processes": 1}
            for t, n in stored.items()
            if n >= STORED_MIN
        ),
    ]


def _produced(system: Any) -> dict[str, int]:
    """By consumer group: all records of its topics."""
    return {
        group: sum(sum(system.log.end_offsets(topic)) for topic in runner.topics)
        for group, runner in system.runners.items()
    }


def _handled(system: Any) -> dict[str, int]:
    """By consumer group: the records that it has handled and committed."""
    return {group: made - system.lag(group) for group, made in _produced(system).items()}


def _offered(lab: Any, seconds: float) -> dict[str, Any]:
    """An open loop; the decisions are those that the log has for its payments."""
    rng = random.Random(f"{SEED}/offered")
    answers: list[Result] = []
    count = int(OFFERED_PER_S * seconds)
    ids = set()
    started = time.perf_counter() + 0.05
    for number, row in enumerate(plan(SHARE, count, rng, len(lab.system.databases), USERS)):
        wait = started + number / OFFERED_PER_S - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        request = PaymentRequest(row[0], row[1], row[4])
        ids.add(lab.system.engine.submit(request, answers.append))
    took_s = time.perf_counter() - started
    _done_everywhere(lab)
    took_ms = np.asarray(_decisions_ms(lab, {payment_id_text(each) for each in ids}))
    if len(took_ms) != count:
        raise IntegrityError(f"{len(took_ms)} decisions about {count} payments")
    p50, p99 = np.quantile(took_ms, (0.5, 0.99))
    return {
        "what": "offered",
        "payments": count,
        "payments_per_s": round(count / took_s, 1),
        "seconds": round(took_s, 2),
        "decision_ms_p50": round(float(p50), 1),
        "decision_ms_p99": round(float(p99), 1),
        "processes": 1,
    }


def _done_everywhere(lab: Any) -> None:
    """What this process has is drained; the consumers of others are waited for."""
    lab.drain()
    pause = threading.Event()
    until = time.monotonic() + DRAIN_S_MAX
    while waiting := lab.system.backlog():
        if time.monotonic() > until:
            raise Unavailable(f"{waiting} events wait still: {lab.system.waiting()}")
        pause.wait(0.05)


def _decisions_ms(lab: Any, payments: set[str]) -> list[float]:
    completed: dict[str, datetime] = {}
    scored: dict[str, datetime] = {}
    for record in lab.system.all_records():
        if record.topic not in (Topic.PAYMENT, Topic.FRAUD):
            continue
        event = unwrap(record.value)
        if event.subject in payments:
            if event.type == EventType.PAYMENT_COMPLETED:
                completed[event.subject] = datetime.fromisoformat(event.time)
            elif event.type == EventType.FRAUD_SCORE_CALCULATED:
                scored[event.subject] = datetime.fromisoformat(event.time)
    return [(at - completed[payment]) / _MS for payment, at in scored.items()]
