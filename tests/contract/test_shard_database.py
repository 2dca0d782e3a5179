"""The contract of ports.shard_database: transactions, locks, reads, the outbox, durability."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from paytm_lab.core.errors import DuplicateKey, PaytmLabError, ShardUnavailable, StoreError
from paytm_lab.core.ids import FUNDING, in_transit
from paytm_lab.core.money import AMOUNT_PAISE_MAX
from paytm_lab.ledger import schema
from paytm_lab.ports.shard_database import HoldRow, PaymentRow, ShardDatabase, ShardTransaction

PROGRAM = Path(__file__).with_name("shard_database_process.py")
DEADLINE_S = 30
Make = Callable[[], ShardDatabase]


@pytest.fixture
def shard(make_shard_database: Make) -> ShardDatabase:
    return make_shard_database()


@pytest.fixture
def start(profile: str, shard_place: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start another process on the same shard; it is gone when the test ends."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), profile, shard_place, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def account_row(user: str, balance: int = 0, create_key: bytes | None = None) -> tuple[Any, ...]:
    return (user, balance, 0, "INR", "active", 4, balance, create_key, 5, 5)


def payment_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def payment_row(
    number: int,
    role: str = "source",
    status: str = "PENDING",
    key: bytes | None = None,
    sender: str = "a",
) -> tuple[Any, ...]:
    open_since = 9 if status in ("PENDING", "HELD") and role != "destination" else None
    return (
        payment_id(number), role, sender, "b", 100 + number, "INR", status, "", "transfer", 0, 1, 1,
        50, 40, key, None, 0, open_since, "", None, "", 9, 9,
    )  # fmt: skip


def outbox_row(number: int, data: str = "{}") -> tuple[Any, ...]:
    return (f"event-{number}", "PaymentInitiated", f"payment-{number}", data, number, "")


def insert(database: ShardDatabase, table: str, rows: list[tuple[Any, ...]]) -> None:
    tx = database.begin()
    tx.insert(table, rows)
    tx.commit()


def in_transaction(database: ShardDatabase, ask: Callable[[ShardTransaction], Any]) -> Any:
    tx = database.begin()
    try:
        return ask(tx)
    finally:
        tx.rollback()


def balance_of(database: ShardDatabase, user: str) -> int:
    (row,) = in_transaction(database, lambda tx: tx.lock_accounts([user]))
    return int(row.balance)


def count(database: ShardDatabase, table: str) -> int:
    with database.read() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


# -- a new shard -----------------------------------------------------------------------------------


def test_a_new_shard_has_its_meta_row_and_system_accounts(shard: ShardDatabase) -> None:
    assert in_transaction(shard, lambda tx: tx.meta()) == (7, 1, b"\x55" * 128)
    rows = in_transaction(shard, lambda tx: tx.lock_accounts([FUNDING, in_transit(1)]))
    assert {row.id: row.user_id for row in rows} == {
        schema.FUNDING_ID: FUNDING,
        schema.IN_TRANSIT_ID_BASE + 1: in_transit(1),
    }


def test_users_get_ids_past_those_of_system_accounts(shard: ShardDatabase) -> None:
    insert(shard, "accounts", [account_row("a"), account_row("b")])
    rows = in_transaction(shard, lambda tx: tx.lock_accounts(["a", "b"]))
    assert sorted(row.id for row in rows) == [
        schema.FIRST_USER_ACCOUNT_ID,
        schema.FIRST_USER_ACCOUNT_ID + 1,
    ]


def test_creating_an_existing_shard_changes_nothing(make_shard_database: Make) -> None:
    first = make_shard_database()
    insert(first, "accounts", [account_row("a", 5)])
    second = make_shard_database()
    assert balance_of(second, "a") == 5
    assert count(second, "shard_meta") == 1


def test_two_processes_create_one_shard_at_once(
    start: Callable[..., subprocess.Popen[str]], make_shard_database: Make
) -> None:
    processes = [start("create") for _ in range(4)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=DEADLINE_S)[0] == "created\n"
    assert count(make_shard_database(), "shard_meta") == 1


# -- what is durable and what is not ---------------------------------------------------------------


def test_what_was_committed_is_there_after_reopening(make_shard_database: Make) -> None:
    first = make_shard_database()
    insert(first, "accounts", [account_row("a", 5)])
    first.close()
    assert balance_of(make_shard_database(), "a") == 5


def test_what_a_killed_process_had_committed_is_there(
    make_shard_database: Make, start: Callable[..., subprocess.Popen[str]]
) -> None:
    shard = make_shard_database()
    process = start("commit_on")
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(100)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().splitlines()
    last = int(said[-1])
    found = in_transaction(
        shard, lambda tx: tx.applied_events([f"event-{n}" for n in range(last + 3)])
    )
    assert last >= 99
    assert found >= {f"event-{n}" for n in range(last + 1)}
    assert len(found) <= last + 2  # one commit at most whose answer was not said any more


def test_a_killed_process_leaves_no_lock_and_no_change(
    make_shard_database: Make, start: Callable[..., subprocess.Popen[str]]
) -> None:
    shard = make_shard_database()
    insert(shard, "accounts", [account_row("a", 5)])
    process = start("hold_lock", "a")
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    process.kill()
    process.wait(DEADLINE_S)
    assert balance_of(shard, "a") == 5


def test_rolled_back_work_leaves_nothing(shard: ShardDatabase) -> None:
    tx = shard.begin()
    tx.insert("accounts", [account_row("a", 5)])
    tx.insert("outbox_events", [outbox_row(1)])
    tx.rollback()
    tx.rollback()
    assert in_transaction(shard, lambda tx: tx.lock_accounts(["a"])) == []
    assert shard.read_outbox(10) == []


def test_rolling_back_after_the_commit_is_harmless(shard: ShardDatabase) -> None:
    tx = shard.begin()
    tx.insert("accounts", [account_row("a", 5)])
    tx.commit()
    tx.rollback()
    assert balance_of(shard, "a") == 5


def test_a_transaction_that_was_dropped_does_not_block_its_thread(shard: ShardDatabase) -> None:
    dropped = shard.begin()
    dropped.insert("accounts", [account_row("a", 5)])
    tx = shard.begin()
    assert tx.lock_accounts(["a"]) == []
    tx.rollback()


# -- locks -----------------------------------------------------------------------------------------


def test_nobody_reads_what_is_not_committed(make_shard_database: Make) -> None:
    writer, other = make_shard_database(), make_shard_database()
    tx = writer.begin()
    tx.insert("accounts", [account_row("a", 5)])
    tx.insert("outbox_events", [outbox_row(1)])
    with other.read() as connection:
        seen = connection.execute(text("SELECT count(*) FROM accounts WHERE user_id = 'a'"))
        assert seen.scalar_one() == 0
    assert other.read_outbox(10) == []
    tx.commit()
    assert count(other, "outbox_events") == 1
    assert [row.event_id for row in other.read_outbox(10)] == ["event-1"]


@pytest.mark.parametrize("balance", [5, 6])
def test_a_second_lock_waits_and_sees_the_change(make_shard_database: Make, balance: int) -> None:
    first, second = make_shard_database(), make_shard_database()
    insert(first, "accounts", [account_row("a", 5)])
    tx = first.begin()
    (account,) = tx.lock_accounts(["a"])
    if balance != 5:
        tx.update("accounts", ("id",), ("balance",), [(account.id, balance)])
    seen: list[int] = []
    tried = threading.Event()

    def lock() -> None:
        tried.set()
        seen.append(balance_of(second, "a"))

    thread = threading.Thread(target=lock)
    thread.start()
    assert tried.wait(DEADLINE_S)
    thread.join(0.1)
    assert seen == []
    tx.commit()
    thread.join(DEADLINE_S)
    assert seen == [balance]


def test_no_update_is_lost_between_threads_and_clients(make_shard_database: Make) -> None:
    clients = [make_shard_database(), make_shard_database()]
    insert(clients[0], "accounts", [account_row("a", 0)])

    def add(client: ShardDatabase) -> None:
        for _ in range(50):
            tx = client.begin()
            (account,) = tx.lock_accounts(["a"])
            tx.update("accounts", ("id",), ("balance",), [(account.id, account.balance + 1)])
            tx.commit()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, [clients[0], clients[1], clients[0], clients[1]]))
    assert balance_of(clients[0], "a") == 200


def test_no_update_is_lost_between_processes(
    make_shard_database: Make, start: Callable[..., subprocess.Popen[str]]
) -> None:
    shard = make_shard_database()
    insert(shard, "accounts", [account_row("a", 0)])
    processes = [start("add", "a", "100") for _ in range(2)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=DEADLINE_S)[0] == "added\n"
    assert balance_of(shard, "a") == 200


# -- rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "first", "second"),
    [
        ("accounts", account_row("a"), account_row("a", 1)),
        ("transactions", payment_row(1), payment_row(1, status="FAILED")),
        ("transactions", payment_row(1, key=b"k" * 16), payment_row(2, key=b"k" * 16)),
        ("applied_events", ("event", 1), ("event", 2)),
        (
            "holds",
            (payment_id(1), 2000, 5, 0, "active", 9, 1, 1),
            (payment_id(1), 2000, 6, 0, "active", 9, 1, 1),
        ),
        (
            "reviews",
            (payment_id(1), "open", "review", "amount", "", 1, 1),
            (payment_id(1), "open", "block", "velocity", "", 1, 1),
        ),
    ],
)
def test_a_key_that_exists_is_a_duplicate(
    shard: ShardDatabase, table: str, first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    insert(shard, table, [first])
    before = count(shard, table)
    tx = shard.begin()
    tx.insert("outbox_events", [outbox_row(1)])
    with pytest.raises(DuplicateKey) as raised:
        tx.insert(table, [second])
    assert "shard-0" in raised.value.place
    tx.rollback()
    assert count(shard, table) == before
    assert shard.outbox_rows() == 0


def test_deferred_writes_are_there_after_the_commit(shard: ShardDatabase) -> None:
    insert(shard, "accounts", [account_row("a", 5)])
    insert(shard, "transactions", [payment_row(1)])
    tx = shard.begin()
    (account,) = tx.lock_accounts(["a"])
    tx.defer()
    assert tx.update("accounts", ("id",), ("balance",), [(account.id, 9)]) == 1
    tx.insert("transactions", [payment_row(n) for n in range(2, 5)])
    tx.insert("outbox_events", [outbox_row(n, "x" * 3_000) for n in range(3_000)])  # 18 MB of hex
    assert tx.complete_sources([payment_id(1)], 77) == 1
    tx.commit()
    assert balance_of(shard, "a") == 9
    found = in_transaction(shard, lambda tx: tx.find_payments([payment_id(n) for n in range(9)]))
    assert {(row.amount, row.status) for row in found} == {
        (101, "COMPLETED"), (102, "PENDING"), (103, "PENDING"), (104, "PENDING"),
    }  # fmt: skip
    assert count(shard, "outbox_events") == 3_000


@pytest.mark.parametrize("last", [True, False])
def test_a_deferred_duplicate_is_told_by_the_commit_at_the_latest(
    shard: ShardDatabase, last: bool
) -> None:
    insert(shard, "applied_events", [("event", 1)])

    def write(tx: ShardTransaction) -> None:
        tx.defer()
        tx.insert("outbox_events", [outbox_row(1)])
        tx.insert("applied_events", [("event", 2)])
        if not last:
            tx.insert("outbox_events", [outbox_row(2)])
        tx.commit()

    tx = shard.begin()
    with pytest.raises(DuplicateKey):
        write(tx)
    tx.rollback()
    assert shard.outbox_rows() == 0
    insert(shard, "applied_events", [("other", 2)])


def test_deferred_work_that_is_rolled_back_leaves_nothing(shard: ShardDatabase) -> None:
    tx = shard.begin()
    tx.defer()
    tx.insert("outbox_events", [outbox_row(1)])
    tx.rollback()
    assert shard.outbox_rows() == 0


def test_one_payment_may_have_a_source_and_a_destination_row(shard: ShardDatabase) -> None:
    insert(shard, "transactions", [payment_row(1), payment_row(1, "destination", "COMPLETED")])
    found = in_transaction(shard, lambda tx: tx.find_payments([payment_id(1)]))
    assert {row.role for row in found} == {"source", "destination"}


def test_an_account_may_not_be_overdrawn(shard: ShardDatabase) -> None:
    insert(shard, "accounts", [account_row("a", 5)])
    tx = shard.begin()
    (account,) = tx.lock_accounts(["a"])
    with pytest.raises(StoreError):
        tx.update("accounts", ("id",), ("balance", "held"), [(account.id, 5, 6)])
    tx.rollback()
    assert balance_of(shard, "a") == 5


def test_rows_come_back_as_they_went_in(shard: ShardDatabase) -> None:
    every_byte = [bytes(range(start, start + 16)) for start in range(0, 256, 16)]
    users = ["a", "A", "a ", "'; DROP TABLE accounts;--", "पेटीएम", "\U0001f600", '"', "\\", "%_"]
    insert(
        shard,
        "accounts",
        [account_row(user, AMOUNT_PAISE_MAX - i, every_byte[i]) for i, user in enumerate(users)],
    )
    found = in_transaction(shard, lambda tx: tx.lock_accounts([*users, "nobody"]))
    assert {(row.user_id, row.balance, row.create_key) for row in found} == {
        (user, AMOUNT_PAISE_MAX - i, every_byte[i].hex()) for i, user in enumerate(users)
    }
    row = PaymentRow(
        every_byte[15], "local", users[3], users[4], AMOUNT_PAISE_MAX, "INR", "COMPLETED", "why",
        "refund", 0, 0, 3, 2**62, 5, every_byte[0], every_byte[9], 17,
        "review", 0.7, "velocity",
    )  # fmt: skip
    insert(shard, "transactions", [(*row[:17], None, "review", 0.7, "velocity", 1, 2)])
    assert in_transaction(shard, lambda tx: tx.find_payments([every_byte[15]])) == [row]
    assert in_transaction(shard, lambda tx: tx.find_keys([every_byte[0], every_byte[1]])) == [row]
    hold = (every_byte[15], 2_000, AMOUNT_PAISE_MAX, 0, "active", 2**62, 1, 1)
    insert(shard, "holds", [hold])
    found_holds = in_transaction(shard, lambda tx: tx.find_holds([every_byte[15], payment_id(3)]))
    assert found_holds == [HoldRow(*hold[:6])]
    insert(shard, "reviews", [(every_byte[15], "open", "review", "amount", "", 1, 1)])
    found_reviews = in_transaction(shard, lambda tx: tx.find_reviews([every_byte[15]]))
    assert found_reviews == [(every_byte[15], "open")]


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 33, 127, 128, 129, 700])
def test_any_number_of_rows_goes_in_and_is_found(shard: ShardDatabase, rows: int) -> None:
    insert(shard, "transactions", [payment_row(n, key=payment_id(n)) for n in range(rows)])
    ids = [payment_id(n) for n in range(rows)]
    found = in_transaction(shard, lambda tx: tx.find_payments(ids))
    assert sorted(row.amount for row in found) == [100 + n for n in range(rows)]
    by_key = in_transaction(shard, lambda tx: tx.find_keys(ids))
    assert len(by_key) == rows


def test_an_update_says_how_many_rows_it_changed(shard: ShardDatabase) -> None:
    insert(shard, "transactions", [payment_row(n) for n in range(300)])
    tx = shard.begin()
    changed = tx.update(
        "transactions",
        ("transaction_id",),
        ("status", "reason"),
        [(payment_id(n), "FAILED", f"r{n}") for n in range(200, 400)],
    )
    tx.commit()
    assert changed == 100
    found = in_transaction(shard, lambda tx: tx.find_payments([payment_id(n) for n in range(300)]))
    assert {(row.amount - 100, row.status, row.reason) for row in found} == {
        (n, "PENDING", "") if n < 200 else (n, "FAILED", f"r{n}") for n in range(300)
    }


def test_only_pending_sources_are_completed(shard: ShardDatabase) -> None:
    rows = [
        payment_row(1),
        payment_row(2, status="FAILED"),
        payment_row(3, status="COMPLETED"),
        payment_row(4, status="HELD"),
        payment_row(5, "destination", "PENDING"),
        payment_row(6, "local", "PENDING"),
        payment_row(7),
    ]
    insert(shard, "transactions", rows)
    tx = shard.begin()
    changed = tx.complete_sources([payment_id(n) for n in (1, 2, 3, 4, 5, 6, 99)], 77)
    tx.commit()
    assert changed == 1
    with shard.read() as connection:
        found = connection.execute(
            text("SELECT amount, status, open_since, updated_at FROM transactions ORDER BY id")
        ).all()
    assert found[0] == (101, "COMPLETED", None, 77)
    assert [row[1] for row in found[1:]] == [
        "FAILED", "COMPLETED", "HELD", "PENDING", "PENDING", "PENDING",
    ]  # fmt: skip
    assert found[6][2] == 9
    tx = shard.begin()
    assert tx.complete_sources([payment_id(1)], 78) == 0
    tx.rollback()


def test_open_payments_are_those_held_and_pending_of_the_sender(shard: ShardDatabase) -> None:
    rows = [
        payment_row(1),
        payment_row(2, status="HELD"),
        payment_row(3, status="COMPLETED"),
        payment_row(4, "destination", "COMPLETED"),
        payment_row(5, sender="b"),
    ]
    insert(shard, "transactions", rows)
    assert in_transaction(shard, lambda tx: tx.open_payments_of("a")) == 2
    assert in_transaction(shard, lambda tx: tx.open_payments_of("nobody")) == 0


def test_applied_events_are_those_that_are_there(shard: ShardDatabase) -> None:
    insert(shard, "applied_events", [("one", 1), ("two", 2)])
    asked = ["one", "three", "'two'"]
    assert in_transaction(shard, lambda tx: tx.applied_events(asked)) == {"one"}


# -- reading ---------------------------------------------------------------------------------------


def test_a_reader_sees_one_moment_and_blocks_no_writer(make_shard_database: Make) -> None:
    shard, other = make_shard_database(), make_shard_database()
    insert(shard, "accounts", [account_row("a", 5)])
    question = text("SELECT balance FROM accounts WHERE user_id = 'a'")
    with shard.read() as connection:
        before = connection.execute(question).scalar_one()
        for client in (shard, other):
            tx = client.begin()
            (account,) = tx.lock_accounts(["a"])
            tx.update("accounts", ("id",), ("balance",), [(account.id, account.balance + 1)])
            tx.commit()
        assert connection.execute(question).scalar_one() == before == 5
    with shard.read() as connection:
        assert connection.execute(question).scalar_one() == 7


def test_a_reader_cannot_write(shard: ShardDatabase) -> None:
    with pytest.raises((DBAPIError, PaytmLabError)), shard.read() as connection:
        connection.execute(text("UPDATE accounts SET balance = 1"))
    assert balance_of(shard, FUNDING) == 0


def test_readers_do_not_wait_for_a_writer(shard: ShardDatabase) -> None:
    tx = shard.begin()
    tx.insert("accounts", [account_row("a", 5)])
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: count(shard, "accounts"), range(16)))
    tx.commit()
    assert len(set(seen)) == 1
    assert count(shard, "accounts") == seen[0] + 1


# -- the outbox ------------------------------------------------------------------------------------


def test_the_outbox_is_read_in_order_and_deleted_by_id(shard: ShardDatabase) -> None:
    assert shard.outbox_rows() == 0
    insert(shard, "outbox_events", [outbox_row(n, f'{{"n":"{n} é ₹"}}') for n in range(10)])
    assert shard.outbox_rows() == 10
    rows = shard.read_outbox(4)
    assert [row.event_id for row in rows] == ["event-0", "event-1", "event-2", "event-3"]
    assert rows[3][1:] == outbox_row(3, '{"n":"3 é ₹"}')
    assert shard.read_outbox(4) == rows
    shard.delete_outbox([row.id for row in rows])
    shard.delete_outbox([row.id for row in rows])
    shard.delete_outbox([])
    assert [row.event_id for row in shard.read_outbox(99)] == [f"event-{n}" for n in range(4, 10)]


def test_what_is_stored_takes_bytes(shard: ShardDatabase) -> None:
    before = shard.stored_bytes()
    body = '{"text":"' + "x" * 1_000 + '"}'
    insert(shard, "outbox_events", [outbox_row(n, body) for n in range(400)])
    assert 400_000 < shard.stored_bytes() - before < 4_000_000


def test_only_the_named_outbox_rows_go(shard: ShardDatabase) -> None:
    insert(shard, "outbox_events", [outbox_row(n) for n in range(6)])
    ids = [row.id for row in shard.read_outbox(99)]
    shard.delete_outbox([ids[4], ids[0], ids[0], ids[2]])
    assert [row.event_id for row in shard.read_outbox(99)] == ["event-1", "event-3", "event-5"]
    shard.delete_outbox([ids[1], ids[1], ids[5]])  # one id twice, and a gap of as many
    assert [row.event_id for row in shard.read_outbox(99)] == ["event-3"]
    assert shard.outbox_rows() >= 1


def test_outbox_ids_never_come_back(make_shard_database: Make) -> None:
    shard = make_shard_database()
    insert(shard, "outbox_events", [outbox_row(n) for n in range(3)])
    ids = [row.id for row in shard.read_outbox(99)]
    shard.delete_outbox(ids)
    shard.close()
    again = make_shard_database()
    insert(again, "outbox_events", [outbox_row(9)])
    (row,) = again.read_outbox(99)
    assert row.id > max(ids)


def test_rows_wait_as_long_as_one_is_there(shard: ShardDatabase) -> None:
    insert(shard, "outbox_events", [outbox_row(n) for n in range(3)])
    ids = [row.id for row in shard.read_outbox(99)]
    for id_ in ids:
        assert shard.outbox_rows() > 0
        shard.delete_outbox([id_])
    assert shard.outbox_rows() == 0


# -- being there or not ----------------------------------------------------------------------------


def test_a_ping_takes_milliseconds(shard: ShardDatabase) -> None:
    assert 0 < shard.ping() < DEADLINE_S * 1e3


def test_a_closed_shard_is_unavailable(shard: ShardDatabase) -> None:
    shard.close()
    shard.close()
    for ask in (shard.begin, shard.outbox_rows, lambda: shard.read_outbox(1), shard.ping):
        with pytest.raises(ShardUnavailable):
            ask()
