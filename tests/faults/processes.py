"""Real processes to kill, a payments file to give them, and what must be true of what they leave.

What is expected comes from the file and from what the processes acknowledged on a pipe, never from
the database. The shards are read with plain SQL, not with the code under test.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from paytm_lab import Lab
from paytm_lab.analytics.rollups import COMPLETED, FAILED, Sum
from paytm_lab.config import PREFIX
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.notifications.inbox import FileInbox
from paytm_lab.notifications.tables import NOTIFICATIONS

ROOT = Path(__file__).parents[2]
USERS = 120
CLOSED = tuple(str(n) for n in range(9001, 9009))
OPENING_PAISE = 10**9
OPENING_OPTIONS = ("--opening-balance", "10000000.00")
TIMEOUT_S = 60.0
FIRST_USER_ACCOUNT_ID = 2_000
# Frozen senders would make the file's outcome depend on the order of arrival.
ENVIRONMENT = {f"{PREFIX}VELOCITY_LIMIT": "1000000"}
# On the servers, whoever comes after a killed process waits so long for what that one held.
SHORT_SESSIONS = {f"{PREFIX}KAFKA_SESSION_S": "2", f"{PREFIX}ZOOKEEPER_SESSION_S": "2"}


class FileRow(NamedTuple):
    key: str
    from_user: str
    to_user: str
    amount_paise: int


def make_rows(count: int, seed: int, prefix: str) -> list[FileRow]:
    """Payments of which every outcome is known: no sender runs out, and one in six goes to an
    account that is closed.
    """
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        sender, receiver = rng.sample(range(1, USERS + 1), 2)
        to_user = rng.choice(CLOSED) if rng.random() < 1 / 6 else str(receiver)
        rows.append(FileRow(f"{prefix}-{n}", str(sender), to_user, rng.randrange(100, 900_000)))
    return rows


def write_file(path: Path, rows: Iterable[FileRow]) -> Path:
    lines = [f"{r.key},{r.from_user},{r.to_user},{r.amount_paise / 100:.2f}" for r in rows]
    path.write_text("\n".join(["payment_id,from_user,to_user,amount", *lines, ""]))
    return path


def prepare(folder: Path, profile: str = "embedded") -> None:
    """A lab whose CLOSED accounts are closed and whose users have enough."""
    with Lab(profile, data=folder) as lab:
        openings = {str(n): OPENING_PAISE for n in range(1, USERS + 1)}
        lab.open_accounts(openings | dict.fromkeys(CLOSED, 0))
        for user in CLOSED:
            lab.close_account(user)
            account = lab.account(user)
            assert account is not None and account.state == "closed"
        lab.drain()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "paytm_lab.cli", *words]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT, **more}


def start(*words: str, **more: Any) -> subprocess.Popen[bytes]:
    """A verb as a process of its own."""
    settings = {"stdout": subprocess.DEVNULL, "cwd": ROOT, "env": environment()}
    return subprocess.Popen(command(*words), **(settings | more))


class Ended(NamedTuple):
    """``acks``: what the child acknowledged, in order, until its end: (payment id, status)."""

    acks: list[tuple[str, str]]
    returncode: int


def run_child(
    folder: Path,
    file: Path,
    *,
    crash_at: str | None = None,
    kill_after_acks: int | None = None,
    more: Sequence[str] = (),
) -> Ended:
    """``paytm-lab run`` on a file to its end; killed by itself at a point, or by us after acks."""
    readable, writable = os.pipe()
    words = ["run", "--quiet", "--transfers", str(file), *OPENING_OPTIONS, "--data", str(folder)]
    words += ["--in-flight", "64", "--ack-fd", str(writable), *more]
    words += ["--crash-at", crash_at] if crash_at else []
    process = start(*words, pass_fds=(writable,))
    os.close(writable)
    acks: list[tuple[str, str]] = []
    with os.fdopen(readable, encoding="ascii") as lines:
        for line in lines:
            payment, status = line.split()
            acks.append((payment, status))
            if len(acks) == kill_after_acks:
                process.kill()
    return Ended(acks, process.wait(TIMEOUT_S))


class _Rows:
    """Rows by column name, as sqlite3 gives them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, statement: str) -> Any:
        return self._connection.execute(text(statement)).mappings()


