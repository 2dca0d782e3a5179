"""Live pages: one look a second for everybody who is watching, and none while nobody is.

A viewer is told what has changed since it was last told, so that nothing is queued for one that is
slow: it gets the newest state when it is ready for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from paytm_lab.analytics.observatory import SECOND_S, Observatory, Picture
from paytm_lab.analytics.panel import Panel
from paytm_lab.core.errors import Overloaded, PaytmLabError
from paytm_lab.web.pool import BoundedPool

_logger = logging.getLogger(__name__)
VIEWERS_MAX = 100
PAUSE_S_MIN = 0.1
FAILED_S = 2.0  # a viewer that has heard nothing for so long is told so


class Fragments(NamedTuple):
    """A page's live parts. ``head``: what is told every time (the money line, the time). ``html``:
    by '{panel}.{part}'; ``charts``: JSON by panel.
    """

    head: Mapping[str, Any]
    panels: Sequence[Panel]
    html: Mapping[str, str]
    charts: Mapping[str, bytes]


Render = Callable[[str, Picture], Fragments]


class Live:
    """``watch`` and ``page`` from the event loop; ``close`` ends what runs."""

    def __init__(self, observatory: Observatory, render: Render, pool: BoundedPool) -> None:
        self._observatory = observatory
        self._render = render
        self._pool = pool
        self._watched: Counter[str] = Counter()
        self._state: dict[str, tuple[int, Fragments]] = {}
        self._told = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def viewers(self) -> int:
        return self._watched.total()

    async def page(self, name: str) -> Fragments:
        """The page's parts as of this second, or of what is known by now."""
        picture = await self._observatory.glance()
        known = self._state.get(name)
        if known is None or known[0] != picture.at_us:
            known = (picture.at_us, await self._pool.run(self._render, name, picture))
            self._state[name] = known
        return known[1]

    @contextmanager
    def seat(self, name: str) -> Iterator[None]:
        """Around watching. Overloaded where too many watch already."""
        if self.viewers >= VIEWERS_MAX:
            raise Overloaded(
                f"{VIEWERS_MAX} are watching already", remedy="Load the page again for its figures."
            )
        self._watched[name] += 1
        try:
            if self._ticker is None or self._ticker.done():
                self._ticker = asyncio.create_task(self._tick())
            yield
        finally:
            self._watched[name] -= 1
            self._watched += Counter()  # drops those at zero

    async def watch(self, name: str) -> AsyncIterator[bytes]:
        """The whole page first, then each second what has changed, as JSON; while in a seat."""
        told: dict[str, str | bytes] = {}
        while not self._closing:
            tick = self._told
            known = self._state.get(name)
            if known is not None:
                yield _changed(known[1], told)
            try:
                await asyncio.wait_for(tick.wait(), FAILED_S)
            except TimeoutError:
                yield b"{}"  # shows a connection that has gone

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while self.viewers and not self._closing:
            began_s = loop.time()
            try:
                await self._observatory.look()
                for name in list(self._watched):
                    await self.page(name)
            except PaytmLabError:
                pass  # too busy for this second; what hangs or is away is part of a picture
            except Exception:  # the next second may be better; a ticker that ends shows old figures
                _logger.exception("a page could not be made")
            told, self._told = self._told, asyncio.Event()
            told.set()
            await asyncio.sleep(max(PAUSE_S_MIN, SECOND_S - (loop.time() - began_s)))

    def stop(self) -> None:
        """Let everybody who watches go."""
        self._closing = True
        self._told.set()

    async def close(self) -> None:
        self.stop()
        if self._ticker is not None:
            self._ticker.cancel()


def _changed(now: Fragments, told: dict[str, str | bytes]) -> bytes:
    """What a viewer does not have yet; remembered in ``told``."""
    html = {name: text for name, text in now.html.items() if told.get(name) != text}
    charts = {name: body for name, body in now.charts.items() if told.get(f"{name} chart") != body}
    told.update(html)
    told.update({f"{name} chart": body for name, body in charts.items()})
    return msgspec.json.encode(
        {
            "head": now.head,
            "html": html,
            "charts": {name: msgspec.Raw(body) for name, body in charts.items()},
        }
    )
