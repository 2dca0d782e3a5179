"""What the auth service needs of a running lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paytm_lab.auth import service as auth
from paytm_lab.auth.accounts import Accounts
from paytm_lab.auth.bootstrap import AdminToken
from paytm_lab.auth.keys import SigningKeys
from paytm_lab.auth.passwords import Passwords
from paytm_lab.auth.sessions import Sessions
from paytm_lab.auth.throttle import LoginThrottle
from paytm_lab.web.app import Application
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.pool import BoundedPool
from paytm_lab.wiring.secret_files import secret_of

if TYPE_CHECKING:
    from paytm_lab.wiring.services import Services

HASHING = 2  # threads: hashing a password keeps a core busy
LOGINS_WAITING_MAX = 200


def auth_service(services: Services) -> Application:
    system, settings = services.system, services.settings
    folder = system.folder / "auth"
    keys = SigningKeys(folder / "keys", system.coordination, settings.access_token_s)
    sessions = Sessions(
        system.cache, system.clock, secret_of(folder / "refresh.secret"), settings.session_s,
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
    services.admin_token = token.offer()
    hashing = BoundedPool("auth", HASHING, LOGINS_WAITING_MAX)
    services.on_close(hashing.close)
    apart = ("event-log", "wide-store")  # nobody logs in by them
    parts = {name: check for name, check in system.checks().items() if name not in apart}
    return auth.make_service(
        accounts, token, keys, services.callers, parts, hashing, Metrics("auth"),
        settings.body_bytes_max,
    )  # fmt: skip
