"""Paths whose segments may hold anything, a slash and a percent sign included."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator

_ESCAPED = str.maketrans({"%": "%25", "/": "%2F"})


def exact_path(scope: Any) -> str | None:
    """The path for routing: each segment decoded, but for an encoded slash or percent sign, so that
    it stays one segment (``Segment`` decodes the rest). None where it is no UTF-8.
    """
    raw = scope.get("raw_path") or scope["path"].encode()
    if b"%" not in raw:
        return str(scope["path"])
    try:
        segments = [unquote(part, errors="strict") for part in raw.decode("ascii").split("/")]
    except UnicodeDecodeError:
        return None
    return "/".join(segment.translate(_ESCAPED) for segment in segments)


Segment = Annotated[str, AfterValidator(unquote)]
