"""Payments from a CSV file, read twice as a stream: once to judge it, once to post it.

The first reading (``open_transfers``) checks every row, writes the rejects, finds repeated ids and
decides opening balances; so all of that is known before the first payment is posted. The second
(``TransfersFile.rows``) yields the accepted rows in the file's order. Memory holds the users, 8
bytes for each row left out and, where there is an id column, 16 bytes for each id: never the rows.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from paytm_lab.core.errors import InvalidSetting, MalformedFile, StorageFull
from paytm_lab.core.money import require_amount
from paytm_lab.simulation.csv_records import Lines, Record, read_records, shown, split_quoted
from paytm_lab.simulation.file_content import Content
from paytm_lab.simulation.file_formats import Columns, parse_mapping, resolve
from paytm_lab.simulation.file_rows import BadRow, Row, RowReader
from paytm_lab.simulation.openings import OpeningRule, opening_rule
from paytm_lab.simulation.parquet_text import PARQUET_MAGIC
from paytm_lab.simulation.payments import Transfer
from paytm_lab.simulation.repeated_ids import CONFLICT, NEW, SeenIds

BATCH_ROWS = 4_096
DELIMITERS = ",;\t|"
HEADER_BYTES_MAX = 65_536
REJECT_COLUMNS = ("line", "reason", "value", "raw")

RejectWriter = Callable[[tuple[int, str, str, str]], object]


class TransfersFile:
    """A judged file. A data row is accepted, rejected, or collapsed (an id that came before with
    the same payment), so ``accepted + rejected + collapsed == data_rows``. Close it, or use it in
    ``with``.

    ``digest``: SHA-256 of the text in hex. ``opening_rule``: how opening balances came about, in
    words. ``rejected_by_reason``: reason code -> rows. ``format_name``: the public header, or ''.
    ``columns``: field -> column name. ``notes``: what a reader should know of how rows are
    understood.
    """

    def __init__(self, content: Content, columns: Columns, delimiter: str) -> None:
        self.place = content.place
        self.digest = ""
        self.accepted = self.rejected = self.collapsed = 0
        self.amount_total_paise = 0
        self.rejected_by_reason: Counter[str] = Counter()
        self.opening_rule = ""
        self.format_name = columns.format_name
        self.columns = dict(columns.names)
        self.notes = columns.notes
        self._content = content
        self._columns = columns
        self._delimiter = delimiter
        self._openings: dict[str, int] = {}
        self._left_out = array("q")  # the lines of rejected and collapsed rows, ascending

    @property
    def data_rows(self) -> int:
        return self.accepted + self.rejected + self.collapsed

    def openings(self) -> dict[str, int]:
        """User id -> opening balance in paise, for every user of an accepted row."""
        return self._openings

    def rows(self) -> Iterator[list[Transfer]]:
        """The accepted rows in the file's order, in lists of up to BATCH_ROWS; may be called again.

        A payment's idempotency key is its id, else digest and line: reading the same file again
        gives the same keys. Raises MalformedFile when the file is no longer what was judged.
        """
        reader = RowReader(self._columns)
        left_out = iter(self._left_out)
        skip = next(left_out, 0)
        key_prefix = self.digest[:32]
        batch: list[Transfer] = []
        with self._content.reading() as (stream, sha256):
            for record in self._records(stream):
                line = record.line
                if line == skip:
                    skip = next(left_out, 0)
                    continue
                row = reader.try_read(record)
                if isinstance(row, BadRow):
                    raise self._changed()
                key = row.id or f"{key_prefix}:{line}"
                batch.append(
                    Transfer(
                        line, row.from_user_id, row.to_user_id, row.amount_paise, row.at_us, key
                    )
                )
                if len(batch) == BATCH_ROWS:
                    yield batch
                    batch = []
            if sha256.hexdigest() != self.digest:
                raise self._changed()
        if batch:
            yield batch

    def close(self) -> None:
        """Removes the temporary copy of a pipe. Harmless when called twice."""
        self._content.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def judge(
        self, rule: OpeningRule, reject: RejectWriter, progress: Callable[[int], object] | None
    ) -> None:
        """The first reading. Fills everything above."""
        reader = RowReader(self._columns)
        seen = SeenIds() if "id" in self._columns.at else None
        batch: list[tuple[Record, Row | BadRow]] = []
        with self._content.reading() as (stream, sha256):
            for record in self._records(stream):
                batch.append((record, reader.try_read(record)))
                if len(batch) == BATCH_ROWS:
                    self._settle(batch, seen, rule, reject)
                    batch.clear()
                    if progress is not None:
                        progress(self.data_rows)
            self._settle(batch, seen, rule, reject)
            self.digest = sha256.hexdigest()
        if not self.data_rows:
            raise MalformedFile(
                "There is a header but no row",
                place=self.place,
                remedy="Give at least one payment.",
            )
        if reader.spaced:
            self.notes += (
                f"User ids begin or end with a space, such as {reader.spaced!r}: those are users of"
                " their own.",
            )
        self.opening_rule = rule.rule
        self._openings = rule.balances()
        if progress is not None:
            progress(self.data_rows)

    def _settle(
        self,
        batch: Sequence[tuple[Record, Row | BadRow]],
        seen: SeenIds | None,
        rule: OpeningRule,
        reject: RejectWriter,
    ) -> None:
        verdicts = iter(_verdicts([row for _, row in batch if isinstance(row, Row)], seen))
        for record, row in batch:
            if isinstance(row, BadRow):
                self._reject(record, row, reject)
                continue
            verdict = next(verdicts)
            if verdict == NEW:
                self.accepted += 1
                self.amount_total_paise += row.amount_paise
                rule.see(row)
            elif verdict == CONFLICT:
                self._reject(record, BadRow("idempotency_conflict", row.id), reject)
            else:
                self.collapsed += 1
                self._left_out.append(record.line)

    def _reject(self, record: Record, bad: BadRow, reject: RejectWriter) -> None:
        self.rejected += 1
        self.rejected_by_reason[bad.reason] += 1
        self._left_out.append(record.line)
        reject((record.line, bad.reason, shown(bad.value), shown(record.raw)))

    def _records(self, stream: io.BufferedReader) -> Iterator[Record]:
        lines = Lines(stream)
        _header_text(lines, self.place)
        return read_records(lines, self._delimiter, self._columns.count)

    def _changed(self) -> MalformedFile:
        return MalformedFile(
            "The file changed while it was read",
            place=self.place,
            remedy="Repeat when it stands still; payments with ids are not posted twice.",
        )


def open_transfers(
    source: str | os.PathLike[str],
    mapping: str | Sequence[str] | Mapping[str, str] | None = None,
    opening_paise: int | None = None,
    *,
    in_any_order: bool = False,
    rejects: str | os.PathLike[str] | None = None,
    stdin: BinaryIO | None = None,
    progress: Callable[[int], object] | None = None,
) -> TransfersFile:
    """Judges a CSV file (plain or gzip; '-' is standard input) of payments.

    ``mapping``: which column is what (see file_formats). Opening balances come from a mapped
    column, else are ``opening_paise`` for all, else just enough for the file; ``in_any_order``
    makes that enough for payments that overtake one another. ``rejects``: where to write the rows
    that are no payments (line, reason, value, raw). ``progress`` is told the number of rows judged
    so far.

    Raises MalformedFile (unreadable, empty, no such column), InvalidSetting (mapping, opening,
    rejects), StorageFull. Nothing is posted here.
    """
    wanted = parse_mapping(mapping)
    if opening_paise is not None:
        require_amount(opening_paise)
    content = Content(source, stdin)
    try:
        with content.reading() as (stream, _):
            columns, delimiter = _read_header(stream, wanted, content.place)
        file = TransfersFile(content, columns, delimiter)
        opening_columns = " and ".join(
            columns.names[name] for name in ("opening", "opening_to") if name in columns.names
        )
        rule = opening_rule(opening_columns, opening_paise, in_any_order=in_any_order)
        with _rejects_writer(rejects, content) as reject:
            file.judge(rule, reject, progress)
    except BaseException:
        content.close()
        raise
    return file


def check_header(
    source: str | os.PathLike[str], mapping: str | Sequence[str] | Mapping[str, str] | None = None
) -> None:
    """Raises what ``open_transfers`` would raise before it reads a row. Pipes are left alone, as
    what was read of them is gone, and Parquet, which is read as a whole.
    """
    wanted = parse_mapping(mapping)
    path = Path(source)
    piped = os.fspath(source) == "-" or path.is_fifo() or path.is_char_device()
    if piped or (path.is_file() and _begins_with(path, PARQUET_MAGIC)):
        return
    content = Content(source, None)
    try:
        with content.reading() as (stream, _):
            _read_header(stream, wanted, content.place)
    finally:
        content.close()


def _begins_with(path: Path, magic: bytes) -> bool:
    with suppress(OSError), path.open("rb") as file:  # what cannot be read is said by who reads it
        return file.read(len(magic)) == magic
    return False


def _verdicts(rows: Sequence[Row], seen: SeenIds | None) -> list[int]:
    if seen is None or not rows:
        return [NEW] * len(rows)
    payments = [(row.from_user_id, row.to_user_id, row.amount_paise) for row in rows]
    return seen.classify([row.id for row in rows], payments)


def _header_text(lines: Lines, place: str) -> str:
    raw = b"\n"
    while raw and not raw.strip(b"\r\n"):
        raw = lines.next()
    if not raw:
        raise MalformedFile("The file is empty", place=place, remedy="Give a header and rows.")
    if len(raw) > HEADER_BYTES_MAX or b"\0" in raw or b"\r" in raw.rstrip(b"\r\n"):
        raise MalformedFile(
            "The first line is not a header of text lines",
            place=place,
            remedy="Give UTF-8 CSV with line ends LF or CRLF.",
        )
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise MalformedFile(
            "The header is not UTF-8", place=place, remedy="Save the file as UTF-8."
        ) from None


def _read_header(
    stream: io.BufferedReader, mapping: Mapping[str, str], place: str
) -> tuple[Columns, str]:
    """The columns and the delimiter: the first one with which all needed columns are found."""
    text = _header_text(Lines(stream), place)
    splits = []
    for delimiter in DELIMITERS:
        header, reason = split_quoted(text, delimiter)
        if not reason:
            splits.append((len(header), header, delimiter))
    if not splits:
        raise MalformedFile(
            f"The header's quotes do not close: {shown(text)}",
            place=place,
            remedy='Quote a name as "name", with no line end in it.',
        )
    problem: MalformedFile | None = None
    for _, header, delimiter in sorted(splits, key=lambda split: -split[0]):
        try:
            return resolve(header, mapping, place), delimiter
        except MalformedFile as error:
            problem = problem or error  # of the split into most columns, the likeliest
    raise problem or MalformedFile("There is no header", place=place)


@contextmanager
def _rejects_writer(
    path: str | os.PathLike[str] | None, content: Content
) -> Iterator[RejectWriter]:
    if path is None:
        yield lambda _row: None
        return
    path = Path(path)
    if content.is_file(path):
        raise InvalidSetting(
            "The rejects would overwrite the file itself",
            place=str(path),
            remedy="Name another file.",
        )
    # Other processes may judge files of their own for the same folder: the last list stays, whole.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(REJECT_COLUMNS)
            yield _guarded(writer.writerow, path)
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _guarded(write: Callable[[Any], object], path: Path) -> RejectWriter:
    def reject(row: tuple[int, str, str, str]) -> None:
        try:
            write(row)
        except OSError as error:
            raise _unwritable(path, error) from error

    return reject


def _unwritable(path: Path, error: OSError) -> InvalidSetting | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            "No space left for the rejects file", place=str(path), remedy="Free some."
        )
    return InvalidSetting(
        f"The rejects file cannot be written: {error.strerror}",
        place=str(path),
        remedy="Choose a folder that can be written.",
    )
