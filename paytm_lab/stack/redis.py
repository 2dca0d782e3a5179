"""Redis: sessions, routes, rate limits, fraud scores."""

from __future__ import annotations

from pathlib import Path

from paytm_lab.stack.connection import HOST
from paytm_lab.stack.layout import Layout
from paytm_lab.stack.probe import ask
from paytm_lab.stack.programs import Missing, Places, Program, at_least, said, version_in

NAME = "redis"
PORT = 6379
VERSION_MIN = (7, 0)
SETTINGS: dict[str, str] = {
    # A kill loses nothing (the system keeps what was written); a power cut up to a second.
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    # A bound, and an error beyond it: a session that vanishes unasked is worse than a refused one.
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",
}


def find(where: Places) -> Program | Missing:
    seen = []
    for path in where.which(
        "redis-server",
        "usr/bin/redis-server",
        "opt/homebrew/opt/redis*/bin/redis-server",
        "usr/local/opt/redis*/bin/redis-server",
    ):
        version = version_in(said([path, "--version"]), r"v=(\d\S*)")
        if at_least(version, VERSION_MIN):
            return Program((str(path),), version)
        seen.append(f"{path} ({version or 'does not run'})")
    return _fetched(where) or Missing(
        "redis-server", "Redis {}.{} or newer".format(*VERSION_MIN),
        ", ".join(seen) or "no redis-server",
        (
            "Debian, Ubuntu: apt-get install redis-server",
            "macOS: brew install redis",
            "conda: conda install -c conda-forge redis-server",
        ),
    )  # fmt: skip


def _fetched(where: Places) -> Program | None:
    root = where.packages / "redis/root/usr"
    path = root / "bin/redis-server"
    libraries = sorted(root.glob("lib/*-linux-gnu"))
    if not (path.exists() and libraries):
        return None
    environment = {"LD_LIBRARY_PATH": str(libraries[0])}
    version = version_in(said([path, "--version"], environment), r"v=(\d\S*)")
    return Program((str(path),), version, environment=environment) if version else None


def config_path(layout: Layout) -> Path:
    return layout.conf / "redis.conf"


def config(layout: Layout, port: int, password: str) -> str:
    own = {
        "bind": HOST,
        "port": str(port),
        "requirepass": password,
        "dir": f'"{layout.data / NAME}"',
        "set-proc-title": "no",  # its command line says whose it is
        "daemonize": "no",
    }
    return "\n".join(f"{key} {value}" for key, value in (own | SETTINGS).items()) + "\n"


def command(program: Program, layout: Layout) -> list[str]:
    return [*program.command, str(config_path(layout)), *program.options]


def ready(port: int, password: str) -> bool:
    """It knows the password and does not load its data any more (then: -LOADING)."""
    login = f"*2\r\n$4\r\nAUTH\r\n${len(password)}\r\n{password}\r\n".encode()
    return ask(port, login + b"PING\r\n", 12).startswith(b"+OK\r\n+PONG\r\n")
