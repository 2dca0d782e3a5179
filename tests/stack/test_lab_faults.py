"""A whole lab under load while its real servers are killed or frozen and come back, on a stack of
its own: acknowledged and lost 0, a clean audit, every event once in effect, and how long it took.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

import pymysql
import pytest

from paytm_lab import Lab, Settings
from paytm_lab.core.errors import MissingPart, OutcomeUnknown, ShardUnavailable, Unavailable
from paytm_lab.messaging.topics import GROUPS, dead_letter
from paytm_lab.simulation.faults import FAULTS, find
from paytm_lab.stack.control import FROZEN, Stack
from paytm_lab.stack.faults import break_server
from paytm_lab.stack.up import up
from tests.faults import processes
from tests.faults.load import Load
from tests.faults.processes import Ledger
from tests.stack.part import whole_stack
from tests.waiting import answers, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PORT_OFFSET = 20_000
BROKEN = 2
SHARD, SERVER = f"shard-{BROKEN}", f"mysql-{BROKEN}"
BROKER_DOWN_S = 30.0
FROZEN_S = 20.0
PACE_S = 0.02  # an open load that two busy cores carry: what is offered is what is done
OPEN = 2_000  # payments in flight: nobody waits for those of the broken shard
AT_ONCE_S = 0.25
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with whole_stack(tmp_path_factory.mktemp("stack"), PORT_OFFSET) as stack:
        yield stack


@pytest.fixture(scope="module")
def lab(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all: what one test leaves undone, the audits of those after it find."""
    place: dict[str, Any] = {"stack_dir": stack.layout.root, "data": tmp_path_factory.mktemp("lab")}
    with Lab("servers", seed=1, velocity_limit=10**6, **place) as lab:
        yield lab


@pytest.fixture(autouse=True)
def all_up(stack: Stack) -> None:
    """Whatever the test before left behind."""
    if not all_ready(stack):
        up(stack.layout.root)


class Watch:
    """When what was asked for came back, in seconds from the heal's beginning."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._began = time.monotonic()
        self.back_s: dict[str, float] = {}

    def begin(self) -> None:
        self._began = time.monotonic()

    def reached(self, what: str) -> None:
        self.back_s[what] = round(time.monotonic() - self._began, 2)
        self._record("recovery", dict(self.back_s))


@pytest.fixture
def watch(record_property: Record) -> Watch:
    return Watch(record_property)


def require_well(lab: Lab, load: Load, watch: Watch) -> None:
    """All is answered, drained, consistent, there once in effect; nothing acknowledged is lost."""
    load.stop()
    lab.drain()
    watch.reached("all is drained after")
    assert all(lab.system.lag(group) == 0 for group in GROUPS)
    lab.audit().require_clean()
    ledger = Ledger.of(lab)
    acks = [(h.outcome.payment, h.status) for h in load.heard if h.outcome]
    assert len(acks) > 100
    ledger.require_acknowledged(acks)
    ledger.require_applied_once()
    processes.require_effects_once(lab, ledger)


def pays(lab: Lab, load: Load, phase: str) -> None:
    """Until a payment of this phase that touches the broken shard is completed."""
    load.phase = phase
    until(lambda: load.completed(phase, BROKEN), f"{SHARD} takes payments again")


def in_its_writer() -> bool:
    return threading.current_thread().name == f"writer-{BROKEN}"


def once_at(lab: Lab, point: str, action: Callable[[], None]) -> threading.Event:
    """Call ``action`` when the broken shard's writer comes by the point; set when it returned."""
    done = threading.Event()

    def reached() -> None:
        if in_its_writer() and lab.system.fault_points.pop(point, None) is not None:
            action()
            done.set()

    lab.system.fault_points[point] = reached
    return done


def root(stack: Stack, statement: str) -> list[tuple[Any, ...]]:
    place = str(stack.layout.data / SERVER / "mysql.sock")
    password = stack.passwords().mysql_root
    with closing(pymysql.connect(unix_socket=place, user="root", password=password)) as admin:
        cursor = admin.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall())


def restart(stack: Stack, watch: Watch) -> None:
    watch.begin()
    stack.start(SERVER)
    stack.wait_ready(SERVER)
    watch.reached("the server answers after")


