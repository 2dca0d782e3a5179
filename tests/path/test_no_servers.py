"""`--profile servers` where none answer: each verb says so at once, and makes nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paytm_lab.cli import app
from paytm_lab.config import PREFIX
from tests.ports import free_port

WITHIN_S = 5.0
SERVERS = ("MYSQL_SERVERS", "REDIS_SERVER", "KAFKA_SERVERS", "ZOOKEEPER_SERVERS")
VERBS = (
    ("run", "--users", "5", "--payments", "5"),
    ("report", "--notebooks", str(Path(__file__).parents[2] / "notebooks")),
    ("audit",),
    ("replay",),
    ("trace", "01a226ad-3d56-7a6d-8ab1-977e2bc9383b"),
    ("relay",),
    ("consume", "fraud"),
    ("fault", "shard-2", "down"),
    ("bench", "engine", "--quick"),
    ("stack", "drop"),
    ("stack", "drop", "--gone"),
    ("stack", "labs"),
)


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_the_servers_that_are_away_are_named(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    away = f"127.0.0.1:{free_port()}"
    for name in (*SERVERS, "CASSANDRA_SERVERS"):
        monkeypatch.setenv(f"{PREFIX}{name}", ",".join([away] * 4) if "MYSQL" in name else away)
    monkeypatch.setenv(f"{PREFIX}STACK_DIR", str(tmp_path / "stack"))
    monkeypatch.setenv(f"{PREFIX}DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    profile = [] if words[0] == "stack" else ["--profile", "servers"]
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        app([*words, *profile], prog_name="paytm-lab")
    assert time.monotonic() - began < WITHIN_S
    said = capfd.readouterr().err
    assert ended.value.code == 3
    assert all(kind in said for kind in ("MySQL", "Redis", "Kafka", "ZooKeeper", "Cassandra"))
    assert f"{away} (connection refused)" in said and f"{PREFIX}MYSQL_SERVERS" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
