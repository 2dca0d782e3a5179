"""What becomes of coordination when ZooKeeper is killed or frozen: on a ZooKeeper of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError

from paytm_lab.backends.servers.coordination import ZooKeeperCoordination
from paytm_lab.core.errors import CommitOutcomeLost, Conflict, Unavailable
from paytm_lab.stack import zookeeper as zookeeper_server
from paytm_lab.stack.control import Stack
from tests.stack.part import part_of_a_stack
from tests.waiting import until

PORT_OFFSET = 23_000
SESSION_S = 2.0
DEADLINE_S = 30.0
Make = Callable[..., ZooKeeperCoordination]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of which only ZooKeeper runs."""
    with part_of_a_stack(tmp_path_factory.mktemp("stack"), PORT_OFFSET, "zookeeper") as stack:
        stack.start("zookeeper")
        yield stack


@pytest.fixture
def zookeeper(stack: Stack) -> Iterator[Stack]:
    stack.start("zookeeper")
    stack.wait_ready("zookeeper")
    yield stack
    if stack.pid("zookeeper") is not None:
        stack.thaw("zookeeper")


@pytest.fixture
def make(zookeeper: Stack, request: pytest.FixtureRequest) -> Iterator[Make]:
    with ExitStack() as clients:

        def one(session_s: float = SESSION_S, request_s: float = 5.0) -> ZooKeeperCoordination:
            client = ZooKeeperCoordination(
                f"127.0.0.1:{zookeeper.server('zookeeper').port}",
                f"/paytm_lab_{request.node.name}",
                session_timeout_s=session_s,
                request_timeout_s=request_s,
            )
            clients.callback(client.close)
            return client

        yield one


def test_a_killed_zookeeper_ends_every_leadership_at_once_and_for_good(
    zookeeper: Stack, make: Make
) -> None:
    one, other = make(session_s=10.0, request_s=0.5), make(session_s=10.0)
    leadership = one.try_lead("relay")
    assert leadership is not None and leadership.held()
    zookeeper.kill("zookeeper")
    until(lambda: not leadership.held(), "the leader gives up", within_s=1.0)
    with pytest.raises(Unavailable):
        one.try_lead("relay")
    zookeeper.start("zookeeper")
    following = []
    until(lambda: _tried(other, following), "led again")
    assert not leadership.held()
    leadership.release()
    assert following[-1].held(), "a late release takes nothing from the next leader"


def _tried(coordination: ZooKeeperCoordination, got: list) -> bool:
    """It leads now; False also while ZooKeeper is away."""
    try:
        leadership = coordination.try_lead("relay")
    except Unavailable:
        return False
    if leadership is not None:
        got.append(leadership)
    return leadership is not None


def test_the_same_client_leads_again_after_a_restart(zookeeper: Stack, make: Make) -> None:
    """Its own node of before is in its way for most of the session's time, unless removed."""
    one = make(session_s=40.0)
    leadership = one.try_lead("relay")
    assert leadership is not None
    zookeeper.kill("zookeeper")
    until(lambda: not leadership.held(), "the leader gives up", within_s=1.0)
    zookeeper.start("zookeeper")
    zookeeper.wait_ready("zookeeper")
    following = []
    assert until(lambda: _tried(one, following), "led again") < 25.0


def test_a_frozen_zookeeper_ends_leadership_before_the_session_can_end(
    zookeeper: Stack, make: Make
) -> None:
    one, other = make(), make(request_s=0.5)
    leadership = one.try_lead("relay")
    assert leadership is not None
    other.instances("auth")
    zookeeper.freeze("zookeeper")
    took_s = until(lambda: not leadership.held(), "the leader gives up", within_s=SESSION_S)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        other.try_lead("relay")
    assert time.monotonic() - began < SESSION_S
    zookeeper.thaw("zookeeper")
    following = []
    until(lambda: _tried(other, following), "led again")
    assert not leadership.held()
    assert took_s < SESSION_S


