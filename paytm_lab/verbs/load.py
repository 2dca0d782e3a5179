"""load: services and Locust together; afterwards the verdict on what the load has left."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from paytm_lab import children, preflight
from paytm_lab.auth.bootstrap import FILE as ADMIN_TOKEN
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, MissingPart, Unavailable
from paytm_lab.terminal import note, print_audit, print_json, say
from paytm_lab.verbs.common import Common, opened
from paytm_lab.verbs.ending import told_to_end

SCRIPT = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
SUMMARY = "summary.json"
FIGURES = ("requests", "failed", "requests_per_s", "latency_ms_p50", "latency_ms_p99")
START_S_MAX = 90.0
LOOK_S = 0.2
LOCUST_END_S_MAX = 60.0


@dataclass(frozen=True)
class Load:
    """``users`` at once, ``spawn_rate`` more each second, for ``seconds`` (None: until it is
    stopped by hand). ``web``: with Locust's page, where the three can be changed.
    """

    users: int = 50
    spawn_rate: float = 5.0
    seconds: int | None = None
    web: bool = True
    web_port: int = 8089


def load(common: Common, wanted: Load) -> int:
    """The exit code is the audit's."""
    _require_locust()
    settings = common.settings()
    preflight.require(settings)
    folder = settings.data_dir / "load"
    folder.mkdir(parents=True, exist_ok=True)
    with told_to_end() as told, ExitStack() as running:
        log = running.enter_context((folder / "serve.log").open("w"))
        words = ["serve", "all", "--profile", settings.profile, "--data", str(settings.data_dir)]
        services = running.enter_context(
            children.running([*words, "--quiet"], {}, log, supervised=True)
        )
        note("starting the services ...", common.quiet)
        _until_ready(settings, services, told.is_set, folder / "serve.log")
        admin = _admin(settings, folder / "admin.json")
        locust = running.enter_context(_locust(wanted, settings, admin, folder))
        if wanted.web:
            page = f"http://127.0.0.1:{wanted.web_port}"
            where = f"Locust's page: {page}  (Stop there, or Ctrl-C: then the books are audited)"
            note(where, False) if common.as_json else say(where)
        while locust.poll() is None and not told.wait(LOOK_S):
            if services.poll() is not None:
                raise Unavailable(f"the services ended by themselves: see {folder / 'serve.log'}")
        _end(locust)
    note("the load has ended; finishing what it left ...", common.quiet)
    with opened(common) as lab:
        lab.drain()
        report = lab.audit()
    requests = _requests(folder / SUMMARY, told.is_set())
    locust_report = folder / "report.html"
    if common.as_json:
        figures = requests | {"report": str(locust_report)}
        print_json({"load": figures, "audit": report.to_dict()})
    else:
        say(
            f"{requests['requests']} requests, {requests['failed']} failed,"
            f" {requests['requests_per_s']:g}/s, p50 {requests['latency_ms_p50']:g} ms,"
            f" p99 {requests['latency_ms_p99']:g} ms: {locust_report}"
        )
        print_audit(report, common.quiet)
    return report.exit_code


def _require_locust() -> None:
    if find_spec("locust") is None:
        raise MissingPart(
            "Locust is not installed", remedy="make env installs it, or: pip install locust"
        )
    if not SCRIPT.is_file():
        raise MissingPart(
            f"there is no {SCRIPT}", remedy="Run from the project's folder, which has loadtests/."
        )


def _until_ready(
    settings: Settings,
    services: subprocess.Popen[bytes],
    told: Callable[[], bool],
    log: Path,
) -> None:
    until = time.monotonic() + START_S_MAX
    for port in (settings.auth_port, settings.shard_manager_port):
        while True:
            if services.poll() is not None:
                raise Unavailable(f"the services did not start: {log.read_text().strip()[-1500:]}")
            with suppress(OSError):
                if children.ask(settings.host, port, "GET", "/ready")[0] == HTTPStatus.OK:
                    break
            if told() or time.monotonic() > until:
                raise Unavailable(f"the services were not ready within {START_S_MAX:.0f} s: {log}")
            time.sleep(LOOK_S)


def _admin(settings: Settings, kept: Path) -> Path:
    """A file with the login of the admin who gives new users money; made with the one-time token
    the first time, mode 0600.
    """
    if kept.exists():
        return kept
    offered = settings.data_dir / ADMIN_TOKEN
    if not offered.exists():
        raise BadInput(
            "this lab's one-time admin token was used, and not by a load",
            place=str(settings.data_dir),
            remedy=f"Write an admin's user_id and password into {kept} as JSON, mode 0600.",
        )
    login = {"user_id": f"load-admin-{secrets.token_hex(4)}", "password": secrets.token_urlsafe(24)}
    once = {"admin_token": offered.read_text().strip()}
    status, answer = children.ask(settings.host, settings.auth_port, "POST", "/admin", login | once)
    if status != HTTPStatus.CREATED:
        raise Unavailable(f"no admin could be made: {answer}")
    descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(login, file)
    return kept


@contextmanager
def _locust(
    wanted: Load, settings: Settings, admin: Path, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable, "-m", "locust", "-f", str(SCRIPT), "--only-summary",
        "--host", f"http://{settings.host}:{settings.shard_manager_port}",
        "--auth-url", f"http://{settings.host}:{settings.auth_port}",
        "--admin-file", str(admin), "--html", str(folder / "report.html"),
        "--summary-file", str(folder / SUMMARY), "--users", str(wanted.users),
        "--spawn-rate", f"{wanted.spawn_rate:g}", "--exit-code-on-error", "0",
        "--ends-with", str(os.getpid()),
    ]  # fmt: skip
    command += ["--run-time", f"{wanted.seconds}s"] if wanted.seconds else []
    if wanted.web:
        command += ["--autostart", "--web-host", "127.0.0.1", "--web-port", str(wanted.web_port)]
    else:
        command += ["--headless"]
    (folder / SUMMARY).unlink(missing_ok=True)
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - words of our own
    try:
        yield process
    finally:
        _end(process)


def _end(locust: subprocess.Popen[bytes]) -> None:
    """Let it stop its users and write its report."""
    if locust.poll() is None:
        locust.terminate()
        try:
            locust.wait(LOCUST_END_S_MAX)
        except subprocess.TimeoutExpired:
            locust.kill()
            locust.wait()


def _requests(summary: Path, stopped: bool) -> dict[str, Any]:
    """What Locust counted over all requests; Unavailable where it ended before it wrote that."""
    if not summary.exists():
        if stopped:  # before it had begun
            return dict.fromkeys(FIGURES, 0)
        raise Unavailable("Locust left no figures: its own words above say why")
    found: dict[str, Any] = json.loads(summary.read_text())
    return found
