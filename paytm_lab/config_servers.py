"""Where the real servers are: the settings that only ``profile=servers`` reads.

``paytm-lab stack up`` writes them to ``connection.env`` in the stack's folder, passwords included;
servers that somebody else started are named by ``PAYTM_LAB_*`` variables.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

CONNECTION_FILE = "connection.env"


class Address(NamedTuple):
    """A server's ``host`` and TCP ``port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def addresses(text: str) -> tuple[Address, ...]:
    """'host:port,host:port' -> addresses, in order. ValueError names the part that is not one."""
    found = []
    for part in text.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit():
            raise ValueError(f"{part.strip()!r:.80} is not host:port")
        if not 0 < int(port) < 65_536:
            raise ValueError(f"{part.strip()!r:.80} has no port from 1 to 65535")
        found.append(Address(host, int(port)))
    return tuple(found)


def _checked(text: str) -> str:
    addresses(text)
    return text


def _one(text: str) -> str:
    if len(addresses(text)) != 1:
        raise ValueError("one server is expected")
    return text


Servers = Annotated[str, AfterValidator(_checked)]
Server = Annotated[str, AfterValidator(_one)]


class ServerSettings(BaseSettings):
    """The part of ``config.Settings`` that says where the servers are and who the lab is there."""

    namespace: str = Field(
        "",
        pattern=r"^[a-z0-9_]{0,32}$",
        description="Keeps labs on the same servers apart: part of every database, topic, keyspace"
        " and key (a-z, 0-9, _). Default: made from the data folder; the plain names for the"
        " default one.",
    )
    mysql_servers: Servers = Field(
        "127.0.0.1:3306,127.0.0.1:3307,127.0.0.1:3308,127.0.0.1:3309",
        description="MySQL servers, host:port by commas: shard 0 on the first, and so on.",
    )
    mysql_user: str = Field("paytm_lab", description="MySQL user, the same on every shard.")
    mysql_password: SecretStr | None = Field(None, description="Its password; there is no default.")
    mysql_tls: Literal["off", "required", "verify"] = Field(
        "off",
        description="TLS to MySQL: off, required (encrypted), verify (the certificate too).",
    )
    mysql_tls_ca: str = Field(
        "", description="File with the certificates that verify trusts; empty: the system's."
    )
    redis_server: Server = Field("127.0.0.1:6379", description="Redis server, host:port.")
    redis_password: SecretStr | None = Field(None, description="Its password, where it asks one.")
    kafka_servers: Servers = Field(
        "127.0.0.1:9092", description="Kafka brokers to ask first, host:port by commas."
    )
    kafka_replication: int = Field(
        1, ge=1, le=7, description="Copies of each partition, when a topic is created."
    )
    kafka_session_s: float = Field(
        6.0, ge=1.0, le=1_800.0,
        description="After so many seconds without a sign of life a consumer's partitions are given"
        " to the others of its group: the longest that a killed one keeps them. More than the"
        " longest batch takes. The brokers' settings group.min.session.timeout.ms (6 s by default,"
        " 1 s where the stack starts them) and group.max.session.timeout.ms bound it.",
    )  # fmt: skip
    zookeeper_servers: Servers = Field(
        "127.0.0.1:2181", description="ZooKeeper servers, host:port by commas."
    )
    zookeeper_session_s: float = Field(
        5.0, ge=1.0, le=60.0,
        description="After so many seconds without a sign of life a leader or a service counts as"
        " gone: how long a killed one keeps its place. A leader that hears nothing gives up after"
        " 80 % of it; below 3 s a short pause of the server is enough. ZooKeeper's settings"
        " minSessionTimeout and maxSessionTimeout bound it (4 and 40 s by default, 1 and 20 s where"
        " the stack starts it).",
    )  # fmt: skip
    cassandra_servers: Servers = Field(
        "127.0.0.1:9042", description="Cassandra servers to ask first, host:port by commas."
    )
    cassandra_replication: int = Field(
        1, ge=1, le=7, description="Copies of each row, when the keyspace is created."
    )
    cassandra_labs_max: int = Field(
        24, ge=1, le=1_000,
        description="Labs on these servers, at most: each one's tables take some 8 MiB of"
        " Cassandra's heap, 512 MiB where the stack starts it.",
    )  # fmt: skip
    cassandra_user: str = Field("", description="Cassandra user; empty: none is asked for.")
    cassandra_password: SecretStr | None = Field(None, description="That user's password.")

    @property
    def mysql_addresses(self) -> tuple[Address, ...]:
        return addresses(self.mysql_servers)

    @property
    def database_name(self) -> str:
        """The MySQL database of this namespace, on every shard."""
        return f"paytm_{self.namespace}" if self.namespace else "paytm_lab"

    @property
    def keyspace(self) -> str:
        return f"paytm_style_{self.namespace}" if self.namespace else "paytm_style"

    @property
    def chroot(self) -> str:
        return f"/paytm_lab_{self.namespace}" if self.namespace else "/paytm_lab"