@pytest.mark.parametrize("point", ["writer:before_commit", "writer:committed"])
def test_a_shard_is_killed_before_and_after_its_commit(
    point: str, stack: Stack, lab: Lab, watch: Watch
) -> None:
    with Load(lab, name=point, in_flight=OPEN, pace_s=PACE_S) as load:
        load.wait_for("before", 50)
        killed = once_at(lab, point, lambda: stack.kill(SERVER))
        until(killed.is_set)
        load.phase = "during"
        until(lambda: len(load.errors("during", ShardUnavailable)) >= 50)
        until(lambda: len(load.completed("during", BROKEN, other=True)) >= 50)
        refused = load.errors("during", ShardUnavailable)
        assert all(BROKEN in h.shards for h in refused), "others go on"
        assert median(h.latency_s for h in refused) < AT_ONCE_S, "it is said at once"
        others = load.of("during", BROKEN, other=True)
        assert {type(h.error) for h in others} == {type(None)}
        waiting = [h for h in others if not h.status]
        assert len(waiting) < 0.2 * len(others), "they go on at the rate at which they come"
        assert not load.completed("during", BROKEN)
        restart(stack, watch)
        pays(lab, load, "after")
        watch.reached("it takes payments after")
        require_well(lab, load, watch)


def test_a_shard_is_killed_while_it_commits(stack: Stack, lab: Lab, watch: Watch) -> None:
    with Load(lab, name="during", in_flight=OPEN, pace_s=PACE_S) as load:
        load.wait_for("before", 50)
        # A commit is written and waits a second until it is synced and answered; meanwhile payments
        # gather for the next.
        root(stack, "SET GLOBAL binlog_group_commit_sync_delay = 1000000")
        load.phase = "during"
        stats = lab.system.writers[BROKEN].stats
        batches = stats.batches + 3
        until(lambda: stats.batches >= batches)
        committing = (
            "SELECT 1 FROM information_schema.processlist WHERE user = 'paytm_lab'"
            " AND state = 'waiting for handler commit'"
        )
        until(lambda: root(stack, committing), "a commit is under way")
        stack.kill(SERVER)
        until(lambda: load.errors("during", OutcomeUnknown), "its callers are told so")
        restart(stack, watch)
        pays(lab, load, "after")
        watch.reached("it takes payments after")
        load.stop()
        # Who repeats with the same key learns what became of the first; nothing is paid twice.
        unknown = load.errors("during", OutcomeUnknown)
        for heard in unknown:
            outcome = lab.system.engine.transfer(heard.request)
            assert outcome.status == "COMPLETED"
            assert isinstance(heard.error, OutcomeUnknown)
            assert outcome.payment == heard.error.payment_id or not outcome.repeated
        require_well(lab, load, watch)


def test_a_frozen_shard_does_not_take_the_others_with_it(
    stack: Stack, lab: Lab, watch: Watch
) -> None:
    with Load(lab, name="frozen", in_flight=OPEN, pace_s=PACE_S) as load:
        load.wait_for("before", 100)
        before_s = median(h.latency_s for h in load.completed("before", BROKEN, other=True))
        with lab.fault(SHARD, "frozen"):
            load.phase = "during"
            thaw_at = time.monotonic() + FROZEN_S
            assert stack.state(stack.server(SERVER)).state == FROZEN
            until(lambda: time.monotonic() >= thaw_at)
            others = load.of("during", BROKEN, other=True)
            done = load.completed("during", BROKEN, other=True)
            assert len(done) > 0.95 * len(others), "they go on at the rate at which they come"
            assert len(others) > 0.3 * FROZEN_S / PACE_S
            assert median(h.latency_s for h in done) < 3 * before_s + 0.1
            refused = load.errors("during", ShardUnavailable)
            assert median(h.latency_s for h in refused) < AT_ONCE_S, "after the first it is known"
            watch.begin()
        pays(lab, load, "after")
        watch.reached("it takes payments after")
        require_well(lab, load, watch)


