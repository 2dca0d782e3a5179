"""Folders that a verb writes results into: its own, and one process at a time."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paytm_lab.core.errors import BadInput, MissingPart, Unavailable


@contextmanager
def marked(out: Path, mark: str, what: str, anew: bool = False) -> Iterator[Path]:
    """``out``, made if it is not there, emptied first if ``anew``. BadInput: it holds anything but
    results of this kind; MissingPart: it cannot be written.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / mark).exists())):
        raise BadInput(
            f"{out} exists and is no {what} of this lab", remedy="Give another folder with --out."
        )
    try:
        if anew and out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / mark).write_text(f"made by paytm-lab: {what}\n", encoding="utf-8")
    except OSError as error:
        raise MissingPart(
            f"the {what} cannot be written into {out} ({error.strerror})",
            remedy="Give another folder with --out.",
        ) from error
    yield out


@contextmanager
def only_one(lock: Path, otherwise: str) -> Iterator[None]:
    """The only holder of ``lock`` on this machine; it is free again however this process ends.
    Unavailable, saying ``otherwise``, while somebody else holds it.
    """
    with lock.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(otherwise, remedy="Wait for its end, and repeat.") from None
        yield
