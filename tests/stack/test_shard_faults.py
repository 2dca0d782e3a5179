"""What callers of a shard see when its MySQL server is killed, frozen, read-only or says no: on a
server of their own.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pymysql
import pytest
from sqlalchemy import text

from paytm_lab.backends.servers.mysql_server import LOCK_WAIT_S, WRITE_TIMEOUT_S, MySqlServer
from paytm_lab.backends.servers.shard_database import MySqlShardDatabase
from paytm_lab.core.errors import (
    CommitOutcomeLost,
    ConnectionLost,
    Deadlock,
    LockTimeout,
    PaytmLabError,
    ShardUnavailable,
    StorageCorrupt,
)
from paytm_lab.ledger import schema
from paytm_lab.ports.shard_database import ShardMeta
from paytm_lab.stack.control import Stack
from tests.stack.part import part_of_a_stack
from tests.waiting import until

PORT_OFFSET = 24_500
DEADLINE_S = 60.0
NAME = "mysql-0"
LOST = (ConnectionLost, CommitOutcomeLost, ShardUnavailable)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of which only the first MySQL server runs."""
    with part_of_a_stack(tmp_path_factory.mktemp("stack"), PORT_OFFSET, NAME) as stack:
        yield stack


@pytest.fixture
def server(stack: Stack) -> Iterator[MySqlServer]:
    stack.start(NAME)
    stack.wait_ready(NAME)
    port, password = stack.server(NAME).port, stack.passwords().mysql
    yield MySqlServer("127.0.0.1", port, "paytm_lab", password, "paytm_lab")
    if stack.pid(NAME) is not None:
        stack.thaw(NAME)


def shard_on(server: MySqlServer) -> MySqlShardDatabase:
    return MySqlShardDatabase(server, 0, schema.metadata, schema.INSERT_COLUMNS)


def create(database: MySqlShardDatabase) -> None:
    meta = ShardMeta(0, 1, b"\xff" * 128)
    database.create(schema.system_accounts(1), meta, schema.FIRST_USER_ACCOUNT_ID, 1)


@pytest.fixture
def shard(server: MySqlServer) -> Iterator[MySqlShardDatabase]:
    with closing(shard_on(server)) as database:
        create(database)
        tx = database.begin()
        tx.insert("accounts", [account("a"), account("b")])
        tx.commit()
        yield database
    shard_on(server).drop()


def account(user: str) -> tuple[Any, ...]:
    return (user, 0, 0, "INR", "active", 0, 0, None, 1, 1)


def add(database: MySqlShardDatabase, event: str) -> None:
    tx = database.begin()
    try:
        tx.defer()
        tx.insert("applied_events", [(event, 1)])
        tx.commit()
    finally:
        tx.rollback()


def works(database: MySqlShardDatabase, event: str) -> bool:
    with suppress(*LOST):
        add(database, event)
        return True
    return False


def root_says(stack: Stack, *statements: str) -> list[tuple[Any, ...]]:
    place = str(stack.layout.data / NAME / "mysql.sock")
    password = stack.passwords().mysql_root
    with closing(pymysql.connect(unix_socket=place, user="root", password=password)) as admin:
        cursor = admin.cursor()
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def end_connections(stack: Stack) -> None:
    """As an operator would; each is gone when this returns."""
    listing = "SELECT id FROM information_schema.processlist WHERE user = 'paytm_lab'"
    for (number,) in root_says(stack, listing):
        root_says(stack, f"KILL {number}")
    until(lambda: not root_says(stack, listing), "their connections are gone")


def test_killed_while_it_commits_it_loses_nothing_acknowledged(
    stack: Stack, shard: MySqlShardDatabase
) -> None:
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    in_doubt: list[str] = []
    surely_not: list[str] = []

    def write(number: int) -> None:
        for i in range(100_000):
            event = f"{number}-{i}"
            try:
                add(shard, event)
                acknowledged[number].append(event)
            except CommitOutcomeLost:
                in_doubt.append(event)
                return
            except (ConnectionLost, ShardUnavailable):
                surely_not.append(event)
                return

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    until(lambda: min(map(len, acknowledged)) >= 50, "some are stored")
    stack.kill(NAME)
    for writer in writers:
        writer.join(DEADLINE_S)
        assert not writer.is_alive(), "who wrote while it died is told so"
    for ask in (shard.begin, shard.ping, shard.outbox_rows, lambda: shard.read_outbox(1)):
        with pytest.raises(ShardUnavailable, match="shard-0"):
            ask()
    with pytest.raises(ShardUnavailable), shard.read():
        pass
    stack.start(NAME)
    stack.wait_ready(NAME)
    until(lambda: works(shard, "after"), "the same client goes on")
    with shard.read() as reader:
        found = set(reader.execute(text("SELECT event_id FROM applied_events")).scalars())
    stored = {event for events in acknowledged for event in events}
    assert stored <= found
    assert found <= stored | set(in_doubt) | {"after"}
    assert not found & set(surely_not)


