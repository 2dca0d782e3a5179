"""A file's bytes, readable more than once: plain, gzip or Parquet, a path, a pipe or standard
input.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from paytm_lab.core.errors import MalformedFile, StorageFull
from paytm_lab.simulation.parquet_text import PARQUET_MAGIC, parquet_as_csv

STDIN = "-"
_BLOCK_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_NOT_TEXT = (
    (b"PK\x03\x04", "a spreadsheet or zip archive", "Export the sheet as CSV."),
    (b"\xff\xfe", "UTF-16 text", "Save the file as UTF-8."),
    (b"\xfe\xff", "UTF-16 text", "Save the file as UTF-8."),
)


class _Hashing(io.RawIOBase):
    """Passes reads through and keeps the SHA-256 of what went by."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._inner.read(len(buffer))
        self.sha256.update(block)
        buffer[: len(block)] = block
        return len(block)


class Content:
    """Raises MalformedFile for a source that cannot be read or is no text; ``place`` names it in
    errors.

    What can only be read once (standard input, a pipe) is first copied to a temporary file, and
    Parquet becomes CSV in one; ``close`` removes it.
    """

    def __init__(self, source: str | os.PathLike[str], stdin: BinaryIO | None = None) -> None:
        self.place = "standard input" if source == STDIN else os.fspath(source)
        self._spool: IO[bytes] | None = None
        self._path: Path | None = None
        if source == STDIN:
            self._copy(stdin if stdin is not None else sys.stdin.buffer)
        else:
            self._path = Path(source)
            self._look(self._path)
        self._from_parquet()

    def _look(self, path: Path) -> None:
        """Copy what can only be read once."""
        with self._named_errors():
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise MalformedFile("This is a folder", place=self.place, remedy="Name a CSV file.")
            if not stat.S_ISREG(mode):
                with path.open("rb") as pipe:
                    self._copy(pipe)

    def _from_parquet(self) -> None:
        with self._named_errors(), self._opened() as file:
            if file.read(len(PARQUET_MAGIC)) != PARQUET_MAGIC:
                return
            file.seek(0)
            text = tempfile.TemporaryFile(prefix="paytm_lab_")  # noqa: SIM115 - closed by close()
            try:
                with _room_for(self.place):
                    parquet_as_csv(file, text, self.place)
                    text.flush()
            except BaseException:
                text.close()
                raise
        self.close()
        self._spool = text

    @contextmanager
    def reading(self) -> Iterator[tuple[io.BufferedReader, Any]]:
        """(stream from the first byte, its running SHA-256). The digest is of the text, not of its
        gzip.
        """
        with self._named_errors(), self._opened() as file:
            magic = file.read(4)
            file.seek(0)
            inner: IO[bytes] = file
            if magic.startswith(_GZIP_MAGIC):
                inner = cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
            for beginning, what, remedy in _NOT_TEXT:
                if magic.startswith(beginning):
                    raise MalformedFile(f"This is {what}, not CSV", place=self.place, remedy=remedy)
            hashing = _Hashing(inner)
            yield io.BufferedReader(hashing, _BLOCK_BYTES), hashing.sha256

    def is_file(self, path: Path) -> bool:
        """Whether ``path`` is the very file that is read."""
        with suppress(OSError):
            return self._path is not None and path.samefile(self._path)
        return False

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self._spool is not None:
            self._spool.seek(0)
            yield self._spool
        elif self._path is not None:
            with self._path.open("rb") as file:
                yield file

    def _copy(self, stream: BinaryIO) -> None:
        spool = tempfile.TemporaryFile(prefix="paytm_lab_")  # noqa: SIM115 - closed by close()
        try:
            with _room_for(self.place):
                shutil.copyfileobj(stream, spool, _BLOCK_BYTES)
                spool.flush()
        except BaseException:
            spool.close()
            raise
        self._spool = spool

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MalformedFile("There is no such file", place=self.place) from error
        except PermissionError as error:
            raise MalformedFile("This file may not be read", place=self.place) from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise MalformedFile(
                f"The gzip file is damaged: {error}", place=self.place, remedy="Copy it again."
            ) from error
        except OSError as error:
            raise MalformedFile(f"It cannot be read: {error}", place=self.place) from error


@contextmanager
def _room_for(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"There is no room to copy {place} to a temporary file",
                place=tempfile.gettempdir(),
                remedy="Free some space, or name a plain file.",
            ) from error
        raise MalformedFile(f"It cannot be read: {error}", place=place) from error


def first_lines(source: str | os.PathLike[str], count: int) -> list[str]:
    """How a file begins, up to ``count`` lines of 200 characters, to be looked at; raises as
    Content does.
    """
    content = Content(source)
    try:
        with content.reading() as (stream, _):
            lines = [stream.readline(65_536) for _ in range(count)]
    finally:
        content.close()
    return [line.decode(errors="replace").rstrip("\r\n")[:200] for line in lines if line]
