from __future__ import annotations

import io
import os
import resource
import signal
from pathlib import Path

import pytest

from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import StorageFull, Unavailable
from paytm_lab.notifications.channels import (
    TAKEN,
    ConsoleChannel,
    FileChannel,
    MemoryChannel,
    Outgoing,
    every_kind,
)
from paytm_lab.notifications.inbox import FileInbox

HOSTILE_IDS = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "con",
    "a/b\\c",
    'say "hi"',
    "{user_id}",
    '{"user_id":"asha",',
    "नमस्ते",
    "👩‍👩‍👧",
    "\u202egpj.exe",
    "x" * 64,
    "-rf *",
    "%2e%2e%2f",
    " ",
]


def message(user_id: str, number: int = 0, sent_us: int = 0) -> Outgoing:
    return Outgoing(
        user_id, f"id-{number}", "email", "paid", f"subject {number}", "body", "p", sent_us
    )


def test_every_user_reads_exactly_their_own(tmp_path: Path) -> None:
    clock = SimulatedClock()
    channel = FileChannel(tmp_path / "inbox", clock)
    sent: dict[str, list[Outgoing]] = {user: [] for user in [*HOSTILE_IDS, "asha"]}
    for number in range(3):
        batch = [message(user, number) for user in sent]
        assert channel.send(batch) == [TAKEN] * len(batch)
        for m in batch:
            sent[m.user_id].append(m)
        clock.advance(86_400)  # each batch lands in another day's file
    channel.close()
    inbox = FileInbox(tmp_path / "inbox")
    assert {user: inbox.messages(user) for user in sent} == sent
    assert inbox.messages("nobody") == []
    assert [m.notification_id for m in inbox.messages("asha", messages_max=2)] == ["id-1", "id-2"]
    assert sum(path.read_bytes().count(b"\n") for path in inbox.files()) == 3 * len(sent)
    assert [p.parent.name for p in inbox.files()] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".jsonl"]
    assert outside == []
    assert {p.name for p in tmp_path.iterdir()} == {"inbox"}


def test_two_writers_never_share_a_file(tmp_path: Path) -> None:
    clock = SimulatedClock()
    one, two = FileChannel(tmp_path, clock), FileChannel(tmp_path, clock)
    for n in range(3):
        one.send([message("asha", n)])
        two.send([message("asha", 10 + n)])
    assert len(FileInbox(tmp_path).files()) == 2
    assert len(FileInbox(tmp_path).messages("asha")) == 6


def test_a_file_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path, SimulatedClock(), file_bytes_max=300)
    for n in range(10):
        channel.send([message("asha", n, sent_us=n)])
    files = FileInbox(tmp_path).files()
    assert len(files) > 2
    assert all(p.stat().st_size < 600 for p in files)
    assert [m.notification_id for m in FileInbox(tmp_path).messages("asha")] == [
        f"id-{n}" for n in range(10)
    ]


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path, SimulatedClock())
    channel.send([message("asha", 1), message("asha", 2)])
    channel.close()
    path = FileInbox(tmp_path).files()[0]
    os.truncate(path, path.stat().st_size - 5)
    assert [m.notification_id for m in FileInbox(tmp_path).messages("asha")] == ["id-1"]


def test_a_write_that_fails_half_way_leaves_nothing_and_the_next_works(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path, SimulatedClock())
    channel.send([message("asha", 1)])
    size = FileInbox(tmp_path).files()[0].stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # The kernel lets the next write in up to this size, then refuses: a real short write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 250, before[1]))
        with pytest.raises(StorageFull, match="no space left"):
            channel.send([message("asha", n) for n in range(2, 9)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    channel.send([message("asha", 9)])
    assert [m.notification_id for m in FileInbox(tmp_path).messages("asha")] == ["id-1", "id-9"]


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "inbox").write_text("a file is in the way")
    with pytest.raises(Unavailable, match="inbox cannot be written"):
        FileChannel(tmp_path / "inbox", SimulatedClock()).send([message("asha")])


def test_nothing_sent_makes_no_file(tmp_path: Path) -> None:
    assert FileChannel(tmp_path / "inbox", SimulatedClock()).send([]) == []
    assert not (tmp_path / "inbox").exists()
    assert FileInbox(tmp_path / "inbox").messages("asha") == []


def test_memory_keeps_the_last_ones() -> None:
    channel = MemoryChannel(messages_max=5)
    for n in range(23):
        assert channel.send([message("asha" if n % 2 else "ravi", n)]) == [TAKEN]
    assert channel.sent == 23
    assert [m.notification_id for m in channel.messages()] == [f"id-{n}" for n in range(18, 23)]
    assert [m.notification_id for m in channel.messages("asha")] == ["id-19", "id-21"]


def test_the_console_shows_a_line_each_and_a_closed_one_is_unavailable() -> None:
    stream = io.StringIO()
    channel = ConsoleChannel(stream)
    assert channel.send([message("asha", 1), message("ravi", 2)]) == [TAKEN, TAKEN]
    assert stream.getvalue() == "[email to asha] subject 1\n[email to ravi] subject 2\n"
    stream.close()
    with pytest.raises(Unavailable):
        channel.send([message("asha")])


def test_one_provider_for_every_kind() -> None:
    channel = MemoryChannel()
    assert every_kind(channel) == {"email": channel, "sms": channel, "push": channel}
