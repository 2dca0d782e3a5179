"""serve: the services over HTTP, until a signal."""

from __future__ import annotations

from contextlib import ExitStack

from paytm_lab.core.errors import BadInput
from paytm_lab.terminal import note, say
from paytm_lab.verbs.common import Common, opened
from paytm_lab.web import logs, server
from paytm_lab.wiring.services import Services


def serve(common: Common, names: list[str]) -> int:
    """``names``: services, or "all"."""
    if len(set(names)) != len(names) or ("all" in names and len(names) > 1):
        raise BadInput(f"{' '.join(names)!r} names a service twice", remedy="Name each once.")
    with opened(common) as lab, ExitStack() as closing:
        services = Services(lab.system)
        closing.callback(services.close)
        wanted = services.names() if names == ["all"] else names
        made = [services.make(name) for name in wanted]
        services.start()
        logs.to_stream(lab.settings.log_level)
        host = lab.settings.host

        def ready() -> None:
            for each in made:
                say(f"{each.name:16} http://{host}:{each.port}  (documents: /docs)")
            if services.admin_token is not None:
                say(f"a one-time token to make the first admin lies in {services.admin_token}")
            note("Ctrl-C stops; what was accepted is finished first", common.quiet)

        server.run([server.Listening(each.name, each.app, host, each.port) for each in made], ready)
    return 0
