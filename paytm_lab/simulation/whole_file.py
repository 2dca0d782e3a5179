"""A file of payments appears whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paytm_lab.core.errors import InvalidSetting, StorageFull


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
        raise InvalidSetting(
            f"The payments' file cannot be written: {error.strerror or error}",
            place=str(target),
            remedy="Choose a folder that exists and can be written.",
        ) from error
    finally:
        part.unlink(missing_ok=True)
