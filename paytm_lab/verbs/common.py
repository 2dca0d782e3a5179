"""What several verbs share: the common options as one record, opening a lab, a run's source."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paytm_lab import preflight
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, InvalidSetting, MalformedFile
from paytm_lab.core.money import format_rupees, parse_rupees, require_amount
from paytm_lab.lab import Lab
from paytm_lab.ledger import queries
from paytm_lab.own_process import collect_less
from paytm_lab.reporting.results import RunResult
from paytm_lab.simulation.payments import Workload
from paytm_lab.simulation.transfers_file import TransfersFile, check_header, open_transfers
from paytm_lab.terminal import Bars, bars, note, say
from paytm_lab.wiring import stored_shards

REASONS = "docs/transfers-file.md"


@dataclass(frozen=True)
class Common:
    """The options that every verb has."""

    profile: str | None = None
    data: Path | None = None
    seed: int | None = None
    shards: int | None = None
    quiet: bool = False
    as_json: bool = False

    def settings(self, **more: Any) -> Settings:
        return Settings(
            profile=self.profile, data_dir=self.data, seed=self.seed, shards=self.shards,
            quiet=self.quiet or None, **more,
        )  # fmt: skip

    def on_data(self) -> list[str]:
        """The option that names the folder, where it was given."""
        return [] if self.data is None else ["--data", str(self.data)]

    def as_set(self) -> Common:
        """Quiet, too, where the settings say so."""
        return self if self.quiet else replace(self, quiet=self.settings().quiet)

    def parameters(self) -> dict[str, Any]:
        """The options that a notebook takes as parameters, as far as they were given."""
        data = None if self.data is None else str(self.data.resolve())
        given = {"data": data, "profile": self.profile, "seed": self.seed}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Source:
    """Where a run's payments come from: a file, or a workload."""

    users: int = 10_000
    payments: int = 50_000
    zipf_s: float = 0.99
    cross_shard_share: float | None = None
    transfers: str | None = None
    mapping: str | None = None
    opening_balance: str | None = None

    def options(self) -> str:
        """The command-line options that repeat it."""
        if self.transfers is not None:
            parts = ["--transfers", self.transfers]
            parts += ["--map", self.mapping] if self.mapping else []
            parts += ["--opening-balance", self.opening_balance] if self.opening_balance else []
            return shlex.join(parts)
        text = f"--users {self.users} --payments {self.payments} --zipf-s {self.zipf_s:g}"
        if self.cross_shard_share is not None:
            text += f" --cross-shard-share {self.cross_shard_share:g}"
        return text

    def workload(self) -> Workload:
        return Workload(self.users, self.payments, self.zipf_s, self.cross_shard_share)

    def check(self) -> None:
        """Raises, before there is a lab, what is wrong with the options or the file's header."""
        if self.transfers is None:
            self.workload()
            return
        if self.opening_balance is not None:
            require_amount(parse_rupees(self.opening_balance))
        check_header(self.transfers, self.mapping)

    def open(self, data: Path, progress: Bars) -> TransfersFile:
        """Judge the file; rows that are no payments go to ``data/rejects.csv``. MalformedFile where
        none is one: a run of nothing would be called clean.
        """
        data.mkdir(parents=True, exist_ok=True)
        opening = None if self.opening_balance is None else parse_rupees(self.opening_balance)
        seen = [0]

        def judged(rows: int) -> None:
            progress("reading the file", rows - seen[0], None)
            seen[0] = rows

        rejects = data / "rejects.csv"
        file = open_transfers(
            self.transfers or "", self.mapping, opening, in_any_order=True, rejects=rejects,
            progress=judged,
        )  # fmt: skip
        if not file.accepted:
            file.close()
            raise MalformedFile(
                f"none of its {file.data_rows:,} rows is a payment: {_reasons(file)}",
                place=file.place,
                remedy=f"{rejects} has each with its line; {REASONS} says what the reasons mean.",
            )
        return file


