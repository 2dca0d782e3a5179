"""ZooKeeper: coordination for Kafka and for us. Its jars come with Kafka's."""

from __future__ import annotations

from pathlib import Path

from paytm_lab.stack.connection import HOST
from paytm_lab.stack.layout import Layout
from paytm_lab.stack.probe import ask
from paytm_lab.stack.programs import Jars, Program, jar_version

NAME = "zookeeper"
PORT = 2181
HEAP = "128m"
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
LOG4J = Path(__file__).parent / "files/log4j.properties"
SETTINGS: dict[str, str] = {
    # A client may ask for a session of 2 to 40 ticks: 1 to 20 s. Sessions end on a tick.
    "tickTime": "500",
    "minSessionTimeout": "1000",
    "maxSessionTimeout": "20000",
    "maxClientCnxns": "200",
    "admin.enableServer": "false",
    "4lw.commands.whitelist": "ruok,srvr,stat,mntr,cons,dump",
    "autopurge.purgeInterval": "1",
    "autopurge.snapRetainCount": "3",
}


def version(jars: Jars) -> str:
    return jar_version(jars.folder, r"zookeeper-(\d[\d.]*)\.jar")


def config_path(layout: Layout) -> Path:
    return layout.conf / "zoo.cfg"


def config(layout: Layout, port: int) -> str:
    own = {
        "dataDir": str(layout.data / NAME),
        "clientPort": str(port),
        "clientPortAddress": HOST,
    }
    return "\n".join(f"{key}={value}" for key, value in (own | SETTINGS).items()) + "\n"


def command(java: Program, jars: Jars, layout: Layout) -> list[str]:
    return [
        *java.command, f"-Xmx{HEAP}", "-XX:+UseSerialGC", f"-Dlog4j.configuration={LOG4J.as_uri()}",
        "-cp", f"{jars.folder}/*", MAIN, str(config_path(layout)),
    ]  # fmt: skip


def ready(port: int) -> bool:
    """It says its version; one that is not serving yet says so instead."""
    return ask(port, b"srvr", 16).startswith(b"Zookeeper version")


def ephemerals(port: int) -> str:
    """Its list of sessions with the nodes that end with them; '' while it is away."""
    return ask(port, b"dump", 1, until_closed=True).decode(errors="replace")
