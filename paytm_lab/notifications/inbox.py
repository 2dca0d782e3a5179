"""Reads what the file channel sent to a user."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import msgspec

from paytm_lab.notifications.channels import Outgoing

_decode = msgspec.json.Decoder(Outgoing).decode
_encode = msgspec.json.Encoder().encode


class FileInbox:
    """``directory`` is the file channel's. Reading needs no index: a user's lines are found by one
    search through each file's bytes, at memory speed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def messages(self, user_id: str, messages_max: int = 1000) -> list[Outgoing]:
        """The last ``messages_max`` notifications to this user, oldest first."""
        # ``user_id`` is the record's first field, so its lines begin like this and no other place
        # looks so.
        start = b'{"user_id":' + _encode(user_id) + b","
        found: list[Outgoing] = []
        for path in reversed(self.files()):
            found = [_decode(line) for line in _lines_starting(path, start)] + found
            if len(found) >= messages_max:
                break
        found.sort(key=lambda m: m.sent_us)
        return found[-messages_max:]

    def files(self) -> list[Path]:
        """Oldest first: names begin with the day, then the time."""
        return sorted(self._directory.glob("*/*.jsonl"), key=lambda p: (p.parent.name, p.name))


def _lines_starting(path: Path, start: bytes) -> Iterator[bytes]:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            at = view.find(start)
            while at >= 0:
                end = view.find(b"\n", at)
                if end < 0:
                    return
                if at == 0 or view[at - 1] == 10:
                    yield view[at:end]
                at = view.find(start, end)
