"""Another process for the shard database's contract: does what its arguments say, and tells it.

python shard_database_process.py PROFILE WHERE COMMAND ARGUMENT...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from paytm_lab.backends.embedded.shard_database import EmbeddedShardDatabase
from paytm_lab.ledger import schema
from paytm_lab.ports.shard_database import ShardDatabase, ShardMeta


def open_shard(profile: str, where: str) -> EmbeddedShardDatabase:
    if profile != "embedded":
        raise ValueError(profile)
    return EmbeddedShardDatabase(Path(where), 0, schema.metadata, schema.INSERT_COLUMNS)


def say(text: object) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def create(database: EmbeddedShardDatabase) -> None:
    """Create the shard when the parent says so."""
    say("ready")
    sys.stdin.readline()
    database.create(
        schema.system_accounts(2),
        ShardMeta(7, 1, b"\x55" * 128),
        schema.FIRST_USER_ACCOUNT_ID,
        1_000,
    )
    say("created")


def add(database: ShardDatabase, user: str, times: str) -> None:
    """Read a balance under its lock and write one more, again and again."""
    say("ready")
    sys.stdin.readline()
    for _ in range(int(times)):
        tx = database.begin()
        (account,) = tx.lock_accounts([user])
        tx.update("accounts", ("id",), ("balance",), [(account.id, account.balance + 1)])
        tx.commit()
    say("added")


def commit_on(database: ShardDatabase) -> None:
    """Commit one more applied event without end; say each number once it is committed."""
    number = 0
    while True:
        tx = database.begin()
        tx.insert("applied_events", [(f"event-{number}", number)])
        tx.commit()
        say(number)
        number += 1


def hold_lock(database: ShardDatabase, user: str) -> None:
    """Change a balance, do not commit, and wait to be killed."""
    tx = database.begin()
    (account,) = tx.lock_accounts([user])
    tx.update("accounts", ("id",), ("balance",), [(account.id, account.balance + 1)])
    say("locked")
    sys.stdin.read()


if __name__ == "__main__":
    profile, where, command, *arguments = sys.argv[1:]
    commands = {f.__name__: f for f in (create, add, commit_on, hold_lock)}
    commands[command](open_shard(profile, where), *arguments)
