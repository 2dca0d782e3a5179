"""The ``serve`` verb of the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from paytm_lab.options import Data, Profile, Quiet
from paytm_lab.terminal import errors_in_words


def serve(
    names: Annotated[
        list[str],
        typer.Argument(help="Services (auth, shard_manager), or all.", metavar="NAME...|all"),
    ],
    events: Annotated[
        bool,
        typer.Option(
            "--events/--no-events",
            help="Relay and consume here, or leave it to paytm-lab relay and consume.",
        ),
    ] = True,
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Processes that serve together; one that dies is started again."
        ),
    ] = 1,
    supervised_by: Annotated[int | None, typer.Option(hidden=True)] = None,
    profile: Profile = None,
    data: Data = None,
    quiet: Quiet = False,
) -> None:
    """Serve over HTTP until Ctrl-C.

    Each service shows its documents at /docs, its health at /health and /ready, its metrics at
    /metrics. Host, ports and strictness are settings: see paytm-lab config.
    """
    from paytm_lab.verbs import serve as verb
    from paytm_lab.verbs.common import Common

    with errors_in_words(False):
        code = verb.serve(Common(profile, data, quiet=quiet), names, events, workers, supervised_by)
    raise SystemExit(code)