@contextmanager
def opened(common: Common, existing: bool = False, **options: Any) -> Iterator[Lab]:
    """A lab on the common options' folder, checked beforehand; says what was recovered. With
    ``existing`` there must be one already.
    """
    settings = common.settings()
    preflight.require(settings)
    collect_less()
    asked = common.shards
    stored = stored_shards(settings) if existing or asked is not None else None
    if existing and stored is None:
        raise BadInput(
            f"there is no lab in {settings.data_dir}",
            remedy="Name its folder with --data, or make one with paytm-lab run.",
        )
    if asked is not None and stored not in (None, asked):
        raise InvalidSetting(
            f"--shards {asked} does not fit: the lab in {settings.data_dir} has {stored} shards",
            remedy="Leave out --shards, or make a new lab: give another folder by --data.",
        )
    with Lab(
        settings.profile,
        common.shards,
        settings.seed,
        settings.data_dir,
        quiet=common.quiet or None,
        **options,
    ) as lab:
        if lab.recovered is not None and lab.recovered.found:
            note(str(lab.recovered), common.quiet)
        yield lab


def run_source(
    lab: Lab, source: Source, common: Common, verb: str, given: Sequence[str] = (), **options: Any
) -> RunResult:
    """Post a workload or a file with progress bars, and say how to repeat it. ``given``: options of
    the verb that a repetition needs too.
    """
    if source.transfers is None and source.cross_shard_share is not None:
        source.workload().generate(lab.seed, lab.system.router.map)  # whether it can be had here
    command = f"paytm-lab {verb} {source.options()} --seed {lab.seed}"
    if lab.deterministic:
        # What else the order of its steps hangs on.
        command += (
            f" --deterministic --shards {lab.settings.shards} --in-flight {options['in_flight']}"
            f" --fraud-gate {lab.settings.fraud_gate}"
        )
    elif lab.settings.shards != Settings.model_fields["shards"].default:
        command += f" --shards {lab.settings.shards}"
    command += "".join(f" {shlex.quote(word)}" for word in given) + on_profile(lab.profile)
    note(f"seed {lab.seed}; to repeat: {command}", common.quiet)
    if not common.quiet and (how := _where_it_repeats(lab, "--data" in given)):
        note(how)
    with bars(common.quiet) as progress:
        if source.transfers is None:
            return lab.run(source.workload(), progress=progress, command=command, **options)
        with source.open(lab.data, progress) as file:
            _say_file(file, lab.data, common)
            run = lab.run(file, progress=progress, command=command, **options)
            run.notes |= {
                "rows_accepted": str(file.accepted),
                "rows_rejected": str(file.rejected),
                "rows_collapsed": str(file.collapsed),
                "opening_rule": file.opening_rule,
            }
            return run


def _where_it_repeats(lab: Lab, named: bool) -> str:
    """What else a repetition needs: users of a folder that was used keep their balances."""
    other = "another --data" if named else "with --data"
    if lab.deterministic:
        return "the hash repeats where no lab lies yet: give a new folder by --data"
    if any(queries.payment_marks(lab.system.databases.values()).values()):
        return (
            "this folder was used before and its users keep their balances: the command repeats"
            f" itself only in a new folder ({other})"
        )
    return f"repeat it in a new folder ({other}): this one has other balances then" if named else ""


def on_profile(profile: str) -> str:
    """The option that a command needs to mean the same lab again."""
    return "" if profile == "embedded" else f" --profile {profile}"


def _say_file(file: TransfersFile, data: Path, common: Common) -> None:
    quiet = common.quiet
    what = f" ({file.format_name} header)" if file.format_name else ""
    note(
        f"{file.place}{what}: {file.accepted} payments of"
        f" {format_rupees(file.amount_total_paise)} rupees accepted, {file.rejected} rows rejected,"
        f" {file.collapsed} repeated",
        quiet,
    )
    if file.rejected:
        listed = f"{data / 'rejects.csv'} ({_reasons(file)})"
        note(f"rejected rows with line and reason: {listed}; what they mean: {REASONS}", quiet)
    note(f"opening balances: {file.opening_rule}", quiet)
    if "time" not in file.columns:
        note("the file says no times: its payments are taken as spread evenly up to now", quiet)
    if file.notes:
        note(" ".join(file.notes), quiet)


def _reasons(file: TransfersFile) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in file.rejected_by_reason.most_common())


def inherited_fd(number: int | None) -> int | None:
    """An open file descriptor that the parent process gave, to acknowledge payments on."""
    if number is not None:
        try:
            os.fstat(number)
        except OSError as error:
            raise BadInput(f"{number} is no open file descriptor ({error.strerror})") from None
    return number


__all__ = ["Common", "Source", "inherited_fd", "on_profile", "opened", "run_source", "say"]
