"""One topic of the embedded log: a SQLite file with two tables.

    head      one row: each partition's first offset (``starts``) and next one (``ends``), as JSON
    batches   the records as they were appended: a row holds up to 256 records of one partition as
              a JSON array; its key is the partition and the offset of its last record

Appends that wait for the same topic are committed together. What this process appended lately
stays in memory, where its consumers find it without asking SQLite; other processes read the file.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from paytm_lab.backends.embedded.sqlite_files import connect, transaction, translate
from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput, PaytmLabError, StorageCorrupt, Unavailable
from paytm_lab.ports.event_log import Message, Record

VALUE_BYTES_MAX = 1 << 20
_BATCH_RECORDS_MAX = 256
_BATCH_BYTES_MAX = 1 << 20
_READ_RECORDS_MAX = 512  # what one statement fetches, give or take a batch
_TAIL_BYTES_MAX = 16 << 20  # a topic's records kept in memory
_OFFSET_BITS = 44
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_INSERT_ROWS = (64, 8, 1)  # few statement texts, so that each stays prepared

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS head (id INTEGER PRIMARY KEY CHECK (id = 1),"
    " starts TEXT NOT NULL, ends TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS batches (position INTEGER PRIMARY KEY, time_us INTEGER NOT NULL,"
    " records TEXT NOT NULL)",
)
# One row out for many batches: each row that SQLite returns costs a turn of the interpreter lock.
# The last offset within the window bounds it; a batch that is larger than the window comes whole.
_READ = """
SELECT '[' || coalesce(
    group_concat('[' || position || ',' || time_us || ',' || records || ']'), '') || ']'
FROM (SELECT position, time_us, records FROM batches
      WHERE position >= ?1 AND position <= max(?2, coalesce(
          (SELECT min(position) FROM batches WHERE position >= ?1 AND position <= ?3), 0))
      ORDER BY position)
"""

_encode = msgspec.json.Encoder().encode
_decode_offsets = msgspec.json.Decoder(list[int]).decode
_decode_batches = msgspec.json.Decoder(list[tuple[int, int, list[list[Any]]]]).decode


def partition_of(key: str, partitions: int) -> int:
    """The key's partition: CRC-32 of its UTF-8, the same in every process and on every machine."""
    return zlib.crc32(key.encode()) % partitions


class _Batch(NamedTuple):
    """Messages of one partition on their way into one row; ``body`` is their JSON."""

    partition: int
    messages: list[Message]
    body: str


class _Append:
    """One caller's share of a group commit."""

    __slots__ = ("batches", "done", "error")

    def __init__(self, batches: list[_Batch]) -> None:
        self.batches = batches
        self.done = False
        self.error: PaytmLabError | None = None


class _Tail:
    """A partition's latest records, without gaps; ``base`` is the offset of the first one."""

    __slots__ = ("base", "records", "value_bytes")

    def __init__(self, base: int, records: list[Record]) -> None:
        self.base = base
        self.records = records
        self.value_bytes = sum(len(r.value) for r in records)


