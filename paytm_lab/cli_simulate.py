"""`paytm-lab simulate`: what a workload does to shards, or a whole economy, on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paytm_lab.options import Json, Payments, Quiet, Seed, Users, Zipf

simulate = typer.Typer(
    name="simulate",
    invoke_without_command=True,
    rich_markup_mode="rich",
    help="What a workload would do to shards under each strategy, on paper; or, as"
    " [bold]simulate economy[/bold], a wallet economy with fraud in it, to a file.",
)


@simulate.callback()
def shards_on_paper(
    context: typer.Context,
    users: Users = 10_000,
    payments: Payments = 50_000,
    zipf_s: Zipf = 0.99,
    shards: Annotated[str, typer.Option(help="Numbers of shards to compare.")] = "4,5,8",
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the payments as a CSV that run --transfers reads."),
    ] = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    from paytm_lab.terminal import errors_in_words

    if context.invoked_subcommand is not None:
        return
    from paytm_lab.verbs import paper as verb
    from paytm_lab.verbs.common import Common

    with errors_in_words(as_json):
        common = Common(seed=seed, quiet=quiet or as_json, as_json=as_json)
        code = verb.simulate(common.as_set(), users, payments, zipf_s, shards, out)
    raise SystemExit(code)


@simulate.command()
def economy(
    users: Annotated[int, typer.Option(help="Users '1'..'N', each with a wallet.")] = 10_000,
    days: Annotated[int, typer.Option(help="Days from 2026-01-01 on.")] = 30,
    merchants: Annotated[
        int | None, typer.Option(help="Merchants.", show_default="one for 20 users")
    ] = None,
    fraud: Annotated[
        str,
        typer.Option(
            metavar="auto|none|N|PATTERN=N,...",
            help="Rings of each pattern: about 0.3 % of the payments (but at least one ring of"
            " each, which in a small economy is more), none, N of each, or as named"
            " (account_drain, card_testing, structuring, fan_in, fan_out, cycle,"
            " merchant_collusion, bust_out).",
        ),
    ] = "auto",
    threshold: Annotated[
        float, typer.Option(help="Rupees that must be reported; structuring stays below.")
    ] = 50_000,
    calibrate: Annotated[
        bool,
        typer.Option(help="Turn its rates in pilot runs until the mix is the target profile's."),
    ] = True,
    target: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="What the payments should look like.",
            show_default="the built-in profile",
        ),
    ] = None,
    save_target: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Also write the target, to be changed and given back."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv|FILE.parquet",
            help="Write the payments, labelled; run --transfers posts either.",
        ),
    ] = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Top-ups, salaries, payments between people and to merchants, cash-out, and fraud rings.

    Prints what was paid, the rings, and how near the payments are to the target profile. Exit code
    1 when money was not kept or the target is missed.
    """
    from paytm_lab.terminal import errors_in_words
    from paytm_lab.verbs import economy as verb
    from paytm_lab.verbs.common import Common

    with errors_in_words(as_json):
        common = Common(seed=seed, quiet=quiet or as_json, as_json=as_json).as_set()
        asked = verb.Asked(users, days, merchants, fraud, threshold, calibrate, target)
        code = verb.economy(common, asked, out, save_target)
    raise SystemExit(code)
