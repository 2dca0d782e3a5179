"""What only the embedded coordination can get wrong: its files."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from paytm_lab.backends.embedded import locked_files
from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.core.errors import LockTimeout, MissingPart, StorageCorrupt, Unavailable


def test_a_leader_whose_lock_file_is_deleted_leads_no_more(tmp_path: Path) -> None:
    one, other = EmbeddedCoordination(tmp_path), EmbeddedCoordination(tmp_path)
    leadership = one.try_lead("relay")
    assert leadership is not None
    (tmp_path / "locks" / "relay.lock").unlink()
    following = other.try_lead("relay")
    assert following is not None
    assert (leadership.held(), following.held()) == (False, True)
    following.release()
    assert not leadership.held(), "false for good"


def test_a_farewell_removes_only_its_own_file(tmp_path: Path) -> None:
    one, other = EmbeddedCoordination(tmp_path), EmbeddedCoordination(tmp_path)
    leave = one.register("auth", "a", "first")
    (tmp_path / "services" / "auth" / "a.live").unlink()
    other.register("auth", "a", "second")
    leave()
    assert other.instances("auth") == {"a": "second"}
    other.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(MissingPart, match="file"):
        EmbeddedCoordination(file / "coordination")
    with pytest.raises(MissingPart, match="--data"):
        EmbeddedCoordination(file)


@pytest.mark.parametrize("content", [b"", b"3", b"x\nbody", b"-1\nbody"])
def test_a_damaged_document_is_named(tmp_path: Path, content: bytes) -> None:
    coordination = EmbeddedCoordination(tmp_path)
    coordination.write_document("shard_map", b"body", None)
    path = tmp_path / "documents" / "shard_map.doc"
    path.write_bytes(content)
    with pytest.raises(StorageCorrupt, match=r"shard_map\.doc"):
        coordination.read_document("shard_map")
    with pytest.raises(StorageCorrupt):
        coordination.write_document("shard_map", b"new", 1)
    assert path.read_bytes() == content, "nothing was changed"


def test_a_writer_that_never_finishes_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordination = EmbeddedCoordination(tmp_path)
    monkeypatch.setattr(locked_files, "LOCK_WAIT_S_MAX", 0.02)
    with (tmp_path / "documents" / "map.lock").open("w") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        with pytest.raises(LockTimeout, match="map"):
            coordination.write_document("map", b"", None)
    assert coordination.write_document("map", b"", None) == 1


def test_closing_survives_a_deleted_folder(tmp_path: Path) -> None:
    coordination = EmbeddedCoordination(tmp_path / "c")
    coordination.register("auth", "a", "address")
    coordination.try_lead("relay")
    (tmp_path / "c").rename(tmp_path / "gone")
    coordination.close()
    with pytest.raises(Unavailable):
        coordination.read_document("map")


def test_the_watching_thread_lives_only_while_somebody_watches(tmp_path: Path) -> None:
    def watchers() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "coordination-watch"]

    coordination = EmbeddedCoordination(tmp_path)
    assert watchers() == []
    end = coordination.watch_document("map", lambda body, version: None)
    (thread,) = watchers()
    end()
    thread.join(10)
    assert not thread.is_alive()
    coordination.watch_document("map", lambda body, version: None)
    (again,) = watchers()
    coordination.close()
    assert not again.is_alive()


def test_no_name_leaves_its_folder(tmp_path: Path) -> None:
    coordination = EmbeddedCoordination(tmp_path)
    for name in ("..", ".", "../x", "/x"):
        coordination.register(name, name, "address")
        coordination.write_document(name, b"", None)
        coordination.try_lead(name)
    assert {path.name for path in tmp_path.iterdir()} == {"locks", "documents", "services"}
    assert all(path.is_dir() for path in (tmp_path / "services").iterdir())
    assert len(list((tmp_path / "services").iterdir())) == 4
    coordination.close()
