"""The verbs ``serve`` and ``load`` of the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from paytm_lab.options import Data, Json, Profile, Quiet
from paytm_lab.terminal import errors_in_words


def serve(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Services (analytics, auth, fraud, notification, shard_manager), or all.",
            metavar="NAME...|all",
        ),
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
    share_ports: Annotated[bool, typer.Option("--share-ports", hidden=True)] = False,
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
        code = verb.serve(
            Common(profile, data, quiet=quiet), names, events, workers, supervised_by, share_ports
        )
    raise SystemExit(code)


def load(
    users: Annotated[int, typer.Option(min=1, help="Users at once.")] = 50,
    spawn_rate: Annotated[
        float, typer.Option(min=0.1, help="Users that come each second, until all are there.")
    ] = 5.0,
    seconds: Annotated[
        int | None,
        typer.Option(
            min=1, help="How long; without it until you stop it, on the page or by Ctrl-C."
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="With Locust's page, or without.")
    ] = True,
    page_port: Annotated[int, typer.Option(min=1, max=65_535, help="The page's port.")] = 8089,
    profile: Profile = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Start the services and Locust together: users who register, log in, pay and read.

    When the load ends: everything is finished, the books are audited, and the exit code is the
    verdict's. Locust's report lies beside the lab's data, in load/report.html.
    """
    from paytm_lab.verbs import load as verb
    from paytm_lab.verbs.common import Common

    with errors_in_words(as_json):
        common = Common(profile, data, quiet=quiet, as_json=as_json)
        code = verb.load(common, verb.Load(users, spawn_rate, seconds, page, page_port))
    raise SystemExit(code)
