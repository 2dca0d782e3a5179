"""Kafka 3.x: one broker that keeps its metadata in ZooKeeper."""

from __future__ import annotations

import struct
import time
from pathlib import Path

from paytm_lab.stack import zookeeper
from paytm_lab.stack.connection import HOST
from paytm_lab.stack.layout import Layout
from paytm_lab.stack.probe import ask
from paytm_lab.stack.programs import Jars, Missing, Places, Program, find_jars, jar_version

NAME = "kafka"
PORT = 9092
HEAP = "320m"
BROKER = 0
MAIN = "kafka.Kafka"
REGISTRATION_ENDS_S_MAX = 30.0
SETTINGS: dict[str, str] = {
    # Topics are made by the lab, with chosen partitions and retention, never by a typing error.
    "auto.create.topics.enable": "false",
    # A killed broker leaves its registration behind in ZooKeeper: short, so that it soon ends.
    "zookeeper.session.timeout.ms": "4000",
    # Both begin at once, and a busy machine's ZooKeeper may need longer than a session lasts: by
    # default the broker then gave up.
    "zookeeper.connection.timeout.ms": "60000",
    # One broker: nothing to hand over to, nothing to replicate to.
    "controlled.shutdown.enable": "false",
    "unclean.leader.election.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    # The internal topics have 50 partitions each unless told otherwise.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # Groups form at once, and a dead consumer may be noticed after a second.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A small machine.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.replica.fetchers": "1",
    "log.segment.bytes": str(64 << 20),
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    # The default of a topic that does not say; payment_events says: for ever.
    "log.retention.hours": "24",
}


def find(where: Places) -> Jars | Missing:
    folders = [home / "libs" for home in where.home("KAFKA_HOME")]
    folders += [home / "share/java/kafka" for home in where.home("KAFKA_HOME")]
    folders += [where.root / "opt/kafka/libs", where.root / "usr/share/java/kafka"]
    folders += [where.packages / NAME / "lib"]
    return find_jars(
        "kafka", folders, _version, "the jars of Kafka 3 (Kafka 4 has no ZooKeeper any more)",
        (
            "anywhere with Maven and Java 17 (brew or conda install maven): --fetch",
            "or unpack Apache Kafka 3.x (or Confluent 7.x) and set KAFKA_HOME to its folder",
        ),
    )  # fmt: skip


def _version(folder: Path) -> str:
    """Confluent's 7.x is Apache's 3.x."""
    found = jar_version(folder, r"kafka_2\.1\d-((?:3|7)\.\d[\w.-]*)\.jar")
    return found if found and zookeeper.version(Jars(folder, "")) else ""


def config_path(layout: Layout) -> Path:
    return layout.conf / "server.properties"


def config(layout: Layout, port: int, zookeeper_port: int) -> str:
    own = {
        "broker.id": str(BROKER),
        "listeners": f"PLAINTEXT://{HOST}:{port}",
        "zookeeper.connect": f"{HOST}:{zookeeper_port}",
        "log.dirs": str(layout.data / NAME),
    }
    return "\n".join(f"{key}={value}" for key, value in (own | SETTINGS).items()) + "\n"


def command(java: Program, jars: Jars, layout: Layout) -> list[str]:
    return [
        *java.command, f"-Xms{HEAP}", f"-Xmx{HEAP}",
        f"-Dlog4j.configuration={zookeeper.LOG4J.as_uri()}",
        "-cp", f"{jars.folder}/*", MAIN, str(config_path(layout)),
    ]  # fmt: skip


def has_run(layout: Layout) -> bool:
    return (layout.data / NAME / "meta.properties").exists()


def wait_for_old_registration(zookeeper_port: int) -> None:
    """Until ZooKeeper answers and has dropped what a killed broker registered there: a broker that
    finds the registration of another session gives up.
    """
    node = f"/brokers/ids/{BROKER}"
    give_up_at = time.monotonic() + REGISTRATION_ENDS_S_MAX
    while time.monotonic() < give_up_at:
        sessions = zookeeper.ephemerals(zookeeper_port)
        if "Session" in sessions and node not in sessions.split():
            return
        time.sleep(0.1)


def ready(port: int) -> bool:
    """It lists itself as a broker and knows a controller: topics can be made."""
    # Metadata, version 1, no client id, of no topics.
    body = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    answer = ask(port, struct.pack(">i", len(body)) + body, 12)
    if not answer:
        return False
    try:
        return _has_controller(answer)
    except struct.error:  # cut short
        return False


def _has_controller(answer: bytes) -> bool:
    """length, correlation, brokers [id, host, port, rack], controller id, ..."""
    brokers = struct.unpack_from(">i", answer, 8)[0]
    at = 12
    for _ in range(brokers):
        at += 4 + 2 + struct.unpack_from(">h", answer, at + 4)[0] + 4
        at += 2 + max(0, struct.unpack_from(">h", answer, at)[0])
    controller = int(struct.unpack_from(">i", answer, at)[0])
    return bool(brokers > 0 and controller >= 0)