class Ledger:
    """All shards by plain SQL: payment id -> role -> row, and the users' entries by payment."""

    def __init__(self, folder: Path) -> None:
        self.payments: dict[str, dict[str, Any]] = defaultdict(dict)
        self.entries: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
        self.balances: dict[str, int] = {}
        for path in sorted((folder / "shards").glob("shard-*.sqlite")):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
                connection.row_factory = sqlite3.Row
                self._read(connection)
            connection.close()

    @classmethod
    def of(cls, lab: Lab) -> Ledger:
        """Of an open lab: on servers over its own connections."""
        if lab.profile == "embedded":
            return cls(lab.data)
        ledger = cls(Path(os.devnull))
        for database in lab.system.databases.values():
            with database.read() as connection:
                ledger._read(_Rows(connection))
        return ledger

    def _read(self, connection: sqlite3.Connection | _Rows) -> None:
        users = {}
        for row in connection.execute("SELECT id, user_id, balance FROM accounts"):
            if row["id"] >= FIRST_USER_ACCOUNT_ID:
                users[row["id"]] = row["user_id"]
                self.balances[row["user_id"]] = row["balance"]
        for row in connection.execute(
            "SELECT transaction_id, role, status, amount, kind, from_user_id, to_user_id"
            " FROM transactions"
        ):
            self.payments[str(UUID(bytes=row["transaction_id"]))][row["role"]] = row
        for row in connection.execute(
            "SELECT payment_id, account_id, direction, amount FROM ledger_entries"
        ):
            if row["account_id"] in users:
                entry = (users[row["account_id"]], row["direction"], row["amount"])
                self.entries[str(UUID(bytes=row["payment_id"]))].append(entry)

    def transfers(self, status: str) -> dict[str, int]:
        """Transfers that ended so: payment id -> amount."""
        found = {}
        for payment, sides in self.payments.items():
            row = sides.get("source") or sides.get("local")
            assert row is not None, f"{payment} was credited and never debited"
            if row["kind"] == "transfer" and row["status"] == status:
                found[payment] = row["amount"]
        return found

    def require_applied_once(self) -> None:
        """Each payment's entries on users' accounts are those of its state, each exactly once."""
        for payment, sides in self.payments.items():
            row = sides.get("source") or sides["local"]
            debit = (row["from_user_id"], "debit", row["amount"])
            credit = (row["to_user_id"], "credit", row["amount"])
            entries = Counter(self.entries.get(payment, []))
            if row["kind"] == "funding":
                assert entries == Counter([credit]), payment
            elif row["status"] == "COMPLETED":
                assert entries == Counter([debit, credit]), payment
            else:
                assert row["status"] == "FAILED", (payment, row["status"])
                back = (row["from_user_id"], "credit", row["amount"])
                assert entries in (Counter(), Counter([debit, back])), payment

    def require_acknowledged(self, acks: Iterable[tuple[str, str]]) -> None:
        for payment, status in acks:
            sides = self.payments.get(payment)
            assert sides, f"{payment} was acknowledged as {status} and is lost"
            row = sides.get("source") or sides["local"]
            ends = ("COMPLETED", "FAILED") if status == "PENDING" else (status,)
            assert row["status"] in ends, f"{payment} was acknowledged as {status}"


def expected_balances(rows: Sequence[FileRow]) -> dict[str, int]:
    """What every account must hold once each row was applied exactly once."""
    balances = {str(n): OPENING_PAISE for n in range(1, USERS + 1)} | dict.fromkeys(CLOSED, 0)
    for row in rows:
        if row.to_user not in CLOSED:
            balances[row.from_user] -= row.amount_paise
            balances[row.to_user] += row.amount_paise
    return balances


def sent_ids(files: Iterable[Path]) -> Iterator[str]:
    """The notification ids of all whole lines; a killed process may leave a torn last one."""
    for path in files:
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)["notification_id"]


def require_effects_once(lab: Lab, ledger: Ledger) -> int:
    """Features, rollups and notifications of a drained lab are those of the ledger's payments, each
    once; returns how many notifications may have been sent twice.
    """
    completed, failed = ledger.transfers("COMPLETED"), ledger.transfers("FAILED")
    wide = lab.system.wide
    features = [row["payment_id"] for row in wide.scan(FEATURES)]
    assert Counter(features) == Counter(list(completed))
    totals = lab.rollups()
    assert totals.outcome(COMPLETED) == Sum(len(completed), sum(completed.values()))
    assert totals.outcome(FAILED) == Sum(len(failed), sum(failed.values()))
    rows = {row["notification_id"]: row for row in wide.scan(NOTIFICATIONS)}
    assert {row["state"] for row in rows.values()} == {"sent"}
    # What tells of a server that was down is about no payment.
    told = {row["payment_id"] for row in rows.values() if row["template"] != "part_changed"}
    assert told == set(completed) | set(failed)
    sent = Counter(sent_ids(FileInbox(lab.data / "inbox").files()))
    assert sent.keys() == rows.keys()
    twice = {n for n, count in sent.items() if count > 1}
    possible = {n for n, row in rows.items() if row["possible_repeat"]}
    assert twice <= possible, "one was sent twice and not counted as a possible repeat"
    assert max(sent.values()) <= 2
    return len(possible)