def test_frozen_it_holds_a_caller_for_one_time_limit(
    stack: Stack, shard: MySqlShardDatabase
) -> None:
    reading, committing = shard.begin(), []
    reading.lock_accounts(["a"])

    def commit() -> None:
        tx = shard.begin()
        tx.insert("applied_events", [("in doubt", 1)])
        ready.set()
        assert frozen.wait(DEADLINE_S)
        try:
            tx.commit()
        except PaytmLabError as error:
            committing.append(error)

    ready, frozen = threading.Event(), threading.Event()
    other = threading.Thread(target=commit)
    other.start()
    assert ready.wait(DEADLINE_S)
    stack.freeze(NAME)
    frozen.set()
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        reading.lock_accounts(["b"])
    other.join(DEADLINE_S)
    assert [type(error) for error in committing] == [CommitOutcomeLost]
    with pytest.raises(ShardUnavailable):
        shard.begin()  # it accepts connections, and says nothing
    assert time.monotonic() - began < 2 * WRITE_TIMEOUT_S + 3
    stack.thaw(NAME)
    until(lambda: works(shard, "thawed"), "the same client goes on")
    tx = shard.begin()
    assert "thawed" in tx.applied_events(["thawed", "in doubt"])
    tx.rollback()


def test_closing_cuts_whoever_waits_for_a_frozen_server(
    stack: Stack, server: MySqlServer, shard: MySqlShardDatabase
) -> None:
    heard: dict[str, PaytmLabError] = {}

    def ask(name: str, question: Callable[[], object]) -> None:
        try:
            question()
        except PaytmLabError as error:
            heard[name] = error

    def read() -> None:
        with shard.read() as reader:
            started.wait(DEADLINE_S)
            reader.execute(text("SELECT 1 FROM accounts"))

    def write() -> None:
        tx = shard.begin()
        tx.insert("applied_events", [("cut", 1)])
        started.wait(DEADLINE_S)
        tx.commit()

    started = threading.Barrier(3)
    asking = [threading.Thread(target=ask, args=(f.__name__, f)) for f in (read, write)]
    for thread in asking:
        thread.start()
    until(lambda: started.n_waiting == 2, "both are connected")
    stack.freeze(NAME)
    started.wait(DEADLINE_S)
    # New connections too: the server's system takes them, and it says no word.
    asking += [threading.Thread(target=ask, args=("connect", shard.begin))]
    asking[-1].start()
    until(lambda: len(shard._connections[0]._all) > 1, "it is being made")
    began = time.monotonic()
    shard.close()
    for thread in asking:
        thread.join(DEADLINE_S)
    stack.thaw(NAME)
    assert time.monotonic() - began < 1
    assert type(heard.pop("write")) is CommitOutcomeLost
    assert heard.keys() == {"read", "connect"}
    assert {type(error) for error in heard.values()} <= {ConnectionLost, ShardUnavailable}


def test_a_connection_that_was_cut_is_never_used_again(
    stack: Stack, shard: MySqlShardDatabase
) -> None:
    tx = shard.begin()
    tx.lock_accounts(["a"])
    end_connections(stack)
    with pytest.raises(ConnectionLost):
        tx.insert("applied_events", [("lost", 1)])
    with pytest.raises(ConnectionLost):
        tx.commit()
    tx.rollback()
    add(shard, "next")
    assert len(shard.read_outbox(1)) == 0
    end_connections(stack)
    assert shard.ping() > 0, "readers try a connection before they use it"


def test_idle_connections_that_were_cut_cost_one_try(
    stack: Stack, shard: MySqlShardDatabase
) -> None:
    busy = [threading.Thread(target=add, args=(shard, f"warm-{n}")) for n in range(4)]
    for thread in busy:
        thread.start()
    for thread in busy:
        thread.join(DEADLINE_S)
    end_connections(stack)
    assert not works(shard, "first")
    assert works(shard, "second"), "all idle ones were dropped with the first"