def test_a_leader_gives_up_within_what_the_server_grants_not_what_was_asked_for(
    zookeeper: Stack,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    granted_s, asked_s = 2 * SESSION_S, 20 * SESSION_S
    longest = {"maxSessionTimeout": str(round(granted_s * 1000))}
    monkeypatch.setattr(zookeeper_server, "SETTINGS", zookeeper_server.SETTINGS | longest)
    try:
        zookeeper.stop("zookeeper")
        zookeeper.start("zookeeper")
        zookeeper.wait_ready("zookeeper")
        one = make(session_s=asked_s)
        leadership = one.try_lead("relay")
        assert leadership is not None
        assert one._session.lease.timeout_s == pytest.approx(granted_s)
        assert f"gives sessions of {granted_s:g} s, not {asked_s:g} s" in caplog.text
        # It asks often enough for so short a session.
        held_until_s = time.monotonic() + 1.5 * granted_s
        until(lambda: not leadership.held() or time.monotonic() > held_until_s, "time goes by")
        assert leadership.held()
        zookeeper.freeze("zookeeper")
        until(lambda: not leadership.held(), "the leader gives up", within_s=granted_s)
    finally:
        zookeeper.kill("zookeeper")  # the next one has its usual settings


def test_a_request_to_lead_whose_answer_was_lost_leaves_no_leader_behind(
    zookeeper: Stack, make: Make
) -> None:
    """The server carries it out when it wakes: nobody would know, and nobody could lead."""
    one, other = make(session_s=15.0, request_s=0.5), make(session_s=15.0)
    assert one.instances("auth") == other.instances("auth") == {}
    zookeeper.freeze("zookeeper")
    with pytest.raises(Unavailable):
        one.try_lead("relay")
    zookeeper.thaw("zookeeper")
    following = []
    assert until(lambda: _tried(other, following), "led by another") < 10.0


def test_a_write_whose_answer_was_lost_says_so(zookeeper: Stack, make: Make) -> None:
    one = make(session_s=15.0, request_s=0.5)
    version = one.write_document("map", b"before", None)
    zookeeper.freeze("zookeeper")
    with pytest.raises(CommitOutcomeLost):
        one.write_document("map", b"after", version)
    zookeeper.thaw("zookeeper")
    until(lambda: make().read_document("map") == (b"after", version + 1), "written all the same")


def test_a_write_that_is_repeated_knows_its_own_first_try(zookeeper: Stack, make: Make) -> None:
    """The connection is given up while the server is frozen; the write is there when it wakes."""
    one = make(request_s=20.0)
    version = one.write_document("map", b"before", None)
    leadership = one.try_lead("relay")  # loses its hold when the connection is given up
    assert leadership is not None
    zookeeper.freeze("zookeeper")
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(one.write_document, "map", b"after", version)
        until(lambda: not one._session.connected, "the connection is given up")
        zookeeper.thaw("zookeeper")
        assert writing.result(DEADLINE_S) == version + 1
    assert one.read_document("map") == (b"after", version + 1)


def test_documents_survive_kill_and_watches_go_on(zookeeper: Stack, make: Make) -> None:
    writer, reader = make(), make()
    version = writer.write_document("map", b"one", None)
    seen: list[tuple[bytes, int]] = []
    reader.watch_document("map", lambda body, version: seen.append((body, version)))
    zookeeper.kill("zookeeper")
    zookeeper.start("zookeeper")
    zookeeper.wait_ready("zookeeper")
    assert writer.read_document("map") == (b"one", version)
    version = writer.write_document("map", b"two", version)
    until(lambda: seen == [(b"two", version)], "the change after the restart is seen")


def test_an_instance_is_announced_again_after_its_session_ended(
    zookeeper: Stack, make: Make
) -> None:
    one, other = make(), make()
    leave = one.register("auth", "a", "127.0.0.1:8001")
    ended = one._session._client.client_id

    def ends() -> bool:
        """Whoever comes with a session's id and password takes it over and ends it with himself;
        ``one`` may come back first and take it from him. True once ``one`` has another.
        """
        now = one._session._client.client_id
        if now == ended:
            place = f"127.0.0.1:{zookeeper.server('zookeeper').port}"
            usurper = KazooClient(place, client_id=ended)
            with suppress(KazooTimeoutError):
                usurper.start(timeout=SESSION_S)
            usurper.stop()
            usurper.close()
        return now not in (None, ended)

    until(ends, "its session ended")

    def announced_anew() -> bool:
        return other.instances("auth") == {"a": "127.0.0.1:8001"}

    until(announced_anew, "announced by the new session")
    with pytest.raises(Conflict):
        other.register("auth", "a", "another")
    leave()
    assert other.instances("auth") == {}


def test_close_does_not_wait_for_a_zookeeper_that_is_away(zookeeper: Stack, make: Make) -> None:
    frozen_out, shut_out, never_in = make(), make(), make(request_s=0.5)
    for client in (frozen_out, shut_out):
        client.register("auth", str(id(client)), "x")
        client.watch_document("map", lambda body, version: None)
    zookeeper.freeze("zookeeper")
    began = time.monotonic()
    frozen_out.close()
    zookeeper.kill("zookeeper")
    with pytest.raises(Unavailable):
        never_in.read_document("map")
    shut_out.close()
    never_in.close()
    assert time.monotonic() - began < 15.0
    assert not [t for t in threading.enumerate() if t.name in ("zookeeper-keeper",)]