def test_the_broker_is_down_for_long_and_redis_meanwhile(
    lab: Lab, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    def waiting() -> int:
        return sum(database.outbox_rows() for database in lab.system.databases.values())

    with Load(lab, name="broker", in_flight=OPEN, pace_s=PACE_S) as load:
        load.wait_for("before", 50)
        with lab.fault("event-log", "gone"):
            heal_at = time.monotonic() + BROKER_DOWN_S
            load.wait_for("broker down", 50)
            rows = waiting()
            with lab.fault("cache", "gone"):
                load.wait_for("redis down", 50)
            load.wait_for("redis back", 50)
            assert waiting() > rows + 150, "each leaves two events at least"
            until(lambda: time.monotonic() >= heal_at)
            down = [
                h for phase in ("broker down", "redis down", "redis back") for h in load.of(phase)
            ]
            assert [h for h in down if h.error] == [], "payments are not touched"
            watch.begin()
        watch.reached("the server answers after")
        load.wait_for("after", 50)
        until(lambda: waiting() < rows, "the outboxes drain")
        watch.reached("outboxes are nearly empty after")
        require_well(lab, load, watch)
    well = Counter(r.message for r in caplog.records if r.message.endswith("is well again"))
    assert sum(what.startswith("relay of shard") for what in well) == len(lab.system.relays)
    assert max(well.values()) <= 2, "said once, not at every try"


def test_coordination_is_gone(lab: Lab, watch: Watch) -> None:
    relays = lab.system.relays.values()
    with Load(lab, name="zookeeper", in_flight=OPEN, pace_s=PACE_S) as load:
        load.wait_for("before", 50)
        with lab.fault("coordination", "gone"):
            load.phase = "during"
            until(lambda: not any(relay.leads() for relay in relays), "leaders resign")
            load.wait_for("during", 100)
            assert [h for h in load.of("during") if h.error] == [], "payments go on"
            watch.begin()
        watch.reached("the server answers after")
        until(lambda: all(relay.leads() for relay in relays), "leaders are found anew")
        watch.reached("relays lead again after")
        load.wait_for("after", 50)
        require_well(lab, load, watch)


def test_the_wide_store_is_gone_and_no_feature_is_missing(lab: Lab, watch: Watch) -> None:
    with Load(lab, name="cassandra", in_flight=OPEN, pace_s=PACE_S) as load:
        load.wait_for("before", 50)
        with lab.fault("wide-store", "gone"):
            load.wait_for("during", 100)
            until(lambda: min(map(lab.system.lag, ("analytics", "fraud", "notifications"))) > 50)
            assert [h for h in load.of("during") if h.error] == [], "payments go on"
            watch.begin()
        watch.reached("the server answers after")
        load.wait_for("after", 50)
        require_well(lab, load, watch)


IN_PROCESS = (
    ("shard-0", "slow"), ("shard-1", "lost-commit"), ("shard-3", "lost-commit-down"),
    ("relay", "stopped"), ("consumer-analytics", "slow"), ("consumer-notifications", "dead"),
    ("payment_events", "poison"),
)  # fmt: skip


def test_the_faults_that_stop_no_server_are_the_same_here(
    stack: Stack, lab: Lab, tmp_path: Path, watch: Watch
) -> None:
    assert {kind for _, kind in IN_PROCESS} == {
        fault.kind for fault in FAULTS if not fault.signal and fault.target != "process"
    }
    readers = [group for group, topics in GROUPS.items() if "payment_events" in topics]
    crashing = fault_verb(stack, tmp_path, "process", "crash-after-leg-b", "--json")
    with Load(lab, name="in process", in_flight=OPEN, pace_s=PACE_S) as load:
        for target, kind in IN_PROCESS:
            with lab.fault(target, kind):
                load.wait_for(f"{target} {kind}", 20)
        until(
            lambda: sum(lab.system.log.end_offsets(dead_letter("payment_events"))) == len(readers)
        )
        watch.begin()
        load.wait_for("after", 50)
        require_well(lab, load, watch)
    # Meanwhile a process of its own died in a lab of its own.
    said, _ = crashing.communicate(timeout=processes.TIMEOUT_S)
    crashed = json.loads(said)
    assert (crashed["lost"], crashed["audit"]["verdict"]) == (0, "passed")
    assert crashed["acknowledged"] >= 300


def fault_verb(stack: Stack, data: Path, *words: str) -> subprocess.Popen[bytes]:
    """`paytm-lab fault`, for as long as it is let."""
    more = ("--profile", "servers", "--seconds", "600", "--data", str(data))
    environment = processes.environment(PAYTM_LAB_STACK_DIR=str(stack.layout.root))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return processes.start("fault", *words, *more, env=environment, **pipes)


def is_frozen(stack: Stack) -> bool:
    return stack.state(stack.server(SERVER)).state == FROZEN


def all_ready(stack: Stack) -> bool:
    return all(stack.ready(server.name) for server in stack.servers())


def test_ctrl_c_and_sigterm_heal_and_stack_up_heals_after_a_kill(
    stack: Stack, tmp_path: Path, watch: Watch
) -> None:
    def struck(target: str) -> bool:
        return is_frozen(stack) if target == SHARD else stack.pid("redis") is None

    for number, target, kind in (
        (signal.SIGINT, SHARD, "frozen"),
        (signal.SIGTERM, "cache", "gone"),
        (signal.SIGKILL, SHARD, "frozen"),
    ):
        verb = fault_verb(stack, tmp_path, target, kind)
        try:
            until(lambda target=target: struck(target), f"{target} {kind}")
            watch.begin()
            verb.send_signal(number)
            _, said = verb.communicate(timeout=processes.TIMEOUT_S)
        finally:
            verb.kill()
        if number == signal.SIGKILL:
            assert struck(target)
            up(stack.layout.root)
        else:
            assert verb.returncode == 130, said.decode()
            assert b"interrupted" in said
        watch.reached(f"{target} healed, {number.name} to the verb,")
        assert all_ready(stack)


def test_a_heal_that_fails_names_the_server_and_how_to_start_it(stack: Stack, lab: Lab) -> None:
    place = ("127.0.0.1", stack.server("redis").port)
    with ExitStack() as taken, pytest.raises(Unavailable) as raised, lab.fault("cache", "gone"):
        taken.enter_context(socket.create_server(place))
    assert "redis is still down" in str(raised.value)
    assert f"paytm-lab stack up --dir {stack.layout.root}" in raised.value.remedy
    up(stack.layout.root)
    assert stack.ready("redis")
    until(lambda: answers(lambda: lab.system.cache.get("k")))


@pytest.mark.parametrize(
    ("target", "kind", "other"),
    [
        (SHARD, "down", {"mysql_servers": "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:4"}),
        (SHARD, "frozen", {"mysql_servers": "db0:23306,db1:23307,db2:23308,db3:23309"}),
        ("cache", "gone", {"redis_server": "127.0.0.1:6379"}),
        ("event-log", "gone", {"kafka_servers": "127.0.0.1:29092,127.0.0.1:29093"}),
        ("wide-store", "gone", {"stack_dir": Path("/nonexistent")}),
    ],
)
def test_servers_that_are_not_this_stacks_are_not_touched(
    target: str, kind: str, other: dict[str, Any], stack: Stack
) -> None:
    pids = {server.name: stack.pid(server.name) for server in stack.servers()}
    settings = Settings(**{"profile": "servers", "stack_dir": stack.layout.root} | other)
    with pytest.raises(MissingPart) as raised:
        break_server(settings, target, find(target, kind).signal)
    assert "PAYTM_LAB_STACK_DIR" in raised.value.remedy
    assert pids == {server.name: stack.pid(server.name) for server in stack.servers()}
    assert all_ready(stack)


CLOSED_S_MAX = 10.0
# By the name that the line gives it. Redis answers within a second or is done without.
NEEDED_TO_CLOSE = {
    SERVER: SHARD, "kafka": "event-log", "cassandra": "wide-store", "zookeeper": "coordination",
}  # fmt: skip


@pytest.mark.parametrize("name", [SERVER, "kafka", "cassandra", "redis", "zookeeper"])
def test_a_lab_is_closed_in_time_whatever_is_frozen_and_loses_nothing(
    name: str, stack: Stack, tmp_path: Path, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    own: dict[str, Any] = {"stack_dir": stack.layout.root, "data": tmp_path}
    with Lab("servers", seed=1, velocity_limit=10**6, **own) as closing:
        load = Load(closing, name="closing", in_flight=OPEN, pace_s=PACE_S)
        with load:
            load.wait_for("before", 100)
            load.phase = "frozen"
            stack.freeze(name)
            until(lambda: len(load.of("frozen")) > 50)
        # With what is in flight on all shards.
        watch.begin()
        closing.close()
        watch.reached(f"closed, {name} frozen, in")
        assert watch.back_s[f"closed, {name} frozen, in"] < CLOSED_S_MAX
    said = [r.getMessage() for r in caplog.records if "closed without" in r.message]
    if name in NEEDED_TO_CLOSE:
        assert [NEEDED_TO_CLOSE[name] in line for line in said] == [True]
    if name == SERVER:
        assert all(h.outcome or h.error for h in load.heard), "everybody was answered"
        others = load.of("frozen", BROKEN, other=True)
        assert {h.status for h in others} == {"COMPLETED"}, "the others finish what they have"
    stack.thaw(name)
    stack.wait_ready(name)
    with Lab("servers", seed=1, velocity_limit=10**6, **own) as again:
        require_well(again, load, watch)
