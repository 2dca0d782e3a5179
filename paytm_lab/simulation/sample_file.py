"""A small payments file as somebody else might have it: its own column names, and some bad rows."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from paytm_lab.core.money import format_rupees
from paytm_lab.simulation.economy import Economy, joined
from paytm_lab.simulation.economy.batch import MERCHANT, PEER

SAMPLE_HEADER = ("booked", "reference", "paid_by", "paid_to", "rupees", "remark")
SAMPLE_MAP = "from=paid_by,to=paid_to,amount=rupees,id=reference,time=booked"
USERS = 120


def sample_or(transfers: str, folder: str | os.PathLike[str], seed: int) -> Path:
    """The file that ``transfers`` names; where it names none, a sample written to ``folder``."""
    if transfers:
        return Path(transfers)
    path = Path(folder) / "payments.csv"
    write_sample(path, seed)
    return path


def write_sample(path: str | os.PathLike[str], seed: int, payments: int = 600) -> int:
    """Writes ``payments`` good rows of an economy's first days and BAD_ROWS among them, separated
    by semicolons; how many rows in all. Of the bad ones three are repeats of good rows, which a
    reader collapses. The same seed gives the same bytes.
    """
    economy = Economy(users=USERS, days=max(1, payments // 60), fraud={})
    batch = joined(economy.generate(seed))
    ids = economy.accounts.ids()
    of_people = np.flatnonzero(np.isin(batch.kind, (PEER, MERCHANT)))[:payments]
    rows = [
        _row(
            int(batch.at_us[place]), f"P{number:05d}", ids[batch.from_account[place]],
            ids[batch.to_account[place]], format_rupees(int(batch.amount_paise[place])),
            _remark(number),
        )
        for number, place in enumerate(of_people.tolist(), 1)
    ]  # fmt: skip
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5, 0)))
    good = list(rows)
    for bad in _bad_rows(good):
        rows.insert(int(rng.integers(len(rows) // 2, len(rows) + 1)), bad)
    text = "\n".join([";".join(SAMPLE_HEADER), *rows]) + "\n"
    Path(path).write_text(text, encoding="utf-8", newline="")
    return len(rows)


def _row(at_us: int, reference: str, payer: str, payee: str, rupees: str, remark: str) -> str:
    booked = datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{booked};{reference};{payer};{payee};{rupees};{remark}"


def _remark(number: int) -> str:
    return '"rent; and ""extras"""' if number % 50 == 0 else ""


def _bad_rows(good: list[str]) -> list[str]:
    """What goes wrong in files, each made of a good row."""
    rows = [row.split(";") for row in good if '"' not in row]

    def changed(at: int, **columns: str) -> str:
        row = dict(zip(SAMPLE_HEADER, rows[at], strict=True))
        row |= {"reference": f"B{at:05d}"} | columns
        return ";".join(row.values())

    return [
        *(changed(at, rupees=text) for at, text in enumerate(("1e3", "-50", "12,5", "", "₹ 90"))),
        changed(5, rupees="0.00"),
        changed(6, paid_to=rows[6][2]),
        changed(7, paid_by=""),
        changed(8, paid_by="system:funding"),
        changed(9, booked="yesterday"),
        changed(10, booked="31/01/2026"),
        changed(11) + ";one field too many",
        *(";".join(rows[at]) for at in (12, 13, 14)),
        changed(15, reference=rows[15][1], rupees="1.00"),
    ]


BAD_ROWS = 16
