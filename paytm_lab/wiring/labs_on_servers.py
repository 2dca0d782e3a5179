"""Which labs lie on the servers, and whose folders they are: each leaves a note about that."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from paytm_lab.backends.servers import mysql_schema
from paytm_lab.config import Settings, namespace_of
from paytm_lab.core.errors import Conflict, StorageFull
from paytm_lab.ports.coordination import Coordination

NOTE = "lab"
HERE, GONE, ELSEWHERE, UNKNOWN = "here", "gone", "on another machine", ""
_DATABASES, _KEYSPACES = "paytm_", "paytm_style"
_PLAIN_DATABASE = "paytm_lab"


class Note(msgspec.Struct, frozen=True):
    """What a lab says of itself: its folder, on which host, and since when (ISO 8601, UTC)."""

    folder: str
    host: str
    made_at: str


class LabOnServers(NamedTuple):
    """``namespace``: '' for the plain names. ``folder_is``: here, gone (from this machine), on
    another machine, or '' where it is not known (a lab that left no note) or says nothing (one that
    was given its namespace, and is no folder's). ``size_bytes``: in all shards' databases.
    """

    namespace: str
    folder: str
    folder_is: str
    made_at: str
    size_bytes: int


def leave_note(coordination: Coordination, settings: Settings) -> None:
    """Once: who made the lab, not who opened it last. A lab that is open has its folder, though it
    may keep nothing in it, so that one without is nobody's any more.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # without a note it is nobody's to drop but by its name
    if coordination.read_document(NOTE) is None:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        note = Note(str(settings.data_dir.absolute()), socket.gethostname(), now)
        with suppress(Conflict):  # another process has
            coordination.write_document(NOTE, msgspec.json.encode(note), None)


def require_room(keyspaces: list[str], settings: Settings) -> None:
    """StorageFull where a new lab would be one too many for Cassandra: every table costs some of
    its heap, and without heap it answers nobody any more.
    """
    labs_there = [name for name in keyspaces if name.startswith(_KEYSPACES)]
    if settings.keyspace in labs_there or len(labs_there) < settings.cassandra_labs_max:
        return
    raise StorageFull(
        f"there are {len(labs_there)} labs on these servers, and"
        f" PAYTM_LAB_CASSANDRA_LABS_MAX is {settings.cassandra_labs_max}",
        place=f"Cassandra {settings.cassandra_servers}",
        remedy="paytm-lab stack labs lists them, paytm-lab stack drop removes them.",
    )


def labs(settings: Settings) -> list[LabOnServers]:
    """All on the servers of these settings, by namespace; one of which only a part is left, too."""
    from paytm_lab.wiring import servers

    sizes = Counter[str]()
    for shard in range(len(settings.mysql_addresses)):
        found = mysql_schema.sizes(servers.mysql_server(settings, shard), _DATABASES)
        for name, size_bytes in found.items():
            namespace = "" if name == _PLAIN_DATABASE else name.removeprefix(_DATABASES)
            sizes[namespace] += size_bytes
    with closing(servers.open_wide(settings)) as wide:
        for name in wide.keyspaces():
            if name.startswith(_KEYSPACES):
                sizes[name.removeprefix(_KEYSPACES).removeprefix("_")] += 0
    return [_lab(settings, namespace, size) for namespace, size in sorted(sizes.items())]


def _lab(settings: Settings, namespace: str, size_bytes: int) -> LabOnServers:
    from paytm_lab.wiring import servers

    with closing(servers.open_coordination(of(settings, namespace))) as coordination:
        stored = coordination.read_document(NOTE)
    if stored is None:
        return LabOnServers(namespace, "", UNKNOWN, "", size_bytes)
    note = msgspec.json.decode(stored[0], type=Note)
    if namespace != namespace_of(Path(note.folder)):
        folder_is = UNKNOWN
    elif note.host != socket.gethostname():
        folder_is = ELSEWHERE
    else:
        folder_is = HERE if Path(note.folder).is_dir() else GONE
    return LabOnServers(namespace, note.folder, folder_is, note.made_at, size_bytes)


def is_there(lab: LabOnServers) -> bool:
    """Whether the folder of a lab of this machine is there now."""
    return Path(lab.folder).is_dir()


def of(settings: Settings, namespace: str) -> Settings:
    """The same servers, all of them, and another lab on them."""
    shards = len(settings.mysql_addresses)
    return settings.model_copy(update={"namespace": namespace, "shards": shards})
