"""A file of payments appears whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paytm_lab.core.errors import InvalidSetting, StorageFull


def require_writable(target: Path) -> None:
    """InvalidSetting where no file can come to lie at ``target``: said before the work for it."""
    folder = target.parent
    if target.is_dir():
        reason = "it is a folder"
    elif not folder.is_dir():
        reason = f"{folder} is no folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"no right to write into {folder}"
    else:
        return
    raise _unwritable(target, reason)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A place beside ``target`` to write to, which takes its name at the end; after an error there
    is neither. InvalidSetting where it cannot be written, StorageFull.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "No space left for the payments' file", place=str(target), remedy="Free some."
            ) from error
        raise _unwritable(target, error.strerror or str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _unwritable(target: Path, reason: str) -> InvalidSetting:
    return InvalidSetting(
        f"The file cannot be written: {reason}",
        place=str(target),
        remedy="Choose a folder that exists and can be written.",
    )
