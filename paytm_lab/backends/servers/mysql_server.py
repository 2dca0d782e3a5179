"""Where a shard's MySQL server is, and the two pools of connections to it.

Every time limit on the way to a server is set here: one that is stopped but not dead accepts
connections and then says nothing, for ever, unless the reads have a limit too.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pymysql
from pymysql import err
from pymysql.constants import CLIENT
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.pool import QueuePool

from paytm_lab.backends.compiled import KEPT_TOGETHER, Alike

CONNECT_TIMEOUT_S = 3
# A writer's statement waits for row locks at most this long, then the batch is tried again.
LOCK_WAIT_S = 2
# Longer than the lock wait, so that a waiting statement is no dead server; short, because a frozen
# shard holds the payments that touch it for so long before they are answered.
WRITE_TIMEOUT_S = 5
# An audit's sums over millions of rows answer nothing for seconds.
READ_TIMEOUT_S = 20
POOL_TIMEOUT_S = 10
# Well below the server's own ``wait_timeout`` (eight hours).
RECYCLE_S = 1_800
# One writer, one relay, and now and then a sweep or a freeze: more only when tests ask for it.
WRITERS, WRITERS_MORE = 4, 12
READERS, READERS_MORE = 4, 12
# One text with many rows has to fit; it is a limit, not a size.
_GROUP_CONCAT_BYTES_MAX = 64 * 2**20


IN_USE = "in use"  # an entry of a pooled connection's ``info`` while a transaction is open on it


class MySqlServer(NamedTuple):
    """``tls``: off | required (any certificate) | verify (signed by ``tls_ca`` or a known one, and
    made out to ``host``).
    """

    host: str
    port: int
    user: str
    password: str
    database: str
    tls: str = "off"
    tls_ca: str = ""

    def __repr__(self) -> str:
        return f"MySqlServer({self.user}@{self.host}:{self.port}/{self.database})"

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


def session_sql(isolation: str) -> str:
    """All settings of a session in one statement: it is one round trip of each new connection."""
    return (
        "SET SESSION autocommit = 0,"
        f" transaction_isolation = '{isolation}',"
        " sql_mode = 'ONLY_FULL_GROUP_BY,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
        " time_zone = '+00:00',"
        f" innodb_lock_wait_timeout = {LOCK_WAIT_S},"
        f" lock_wait_timeout = {2 * LOCK_WAIT_S},"  # for a table's definition; a year by default
        f" group_concat_max_len = {_GROUP_CONCAT_BYTES_MAX},"
        " information_schema_stats_expiry = 0,"  # sizes of tables as they are, not of yesterday
        # Rows are locked in the order in which the index is read; this would sort them anew.
        " optimizer_switch = 'mrr=off'"
    )


def connect_arguments(
    server: MySqlServer, isolation: str, read_timeout_s: int, *, database: bool = True
) -> dict[str, Any]:
    """Keyword arguments of the driver's ``connect``."""
    arguments: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": read_timeout_s,
        "write_timeout": WRITE_TIMEOUT_S,
        "init_command": session_sql(isolation),
        "autocommit": False,
        # An update counts the rows it found, changed or not. Several statements may go in one
        # message; no text of a user ever stands in one (see ``mysql_text``).
        "client_flag": CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
        **_tls(server),
    }
    if database:
        arguments["database"] = server.database
    return arguments


def _tls(server: MySqlServer) -> dict[str, Any]:
    if server.tls == "off":
        return {"ssl_disabled": True}
    if server.tls == "required":
        return {"ssl": {"ca": None}}
    if server.tls == "verify":
        return {
            "ssl_ca": server.tls_ca or None,
            "ssl_verify_cert": True,
            "ssl_verify_identity": True,
        }
    raise ValueError(f"tls is {server.tls!r}, not off, required or verify")


class _Connection(pymysql.connections.Connection):  # type: ignore[misc]
    """``greeted`` is called once it has its socket, before anything is read from it: there is no
    moment in which a connection that is being made can neither be cut nor find out by itself.
    """

    greeted: Callable[[], None]

    def _get_server_information(self) -> None:
        self.greeted()
        super()._get_server_information()


class Connections:
    """All connections of an engine, those in use and those being made too, so that they can be cut:
    whoever waits for a server that says nothing hears at once that the connection is lost.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[Any] = weakref.WeakSet()
        self._ended = False
        event.listen(engine, "do_connect", self._connect)

    def _connect(self, dialect: Any, record: Any, args: list[Any], options: dict[str, Any]) -> Any:
        connection = _Connection(*args, **options, defer_connect=True)
        connection.greeted = self._require_open
        with self._lock:
            self._all.add(connection)
        connection.connect()
        return connection

    def _require_open(self) -> None:
        with self._lock:
            if self._ended:
                raise err.InterfaceError(0, "the shard is closed")

    def cut(self) -> None:
        """Now, and each new one before it is made."""
        with self._lock:
            self._ended = True
            sockets = [connection._sock for connection in self._all]
        for each in sockets:
            if each is not None:
                # Not closed: another thread reads from it, and its number may be another's by then.
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class AlikeMysql(Alike, MySQLDialect_pymysql):
    supports_statement_cache = True


registry.register("mysql.alike", __name__, AlikeMysql.__name__)


def writers_engine(server: MySqlServer) -> Engine:
    """Connections of writers and relay. Nothing is asked when one is taken or given back: each
    round trip counts there. A dead one shows at its first statement, before any commit.
    """
    engine = create_engine(
        URL.create("mysql+alike"),
        execution_options=KEPT_TOGETHER,
        connect_args=connect_arguments(server, "READ-COMMITTED", WRITE_TIMEOUT_S),
        poolclass=QueuePool,
        pool_size=WRITERS,
        max_overflow=WRITERS_MORE,
        pool_timeout=POOL_TIMEOUT_S,
        pool_recycle=RECYCLE_S,
        pool_pre_ping=False,
        pool_reset_on_return=None,  # one round trip; a transaction ends before it is given back
    )

    def reset(connection: Any, record: Any, state: Any) -> None:
        # Unless it was forgotten, and the interpreter gives its connection back.
        if record is not None and record.info.pop(IN_USE, False):
            connection.rollback()

    event.listen(engine, "reset", reset)
    return engine


def readers_engine(server: MySqlServer) -> Engine:
    """Connections of readers: each use is one read-only snapshot. They are tried before use, as
    nobody repeats a read that failed.
    """
    engine = create_engine(
        URL.create("mysql+alike"),
        execution_options=KEPT_TOGETHER,
        connect_args=connect_arguments(server, "REPEATABLE-READ", READ_TIMEOUT_S),
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=READERS_MORE,
        pool_timeout=POOL_TIMEOUT_S,
        pool_recycle=RECYCLE_S,
        pool_pre_ping=True,
        pool_reset_on_return=None,  # every use ends by a commit or a rollback
    )

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    event.listen(engine, "begin", begin)
    return engine
