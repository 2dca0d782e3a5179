"""The ``stack`` group of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paytm_lab.core.errors import BadInput
from paytm_lab.options import Data, Json, Quiet
from paytm_lab.terminal import errors_in_words

Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="The stack's folder: data, logs, passwords.",
        show_default="the setting stack_dir: 'stack' in the user's data directory",
    ),
]

stack = typer.Typer(
    name="stack",
    no_args_is_help=True,
    help="The real servers on this machine, without Docker: MySQL x4, Redis, ZooKeeper, Kafka,"
    " Cassandra.",
)


@stack.command()
def up(
    stack_dir: Dir = None,
    port_offset: Annotated[
        int | None,
        typer.Option(
            min=0, max=55_000, help="Add this to every port.", show_default="0, or as before"
        ),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Wipe the servers' data first, without asking.")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Get what is missing (Debian packages, Maven jars).")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Start what does not run and wait until all answer. Repeat it as you like.

    Passwords are made at the first start and lie in connection.env in the stack's folder.
    """
    from paytm_lab.verbs import stack as verb

    with errors_in_words(as_json):
        code = verb.up(stack_dir, port_offset, reset, fetch, quiet or as_json, as_json)
    raise SystemExit(code)


@stack.command()
def down(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="mysql-N (or shard-N), redis, zookeeper, kafka, cassandra; else all."),
    ] = None,
    stack_dir: Dir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Stop servers cleanly. Their data stays."""
    from paytm_lab.verbs import stack as verb

    with errors_in_words(as_json):
        code = verb.down(stack_dir, tuple(names or ()), quiet or as_json, as_json)
    raise SystemExit(code)


@stack.command()
def status(stack_dir: Dir = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """What runs: version, port, pid, memory, state. Exit code 3 unless all are ready."""
    from paytm_lab.verbs import stack as verb

    with errors_in_words(as_json):
        code = verb.status(stack_dir, quiet or as_json, as_json)
    raise SystemExit(code)


@stack.command()
def labs(as_json: Json = False) -> None:
    """Which labs lie on the servers: whose folder, since when, how large on the shards."""
    from paytm_lab.verbs import drop as verb
    from paytm_lab.verbs.common import Common

    with errors_in_words(as_json):
        code = verb.list_labs(Common("servers", as_json=as_json))
    raise SystemExit(code)


@stack.command()
def drop(
    data: Data = None,
    lab: Annotated[
        str | None, typer.Option(help="Or its name, as stack labs says.", show_default=False)
    ] = None,
    gone: Annotated[
        bool, typer.Option("--gone", help="Or all whose folder is gone from this machine.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really remove it.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a lab's data from the servers: databases, topics, keyspace, keys, nodes."""
    from paytm_lab.verbs import drop as verb
    from paytm_lab.verbs.common import Common

    with errors_in_words(as_json):
        if (data is not None) + (lab is not None) + gone > 1:
            raise BadInput(
                "--data, --lab and --gone name different labs", remedy="Say one of them."
            )
        common = Common("servers", data, as_json=as_json)
        code = verb.drop_gone(common, yes) if gone else verb.drop(common, yes, lab)
    raise SystemExit(code)


@stack.command()
def logs(
    name: Annotated[str, typer.Argument(help="The server.")],
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=10_000)] = 40,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on showing what it writes, until Ctrl-C.")
    ] = False,
    stack_dir: Dir = None,
) -> None:
    """The end of a server's log."""
    from paytm_lab.verbs import stack as verb

    with errors_in_words(False):
        code = verb.logs(stack_dir, name, lines, follow)
    raise SystemExit(code)
