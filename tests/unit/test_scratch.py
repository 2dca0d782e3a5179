"""The tests' own files in memory: only where there is room, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import scratch


def test_a_folder_of_this_process_is_made(tmp_path: Path) -> None:
    one, other = scratch.make(tmp_path, 0), scratch.make(tmp_path, 0)
    assert one is not None and other is not None and one != other
    assert str(os.getpid()) in one.name and one.is_dir() and other.is_dir()


def test_without_room_or_memory_the_disk_is_used(tmp_path: Path) -> None:
    assert scratch.make(tmp_path, 1 << 60) is None
    assert scratch.make(tmp_path / "missing", 0) is None
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    left = tmp_path / f"paytm-lab-tests-{ended.pid}-abc"
    left.joinpath("of a test").mkdir(parents=True)
    others = tmp_path / "of somebody else"
    others.mkdir()
    ours = scratch.make(tmp_path, 0)
    assert scratch.make(tmp_path, 1 << 60) is None  # which removes nothing of a process that lives
    assert ours is not None and ours.is_dir() and others.is_dir()
    assert not left.exists()


def test_this_process_and_its_children_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", os.environ.get("TMPDIR", tempfile.gettempdir()))
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    scratch.use(tmp_path)
    assert tempfile.gettempdir() == str(tmp_path)
    code = "import tempfile; print(tempfile.gettempdir())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path)
