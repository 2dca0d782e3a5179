"""The fraud service beside the shard manager's, on one real lab, called in-process."""

from __future__ import annotations

from typing import Any, Self

import httpx

from paytm_lab.fraud.service import make_service
from paytm_lab.web.callers import Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.scopes import ADMIN, REVIEW
from paytm_lab.wiring.fraud_service import fraud_parts
from tests.services.world import World

BOSS = ("boss", ADMIN)
CLERK = ("clerk", REVIEW)


class FraudWorld(World):
    """``fraud`` asks the fraud service as somebody; ``call`` still asks the shard manager."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.fraud_metrics = Metrics("fraud")
        parts = fraud_parts(self.lab.system, self.fraud_metrics.registry)
        pool = BoundedPool("tokens", 4, 256)
        self.exits.callback(pool.close)
        self.fraud_app = make_service(
            parts, Callers(self.checker, pool), self.fraud_metrics, 262_144
        )
        transport = httpx.ASGITransport(self.fraud_app, raise_app_exceptions=False)
        self.fraud_client = httpx.AsyncClient(
            transport=transport, base_url="http://test", timeout=60
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self.fraud_client.aclose())
        super().__exit__(*error)

    async def ask_fraud(
        self,
        method: str,
        path: str,
        user: str | None = None,
        *scopes: str,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        sent = {} if user is None else self.bearer(user, scopes)
        return await self.fraud_client.request(method, path, headers=sent | (headers or {}), **more)

    def fraud(self, method: str, path: str, *who: Any, **more: Any) -> httpx.Response:
        return self.run(self.ask_fraud(method, path, *who, **more))

    def score(self, *payments: dict[str, str]) -> list[dict[str, Any]]:
        said = self.fraud("POST", "/score", *CLERK, json={"payments": list(payments)})
        assert said.status_code == 200, said.text
        return list(said.json()["scores"])

    def rules(self) -> dict[str, Any]:
        said = self.fraud("GET", "/rules", *BOSS)
        assert said.status_code == 200, said.text
        return dict(said.json())

    def change(self, version: int | None = None, **rules: Any) -> httpx.Response:
        """Change rules, of the newest version if none is named."""
        body = {
            "version": self.rules()["version"] if version is None else version,
            "rules": rules,
            "reason": "test",
        }
        return self.fraud("PUT", "/rules", *BOSS, json=body)

    def metrics_of_fraud(self) -> str:
        return self.fraud("GET", "/metrics").text
