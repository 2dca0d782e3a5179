"""The options that several verbs of the command line share. Defaults stand with each verb."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand

Profile = Annotated[
    str | None,
    typer.Option(
        help="Which backends: embedded (nothing to start) or servers (paytm-lab stack up).",
        show_default="embedded",
    ),
]


def _folder(text: str) -> Path:
    return Path(_named(text, "a folder"))


def _file(text: str) -> str:
    return _named(text, "a file")


def _named(text: str, what: str) -> str:
    if not text:
        raise typer.BadParameter(f"it is empty (a variable that is not set?): name {what}")
    return text


Data = Annotated[
    Path | None,
    typer.Option(
        parser=_folder,
        metavar="DIR",
        help="Folder with all state of a lab.",
        show_default="a folder of the user's data directory",
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Seed of everything random; drawn and printed when not given.")
]
Shards = Annotated[
    int | None,
    typer.Option(
        help="Shards of a new lab. An existing one keeps its number: another one is refused.",
        show_default="4",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Results only: no progress, no hints.")]
Json = Annotated[bool, typer.Option("--json", help="The result as one JSON line.")]
Users = Annotated[int, typer.Option(help="Users '1'..'N' of a generated workload.")]
Payments = Annotated[int, typer.Option(help="Payments of a generated workload.")]
Zipf = Annotated[
    float, typer.Option("--zipf-s", help="How unequal activity is; 0: all users alike.")
]
Share = Annotated[
    float | None,
    typer.Option(
        "--cross-shard-share",
        help="Share of payments between two shards, 0..1.",
        show_default="left to chance",
    ),
]
Transfers = Annotated[
    str | None,
    typer.Option(
        parser=_file,
        metavar="FILE.csv",
        help="Your own payments, CSV or Parquet ('-': standard input). The headers of PaySim,"
        " AMLSim and the Fraud-Detection-Handbook are known.",
    ),
]
Mapping = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="from=COL,to=COL,amount=COL,...",
        help="Which column is what (also id, time, opening).",
    ),
]
Opening = Annotated[
    str | None,
    typer.Option(
        "--opening-balance",
        metavar="RUPEES",
        help="Opening balance of every user of the file.",
        show_default="a mapped column, else just enough",
    ),
]
CrashAt = Annotated[str | None, typer.Option(hidden=True, metavar="POINT[:N][@ACKS]")]
InFlight = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="Payments that wait for their answer at a time.")
]


def listing(**names: Callable[[], Iterable[str]]) -> type[TyperCommand]:
    """A command whose arguments' help says ``{names}``: what there is, asked when help is shown."""

    class Listing(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            for parameter in self.params:
                if parameter.name in names and isinstance(parameter, TyperArgument):
                    listed = ", ".join(names[parameter.name]())
                    parameter.help = (parameter.help or "").replace("{names}", listed)
            super().format_help(ctx, formatter)

    return Listing


def common_of(
    profile: str | None,
    data: Path | None,
    seed: int | None,
    shards: int | None,
    quiet: bool,
    as_json: bool,
) -> Any:
    """The common options as a verb takes them; ``--json`` implies quiet, and so may a setting."""
    from paytm_lab.verbs.common import Common

    return Common(profile, data, seed, shards, quiet or as_json, as_json).as_set()


def source_of(
    users: int,
    payments: int,
    zipf_s: float,
    share: float | None,
    transfers: str | None,
    mapping: str | None,
    opening: str | None,
) -> Any:
    """Where a run's payments come from."""
    from paytm_lab.core.errors import InvalidSetting
    from paytm_lab.verbs.common import Source

    if transfers is None and (mapping or opening):
        raise InvalidSetting(
            "--map and --opening-balance go with --transfers", remedy="Name the file too."
        )
    return Source(users, payments, zipf_s, share, transfers, mapping, opening)


def refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """InvalidSetting where one of these options stands on the command line: it would do nothing."""
    from paytm_lab.core.errors import InvalidSetting

    given = {
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name in names and _was_typed(context, parameter.name)
    }
    if given:
        raise InvalidSetting(
            f"{', '.join(sorted(given))} {why}", remedy="Leave it out; see --help."
        )


def refuse_workload(context: typer.Context, transfers: str | None) -> None:
    """Beside a file nothing of a generated workload: the file says who pays how often."""
    if transfers is not None:
        names = ("users", "payments", "zipf_s", "cross_shard_share")
        refuse(context, names, f"does not go with --transfers {transfers}")


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
