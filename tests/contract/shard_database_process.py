"""Another process for the shard database's contract: does what its arguments say, and tells it.

python shard_database_process.py PROFILE WHERE COMMAND ARGUMENT...
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pymysql
from sqlalchemy import URL, make_url

from paytm_lab.backends.embedded.shard_database import EmbeddedShardDatabase
from paytm_lab.backends.servers.mysql_server import MySqlServer
from paytm_lab.backends.servers.shard_database import MySqlShardDatabase
from paytm_lab.config import Settings
from paytm_lab.ledger import schema
from paytm_lab.ports.shard_database import ShardDatabase, ShardMeta

AnyShard = EmbeddedShardDatabase | MySqlShardDatabase


def address_of(settings: Settings, shard: int = 0) -> str:
    """Where this shard's database is, with user and password, in one text."""
    server = settings.mysql_addresses[shard]
    password = settings.mysql_password
    url = URL.create(
        "mysql",
        settings.mysql_user,
        password.get_secret_value() if password is not None else "",
        server.host,
        server.port,
        settings.database_name,
    )
    return url.render_as_string(hide_password=False)


def open_shard(profile: str, where: str) -> AnyShard:
    """``where`` is a file, or what ``address_of`` gives."""
    if profile == "embedded":
        return EmbeddedShardDatabase(Path(where), 0, schema.metadata, schema.INSERT_COLUMNS)
    return MySqlShardDatabase(server_of(where), 0, schema.metadata, schema.INSERT_COLUMNS)


def server_of(where: str) -> MySqlServer:
    url = make_url(where)
    return MySqlServer(
        url.host or "", url.port or 0, url.username or "", url.password or "", url.database or ""
    )


def create_shard(database: AnyShard) -> None:
    """Shard 0 of two, which owns every even slot."""
    database.create(
        schema.system_accounts(2),
        ShardMeta(7, 1, b"\x55" * 128),
        schema.FIRST_USER_ACCOUNT_ID,
        1_000,
    )


def remove(where: str) -> None:
    """The database of one test."""
    MySqlShardDatabase(server_of(where), 0, schema.metadata, schema.INSERT_COLUMNS).drop()


def drop_column(profile: str, where: str, table: str, column: str) -> None:
    """Make it a shard of before that column came."""
    _change(profile, where, f"ALTER TABLE {table} DROP COLUMN {column}")


def drop_table(profile: str, where: str, table: str) -> None:
    """Make it a shard of before that table came."""
    _change(profile, where, f"DROP TABLE {table}")


def _change(profile: str, where: str, change: str) -> None:
    if profile == "embedded":
        with closing(sqlite3.connect(where)) as file:
            file.execute(change)
        return
    server = server_of(where)
    with closing(
        pymysql.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            database=server.database,
        )
    ) as connection:
        connection.cursor().execute(change)


def say(text: object) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def create(database: AnyShard) -> None:
    """Create the shard when the parent says so."""
    say("ready")
    sys.stdin.readline()
    create_shard(database)
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
