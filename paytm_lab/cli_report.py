"""``report`` and ``sweep`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paytm_lab.options import (
    Data,
    InFlight,
    Json,
    Mapping,
    Opening,
    Payments,
    Profile,
    Quiet,
    Seed,
    Shards,
    Share,
    Transfers,
    Users,
    Zipf,
    common_of,
    refuse,
    refuse_workload,
    source_of,
)
from paytm_lab.terminal import errors_in_words

Notebooks = Annotated[Path, typer.Option(help="Folder of the notebooks.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A parameter of the notebook."),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "-p", "--parameter", metavar="NAME=VALUE,...", help="A parameter and the values it takes."
    ),
]
Batch = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="For cron and systemd: a dated report in DIR, last-run.json, no bars, one at a time.",
    ),
]
# What only a run of payments needs, so that one notebook by itself has no use for it.
_OF_RUNS = (
    "users", "payments", "zipf_s", "cross_shard_share", "transfers", "mapping", "opening_balance",
    "in_flight", "every_notebook", "shards", "batch", "keep",
)  # fmt: skip


def report(
    context: typer.Context,
    users: Users = 10_000,
    payments: Payments = 50_000,
    zipf_s: Zipf = 0.99,
    cross_shard_share: Share = None,
    transfers: Transfers = None,
    mapping: Mapping = None,
    opening_balance: Opening = None,
    in_flight: InFlight = 256,
    every_notebook: Annotated[
        bool, typer.Option("--all", help="All notebooks, not only 00 to 04.")
    ] = False,
    notebook: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only this notebook, with -p, without a run: 01, 01_routing or its title.",
        ),
    ] = None,
    parameter: Parameters = None,
    batch: Batch = None,
    keep: Annotated[int, typer.Option(min=1, help="Reports that --batch keeps in DIR.")] = 14,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the site; an earlier report there is replaced.",
            show_default="build/report; of a notebook: build/notebooks",
        ),
    ] = None,
    notebooks: Notebooks = Path("notebooks"),
    profile: Profile = None,
    data: Data = None,
    seed: Seed = None,
    shards: Shards = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Payments in, audited ledger and report out: one linked site that opens without a network.

    Without --data the lab is a fresh one inside the report's folder. The exit code is the audit's
    verdict, with --batch too.
    """
    from paytm_lab.verbs import batch as scheduled
    from paytm_lab.verbs import report as verb

    with errors_in_words(as_json):
        common = common_of(profile, data, seed, shards, quiet, as_json)
        if notebook is not None:
            refuse(context, _OF_RUNS, f"does not go with --notebook {notebook}")
            where = out or Path("build/notebooks")
            code = verb.one_notebook(common, notebook, parameter or [], notebooks, where)
            raise SystemExit(code)
        refuse(context, ("parameter",), "goes with --notebook NAME")
        refuse_workload(context, transfers)
        source = source_of(
            users, payments, zipf_s, cross_shard_share, transfers, mapping, opening_balance
        )
        what = verb.What(source, every_notebook, notebooks, in_flight)
        if batch is not None:
            refuse(context, ("out",), "does not go with --batch DIR")
            code = scheduled.batch(common, what, batch, keep)
        else:
            refuse(context, ("keep",), "goes with --batch DIR")
            code = verb.report(common, what, out or Path("build/report"))
    raise SystemExit(code)


def sweep(
    name: Annotated[
        str,
        typer.Argument(help="A notebook (01, 01_routing or its title), or simulate: no notebook."),
    ],
    parameter: Values = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Points at a time.", show_default="one a core"),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local", help="Run on a Dask cluster (the extra dask) instead."
        ),
    ] = None,
    points_max: Annotated[
        int, typer.Option(min=1, max=100_000, help="The largest grid to accept.")
    ] = 200,
    timeout_s: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds that one cell may take.")
    ] = 300.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the points that are finished already.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results.", show_default="build/sweep/NAME")
    ] = None,
    notebooks: Notebooks = Path("notebooks"),
    profile: Profile = None,
    data: Data = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of every point; as -p seed=N.", show_default="the notebook's own"),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a notebook, or plain simulations, for every combination of values; compare on one page.

    Finished points are kept: after a kill, or with more values, the same command runs only what is
    missing. A point that fails is shown with its error, the others go on, and the exit code is 1.
    """
    from paytm_lab.verbs import sweep as verb

    with errors_in_words(as_json):
        common = common_of(profile, data, seed, None, quiet, as_json)
        how = verb.How(out, notebooks, workers, dask, points_max, timeout_s, fresh)
        code = verb.sweep(common, name, parameter or [], how)
    raise SystemExit(code)
