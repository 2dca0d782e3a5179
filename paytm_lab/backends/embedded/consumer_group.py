"""Consumer groups of the embedded log: the members, who owns which partition, what is committed.

One SQLite file a group. Nobody leads: each member, when it polls, expires members that are gone,
gives up what it holds beyond its fair share (``fair_share``), and claims what nobody holds up to
that share. A partition has one owner at any time, and each claim gives it a new epoch; a commit
names the epoch under which the member reads, so that one that lost a partition cannot commit it,
not even after it got the partition back.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from paytm_lab.backends.embedded.sqlite_files import (
    alone,
    connect,
    make_directory,
    transaction,
    translate,
)
from paytm_lab.core.errors import TransientStoreError
from paytm_lab.ports.event_log import TopicPartition

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1),"
    " version INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO state VALUES (1, 0)",
    "CREATE TABLE IF NOT EXISTS members (member TEXT PRIMARY KEY, instance TEXT NOT NULL,"
    " topics TEXT NOT NULL, lease_until_us INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS partitions (topic TEXT NOT NULL, partition INTEGER NOT NULL,"
    " owner TEXT, epoch INTEGER NOT NULL DEFAULT 0, next_offset INTEGER,"
    " PRIMARY KEY (topic, partition)) WITHOUT ROWID",
)


_CLAIMS = "SELECT topic, partition, epoch, next_offset FROM partitions WHERE owner = ?"
_FREE = "UPDATE partitions SET owner = NULL WHERE owner = ?"
_OWN = "UPDATE partitions SET owner = ?, epoch = ? WHERE topic = ? AND partition = ?"
_decode_names = msgspec.json.Decoder(list[str]).decode


class Instance:
    """An open log that has consumers: a file, locked as long as it lives. The kernel unlocks it
    when the process dies, however it dies.
    """

    def __init__(self, directory: Path) -> None:
        make_directory(directory)
        self._directory = directory
        self.id = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._path = directory / f"{self.id}.lock"
        self._descriptor: int | None = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def lives(self, instance: str) -> bool:
        """Whether the process of that instance still has it open."""
        if instance == self.id:
            return self._descriptor is not None
        path = self._directory / f"{instance}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            # A shared lock, so that two who ask at once do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        path.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


class Claim(NamedTuple):
    """A partition that a member owns. ``next_offset``: what the group committed, None before."""

    epoch: int
    next_offset: int | None


class Membership(NamedTuple):
    """What a member learned when it last looked."""

    version: int
    claims: dict[TopicPartition, Claim]
    lease_until_us: int


def fair_share(partitions: int, members: int, others_above: int) -> int:
    """How many of a topic's partitions a member may own. ``partitions % members`` members may have
    one more than the rest; ``others_above`` others have that already.
    """
    least, extra = divmod(partitions, members)
    return least + 1 if others_above < extra else least


class GroupFile:
    """One group's file, shared by the members of this process. Any number of threads may use it."""

    def __init__(self, path: Path) -> None:
        make_directory(path.parent)
        self._place = f"group {path.stem}"
        self._lock = threading.Lock()
        self._version = 0
        self._version_read_s = float("-inf")
        self._connection = connect(path)
        try:
            with transaction(self._connection, self._place):
                for statement in _SCHEMA:
                    self._connection.execute(statement)
        except BaseException:
            self._connection.close()
            raise

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise translate(error, self._place) from error

    def version(self, stale_s: float = 0.0) -> int:
        """Changes whenever the members or the owners do. What this process changed is seen at once,
        what others did when the last look is ``stale_s`` old.
        """
        now_s = time.monotonic()
        if now_s - self._version_read_s >= stale_s:
            ((self._version,),) = self._read("SELECT version FROM state")
            self._version_read_s = now_s
        return self._version

    def committed(self, topic: str) -> list[tuple[int, int]]:
        """(partition, committed offset) where there is one."""
        sql = "SELECT partition, next_offset FROM partitions WHERE topic = ?"
        return [(p, offset) for p, offset in self._read(sql, (topic,)) if offset is not None]

    def gone(self, member: str, now_us: int, lives: Callable[[str], bool]) -> list[str]:
        """The other members whose lease is over or whose process is dead."""
        rows = self._read(
            "SELECT member, instance, lease_until_us FROM members WHERE member <> ?", (member,)
        )
        return [m for m, instance, until in rows if until <= now_us or not lives(instance)]

    def sync(
        self,
        member: str,
        instance: Instance,
        topics: Mapping[str, int],
        now_us: int,
        lease_us: int,
    ) -> Membership:
        """Be a member: renew the lease, expire the dead, release and claim up to the fair share."""
        gone = self.gone(member, now_us, instance.lives)
        with self._lock, transaction(self._connection, self._place):
            run = self._connection.execute
            before = self._connection.total_changes
            for other in gone:
                run(_FREE, (other,))
                run("DELETE FROM members WHERE member = ?", (other,))
            me = (member, instance.id, msgspec.json.encode(sorted(topics)).decode())
            if not run("SELECT 1 FROM members WHERE member = ?", (member,)).fetchone():
                run("INSERT INTO members VALUES (?, ?, ?, 0)", me)
            (version,) = run("SELECT version FROM state").fetchone()
            subscribed = [_decode_names(names) for (names,) in run("SELECT topics FROM members")]
            for topic, count in topics.items():
                members = sum(topic in names for names in subscribed)
                self._share(member, topic, count, members, version + 1)
            if self._connection.total_changes != before:
                version += 1
                run("UPDATE state SET version = ?", (version,))
            until_us = now_us + lease_us
            run("UPDATE members SET lease_until_us = ? WHERE member = ?", (until_us, member))
            rows = run(_CLAIMS, (member,)).fetchall()
        self._version_read_s = float("-inf")
        claims = {TopicPartition(topic, p): Claim(epoch, o) for topic, p, epoch, o in rows}
        return Membership(version, claims, until_us)

    def _share(self, member: str, topic: str, count: int, members: int, epoch: int) -> None:
        run = self._connection.execute
        sql = "SELECT partition, owner FROM partitions WHERE topic = ?"
        owners = dict(run(sql, (topic,)).fetchall())
        for partition in range(count):
            if partition not in owners:
                run("INSERT INTO partitions (topic, partition) VALUES (?, ?)", (topic, partition))
                owners[partition] = None
        held: dict[str, int] = {}
        for owner in owners.values():
            if owner is not None:
                held[owner] = held.get(owner, 0) + 1
        above = sum(n > count // members for other, n in held.items() if other != member)
        share = fair_share(count, members, above)
        mine = [p for p in sorted(owners) if owners[p] == member]
        for partition in mine[share:]:
            run(_OWN, (None, 0, topic, partition))
        free = [p for p in sorted(owners) if owners[p] is None]
        for partition in free[: max(0, share - len(mine))]:
            run(_OWN, (member, epoch, topic, partition))

    def commit(self, member: str, offsets: Sequence[tuple[str, int, int, int]]) -> None:
        """Each is (topic, partition, epoch, next offset). All are recorded, or none."""
        count = len(offsets)
        values = ",".join(f"(?{i},?{i + 1},?{i + 2},?{i + 3})" for i in range(2, 4 * count + 2, 4))
        same = (
            "{0}.owner = ?1 AND {0}.topic = {1}.column1 AND {0}.partition = {1}.column2"
            " AND {0}.epoch = {1}.column3"
        )
        # One statement, which is a transaction by itself; it changes all rows or, when one of them
        # belongs to another member, none.
        sql = (
            f"UPDATE partitions SET next_offset = v.column4 FROM (VALUES {values}) AS v"
            f" WHERE {same.format('partitions', 'v')} AND {count} = (SELECT count(*)"
            f" FROM (VALUES {values}) AS w JOIN partitions AS p ON {same.format('p', 'w')})"
        )
        parameters = [member, *(part for row in offsets for part in row)]
        with self._lock, alone(self._place):
            changed = self._connection.execute(sql, parameters).rowcount
        if changed != count:
            raise TransientStoreError(
                "a partition of this commit was taken over by another member", place=self._place
            )

    def leave(self, member: str) -> None:
        with self._lock, transaction(self._connection, self._place):
            self._connection.execute(_FREE, (member,))
            self._connection.execute("DELETE FROM members WHERE member = ?", (member,))
            self._connection.execute("UPDATE state SET version = version + 1")
        self._version_read_s = float("-inf")

    def close(self) -> None:
        with self._lock:
            self._connection.close()
