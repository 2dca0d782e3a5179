"""A running lab behind the notification service's HTTP, called in-process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from paytm_lab import Lab
from paytm_lab.web.app import Application
from paytm_lab.web.scopes import ADMIN, TRANSFER_OWN
from paytm_lab.wiring.services import Services
from tests.servers import STACK_DIR
from tests.services.client import Client
from tests.services.world import Signer


class NotificationWorld:
    """``call`` asks as a user, with any scopes."""

    def __init__(self, lab: Lab, services: Services, app: Application, client: Client) -> None:
        self.lab = lab
        self.app = app
        self.services = services
        self.client = client
        self.signer = Signer(lab)
        self._tokens: dict[tuple[str, ...], str] = {}

    def token(self, user: str, *scopes: str) -> str:
        who = (user, *sorted(scopes))
        if who not in self._tokens:
            self._tokens[who] = self.signer.token(*who)
        return self._tokens[who]

    def call(self, method: str, path: str, user: str, *scopes: str, **more: Any) -> httpx.Response:
        token = self.token(user, *(scopes or (TRANSFER_OWN,)))
        return self.client(method, path, token, **more)

    def admin(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.call(method, path, "root", ADMIN, **more)

    def paid(self, sender: str = "asha", receiver: str = "ravi", amount: str = "5") -> str:
        """A payment that both were told of."""
        for user in (sender, receiver):
            if self.lab.account(user) is None:
                self.lab.create_account(user, "10000")
        payment = self.lab.transfer(sender, receiver, amount).payment
        self.lab.drain()
        return payment

    def inbox(self, user: str) -> list[dict[str, Any]]:
        said = self.call("GET", "/notifications", user)
        assert said.status_code == 200, said.text
        return list(said.json()["notifications"])


@contextmanager
def notification_world(**settings: Any) -> Iterator[NotificationWorld]:
    if settings.get("profile") == "servers" and STACK_DIR:
        settings["stack_dir"] = Path(STACK_DIR)
    with Lab(**{"shards": 2, **settings}) as lab:
        services = Services(lab.system)
        try:
            service = services.make("notification")
            with Client(httpx.ASGITransport(service.app)) as client:
                world = NotificationWorld(lab, services, service.app, client)
                services.start()
                yield world
        finally:
            services.close()
