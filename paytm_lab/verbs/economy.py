"""simulate economy: a wallet economy to look at, to check, and to write to a file."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.money import format_rupees
from paytm_lab.simulation.economy import (
    KINDS,
    PATTERNS,
    UPI_LIKE,
    Books,
    Economy,
    EconomyBatch,
    Measured,
    calibrated,
    comparison,
    write_payments,
)
from paytm_lab.simulation.economy.files import suffix_of
from paytm_lab.simulation.economy.profile_file import read_profile, write_profile
from paytm_lab.simulation.whole_file import require_writable
from paytm_lab.terminal import bars, note, print_json, say, table
from paytm_lab.verbs.common import Common


class Asked(NamedTuple):
    """The verb's own options."""

    users: int
    days: int
    merchants: int | None
    fraud: str
    threshold: float
    calibrate: bool
    target: Path | None = None

    def economy(self, seed: int) -> Economy:
        """As asked, not yet calibrated. Raises BadInput for whatever cannot be used."""
        made = Economy(
            users=self.users, days=self.days, merchants=self.merchants,
            fraud=parse_fraud(self.fraud), threshold_rupees=self.threshold,
            target=UPI_LIKE if self.target is None else read_profile(self.target),
        )  # fmt: skip
        made.require_room(seed)
        return made

    def command(self, seed: int, out: Path | None) -> str:
        words = ["paytm-lab", "simulate", "economy", "--users", str(self.users)]
        words += ["--days", str(self.days), "--fraud", self.fraud]
        words += [] if self.merchants is None else ["--merchants", str(self.merchants)]
        words += [] if self.threshold == 50_000 else ["--threshold", f"{self.threshold:g}"]
        words += [] if self.target is None else ["--target", str(self.target)]
        words += [] if self.calibrate else ["--no-calibrate"]
        words += ["--seed", str(seed)]
        return shlex.join(words if out is None else [*words, "--out", str(out)])


def parse_fraud(text: str) -> dict[str, int] | None:
    """'auto' -> None (by share), 'none' -> no ring, '3' -> three of each, 'cycle=5,fan_in=2'."""
    if text == "auto":
        return None
    if text == "none":
        return {}
    if text.isdecimal():
        return dict.fromkeys(PATTERNS[1:], int(text[:9]))
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in PATTERNS[1:] or name in counts or not number.isdecimal():
            raise InvalidSetting(
                f"--fraud {text!r:.120} cannot be read at {part.strip()!r:.40}",
                remedy="Write auto, none, a number, or PATTERN=NUMBER,... where PATTERN is one of"
                f" {', '.join(PATTERNS[1:])}.",
            )
        counts[name] = int(number[:9])
    return counts


class _Summary:
    """Payments and paise by kind, and rows, rings, accounts and paise by pattern."""

    def __init__(self) -> None:
        self._rows = np.zeros((len(PATTERNS), len(KINDS)), dtype=np.int64)
        self._paise = np.zeros((len(PATTERNS), len(KINDS)), dtype=np.int64)
        self._rings: dict[int, set[int]] = {}

    def add(self, batch: EconomyBatch) -> None:
        np.add.at(self._rows, (batch.pattern, batch.kind), 1)
        np.add.at(self._paise, (batch.pattern, batch.kind), batch.amount_paise)
        for pattern in range(1, len(PATTERNS)):
            rings = np.unique(batch.ring[batch.pattern == pattern])
            self._rings.setdefault(pattern, set()).update(rings.tolist())

    @property
    def payments(self) -> int:
        return int(self._rows.sum())

    def kinds(self) -> list[dict[str, Any]]:
        rows, paise = self._rows.sum(axis=0), self._paise.sum(axis=0)
        return [_line("kind", name, rows[at], paise[at], self.payments)
                for at, name in enumerate(KINDS)]  # fmt: skip

    @property
    def frauds(self) -> int:
        return int(self._rows[1:].sum())

    def patterns(self) -> list[dict[str, Any]]:
        rows, paise = self._rows.sum(axis=1), self._paise.sum(axis=1)
        return [
            _line("pattern", name, rows[at], paise[at], self.payments)
            | {"rings": len(self._rings.get(at, ()))}
            for at, name in enumerate(PATTERNS)
            if at
        ]