class TopicFile:
    """One topic. Any number of threads may use it."""

    def __init__(self, path: Path, topic: str, clock: Clock, partitions: int | None = None) -> None:
        """Open the file. ``partitions``: make the tables where they are missing (safe to race)."""
        self.topic = topic
        self.starts: list[int] = []
        self.ends: list[int] = []
        self._place = path.name
        self._clock = clock
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._waiting: deque[_Append] = deque()
        self._refreshed_s = 0.0
        self._writer = connect(path)
        try:
            self._reader = connect(path)
            try:
                if partitions is not None:
                    self._create(partitions)
                self.refresh()
            except BaseException:
                self._reader.close()
                raise
        except BaseException:
            self._writer.close()
            raise
        self._tails = [_Tail(end, []) for end in self.ends]

    def _create(self, partitions: int) -> None:
        with transaction(self._writer, self._place):
            for statement in _SCHEMA:
                self._writer.execute(statement)
            zeros = _encode([0] * partitions).decode()
            self._writer.execute("INSERT OR IGNORE INTO head VALUES (1, ?, ?)", (zeros, zeros))

    def refresh(self, stale_s: float = 0.0) -> None:
        """See what other processes appended, if the last look is ``stale_s`` old."""
        now_s = time.monotonic()
        if now_s - self._refreshed_s < stale_s:
            return
        try:
            with self._read_lock:
                row = self._reader.execute("SELECT starts, ends FROM head").fetchone()
                self._refreshed_s = now_s
                if row is None:
                    raise StorageCorrupt("the topic has no head row", place=self._place)
                starts, ends = _decode_offsets(row[0]), _decode_offsets(row[1])
                # An append may have moved the ends on since this row was read.
                self.ends = [max(pair) for pair in zip(self.ends or ends, ends, strict=True)]
                self.starts = starts
        except sqlite3.Error as error:
            raise translate(error, self._place) from error

    def append(self, messages: Sequence[Message]) -> None:
        mine = _Append(self._batches(messages))
        self._waiting.append(mine)
        with self._write_lock:
            if not mine.done:
                # Whoever gets the lock commits for everybody who waits: one flush to disk for all.
                self._commit([self._waiting.popleft() for _ in range(len(self._waiting))])
        if mine.error is not None:
            raise mine.error

    def _batches(self, messages: Sequence[Message]) -> list[_Batch]:
        partitions = len(self.ends)
        shares: dict[int, list[Message]] = {}
        try:
            for message in messages:
                partition = partition_of(message.key, partitions)
                share = shares.get(partition)
                if share is None:
                    shares[partition] = [message]
                else:
                    share.append(message)
        except UnicodeEncodeError as error:
            raise BadInput("a key is not valid Unicode", place=self.topic) from error
        return [
            _Batch(partition, part, _encode(_stored(part)).decode())
            for partition, share in shares.items()
            for part in _parts(share, self.topic)
        ]

    def _commit(self, appends: list[_Append]) -> None:
        try:
            rows, time_us, ends = self._write([b for a in appends for b in a.batches])
        except PaytmLabError as error:
            for append in appends:
                append.error = error
        except BaseException:
            # Whoever is cut off here leaves none of the others with an answer that is not true.
            for append in appends:
                append.error = Unavailable("the append was cut off", place=self._place)
                append.done = True
            raise
        else:
            for batch, first in rows:
                self._remember(batch, first, time_us)
            with self._read_lock:  # a refresh may have seen later appends of other processes
                self.ends = [max(pair) for pair in zip(self.ends, ends, strict=True)]
        for append in appends:
            append.done = True

    def _write(self, batches: list[_Batch]) -> tuple[list[tuple[_Batch, int]], int, list[int]]:
        """Returns each batch with its first offset, the time of appending, and the new ends."""
        placed: list[tuple[_Batch, int]] = []
        parameters: list[Any] = []
        with transaction(self._writer, self._place):
            ends = self._ends_in(self._writer.execute("SELECT ends FROM head").fetchone())
            time_us = self._clock.now_us()
            for batch in batches:
                first = ends[batch.partition]
                ends[batch.partition] = end = first + len(batch.messages)
                parameters += (batch.partition << _OFFSET_BITS | end - 1, time_us, batch.body)
                placed.append((batch, first))
            done = 0
            for size in _INSERT_ROWS:
                sql = "INSERT INTO batches VALUES " + ",".join(["(?,?,?)"] * size)
                while len(placed) - done >= size:
                    self._writer.execute(sql, parameters[done * 3 : (done + size) * 3])
                    done += size
            self._writer.execute("UPDATE head SET ends = ?", (_encode(ends).decode(),))
        return placed, time_us, ends

    def _ends_in(self, row: Any) -> list[int]:
        try:
            ends = _decode_offsets(row[0])
        except (TypeError, msgspec.DecodeError) as error:
            raise StorageCorrupt("the topic's head cannot be read", place=self._place) from error
        return ends

    def _remember(self, batch: _Batch, first: int, time_us: int) -> None:
        topic, partition = self.topic, batch.partition
        records = [
            Record(topic, partition, offset, key, value, headers, time_us)
            for offset, (_, key, value, headers) in enumerate(batch.messages, first)
        ]
        tail = self._tails[partition]
        if tail.base + len(tail.records) != first:  # another process appended in between
            self._tails[partition] = _Tail(first, records)
            return
        tail.records.extend(records)
        tail.value_bytes += sum([len(m.value) for m in batch.messages])
        if tail.value_bytes > _TAIL_BYTES_MAX // len(self._tails):
            half = len(tail.records) // 2
            self._tails[partition] = _Tail(tail.base + half, tail.records[half:])

    def read(self, partition: int, offset: int, records_max: int) -> list[Record]:
        """Records from ``offset`` on, at least one unless it is the end; may be more than asked for
        where a stored batch is larger.
        """
        offset = max(offset, self.starts[partition])
        tail = self._tails[partition]
        index = offset - tail.base
        if 0 <= index < len(tail.records):
            return tail.records[index : index + records_max]
        window = min(records_max, _READ_RECORDS_MAX)
        base = partition << _OFFSET_BITS
        parameters = (base | offset, base | (offset + window - 1), base | _OFFSET_MASK)
        try:
            with self._read_lock:
                (body,) = self._reader.execute(_READ, parameters).fetchone()
        except sqlite3.Error as error:
            raise translate(error, self._place) from error
        records = [r for row in _decode_batches(body) for r in self._records(row)]
        # The first batch may begin before the offset.
        return records[max(0, offset - records[0].offset) :] if records else []

    def _records(self, row: tuple[int, int, list[list[Any]]]) -> list[Record]:
        position, time_us, items = row
        topic, partition = self.topic, position >> _OFFSET_BITS
        first = (position & _OFFSET_MASK) - len(items) + 1
        return [
            Record(topic, partition, offset, item[0], item[1].encode(), (), time_us)
            if len(item) == 2
            else Record(topic, partition, offset, item[0], *_restored(item), time_us)
            for offset, item in enumerate(items, first)
        ]

    def delete_records(self, partition: int, before_offset: int) -> None:
        with self._write_lock, transaction(self._writer, self._place):
            starts, ends = self._writer.execute("SELECT starts, ends FROM head").fetchone()
            first = _decode_offsets(starts)
            if not first[partition] <= before_offset <= _decode_offsets(ends)[partition]:
                raise BadInput(
                    f"{before_offset} is not an offset of partition {partition}", place=self.topic
                )
            first[partition] = before_offset
            self._writer.execute(
                "DELETE FROM batches WHERE position >= ? AND position < ?",
                (partition << _OFFSET_BITS, partition << _OFFSET_BITS | before_offset),
            )
            self._writer.execute("UPDATE head SET starts = ?", (_encode(first).decode(),))
        self.refresh()

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()


