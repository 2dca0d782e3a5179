"""The services of a running lab: each one's ASGI application, built from the lab's own parts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput
from paytm_lab.web.app import Application
from paytm_lab.web.auth_client import AuthClient
from paytm_lab.web.callers import Callers
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.renewals import Renewals
from paytm_lab.web.sign_ins import Guesses, SignIns
from paytm_lab.web.tokens import TokenChecker
from paytm_lab.wiring.analytics_service import analytics_service
from paytm_lab.wiring.auth_service import auth_service
from paytm_lab.wiring.channels import EVERYWHERE
from paytm_lab.wiring.fraud_service import fraud_service
from paytm_lab.wiring.notification_service import notification_service
from paytm_lab.wiring.shard_manager import shard_manager_service
from paytm_lab.wiring.stores import open_coordination
from paytm_lab.wiring.system import System

CHECKING = 4  # threads in which tokens that were not seen before are checked
TOKENS_WAITING_MAX = 2_048


class Kind(NamedTuple):
    """What there is to know of a service before it is made. ``port``: where it listens by these
    settings; ``consumers``: the groups that work in its process; ``relays``: whether the outboxes'
    relays do.
    """

    make: Callable[[Services], Application]
    port: Callable[[Settings], int]
    consumers: tuple[str, ...] = ()
    relays: bool = False


class Service(NamedTuple):
    """An application, and where it is to listen."""

    name: str
    app: Application
    port: int


KINDS: dict[str, Kind] = {
    "analytics": Kind(analytics_service, lambda settings: settings.analytics_port, ("analytics",)),
    "auth": Kind(auth_service, lambda settings: settings.auth_port),
    "fraud": Kind(fraud_service, lambda settings: settings.fraud_port, ("fraud",)),
    "notification": Kind(
        notification_service, lambda settings: settings.notification_port, ("notifications",)
    ),
    "shard_manager": Kind(
        shard_manager_service,
        lambda settings: settings.shard_manager_port,
        ("shard_manager",),
        relays=True,
    ),
}


def kinds(names: list[str]) -> dict[str, Kind]:
    """The named services, or all of them for ``["all"]``. BadInput for what cannot be served."""
    if len(set(names)) != len(names) or ("all" in names and len(names) > 1):
        raise BadInput(f"{' '.join(names)!r} names a service twice", remedy="Name each once.")
    wanted = list(KINDS) if names == ["all"] else names
    for name in wanted:
        if name not in KINDS:
            raise BadInput(
                f"{name!r} is no service of this lab", remedy=f"Name one of {', '.join(KINDS)}."
            )
    return {name: KINDS[name] for name in wanted}


def announced(settings: Settings) -> dict[str, str]:
    """Where services of the lab of these settings run now, by name; empty where none does."""
    coordination = open_coordination(settings)
    if coordination is None:
        return {}
    try:
        found = {name: coordination.instances(name) for name in KINDS}
        return {name: ", ".join(sorted(at.values())) for name, at in found.items() if at}
    finally:
        coordination.close()


class Services:
    """Builds services on a started system. ``close`` after they have stopped."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.settings: Settings = system.settings
        self._closing = ExitStack()
        pool = BoundedPool("tokens", CHECKING, TOKENS_WAITING_MAX)
        self.on_close(pool.close)
        checker = TokenChecker(system.coordination, system.cache, system.clock)
        self.on_close(checker.close)
        auth = AuthClient(self._place_of_auth, self._usual_place_of_auth())
        renewals = Renewals(auth, system.cache, system.clock)
        guesses = Guesses(system.cache, system.clock)
        self.callers = Callers(checker, pool, SignIns(renewals, guesses))
        self._checker = checker
        self.admin_token: Path | None = None

    def on_close(self, close: Callable[[], object]) -> None:
        """``close`` is called when these services are closed, the last given first."""
        self._closing.callback(close)

    def make(self, name: str) -> Service:
        """BadInput for a service that there is not."""
        kind = kinds([name])[name]
        return Service(name, kind.make(self), kind.port(self.settings))

    def start(self) -> None:
        """Follow keys and ended sessions; after the services were made, as auth makes the keys."""
        self._checker.start()

    def register(self, service: Service) -> None:
        """Announce that it answers here, until ``close`` or this process's death."""
        instance = f"{socket.gethostname()}-{os.getpid()}"
        host = self.settings.host
        if host in EVERYWHERE:  # others reach it by this machine's name
            host = socket.gethostname()
        address = f"{host}:{service.port}"
        self.on_close(self.system.coordination.register(service.name, instance, address))

    def _place_of_auth(self) -> str:
        """Where it has announced itself; else where it would be."""
        known = self.system.coordination.instances("auth")
        return next(iter(sorted(known.values())), self._usual_place_of_auth())

    def _usual_place_of_auth(self) -> str:
        host = "127.0.0.1" if self.settings.host in EVERYWHERE else self.settings.host
        return f"{host}:{self.settings.auth_port}"

    def close(self) -> None:
        self._closing.close()