def _line(title: str, name: str, rows: int, paise: int, total: int) -> dict[str, Any]:
    return {
        title: name,
        "payments": int(rows),
        "share": round(int(rows) / max(1, total), 6),
        "rupees": format_rupees(int(paise)),
    }


def economy(common: Common, asked: Asked, out: Path | None, save_target: Path | None = None) -> int:
    """The exit code: 1 when a check of the books or of the profile failed."""
    if out is not None:
        suffix_of(out)
    for file in (out, save_target):
        if file is not None:
            require_writable(file)
    given = common.settings().seed
    seed = secrets.randbelow(2**32) if given is None else given
    made = asked.economy(seed)
    note(f"seed {seed}; to repeat: {asked.command(seed, out)}", common.quiet)
    if asked.calibrate:
        made = calibrated(made, seed)
    if save_target is not None:
        write_profile(save_target, made.target)
        note(f"written: {save_target}; change it and give it back as --target", common.quiet)
    drawn = made.drawn(seed)
    summary, books = _Summary(), Books(made.accounts, drawn.opening_paise())
    measured = Measured(made.start_us, made.days, made.users)
    started_s = time.perf_counter()
    with bars(common.quiet) as progress:
        days = drawn.generate(lambda day, _: progress.set("days", day, made.days))
        looked_at = _looked_at(days, (summary, books, measured))
        if out is not None:
            write_payments(out, looked_at, made.accounts, made.digest(seed))
        else:
            for _ in looked_at:
                pass
    seconds = time.perf_counter() - started_s
    checks = books.checks()
    near = comparison(measured, made.target, drawn.day_weights())
    if common.as_json:
        print_json(
            {
                "seed": seed, "digest": made.digest(seed), "users": made.users,
                "merchants": made.merchants, "days": made.days, "payments": summary.payments,
                "out": None if out is None else str(out), "kinds": summary.kinds(),
                "patterns": summary.patterns(),
                "fraud_share": round(summary.frauds / max(1, summary.payments), 6),
                "books": checks, "target": made.target.name,
                "profile": near,
            }
        )  # fmt: skip
    else:
        _show(summary, checks, near, made)
        rate = summary.payments / seconds
        note(f"{summary.payments} payments in {seconds:.1f} s ({rate:,.0f}/s, checked)",
             common.quiet)  # fmt: skip
        if out is not None:
            where = shlex.quote(str(out))
            note(f"written: {out}; post it with: paytm-lab run --transfers {where}", common.quiet)
    return 0 if all(row["state"] == "passed" for row in [*checks, *near]) else 1


def _looked_at(batches: Iterable[EconomyBatch], lookers: Sequence[Any]) -> Iterator[EconomyBatch]:
    for batch in batches:
        for looker in lookers:
            looker.add(batch)
        yield batch


def _show(
    summary: _Summary,
    checks: Sequence[Mapping[str, Any]],
    near: list[dict[str, Any]],
    made: Economy,
) -> None:
    table(summary.kinds(), ("kind", "payments", "share", "rupees"))
    say("")
    if any(row["payments"] for row in summary.patterns()):
        table(summary.patterns(), ("pattern", "rings", "payments", "share", "rupees"))
        say(f"{summary.frauds} of {summary.payments} payments are fraud:"
            f" {summary.frauds / summary.payments:.2%}{_why_more(summary, made)}")  # fmt: skip
        say("")
    table(near, ("series", "nrmse", "limit", "state", "worst"))
    say("")
    failed = [row for row in checks if row["state"] != "passed"]
    if failed:
        table(failed, ("state", "check", "detail"))
    kept = "kept" if not failed else "NOT KEPT"
    off = sum(row["state"] != "passed" for row in near)
    close = f"all {len(near)} series are near" if not off else f"{off} of {len(near)} are off"
    say(f"money {kept}, {len(checks) - len(failed)} of {len(checks)} checks passed;"
        f" target {made.target.name}: {close}")  # fmt: skip


def _why_more(summary: _Summary, made: Economy) -> str:
    """Where ``auto`` could not keep to its share."""
    few = made.fraud is None and set(made.rings().values()) == {1}
    if few and summary.frauds > made.fraud_share * summary.payments:
        return f", not the {made.fraud_share:.1%} of auto: there is at least one ring of each"
    return ""
