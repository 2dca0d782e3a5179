"""What a SQLite file can suffer: gone, damaged, full, locked, read-only. Each its own error, with
nothing changed, and the shard works again once the cause is gone.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from paytm_lab.backends.embedded import shard_database
from paytm_lab.backends.embedded.shard_database import EmbeddedShardDatabase
from paytm_lab.core.errors import (
    MissingPart,
    ShardUnavailable,
    StorageCorrupt,
    StorageFull,
    StoreError,
    Unavailable,
)
from paytm_lab.ledger import schema
from paytm_lab.ports.shard_database import ShardMeta

EVENT = ("event", "PaymentInitiated", "payment", "x" * 200, 1, "")


def make(path: Path) -> EmbeddedShardDatabase:
    return EmbeddedShardDatabase(path, 3, schema.metadata, schema.INSERT_COLUMNS)


def create(database: EmbeddedShardDatabase) -> None:
    meta = ShardMeta(0, 1, b"\xff" * 128)
    database.create(schema.system_accounts(2), meta, schema.FIRST_USER_ACCOUNT_ID, 1)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[EmbeddedShardDatabase]:
    database = make(tmp_path / "shard-3.sqlite")
    create(database)
    yield database
    database.close()


def add_event(database: EmbeddedShardDatabase, number: int = 1, data: str = "{}") -> None:
    tx = database.begin()
    try:
        tx.insert("outbox_events", [(f"event-{number}", "PaymentInitiated", "p", data, 1, "")])
        tx.commit()
    except BaseException:
        tx.rollback()
        raise


def test_a_shard_whose_file_is_gone_is_unavailable_and_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "shard-3.sqlite"
    first = make(path)
    create(first)
    first.close()
    path.rename(tmp_path / "away")
    second = make(path)
    for ask in (second.begin, second.ping, second.outbox_rows, lambda: second.read_outbox(1)):
        with pytest.raises(ShardUnavailable) as raised:
            ask()
        assert "shard-3" in str(raised.value)
    with pytest.raises(ShardUnavailable):
        second.delete_outbox([1])
    assert not path.exists()
    (tmp_path / "away").rename(path)
    add_event(second)
    second.close()


@pytest.mark.parametrize("damage", ["header", "middle", "no database"])
def test_a_damaged_file_is_named_as_corrupt(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "shard-3.sqlite"
    first = make(path)
    create(first)
    for number in range(200):
        add_event(first, number, "y" * 500)
    first.close()
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:100] = os.urandom(100)
    elif damage == "middle":
        content[4096:] = b"\xa5" * (len(content) - 4096)
    else:
        content = bytearray(b"this is a text file, not a shard\n" * 500)
    path.write_bytes(content)
    before = path.read_bytes()
    second = make(path)
    with pytest.raises(StorageCorrupt) as raised:
        add_event(second)
    assert "shard-3" in str(raised.value) and raised.value.remedy
    with pytest.raises(StorageCorrupt), second.read() as connection:
        connection.execute(text("SELECT sum(length(event_data)) FROM outbox_events")).all()
    with pytest.raises(StorageCorrupt):
        second.read_outbox(999)
    second.close()
    assert path.read_bytes() == before


def test_creating_over_a_damaged_file_does_not_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "shard-3.sqlite"
    path.write_bytes(b"not a shard" * 1000)
    database = make(path)
    with pytest.raises(StorageCorrupt):
        create(database)
    database.close()
    assert path.read_bytes() == b"not a shard" * 1000


def test_a_file_without_our_tables_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shard-3.sqlite"
    sqlite3.connect(path).close()
    path.touch()
    database = make(path)
    with pytest.raises(StoreError):
        add_event(database)
    database.close()


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from paytm_lab.core.errors import StoreError
    from tests.unit.test_embedded_shard_database import add_event, make
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    shard = make(folder / "shard-3.sqlite")
    add_event(shard, 0)
    used = (folder / "shard-3.sqlite-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 300_000, resource.RLIM_INFINITY))
    written = 0
    for number in range(1, 1000):
        try:
            add_event(shard, number, "z" * 20_000)
            written += 1
        except StoreError as error:
            print("refused after", written, error.place, flush=True)
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    add_event(shard, 5000)
    print("rows", len(shard.read_outbox(9999)) - written, flush=True)
    shard.close()
"""


