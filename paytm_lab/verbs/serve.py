"""serve: the services over HTTP, until a signal."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from paytm_lab.auth.bootstrap import FILE as ADMIN_TOKEN
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput
from paytm_lab.terminal import note, say
from paytm_lab.verbs import workers as processes
from paytm_lab.verbs.common import Common, opened
from paytm_lab.web import logs, server
from paytm_lab.wiring.services import KINDS, Kind, Services, kinds


def serve(
    common: Common,
    names: list[str],
    events: bool = True,
    workers: int = 1,
    supervised_by: int | None = None,
    share_ports: bool = False,
) -> int:
    """``names``: services, or "all". With ``events`` each brings the consumers that work for it.
    ``workers``: so many processes serve them together; events are the first one's.
    ``supervised_by``: a socket of who started this process, whose end is its end too.
    """
    wanted = kinds(names)
    if workers > 1:
        if common.settings().profile == "embedded":
            raise BadInput(
                f"--workers {workers} is not for the embedded profile: its cache, where sessions"
                " lie, is the memory of one process",
                remedy="Leave it out, or serve on the real servers (--profile servers).",
            )
        return _several(common, wanted, events, workers)
    off = {"fraud"} if common.settings().fraud_gate == "off" else set()
    groups = tuple(g for kind in wanted.values() for g in kind.consumers if events and g not in off)
    relay = events and any(kind.relays for kind in wanted.values())
    supervised = None if supervised_by is None else processes.Supervised(supervised_by)
    with opened(common, relay=relay, consumers=groups) as lab, ExitStack() as closing:
        services = Services(lab.system)
        closing.callback(services.close)
        if lab.profile == "embedded":
            _require_alone(services)
        made = [services.make(name) for name in wanted]
        services.start()
        logs.to_stream(lab.settings.log_level)

        def ready() -> None:
            for each in made:
                services.register(each)
            if supervised is not None:
                supervised.ready()
            else:
                _say_where(wanted, lab.settings, services.admin_token, common.quiet)

        host = lab.settings.host
        server.run(
            [server.Listening(each.name, each.app, host, each.port, share_ports) for each in made],
            ready,
        )
    return 0


def _require_alone(services: Services) -> None:
    for name in KINDS:
        for instance, address in services.system.coordination.instances(name).items():
            raise BadInput(
                f"{instance} serves {name} of this lab at {address}; on the embedded profile one"
                " process serves all, as sessions lie in its memory",
                remedy="Stop it and name all services at once, or use --profile servers.",
            )


def _several(common: Common, wanted: dict[str, Kind], events: bool, workers: int) -> int:
    settings = common.settings()
    places = [(name, settings.host, k.port(settings)) for name, k in wanted.items()]
    words = ["serve", *wanted, "--profile", settings.profile, "--data", str(settings.data_dir)]
    words += ["--quiet"] if common.quiet else []
    commands = [words if events and n == 0 else [*words, "--no-events"] for n in range(workers)]
    with ExitStack() as held:
        server.bound(places, held, shared=True)  # nobody else gets them while workers come and go
        with opened(common, relay=False, consumers=()):
            pass  # one alone makes the lab, and recovers it

        def ready() -> None:
            offered = settings.data_dir / ADMIN_TOKEN
            _say_where(wanted, settings, offered if offered.exists() else None, common.quiet)
            note(f"{workers} processes serve them", common.quiet)

        return processes.keep(commands, common.quiet, ready)


def _say_where(
    wanted: dict[str, Kind], settings: Settings, admin_token: Path | None, quiet: bool
) -> None:
    for name, kind in wanted.items():
        port = kind.port(settings)
        say(f"{name:16} http://{settings.host}:{port}  (documents: /docs)")
    if admin_token is not None:
        say(f"a one-time token to make the first admin lies in {admin_token}")
    note("Ctrl-C stops; what was accepted is finished first", quiet)
