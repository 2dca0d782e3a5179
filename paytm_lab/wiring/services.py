"""The services of a running lab: each one's ASGI application, built from the lab's own parts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from paytm_lab.auth import service as auth
from paytm_lab.auth.accounts import Accounts
from paytm_lab.auth.bootstrap import AdminToken
from paytm_lab.auth.keys import SigningKeys
from paytm_lab.auth.passwords import Passwords
from paytm_lab.auth.sessions import Sessions
from paytm_lab.auth.throttle import LoginThrottle
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput
from paytm_lab.shard_manager import service as shard_manager
from paytm_lab.web.app import Application
from paytm_lab.web.callers import Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.tokens import TokenChecker
from paytm_lab.wiring.shard_manager import shard_manager_parts
from paytm_lab.wiring.system import System

CHECKING = 4  # threads in which tokens that were not seen before are checked
TOKENS_WAITING_MAX = 2_048
HASHING = 2  # threads: hashing a password keeps a core busy
LOGINS_WAITING_MAX = 200


class Service(NamedTuple):
    """An application, and where it is to listen."""

    name: str
    app: Application
    port: int


class Services:
    """Builds services on a started system. ``close`` after they have stopped."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.settings: Settings = system.settings
        self._closing = ExitStack()
        pool = BoundedPool("tokens", CHECKING, TOKENS_WAITING_MAX)
        self._closing.callback(pool.close)
        checker = TokenChecker(system.coordination, system.cache, system.clock)
        self._closing.callback(checker.close)
        self.callers = Callers(checker, pool)
        self._checker = checker
        self.admin_token: Path | None = None

    def make(self, name: str) -> Service:
        """BadInput for a service that there is not."""
        makers = self._makers()
        if name not in makers:
            raise BadInput(
                f"{name!r} is no service of this lab", remedy=f"Name one of {', '.join(makers)}."
            )
        return makers[name]()

    def names(self) -> list[str]:
        return list(self._makers())

    def start(self) -> None:
        """Follow keys and ended sessions; after the services were made, as auth makes the keys."""
        self._checker.start()

    def close(self) -> None:
        self._closing.close()

    def _makers(self) -> dict[str, Callable[[], Service]]:
        return {"auth": self._auth, "shard_manager": self._shard_manager}

    def _shard_manager(self) -> Service:
        app = shard_manager.make_service(
            shard_manager_parts(self.system),
            self.callers,
            Metrics("shard_manager"),
            self.settings,
        )
        return Service("shard_manager", app, self.settings.shard_manager_port)

    def _auth(self) -> Service:
        system, settings = self.system, self.settings
        folder = system.folder / "auth"
        keys = SigningKeys(folder / "keys", system.coordination, settings.access_token_s)
        sessions = Sessions(
            system.cache, system.clock, _secret(folder / "refresh.secret"), settings.session_s,
            settings.access_token_s,
        )  # fmt: skip
        throttle = LoginThrottle(
            system.cache, system.clock, settings.login_attempts_max, settings.login_window_s
        )
        accounts = Accounts(
            system.engine,
            system.databases,
            lambda user_id: system.router.locate(user_id)[1],
            Passwords(settings.password_hash_memory_kib, settings.password_hash_passes),
            sessions,
            throttle,
            keys,
        )
        token = AdminToken(system.folder)
        self.admin_token = token.offer()
        hashing = BoundedPool("auth", HASHING, LOGINS_WAITING_MAX)
        self._closing.callback(hashing.close)
        apart = ("event-log", "wide-store")  # nobody logs in by them
        parts = {name: check for name, check in system.checks().items() if name not in apart}
        app = auth.make_service(
            accounts, token, keys, self.callers, parts, hashing, Metrics("auth"),
            settings.body_bytes_max,
        )  # fmt: skip
        return Service("auth", app, settings.auth_port)


def _secret(path: Path) -> bytes:
    """The bytes in a file that only its owner reads; made once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(new, path)  # of several processes one is first
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_bytes()
