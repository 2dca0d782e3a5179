"""The command line: parse, build the call, hand it over to ``verbs``.

The same verbs serve people and CI.
"""

from __future__ import annotations

from typing import Annotated

import typer

from paytm_lab.cli_report import report, sweep
from paytm_lab.cli_serve import load, serve
from paytm_lab.cli_simulate import simulate
from paytm_lab.cli_stack import stack
from paytm_lab.options import (
    CrashAt,
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
    listing,
    refuse_workload,
    source_of,
)
from paytm_lab.own_process import claim
from paytm_lab.terminal import errors_in_words

app = typer.Typer(
    name="paytm-lab",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "A lab around a real sharded payment system: run it, break it, audit it,"
        " read what happened."
        "\n\nStart with [bold]paytm-lab report[/bold], or"
        " [bold]paytm-lab run --users 1000 --payments 5000[/bold]."
        "\n\nExit codes: 0 done and clean, 1 the audit found something, 2 bad usage or input,"
        " 3 a needed part is missing or down, 4 the verdict is unknown."
    ),
)


@app.command()
def run(
    context: typer.Context,
    users: Users = 10_000,
    payments: Payments = 50_000,
    zipf_s: Zipf = 0.99,
    cross_shard_share: Share = None,
    transfers: Transfers = None,
    mapping: Mapping = None,
    opening_balance: Opening = None,
    in_flight: InFlight = 1024,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="One thread, a simulated clock: the same seed repeats every event;"
            " prints their hash.",
        ),
    ] = False,
    fraud_gate: Annotated[
        str | None,
        typer.Option(help="after | before | off: when a payment is scored.", show_default="after"),
    ] = None,
    no_relay: Annotated[
        bool,
        typer.Option("--no-relay", help="Leave the outboxes to another process (paytm-lab relay)."),
    ] = False,
    no_consumers: Annotated[
        bool,
        typer.Option(
            "--no-consumers", help="Leave the log to other processes (paytm-lab consume)."
        ),
    ] = False,
    profile: Profile = None,
    data: Data = None,
    seed: Seed = None,
    shards: Shards = None,
    quiet: Quiet = False,
    as_json: Json = False,
    ack_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    crash_at: CrashAt = None,
) -> None:
    """Post payments, relay and consume their events, audit, print the verdict.

    A file's payments have keys: running the same file again posts nothing. Rows that are no
    payments are listed in rejects.csv in the data folder.
    """
    from paytm_lab.verbs import run as verb

    with errors_in_words(as_json):
        refuse_workload(context, transfers)
        common = common_of(profile, data, seed, shards, quiet, as_json)
        source = source_of(
            users, payments, zipf_s, cross_shard_share, transfers, mapping, opening_balance
        )
        code = verb.run(
            common, source, in_flight=in_flight, deterministic=deterministic, fraud_gate=fraud_gate,
            ack_fd=ack_fd, crash_at=crash_at, relay=not no_relay, consumers=not no_consumers,
        )  # fmt: skip
    raise SystemExit(code)