def test_two_who_wait_for_each_other_and_one_who_waits_too_long(
    shard: MySqlShardDatabase, server: MySqlServer
) -> None:
    with closing(shard_on(server)) as second:
        mine, others = shard.begin(), second.begin()
        mine.lock_accounts(["a"])
        others.lock_accounts(["b"])
        met: list[PaytmLabError] = []

        def cross() -> None:
            try:
                others.lock_accounts(["a"])
            except PaytmLabError as error:
                met.append(error)
            others.rollback()

        thread = threading.Thread(target=cross)
        thread.start()
        try:
            mine.lock_accounts(["b"])
        except PaytmLabError as error:
            met.append(error)
        began = time.monotonic()
        mine.rollback()
        thread.join(DEADLINE_S)
        assert [type(error) for error in met] == [Deadlock]
        holder, waiter = shard.begin(), second.begin()
        holder.lock_accounts(["a"])
        began = time.monotonic()
        with pytest.raises(LockTimeout):
            waiter.lock_accounts(["a"])
        assert LOCK_WAIT_S - 1 < time.monotonic() - began < LOCK_WAIT_S + 2
        waiter.rollback()
        holder.rollback()


def test_a_transaction_that_its_thread_forgot_holds_no_lock(shard: MySqlShardDatabase) -> None:
    def forget() -> None:
        shard.begin().lock_accounts(["a"])

    thread = threading.Thread(target=forget)
    thread.start()
    thread.join(DEADLINE_S)
    gc.collect()
    tx = shard.begin()
    assert len(tx.lock_accounts(["a"])) == 1
    tx.rollback()


def test_read_only_it_is_unavailable_and_nothing_is_changed(
    stack: Stack, shard: MySqlShardDatabase
) -> None:
    root_says(stack, "SET GLOBAL super_read_only = ON")
    try:
        with pytest.raises(ShardUnavailable):
            add(shard, "refused")
        assert shard.ping() > 0
    finally:
        root_says(stack, "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
    tx = shard.begin()
    assert tx.applied_events(["refused"]) == set()
    tx.rollback()


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"user": "nobody"}, {"database": "shop"}])
def test_who_may_not_in_is_told_what_to_check(server: MySqlServer, wrong: dict[str, str]) -> None:
    with closing(shard_on(server._replace(**wrong))) as stranger:
        for ask in (stranger.begin, stranger.ping, lambda: create(stranger)):
            with pytest.raises(ShardUnavailable) as raised:
                ask()
            assert "PAYTM_LAB_MYSQL_USER" in raised.value.remedy


def test_what_a_crash_left_half_made_is_finished(
    server: MySqlServer, shard: MySqlShardDatabase
) -> None:
    shard.require_created()
    tx = shard.begin()
    for statement in ("DROP TABLE debts", "DELETE FROM accounts", "DELETE FROM shard_meta"):
        tx._run(statement)
    tx.commit()
    with closing(shard_on(server)) as again:
        with pytest.raises(StorageCorrupt):
            again.require_created()
        create(again)
        again.require_created()
        tx = again.begin()
        tx.insert("debts", [(b"d" * 16, "a", 1, "open", 1)])
        assert tx.meta() == (0, 1, b"\xff" * 128)
        tx.rollback()


def test_a_shard_that_was_dropped_is_not_made_anew(server: MySqlServer) -> None:
    with closing(shard_on(server)) as database:
        create(database)
        shard_on(server).drop()
        with pytest.raises(StorageCorrupt):
            database.require_created()
        with pytest.raises(PaytmLabError):
            add(database, "nowhere")


def test_tls_is_used_where_it_is_required_and_checked_where_it_is_verified(
    stack: Stack, server: MySqlServer, shard: MySqlShardDatabase
) -> None:
    cipher = text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    with shard.read() as plain:
        assert plain.execute(cipher).one()[1] == ""
    with closing(shard_on(server._replace(tls="required"))) as private:
        add(private, "private")
        with private.read() as reader:
            assert reader.execute(cipher).one()[1] != ""
    # The server's own certificate is signed by its own authority, and made out to nobody's name.
    authority = str(stack.layout.data / NAME / "ca.pem")
    for verified in (
        server._replace(tls="verify"),
        server._replace(tls="verify", tls_ca=authority),
    ):
        with closing(shard_on(verified)) as checked, pytest.raises(ShardUnavailable):
            checked.begin()
