"""A target profile as a JSON file, to be read, changed and given back."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from paytm_lab.core.errors import InvalidSetting, MalformedFile
from paytm_lab.simulation.economy.profile import Profile

PROFILE_BYTES_MAX = 1_000_000


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Raises MalformedFile for a file that is no JSON or has other fields, InvalidSetting for
    values that make no profile.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(PROFILE_BYTES_MAX + 1)
    except OSError as error:
        raise MalformedFile(
            f"The profile cannot be read: {error.strerror}", place=os.fspath(path)
        ) from error
    if len(text) > PROFILE_BYTES_MAX:
        raise MalformedFile("The profile is too large to be one", place=os.fspath(path))
    try:
        return msgspec.json.decode(text, type=Profile)
    except InvalidSetting:
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedFile(
            f"This is no profile: {error}",
            place=os.fspath(path),
            remedy="Write one with `paytm-lab simulate economy --save-target FILE.json`.",
        ) from error


def write_profile(path: str | os.PathLike[str], profile: Profile) -> None:
    """Raises InvalidSetting where it cannot be written."""
    try:
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n")
    except OSError as error:
        raise InvalidSetting(
            f"The profile cannot be written: {error.strerror}", place=os.fspath(path)
        ) from error
