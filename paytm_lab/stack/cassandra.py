"""Cassandra 4.1: features and events of payments."""

from __future__ import annotations

import json
from pathlib import Path

from paytm_lab.stack.connection import HOST
from paytm_lab.stack.layout import Layout
from paytm_lab.stack.probe import ask
from paytm_lab.stack.programs import Jars, Missing, Places, Program, find_jars, jar_version

NAME = "cassandra"
PORT = 9042
STORAGE_PORT = 7000
HEAP = "512m"
# A thread pool of Cassandra that has run out of work looks for more every 10 us, for 10 ms, before
# it rests: 7 ms of processor time for a request that comes alone, which keeps a small machine busy
# with waiting. Where Linux may let a sleep last so much longer, the same looks cost 1.6 ms.
TIMER_SLACK_NS = 500_000
CLUSTER = "paytm_lab"
MAIN = "org.apache.cassandra.service.CassandraDaemon"
FILES = Path(__file__).parent / "files"
SETTINGS: dict[str, str] = {
    # Acknowledged = on disk. With `periodic`, a kill -9 lost writes that had been acknowledged.
    "commitlog_sync": "batch",
    "commitlog_segment_size": "8MiB",
    "commitlog_total_space": "128MiB",
    "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
    "endpoint_snitch": "SimpleSnitch",
    "num_tokens": "16",
    # Each table that was written to takes 1 MiB of heap at once where its rows lie in it; a lab has
    # 20 tables. With 11 labs the heap was full, and writes timed out; so, 30 labs leave room.
    "memtable_allocation_type": "offheap_objects",
    "auto_snapshot": "false",
    "hinted_handoff_enabled": "false",
    # Warn above what the lab's batches of several partitions may be, which wide_store.py says, and
    # below the 50 KiB from which Cassandra refuses them; it comes with 5 KiB and 10 partitions.
    "batch_size_warn_threshold": "48KiB",
    "unlogged_batch_across_partitions_warn_threshold": "64",
}


def find(where: Places) -> Jars | Missing:
    folders = [home / "lib" for home in where.home("CASSANDRA_HOME")]
    folders += [where.root / "opt/cassandra/lib", where.packages / NAME / "lib"]
    return find_jars(
        "cassandra", folders, _version, "the jars of Cassandra 4.1",
        (
            "anywhere with Maven and Java 17 (brew or conda install maven): --fetch",
            "or unpack Apache Cassandra 4.1 and set CASSANDRA_HOME to its folder",
        ),
    )  # fmt: skip


def _version(folder: Path) -> str:
    found = jar_version(folder, r"(?:apache-cassandra|cassandra-all)-(4\.1\.\d+)\.jar")
    return found if found and sorted(folder.glob("jamm-*.jar")) else ""


def config_path(layout: Layout) -> Path:
    return layout.conf / "cassandra.yaml"


def config(layout: Layout, port: int, storage_port: int) -> str:
    data = layout.data / NAME
    seeds = {"seeds": f"{HOST}:{storage_port}"}
    provider = "org.apache.cassandra.locator.SimpleSeedProvider"
    own = {
        "cluster_name": CLUSTER,
        "listen_address": HOST,
        "storage_port": storage_port,
        "rpc_address": HOST,
        "native_transport_port": port,
        "seed_provider": [{"class_name": provider, "parameters": [seeds]}],
        "data_file_directories": [str(data / "data")],
        "commitlog_directory": str(data / "commitlog"),
        "saved_caches_directory": str(data / "saved_caches"),
        "hints_directory": str(data / "hints"),
        "cdc_raw_directory": str(data / "cdc_raw"),
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in own.items()]  # JSON is YAML
    lines += [f"{key}: {value}" for key, value in SETTINGS.items()]
    return "\n".join(lines) + "\n"


def command(java: Program, jars: Jars, layout: Layout) -> list[str]:
    agent = sorted(jars.folder.glob("jamm-*.jar"))[-1]
    return [
        *java.command, f"-Xms{HEAP}", f"-Xmx{HEAP}", f"-javaagent:{agent}",
        f"@{FILES / 'cassandra.options'}",
        f"-Dlogback.configurationFile={(FILES / 'logback.xml').as_uri()}",
        marker(layout), f"-Dcassandra.storagedir={layout.data / NAME}",
        "-cp", f"{jars.folder}/*", MAIN,
    ]  # fmt: skip


def marker(layout: Layout) -> str:
    return f"-Dcassandra.config={config_path(layout).as_uri()}"


def ready(port: int) -> bool:
    """It answers OPTIONS with SUPPORTED (6), in version 4 of its protocol."""
    answer = ask(port, b"\x04\0\0\0\x05\0\0\0\0", 9)
    return bool(answer) and answer[4] == 6
