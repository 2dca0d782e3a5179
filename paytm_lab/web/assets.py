"""Files that pages load: scripts and style sheets, under names that change when they do.

So a browser may keep them for good. They hold no data and are open to everybody. Plotly.js is the
file in Plotly's Python package, which is found and not imported: importing it takes a second.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import re
import threading
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response

from paytm_lab.core.errors import MissingPart, NotFound
from paytm_lab.web.paths import Segment
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.problems import declared

KEPT = "public, max-age=31536000, immutable"
PREFIX = "/assets"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


def plotly_js() -> Path:
    """Where Plotly.js lies; MissingPart where the package is not installed."""
    found = importlib.util.find_spec("plotly")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path
    raise MissingPart(
        "Plotly's package is not installed, so that pages cannot draw",
        remedy="Install the project's requirements again.",
    )


def plotly_style_ids(path: Path) -> list[str]:
    """Ids of the style elements that this Plotly.js adds by itself where nothing has them. A page
    whose policy forbids that gives the ids to something of its own (no chart here needs them).
    """
    found = re.findall(r'getElementById\("([0-9a-f]{64})"\)', path.read_text(encoding="utf-8"))
    return sorted(set(found))


class Asset:
    """One file, read once. ``name``: with eight digits of its content's hash in it."""

    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        digest = hashlib.sha256(self.body).hexdigest()[:8]
        self.name = f"{path.name.removesuffix(path.suffix)}-{digest}{path.suffix}"
        self.media_type = _TYPES[path.suffix]
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{PREFIX}/{self.name}"

    @cached_property
    def _gzipped(self) -> bytes:
        return gzip.compress(self.body, 6, mtime=0)

    def gzipped(self) -> bytes:
        """Takes a quarter of a second the first time, for the largest."""
        with self._lock:
            return self._gzipped


class Assets:
    """``files``: by the name that templates know them by; ``url_of[name]`` is where they are."""

    def __init__(self, files: Mapping[str, Path], pool: BoundedPool) -> None:
        known = {name: Asset(path) for name, path in files.items()}
        self.url_of = {name: asset.url for name, asset in known.items()}
        self._by_name = {asset.name: asset for asset in known.values()}
        self._pool = pool

    def router(self) -> APIRouter:
        router = APIRouter(prefix=PREFIX, tags=["pages"])

        @router.get(
            "/{name}",
            summary="A script or style sheet",
            response_class=Response,
            responses=declared(HTTPStatus.NOT_FOUND),
        )
        async def asset(
            name: Segment,
            accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
        ) -> Response:
            found = self._by_name.get(name)
            if found is None:
                raise NotFound(f"there is no asset {name!r:.80}", remedy="Load the page again.")
            headers = {"Cache-Control": KEPT, "Vary": "Accept-Encoding"}
            body = found.body
            if _takes_gzip(accept_encoding):
                body = await self._pool.run(found.gzipped)
                headers["Content-Encoding"] = "gzip"
            return Response(body, headers=headers, media_type=found.media_type)

        return router


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.lower().split(","):
        coding, _, weight = each.strip().partition(";")
        if coding.strip() == "gzip":
            return re.fullmatch(r"q=0(\.0*)?", weight.replace(" ", "")) is None
    return False
