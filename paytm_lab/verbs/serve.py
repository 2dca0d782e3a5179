"""serve: the services over HTTP, until a signal."""

from __future__ import annotations

from contextlib import ExitStack

from paytm_lab.terminal import note, say
from paytm_lab.verbs.common import Common, opened
from paytm_lab.web import logs, server
from paytm_lab.wiring.services import Services, kinds


def serve(common: Common, names: list[str], events: bool = True) -> int:
    """``names``: services, or "all". With ``events`` each brings the consumers that work for it."""
    wanted = kinds(names)
    off = {"fraud"} if common.settings().fraud_gate == "off" else set()
    groups = tuple(g for kind in wanted.values() for g in kind.consumers if events and g not in off)
    relay = events and any(kind.relays for kind in wanted.values())
    with opened(common, relay=relay, consumers=groups) as lab, ExitStack() as closing:
        services = Services(lab.system)
        closing.callback(services.close)
        made = [services.make(name) for name in wanted]
        services.start()
        logs.to_stream(lab.settings.log_level)
        host = lab.settings.host

        def ready() -> None:
            for each in made:
                services.register(each)
                say(f"{each.name:16} http://{host}:{each.port}  (documents: /docs)")
            if services.admin_token is not None:
                say(f"a one-time token to make the first admin lies in {services.admin_token}")
            note("Ctrl-C stops; what was accepted is finished first", common.quiet)

        server.run([server.Listening(each.name, each.app, host, each.port) for each in made], ready)
    return 0
