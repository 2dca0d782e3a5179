"""What ports.coordination promises, against real processes where it speaks of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from paytm_lab.core.errors import BadInput, Conflict, Unavailable
from paytm_lab.ports.coordination import Coordination
from tests.waiting import until

Make = Callable[[], Coordination]
DEADLINE_S = 30.0
ROOT = Path(__file__).parents[2]


class Process:
    """A running coordination_process.py."""

    def __init__(self, profile: str, place: str, command: str, *arguments: str) -> None:
        script = Path(__file__).with_name("coordination_process.py")
        self.popen = subprocess.Popen(
            [sys.executable, str(script), profile, place, command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def says(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def kill(self) -> None:
        """kill -9, and closed pipes."""
        self.popen.kill()
        with self.popen:
            pass


@pytest.fixture
def start(profile: str, coordination_place: str) -> Iterator[Callable[..., Process]]:
    with ExitStack() as processes:

        def start_one(command: str, *arguments: str) -> Process:
            process = Process(profile, coordination_place, command, *arguments)
            processes.callback(process.kill)
            return process

        yield start_one


# Leadership


def test_one_leader_at_a_time(make_coordination: Make) -> None:
    one, other = make_coordination(), make_coordination()
    leadership = one.try_lead("relay/shard-0")
    assert leadership is not None and leadership.held()
    assert other.try_lead("relay/shard-0") is None
    assert one.try_lead("relay/shard-0") is None, "nor a second time for the same client"
    leadership.release()
    leadership.release()
    assert not leadership.held()
    following = other.try_lead("relay/shard-0")
    assert following is not None and following.held()
    assert not leadership.held(), "false for good"


def test_names_are_led_apart(make_coordination: Make) -> None:
    coordination = make_coordination()
    names = ["a", "b", "a/b", "a.b", "a b", "..", ".", "a%2Fb", "पेटीएम", "A"]
    leaderships = [coordination.try_lead(name) for name in names]
    assert all(one is not None and one.held() for one in leaderships)


def test_close_gives_up_leadership_and_registrations(make_coordination: Make) -> None:
    one, other = make_coordination(), make_coordination()
    leadership = one.try_lead("sweeper")
    assert leadership is not None
    one.register("auth", "a", "127.0.0.1:8001")
    one.close()
    one.close()
    assert not leadership.held()
    assert other.try_lead("sweeper") is not None
    assert other.instances("auth") == {}
    with pytest.raises(Unavailable):
        one.try_lead("sweeper")


def test_of_many_threads_one_leads(make_coordination: Make) -> None:
    clients = [make_coordination() for _ in range(8)]
    with ThreadPoolExecutor(len(clients)) as threads:
        for number in range(20):
            gate = threading.Barrier(len(clients))

            def leads(
                client: Coordination, gate: threading.Barrier = gate, n: int = number
            ) -> bool:
                gate.wait()
                return client.try_lead(f"round-{n}") is not None

            assert sum(threads.map(leads, clients)) == 1


def test_two_processes_share_out_the_leaderships(start: Callable[..., Process]) -> None:
    names = [f"shard-{i}" for i in range(50)]
    rivals = [start("race", *names), start("race", *names)]
    for _ in names:
        for rival in rivals:
            rival.tell("go")
    won = [set(rival.says().split()) for rival in rivals]
    assert won[0] | won[1] == set(names)
    assert not won[0] & won[1]


def test_a_killed_leader_leads_no_more(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    here = make_coordination()
    for _ in range(3):
        there = start("lead", "recovery")
        assert there.says() == "leader"
        assert here.try_lead("recovery") is None
        there.kill()
        mine = []
        until(lambda mine=mine: mine.append(here.try_lead("recovery")) or mine[-1], "led here")
        assert mine[-1].held()
        late = start("lead", "recovery")
        assert late.says() == "nobody"
        mine[-1].release()


def test_a_frozen_leader_never_leads_beside_another(
    profile: str, make_coordination: Make, start: Callable[..., Process]
) -> None:
    """A lock of the kernel's stays with a frozen process; a server gives the lead to another after
    a while. Either way the leader knows when it wakes, and not a moment later.
    """
    here = make_coordination()
    there = start("lead_and_tell", "relay")
    assert there.says() == "True"
    os.kill(there.popen.pid, signal.SIGSTOP)
    mine = [here.try_lead("relay")]
    assert mine == [None]
    if profile == "servers":
        until(lambda: mine.append(here.try_lead("relay")) or mine[-1], "led here")
    there.tell("do you lead?")
    os.kill(there.popen.pid, signal.SIGCONT)
    held_there = there.says() == "True"
    held_here = mine[-1] is not None and mine[-1].held()
    assert held_there != held_here


def test_a_forked_child_neither_leads_nor_keeps_the_lock(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    here = make_coordination()
    there = start("lead_and_fork", "relay")
    said = sorted([there.says(), there.says()])
    assert said[0].endswith("holds False") and said[1] == "parent holds True"
    child = int(said[0].split()[1])
    assert here.try_lead("relay") is None, (
        "the child's end of the lock was closed, not the parent's"
    )
    there.popen.kill()
    there.popen.wait()
    try:
        until(lambda: here.try_lead("relay"), "led here although the child lives")
        os.kill(child, 0)
    finally:
        os.kill(child, 9)


# Documents


def test_a_document_is_made_once_and_replaced_by_version(make_coordination: Make) -> None:
    one, other = make_coordination(), make_coordination()
    assert one.read_document("shard_map") is None
    with pytest.raises(Conflict):
        one.write_document("shard_map", b"x", 1)
    first = one.write_document("shard_map", b"one", None)
    assert other.read_document("shard_map") == (b"one", first)
    with pytest.raises(Conflict):
        other.write_document("shard_map", b"two", None)
    second = other.write_document("shard_map", b"two", first)
    assert second > first
    with pytest.raises(Conflict):
        one.write_document("shard_map", b"late", first)
    assert one.read_document("shard_map") == (b"two", second)


@pytest.mark.parametrize("body", [b"", b"\n", b"7\n\n", bytes(range(256)) * 400], ids=len)
def test_any_bytes_are_kept(make_coordination: Make, body: bytes) -> None:
    coordination = make_coordination()
    version = coordination.write_document("d", body, None)
    assert coordination.read_document("d") == (body, version)


def test_documents_have_their_own_names(make_coordination: Make) -> None:
    coordination = make_coordination()
    names = ["a", "a.doc", "a/b", "../a", "a%2Fb", "a\n", "é"]
    for name in names:
        coordination.write_document(name, name.encode(), None)
    found = [coordination.read_document(name) for name in names]
    assert [f and f[0] for f in found] == [name.encode() for name in names]
    with pytest.raises(BadInput):
        coordination.write_document("", b"", None)


def test_documents_outlive_their_clients(make_coordination: Make) -> None:
    writer = make_coordination()
    version = writer.write_document("shard_map", b"kept", None)
    writer.close()
    assert make_coordination().read_document("shard_map") == (b"kept", version)


def test_no_increment_is_lost_between_processes(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    counters = [start("count", "n", "100") for _ in range(3)]
    assert [counter.says() for counter in counters] == ["counted"] * 3
    assert (make_coordination().read_document("n") or b"")[0] == b"300"


def test_a_reader_sees_a_document_before_or_after_but_never_between(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    coordination = make_coordination()
    writer = start("write_on", "d")
    assert writer.says() == "1"
    seen = set()
    while len(seen) < 30:
        found = coordination.read_document("d")
        assert found is not None
        assert found[0] == found[0][:12] * 5000
        seen.add(found[1])


def test_a_writer_killed_at_any_time_leaves_a_whole_document(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    coordination = make_coordination()
    acknowledged = 0
    for acknowledgements in (1, 2, 5, 9, 14):
        writer = start("write_on", "d")
        for _ in range(acknowledgements):
            acknowledged = int(writer.says())
        writer.kill()
        found = coordination.read_document("d")
        assert found is not None
        number = int(found[0][:12])
        assert found[0] == b"%012d" % number * 5000
        assert number >= acknowledged, "what was acknowledged is there"


# Watches


class Seen:
    def __init__(self) -> None:
        self.calls: list[tuple[bytes, int]] = []
        self.threads: set[int] = set()

    def __call__(self, body: bytes, version: int) -> None:
        self.calls.append((body, version))
        self.threads.add(threading.get_ident())

    def last(self) -> bytes | None:
        return self.calls[-1][0] if self.calls else None


def test_a_watch_sees_the_last_of_many_changes(make_coordination: Make) -> None:
    writer, reader = make_coordination(), make_coordination()
    version = writer.write_document("map", b"0", None)
    seen = Seen()
    reader.watch_document("map", seen)
    for i in range(1, 50):
        version = writer.write_document("map", b"%d" % i, version)
    until(lambda: seen.last() == b"49", "the last change is seen")
    versions = [v for _, v in seen.calls]
    assert versions == sorted({*versions, version}), "each version at most once, in order"
    assert threading.get_ident() not in seen.threads


def test_a_watch_sees_its_own_clients_writes_and_a_document_made_later(
    make_coordination: Make,
) -> None:
    coordination = make_coordination()
    seen = Seen()
    coordination.watch_document("map", seen)
    version = coordination.write_document("map", b"made", None)
    until(lambda: seen.calls == [(b"made", version)], "the creation is seen")


def test_a_watch_sees_another_processes_writes(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    seen = Seen()
    make_coordination().watch_document("n", seen)
    assert start("count", "n", "20").says() == "counted"
    until(lambda: seen.last() == b"20", "the other process' last write is seen")


def test_an_ended_watch_is_silent_and_a_failing_one_disturbs_no_other(
    make_coordination: Make,
) -> None:
    coordination = make_coordination()
    failed = threading.Event()

    def fail(body: bytes, version: int) -> None:
        failed.set()
        raise RuntimeError("a watcher's own mistake")

    ended, other = Seen(), Seen()
    end = coordination.watch_document("map", ended)
    coordination.watch_document("map", fail)
    coordination.watch_document("map", other)
    end()
    end()
    version = coordination.write_document("map", b"1", None)
    until(lambda: other.last() == b"1", "the first change is seen")
    coordination.write_document("map", b"2", version)
    until(lambda: other.last() == b"2", "and the second")
    assert failed.is_set()
    assert ended.calls == []


# Registrations


def test_instances_come_and_go(make_coordination: Make) -> None:
    one, other = make_coordination(), make_coordination()
    assert other.instances("auth") == {}
    leave = one.register("auth", "host:1", "127.0.0.1:8001")
    one.register("auth", ".hidden", "tcp://[::1]:8002")
    one.register("..", ".", "elsewhere")
    assert one.instances(".") == {}
    assert one.instances("..") == {".": "elsewhere"}
    other.register("fraud", "host:1", "127.0.0.1:8003")
    assert other.instances("auth") == {"host:1": "127.0.0.1:8001", ".hidden": "tcp://[::1]:8002"}
    assert one.instances("auth") == other.instances("auth")
    assert one.instances("fraud") == {"host:1": "127.0.0.1:8003"}
    leave()
    leave()
    assert other.instances("auth") == {".hidden": "tcp://[::1]:8002"}


def test_a_live_name_is_taken(make_coordination: Make) -> None:
    one, other = make_coordination(), make_coordination()
    leave = one.register("auth", "a", "first")
    with pytest.raises(Conflict):
        other.register("auth", "a", "second")
    assert other.instances("auth") == {"a": "first"}
    leave()
    other.register("auth", "a", "second")
    leave()
    assert one.instances("auth") == {"a": "second"}, "a late farewell removes nobody else"


def test_a_killed_instance_is_gone_and_its_name_free(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    here = make_coordination()
    there = start("register", "analytics", "a", "there")
    assert there.says() == "registered"
    assert here.instances("analytics") == {"a": "there"}
    there.kill()
    until(lambda: here.instances("analytics") == {}, "the dead instance is gone")
    here.register("analytics", "a", "here")
    assert here.instances("analytics") == {"a": "here"}


def test_lookers_see_the_living_whole_and_the_dead_never(
    make_coordination: Make, start: Callable[..., Process]
) -> None:
    """Many look at once while one instance stays, one comes and goes, and one was killed."""
    stayer, visitor = make_coordination(), make_coordination()
    stayer.register("s", "stays", "x" * 500)
    killed = start("register", "s", "dead", "z")
    assert killed.says() == "registered"
    killed.kill()
    until(lambda: "dead" not in visitor.instances("s"), "the dead instance is gone")
    done = threading.Event()
    expected = {"stays": "x" * 500, "visits": "y" * 500}

    def look(looker: Coordination) -> list[dict[str, str]]:
        wrong = []
        while not done.is_set():
            found = {"visits": "y" * 500} | looker.instances("s")
            if found != expected:
                wrong.append(found)
        return wrong

    with ThreadPoolExecutor(3) as threads:
        looks = threads.map(look, [make_coordination() for _ in range(3)])
        for _ in range(100):
            visitor.register("s", "visits", "y" * 500)()
        done.set()
        assert list(looks) == [[], [], []]
