"""Providers: what carries a notification out. All behind one Protocol, all taking batches."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from io import RawIOBase
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import StorageFull, Unavailable
from paytm_lab.notifications.preferences import ChannelKind

FILE_BYTES_MAX = 64 * 1024 * 1024


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One notification. ``notification_id`` is its Message-ID: the same whenever it is sent.
    ``channel``: email | sms | push. ``sent_us``: microseconds since 1970 UTC.
    """

    user_id: str
    notification_id: str
    channel: str
    template: str
    subject: str
    body: str
    payment_id: str
    sent_us: int


class Verdict(Enum):
    """What a provider said: ``REFUSED`` for good, ``LATER`` for now; it was ``AWAY`` and never
    asked; or it was asked and its answer is ``UNKNOWN``: it may have taken it.
    """

    TAKEN = "taken"
    REFUSED = "refused"
    LATER = "later"
    AWAY = "away"
    UNKNOWN = "unknown"


class Answer(NamedTuple):
    verdict: Verdict
    why: str = ""


TAKEN = Answer(Verdict.TAKEN)


class Channel(Protocol):
    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Hand all over, in order, within a bounded time; one answer each.

        Raises core.errors.Unavailable when the provider cannot be reached at all; then it took none
        of them.
        """


class MemoryChannel:
    """Keeps what was sent, for notebooks and for looking at; bounded by ``messages_max`` (oldest
    forgotten).
    """

    def __init__(self, messages_max: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._messages: list[Outgoing] = []
        self._messages_max = messages_max
        self.sent = 0

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        with self._lock:
            self._messages.extend(messages)
            self.sent += len(messages)
            if len(self._messages) > 2 * self._messages_max:
                del self._messages[: -self._messages_max]
        return [TAKEN] * len(messages)

    def messages(self, user_id: str | None = None) -> list[Outgoing]:
        """What was sent (to one user, or to all), oldest first."""
        with self._lock:
            kept = self._messages[-self._messages_max :]
        return kept if user_id is None else [m for m in kept if m.user_id == user_id]


class ConsoleChannel:
    """Prints one line per notification, for watching a lab live: on stderr, beside the results."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        stream = self._stream if self._stream is not None else sys.stderr
        try:
            stream.write(
                "".join(
                    f"[{m.channel} to {m.user_id}] {(m.subject or m.body).splitlines()[0]}\n"
                    for m in messages
                )
            )
            stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            raise Unavailable(
                f"the console takes nothing: {error}", place="console channel"
            ) from error
        return [TAKEN] * len(messages)


class FileChannel:
    """Appends JSON lines to ``DIRECTORY/{day}/{start}-{process}-{n}.jsonl``; ``inbox.FileInbox``
    reads them.

    Each instance writes files of its own, so several processes never share one, and a batch is one
    write and one fsync however many users it reaches. No path is made from a user id: ids like
    '../../etc/passwd' are only ever data. A line that a crash tore is not part of the inbox.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        fsync: bool = True,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._file_bytes_max = file_bytes_max
        self._fsync = fsync
        self._lock = threading.Lock()
        self._file: RawIOBase | None = None
        self._day = -1
        self._bytes = 0
        self._files = 0
        self._encoder = msgspec.json.Encoder()

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        if not messages:
            return []
        block = bytearray()
        for message in messages:
            block += self._encoder.encode(message)
            block += b"\n"
        with self._lock:
            try:
                file = self._file_for_now()
                _write_all(file, block)
                if self._fsync:
                    os.fsync(file.fileno())
            except OSError as error:
                self._take_back()
                raise _translated(error, self._directory) from error
            self._bytes += len(block)
        return [TAKEN] * len(messages)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _file_for_now(self) -> RawIOBase:
        now_us = self._clock.now_us()
        day = now_us // 86_400_000_000
        if self._file is not None and day == self._day and self._bytes < self._file_bytes_max:
            return self._file
        if self._file is not None:
            self._file.close()
            self._file = None
        folder = self._directory / f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}"
        folder.mkdir(parents=True, exist_ok=True)
        while self._file is None:
            self._files += 1
            path = folder / f"{now_us:020d}-{os.getpid()}-{self._files}.jsonl"
            try:
                self._file = path.open("xb", buffering=0)
            except FileExistsError:
                continue
        self._day, self._bytes = day, 0
        return self._file

    def _take_back(self) -> None:
        """Cut off what a failed write left, so that none of the batch counts as taken, and leave
        the file.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            os.ftruncate(file.fileno(), self._bytes)
            file.close()
        except OSError:
            pass  # the failure is being reported; at worst the batch shows twice


def _write_all(file: RawIOBase, block: bytearray) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _translated(error: OSError, directory: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(
            "no space left for the inbox", place=str(directory), remedy="Free some space."
        )
    return Unavailable(f"the inbox cannot be written: {error}", place=str(directory))


def every_kind(channel: Channel) -> Mapping[str, Channel]:
    """One provider for email, sms and push alike."""
    return {str(kind): channel for kind in ChannelKind}