def _parts(share: list[Message], topic: str) -> list[list[Message]]:
    """Cut into what one row may hold; BadInput for a value that is too large."""
    sizes = [len(m.value) for m in share]
    if max(sizes) > VALUE_BYTES_MAX:
        raise BadInput(
            f"a value of {max(sizes)} bytes is too large",
            place=topic,
            remedy=f"A value has at most {VALUE_BYTES_MAX} bytes.",
        )
    if len(share) <= _BATCH_RECORDS_MAX and sum(sizes) <= _BATCH_BYTES_MAX:
        return [share]
    parts: list[list[Message]] = []
    room = 0
    for message, size in zip(share, sizes, strict=True):
        if room < size or len(parts[-1]) == _BATCH_RECORDS_MAX:
            parts.append([])
            room = _BATCH_BYTES_MAX
        parts[-1].append(message)
        room -= size
    return parts


def _stored(messages: list[Message]) -> list[list[Any]]:
    """Each as [key, text], as [key, text, headers], or, where the value is not UTF-8, as
    [key, null, headers, base64 of the value].
    """
    if not any(m.headers for m in messages):
        try:
            return [[key, value.decode()] for _, key, value, _ in messages]
        except UnicodeDecodeError:
            pass
    stored = []
    for _, key, value, headers in messages:
        item: list[Any] = [key, None, [[name, b64encode(body).decode()] for name, body in headers]]
        try:
            item[1] = value.decode()
        except UnicodeDecodeError:
            item.append(b64encode(value).decode())
        stored.append(item)
    return stored


def _restored(item: list[Any]) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    headers = tuple((name, b64decode(body)) for name, body in item[2])
    return (item[1].encode() if item[1] is not None else b64decode(item[3])), headers