def test_a_write_that_the_system_refuses_changes_nothing(shard: EmbeddedShardDatabase) -> None:
    """The file may not grow (as under a quota): an error, nothing half written, and it heals."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(shard.path.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr
    refused, rows = done.stdout.splitlines()
    assert refused.startswith("refused after ") and "shard-3" in refused
    assert rows == "rows 2"  # the first and the last; none of the refused one


def test_a_full_file_changes_nothing_and_works_again(shard: EmbeddedShardDatabase) -> None:
    add_event(shard, 0)
    connection = shard._connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageFull):
        add_event(shard, 1, "z" * 200_000)
    assert [row.event_id for row in shard.read_outbox(99)] == ["event-0"]
    connection.execute("PRAGMA max_page_count=1000000")
    add_event(shard, 2, "z" * 200_000)
    assert [row.event_id for row in shard.read_outbox(99)] == ["event-0", "event-2"]


def test_a_file_that_another_holds_is_unavailable(
    shard: EmbeddedShardDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_database, "BUSY_TIMEOUT_MS", 50)
    other = make(shard.path)
    holder = sqlite3.connect(shard.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ShardUnavailable) as raised:
        other.begin()
    assert "shard-3" in str(raised.value)
    with pytest.raises(Unavailable):
        other.delete_outbox([1])
    assert other.read_outbox(1) == []  # reading waits for nobody
    holder.execute("ROLLBACK")
    holder.close()
    add_event(other)
    other.close()


READ_ONLY = """
    import os, sys
    from pathlib import Path
    from paytm_lab.core.errors import StoreError, Unavailable
    from tests.unit.test_embedded_shard_database import add_event, create, make
    folder = Path(sys.argv[1])
    shard = make(folder / "shard-3.sqlite")
    new = make(folder / "shard-4.sqlite")
    deep = make(folder / "deeper" / "shard-5.sqlite")
    if os.geteuid() == 0:  # root may write anywhere
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for ask in (lambda: add_event(shard), lambda: create(new), lambda: create(deep)):
        try:
            ask()
        except (StoreError, Unavailable) as error:
            print(type(error).__name__, error.place, flush=True)
"""


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    # Not under tmp_path: only its owner may look into that.
    folder = Path("/tmp" if os.name == "posix" else tmp_path) / f"paytm_lab-ro-{os.getpid()}"
    folder.mkdir()
    try:
        database = make(folder / "shard-3.sqlite")
        create(database)
        database.close()
        before = (folder / "shard-3.sqlite").read_bytes()
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(READ_ONLY), str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": "."},
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 3, lines
        assert "shard-3" in lines[0] and "shard-3" in lines[1] and "deeper" in lines[2]
        assert (folder / "shard-3.sqlite").read_bytes() == before
        assert [path.name for path in folder.iterdir()] == ["shard-3.sqlite"]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("")
    database = make(tmp_path / "shards" / "shard-3.sqlite")
    with pytest.raises(MissingPart) as raised:
        create(database)
    assert "shards" in raised.value.place
    database.close()


def test_each_thread_has_a_transaction_of_its_own(shard: EmbeddedShardDatabase) -> None:
    tx = shard.begin()
    tx.insert("outbox_events", [EVENT])
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(len(shard.read_outbox(9))))
    thread.start()
    thread.join(30)
    tx.commit()
    assert seen == [0]
    assert len(shard.read_outbox(9)) == 1


def test_threads_that_are_gone_leave_no_connection_open(shard: EmbeddedShardDatabase) -> None:
    for number in range(20):
        thread = threading.Thread(target=add_event, args=(shard, number))
        thread.start()
        thread.join(30)
    assert len(shard.read_outbox(99)) == 20
    assert len(shard._connections) <= 2
