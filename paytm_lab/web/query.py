"""What comes after a path's question mark."""

from __future__ import annotations

from fastapi import Request

from paytm_lab.core.errors import BadInput


async def each_once(request: Request) -> None:
    """A dependency: BadInput where a name comes twice, as one of the two would be passed over."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(
            f"{twice!r:.80} comes more than once", place="query", remedy="Send each name once."
        )
