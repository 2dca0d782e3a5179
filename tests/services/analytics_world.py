"""A real lab behind the analytics service's HTTP, called in-process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, Self

import httpx

from paytm_lab.analytics.service import make_service
from paytm_lab.web.callers import Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.scopes import ANALYTICS_READ
from paytm_lab.wiring.analytics_service import analytics_parts
from tests.services.world import World

PORTS = {"auth": 1, "shard_manager": 2}  # where nobody listens
PAGES = ("overview", "shards", "payments", "fraud", "system")


class AnalyticsWorld(World):
    """``figures`` asks as somebody who may read them."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._serve()
        return self

    def _serve(self) -> None:
        pool = BoundedPool("tokens", 2, 64)
        self.exits.callback(pool.close)
        callers = Callers(self.checker, pool)
        self.analytics = analytics_parts(self.lab.system, PORTS)
        self.app = make_service(self.analytics, callers, Metrics("analytics"), 262_144)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60)

    @staticmethod
    @contextmanager
    def watching_anew(world: AnalyticsWorld) -> Iterator[AnalyticsWorld]:
        """The same lab behind a service that has just started."""
        anew = copy(world)
        with ExitStack() as anew.exits:
            anew._serve()
            yield anew
            anew.run(anew.client.aclose())

    def figures(self, page: str, **more: Any) -> dict[str, Any]:
        said = self.call("GET", f"/api/{page}", "reader", ANALYTICS_READ, **more)
        assert said.status_code == 200, said.text
        return dict(said.json())

    def page(self, path: str, user: str = "reader", *scopes: str) -> httpx.Response:
        return self.call("GET", path, user, *(scopes or (ANALYTICS_READ,)))
