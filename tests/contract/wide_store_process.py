"""Another process for the wide store contract: tells on stdout what it did, until it is killed.

python wide_store_process.py PROFILE WHERE COMMAND ARGUMENT...
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.backends.servers.wide_store import CassandraWideStore
from paytm_lab.config import Settings
from paytm_lab.ports.wide_store import WideStore


def address_of(settings: Settings) -> str:
    """ "host:port,host:port/keyspace"."""
    return f"{settings.cassandra_servers}/{settings.keyspace}"


def _on_servers(where: str) -> CassandraWideStore:
    servers, _, keyspace = where.partition("/")
    return CassandraWideStore(servers, keyspace)


def open_wide_store(profile: str, where: str) -> WideStore:
    """``where`` is a file, or servers and keyspace."""
    return EmbeddedWideStore(Path(where)) if profile == "embedded" else _on_servers(where)


def clear(where: str) -> None:
    with closing(_on_servers(where)) as store:
        store.clear()


def remove(where: str) -> None:
    with closing(_on_servers(where)) as store:
        store.drop()


def say(text: object) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def claim(store: WideStore, table: str, count: str) -> None:
    """Claim numbered rows, five at a time; say how many were new here."""
    new = 0
    for start in range(0, int(count), 5):
        rows = [
            {"payment_id": f"p{i}", "type": "claim", "body": str(os.getpid())}
            for i in range(start, start + 5)
        ]
        new += sum(store.insert_if_absent(table, rows))
    say(new)


def write_on(store: WideStore, table: str) -> None:
    """Upsert without end; say each number once it is stored."""
    number = 0
    while True:
        store.upsert(table, [{"payment_id": f"p{number}", "type": "t", "body": "x" * 500}])
        say(number)
        number += 1


if __name__ == "__main__":
    profile, where, command, *arguments = sys.argv[1:]
    {f.__name__: f for f in (claim, write_on)}[command](open_wide_store(profile, where), *arguments)
