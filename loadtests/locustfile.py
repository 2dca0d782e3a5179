"""Users of a running paytm_lab: they register, log in, pay one another, read what they have.

`paytm-lab load` (or `make load`) starts the services and this together. By hand, against services
that run already:

    locust -f loadtests/locustfile.py --admin-file admin.json

where `admin.json` holds `{"user_id": ..., "password": ...}` of a user with the permissions
`account:create` and `transfer:any`: each new user is paid some money out of a till of its own, as
registering makes none. Locust patches sockets when it is imported, so it runs in a process of its
own and imports nothing of the lab.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from flask import abort, request
from locust import FastHttpUser, between, events, task
from locust.exception import StopUser

RUN = uuid.uuid4().hex[:8]
OPENING_RUPEES = 20_000
PAGE_S_AFTER = 2.0  # the page shows its last figures
KNOWN_MAX = 10_000  # users whom others may pay
PAYMENT_RUPEES_MEDIAN, PAYMENT_SIGMA = 120.0, 1.1  # one in some thousands is for a reviewer

numbers = itertools.count(1)
known: list[str] = []
summary: dict[str, Any] = {"file": ""}


@events.init_command_line_parser.add_listener
def own_options(parser: Any) -> None:
    group = parser.add_argument_group("paytm_lab")
    group.add_argument(
        "--auth-url", default="http://127.0.0.1:8001", env_var="PAYTM_LAB_AUTH_URL",
        help="Where the auth service listens.",
    )  # fmt: skip
    group.add_argument(
        "--admin-file", default="", env_var="PAYTM_LAB_ADMIN_FILE",
        help="JSON with user_id and password of an admin, who gives new users some money.",
    )  # fmt: skip
    group.add_argument(
        "--summary-file", default="", help="Where to write the figures of all requests, as JSON."
    )
    group.add_argument(
        "--ends-with", type=int, default=0, help="The process that started this, and its end."
    )


@events.quit.add_listener
def write_summary(**_: Any) -> None:
    """Last of all: users may still log out while others are stopped."""
    if summary["file"]:
        total = summary["stats"].total
        figures = {
            "requests": total.num_requests,
            "failed": total.num_failures,
            "requests_per_s": round(total.total_rps, 1),
            "latency_ms_p50": total.get_response_time_percentile(0.5) or 0,
            "latency_ms_p99": total.get_response_time_percentile(0.99) or 0,
        }
        Path(summary["file"]).write_text(json.dumps(figures))


@events.init.add_listener
def guard_the_page(environment: Any, **_: Any) -> None:
    """It has no login, and may tell users where to go: nobody but itself may use its forms."""
    if environment.web_ui is None:
        return

    @environment.web_ui.app.before_request  # type: ignore[untyped-decorator]
    def of_this_site() -> None:
        origin = urlsplit(request.headers.get("Origin", "")).netloc
        if request.method != "GET" and origin not in ("", request.host):
            abort(403)


@events.init.add_listener
def keep_for_summary(environment: Any, **_: Any) -> None:
    summary.update(file=environment.parsed_options.summary_file, stats=environment.stats)
    if environment.parsed_options.ends_with:
        gevent.spawn(end_with, environment.parsed_options.ends_with)


def end_with(parent: int) -> None:
    """No load goes on when who started it is gone, however it went."""
    while os.getppid() == parent:
        gevent.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


@events.test_start.add_listener
def require_admin_file(environment: Any, **_: Any) -> None:
    name = environment.parsed_options.admin_file
    if not name or not Path(name).is_file():
        environment.runner.quit()
        raise SystemExit(f"--admin-file {name!r} is no file: see the top of {__file__}")


@events.test_stop.add_listener
def end_with_the_load(environment: Any, **_: Any) -> None:
    """Stop on the page is the end of Locust too: who started it goes on with the audit."""
    if environment.web_ui is not None:
        gevent.spawn_later(PAGE_S_AFTER, environment.web_ui.stop)


class Payer(FastHttpUser):
    """One person with a phone: about twenty requests a minute, half of them payments. More than
    thirty payments a minute would be taken for fraud.
    """

    host = "http://127.0.0.1:8006"
    wait_time = between(1.5, 4.5)
    admin_token = ""

    def on_start(self) -> None:
        options = self.environment.parsed_options
        self.auth = options.auth_url.rstrip("/")
        self.user_id = f"load-{RUN}-{next(numbers)}"
        self.paid: list[str] = []
        self.login = {"user_id": self.user_id, "password": uuid.uuid4().hex}
        self.ask("POST", f"{self.auth}/register", "register", json=self.login, ok=(201,))
        self.tokens = self.log_in(self.login, "login")
        self.receive_money()
        if len(known) < KNOWN_MAX:
            known.append(self.user_id)

    def log_in(self, login: dict[str, str], name: str) -> dict[str, str]:
        said = self.ask("POST", f"{self.auth}/login", name, json=login)
        if said is None:
            raise StopUser  # without a token there is nothing to do
        return dict(said)

    def receive_money(self) -> None:
        """Out of a till of its own: one till for all would pay more often than anybody may."""
        till = f"till-{self.user_id}"
        for path, name in (
            (f"/create_account/{till}/{OPENING_RUPEES}", "/create_account (by the admin)"),
            (
                f"/transfer/{till}/{self.user_id}/{OPENING_RUPEES / 4:.2f}",
                "/transfer (by the admin)",
            ),
        ):
            for _ in range(2):
                if not Payer.admin_token:
                    admin = json.loads(Path(self.environment.parsed_options.admin_file).read_text())
                    Payer.admin_token = self.log_in(admin, "login (the admin)")["access_token"]
                said = self.ask("POST", path, name, ok=(201, 202, 401), token=Payer.admin_token)
                if said is None or said.get("status") != 401:
                    break
                Payer.admin_token = ""  # it has expired

    def ask(
        self, method: str, path: str, name: str, ok: tuple[int, ...] = (200,), token: str = "",
        **more: Any,
    ) -> dict[str, Any] | None:  # fmt: skip
        """The answer's JSON; None where it failed, which Locust counts."""
        headers = dict(more.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        with self.client.request(
            method, path, name=name, headers=headers, catch_response=True, **more
        ) as answer:
            if answer.status_code not in ok:
                answer.failure(f"{answer.status_code} {(answer.text or answer.error)!s:.200}")
                return None
            answer.success()
            return dict(answer.json())

    def ask_as_me(self, method: str, path: str, name: str, **more: Any) -> dict[str, Any] | None:
        """With a new token where this one has expired."""
        ok = more.pop("ok", (200,))
        for _ in range(2):
            token = self.tokens["access_token"]
            said = self.ask(method, path, name, ok=(*ok, 401), token=token, **more)
            if said is None or said.get("status") != 401:
                return said
            refreshed = self.ask(
                "POST", f"{self.auth}/refresh", "refresh",
                json={"refresh_token": self.tokens["refresh_token"]},
            )  # fmt: skip
            self.tokens = refreshed or self.log_in(self.login, "login")
        return None

    @task(10)
    def pay(self) -> None:
        others = [each for each in random.sample(known, min(2, len(known))) if each != self.user_id]
        if not others:
            return
        rupees = min(50_000.0, random.lognormvariate(0, PAYMENT_SIGMA) * PAYMENT_RUPEES_MEDIAN)
        said = self.ask_as_me(
            "POST", f"/transfer/{self.user_id}/{others[0]}/{max(rupees, 0.01):.2f}",
            "/transfer/{from}/{to}/{amount}",
            headers={"Idempotency-Key": uuid.uuid4().hex},
            ok=(201, 202, 422),  # who has spent all is refused, as should be
        )  # fmt: skip
        if said and said.get("payment_id"):
            self.paid = [*self.paid[-19:], said["payment_id"]]

    @task(5)
    def look_at_the_balance(self) -> None:
        self.ask_as_me("GET", f"/accounts/{self.user_id}", "/accounts/{user}")

    @task(3)
    def read_the_statement(self) -> None:
        path = f"/accounts/{self.user_id}/statement?limit=20"
        self.ask_as_me("GET", path, "/accounts/{user}/statement")

    @task(2)
    def look_at_a_payment(self) -> None:
        if self.paid:
            self.ask_as_me("GET", f"/transfers/{random.choice(self.paid)}", "/transfers/{id}")

    def on_stop(self) -> None:
        if getattr(self, "tokens", None):
            token = self.tokens["access_token"]
            with self.client.request(
                "POST", f"{self.auth}/logout", name="logout", catch_response=True,
                headers={"Authorization": f"Bearer {token}"},
            ) as answer:  # fmt: skip
                answer.success() if answer.status_code in (204, 401) else answer.failure("logout")