@app.command()
def audit(
    mode: Annotated[
        str,
        typer.Option(
            help="quiescent: drain, then demand that nothing is pending; live: audit under load."
        ),
    ] = "quiescent",
    profile: Profile = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check that no money was lost or made: each check passed, failed or unknown.

    The lab is opened first, which finishes what a crash left, and then drained; the checks
    themselves only read.
    """
    from paytm_lab.verbs import run as verb

    with errors_in_words(as_json):
        code = verb.audit(common_of(profile, data, None, None, quiet, as_json), mode)
    raise SystemExit(code)


@app.command()
def replay(
    profile: Profile = None, data: Data = None, quiet: Quiet = False, as_json: Json = False
) -> None:
    """Rebuild every balance from payment_events and compare: the drift must be zero."""
    from paytm_lab.verbs import run as verb

    with errors_in_words(as_json):
        code = verb.replay(common_of(profile, data, None, None, quiet, as_json))
    raise SystemExit(code)


@app.command()
def trace(
    payment_id: Annotated[
        str | None,
        typer.Argument(
            help="The id that the payment was answered with; a cross-shard payment of the last run"
            " when none is named."
        ),
    ] = None,
    profile: Profile = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Follow one payment through shards, outbox, log and consumers, with real times."""
    from paytm_lab.verbs import trace as verb

    with errors_in_words(as_json):
        code = verb.trace(common_of(profile, data, None, None, quiet, as_json), payment_id)
    raise SystemExit(code)


@app.command()
def relay(
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="End when every outbox is empty.")
    ] = False,
    profile: Profile = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
    crash_at: CrashAt = None,
) -> None:
    """Carry events from the shards' outboxes to the log, beside other processes of the same lab."""
    from paytm_lab.verbs import run as verb

    with errors_in_words(as_json):
        common = common_of(profile, data, None, None, quiet, as_json)
        code = verb.relay(common, until_drained, crash_at)
    raise SystemExit(code)


@app.command()
def consume(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="fraud, analytics, notifications, shard_manager; all when none is named."
        ),
    ] = None,
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="End at the log's end.")
    ] = False,
    profile: Profile = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
    crash_at: CrashAt = None,
) -> None:
    """Run consumers as members of their groups, beside other processes of the same lab."""
    from paytm_lab.verbs import run as verb

    with errors_in_words(as_json):
        common = common_of(profile, data, None, None, quiet, as_json)
        code = verb.consume(common, tuple(names or ()), until_drained, crash_at)
    raise SystemExit(code)


def _fault_targets() -> list[str]:
    from paytm_lab.simulation.faults import targets

    return targets()


def _fault_kinds() -> list[str]:
    from paytm_lab.simulation.faults import kinds

    return kinds()


def _bench_names() -> list[str]:
    from paytm_lab.verbs.bench import names

    return names()


@app.command(cls=listing(target=_fault_targets, kind=_fault_kinds))
def fault(
    target: Annotated[str | None, typer.Argument(help="{names}.")] = None,
    kind: Annotated[
        str | None, typer.Argument(help="{names}. Those of a target: paytm-lab fault TARGET.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.5, max=600, help="How long the fault lasts.")
    ] = 3.0,
    profile: Profile = None,
    data: Data = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Break something by name under load: see it, heal it, audit. Without a name: the faults.

    With --profile servers, `down`, `frozen` and `gone` stop real servers of `paytm-lab stack up`,
    for everybody who uses that stack. Ctrl-C heals, too; `stack up` after a kill -9 of this verb.
    """
    from paytm_lab.verbs import fault as verb

    with errors_in_words(as_json):
        common = common_of(profile, data, seed, None, quiet, as_json)
        code = verb.fault(common, target, kind, seconds)
    raise SystemExit(code)


@app.command(cls=listing(name=_bench_names))
def bench(
    name: Annotated[
        str | None, typer.Argument(help="{names}; what each measures when none is named.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A tenth of the work: to see that it runs, not to measure."),
    ] = False,
    profile: Profile = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure one part; --json prints one line {"bench", "profile", "rows"}."""
    from paytm_lab.verbs import bench as verb

    with errors_in_words(as_json):
        code = verb.bench(common_of(profile, data, None, None, quiet, as_json), name, quick)
    raise SystemExit(code)


@app.command()
def config(profile: Profile = None, data: Data = None, as_json: Json = False) -> None:
    """Every setting, its value (secrets masked) and where it came from."""
    from paytm_lab.verbs import paper as verb
    from paytm_lab.verbs.common import Common

    with errors_in_words(as_json):
        code = verb.config(Common(profile, data, as_json=as_json))
    raise SystemExit(code)


app.command()(report)
app.command()(sweep)
app.command()(serve)
app.command()(load)
app.add_typer(simulate)
app.add_typer(stack)


def main() -> None:
    claim()
    app()


if __name__ == "__main__":
    main()
