"""CSV bytes -> records, with bounds. Nothing a file holds makes this raise, swallow its rest or use
memory without end: a record that cannot be read is handed on with the reason, and the next one
follows.

A record is one line (RFC 4180: quoted fields may hold delimiters, quotes and line ends; such a
field may run over LOOKAHEAD_LINES_MAX lines). A quote that does not close within those costs its
own line only. Empty lines are no records.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

LINE_BYTES_MAX = 65_536
LOOKAHEAD_LINES_MAX = 32
RAW_SHOWN = 200


class Record(NamedTuple):
    """``line``: the physical line it starts on, from 1. ``reason``: why it cannot be read, else ''.
    ``raw``: its text; of an unreadable one only the beginning.
    """

    line: int
    fields: list[str]
    raw: str
    reason: str = ""


class Lines:
    """The physical lines of a binary stream, counted, each at most LINE_BYTES_MAX + 1 bytes long:
    what is longer comes cut and its rest is skipped.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        self._readline = stream.readline
        self._returned: deque[bytes] = deque()
        self.number = 0

    def next(self) -> bytes:
        """The next line with its end; b'' at the end of the stream."""
        if self._returned:
            self.number += 1
            return self._returned.popleft()
        raw = self._readline(LINE_BYTES_MAX + 1)
        if raw:
            self.number += 1
            if len(raw) > LINE_BYTES_MAX and raw[-1:] != b"\n":
                while (rest := self._readline(LINE_BYTES_MAX)) and rest[-1:] != b"\n":
                    pass
        return raw

    def put_back(self, lines: list[bytes]) -> None:
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


def read_records(lines: Lines, delimiter: str, columns: int) -> Iterator[Record]:
    """The records from here on. Reasons: overlong_line, nul_byte, undecodable, unclosed_quote,
    bad_quoting, wrong_column_count (``columns`` is the right one).
    """
    while raw := lines.next():
        number = lines.number
        if len(raw) > LINE_BYTES_MAX:
            yield Record(number, [], shown(raw[: 2 * RAW_SHOWN]), "overlong_line")
            continue
        try:
            text = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            yield Record(number, [], shown(raw), "nul_byte" if b"\0" in raw else "undecodable")
            continue
        if not text:
            continue
        if "\0" in text:
            yield Record(number, [], shown(raw), "nul_byte")
        elif '"' in text:
            yield _quoted(lines, number, text, delimiter, columns)
        else:
            fields = text.split(delimiter)
            yield Record(
                number, fields, text, "" if len(fields) == columns else "wrong_column_count"
            )


def _quoted(lines: Lines, number: int, text: str, delimiter: str, columns: int) -> Record:
    fields, reason = split_quoted(text, delimiter)
    if reason == "unclosed_quote":
        longer = _over_lines(lines, text, delimiter, columns)
        if longer is not None:
            return Record(number, longer, text)
    elif not reason and len(fields) != columns:
        reason = "wrong_column_count"
    return Record(number, fields, text, reason)


def _over_lines(lines: Lines, text: str, delimiter: str, columns: int) -> list[str] | None:
    """The fields, if the following lines close the quote and complete the record; else they go
    back.
    """
    taken: list[bytes] = []
    size = len(text)
    while len(taken) < LOOKAHEAD_LINES_MAX and size <= LINE_BYTES_MAX and (raw := lines.next()):
        taken.append(raw)
        size += len(raw)
        if b'"' not in raw:
            continue
        try:
            joined = text + "\n" + b"".join(taken).decode().rstrip("\r\n")
        except UnicodeDecodeError:
            break
        fields, reason = split_quoted(joined, delimiter)
        if reason != "unclosed_quote":
            if reason or "\0" in joined or len(fields) != columns:
                break
            return fields
    lines.put_back(taken)
    return None


def split_quoted(text: str, delimiter: str) -> tuple[list[str], str]:
    """(fields, '') or ([], reason)."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        return [], "unclosed_quote" if "unexpected end of data" in str(error) else "bad_quoting"
    return (rows[0], "") if len(rows) == 1 else ([], "bad_quoting")


def shown(raw: bytes | str) -> str:
    """At most RAW_SHOWN characters on one line; what cannot be shown is escaped."""
    text = raw if isinstance(raw, str) else raw.decode(errors="backslashreplace")
    text = text[:RAW_SHOWN].rstrip("\r\n")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
