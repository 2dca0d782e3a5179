"""``connection.env``: where the servers are and how one logs in. Only its owner may read it.

The lab's settings read it. The password of MySQL's root, which the lab never uses, lies beside it
in ``admin.env``.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from paytm_lab.core.errors import MissingPart
from paytm_lab.stack.layout import Layout, write

HOST = "127.0.0.1"
MYSQL_USER = "paytm_lab"
PASSWORD_BYTES = 24
_PREFIX = "PAYTM_LAB_"


class Passwords(NamedTuple):
    """Hex digits only: they go into SQL, configuration files and shells without quoting."""

    mysql: str
    mysql_root: str
    redis: str


def new_passwords() -> Passwords:
    return Passwords(*(secrets.token_hex(PASSWORD_BYTES) for _ in Passwords._fields))


def passwords(layout: Layout) -> Passwords:
    """Those of this stack. MissingPart when its file is gone though servers were set up by it."""
    try:
        values = read(layout.connection) | read(layout.admin)
        return Passwords(
            values[f"{_PREFIX}MYSQL_PASSWORD"],
            values["MYSQL_ROOT_PASSWORD"],
            values[f"{_PREFIX}REDIS_PASSWORD"],
        )
    except FileNotFoundError as error:
        found = f"{error.filename} is not there"
    except KeyError as error:
        found = f"{layout.connection} or {layout.admin.name} has no {error.args[0]}"
    raise MissingPart(
        f"{found}, and only it knows the servers' passwords",
        remedy="Put it back, or start afresh with: paytm-lab stack up --reset.",
    )


def read(path: Path) -> dict[str, str]:
    """Its variables. FileNotFoundError when it is not there."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def settings(layout: Layout) -> dict[str, str]:
    """The lab's settings by name, as ``Settings`` takes them."""
    return {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in read(layout.connection).items()
        if name.startswith(_PREFIX)
    }


def write_connection(layout: Layout, ports: Mapping[str, int], known: Passwords) -> None:
    """``ports``: by the server's name."""
    mysql = ",".join(f"{HOST}:{ports[name]}" for name in sorted(ports) if "mysql" in name)
    lines = [
        "# Written by `paytm-lab stack up`. Holds passwords.",
        f"{_PREFIX}MYSQL_SERVERS={mysql}",
        f"{_PREFIX}MYSQL_USER={MYSQL_USER}",
        f"{_PREFIX}MYSQL_PASSWORD={known.mysql}",
        f"{_PREFIX}REDIS_SERVER={HOST}:{ports['redis']}",
        f"{_PREFIX}REDIS_PASSWORD={known.redis}",
        f"{_PREFIX}KAFKA_SERVERS={HOST}:{ports['kafka']}",
        f"{_PREFIX}ZOOKEEPER_SERVERS={HOST}:{ports['zookeeper']}",
        f"{_PREFIX}CASSANDRA_SERVERS={HOST}:{ports['cassandra']}",
    ]
    admin = [
        "# For you, not for the lab: root@localhost of each MySQL, by its socket only.",
        f"MYSQL_ROOT_PASSWORD={known.mysql_root}",
    ]
    write(layout.admin, "\n".join(admin) + "\n")
    write(layout.connection, "\n".join(lines) + "\n")
