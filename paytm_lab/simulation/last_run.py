"""What only the load driver saw of a run, kept in the data folder: who waited how long, and when.

All else of a run is in the ledger. So a report or a notebook that opens the folder later,
read-only, shows the same latencies as the run itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from paytm_lab.core.errors import BadInput, StorageCorrupt
from paytm_lab.core.ids import parse_payment_id, payment_id_text
from paytm_lab.simulation.driver import Posted

_NAME = "last_run.npz"


class LastRun(NamedTuple):
    """``marks``: shard -> last row id before the run. ``figures``: arguments of a RunResult."""

    figures: dict[str, Any]
    marks: dict[int, int]
    latency_by_payment: dict[str, tuple[float, float]]


def save(
    folder: Path, figures: Mapping[str, Any], marks: Mapping[int, int], posted: Posted
) -> None:
    """Replace the folder's last run; about 32 bytes a payment. Whole or not at all."""
    about = {"figures": dict(figures), "marks": {str(k): v for k, v in marks.items()}}
    part = folder / f"{_NAME}.{os.getpid()}.part"
    # What was not admitted, or not answered, has no id that it could be found by.
    known = [place for place, payment_id in enumerate(posted.ids) if payment_id]
    with part.open("wb") as file:
        np.savez(
            file,
            about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
            ids=np.frombuffer(b"".join(posted.ids), dtype="V16"),
            submitted_s=np.array(posted.submitted_s)[known],
            latency_ms=np.array(posted.latency_ms)[known],
        )
    part.replace(folder / _NAME)


def load(folder: Path) -> LastRun:
    """The folder's last run. BadInput: there was none. StorageCorrupt: it cannot be read."""
    with _opened(folder) as held:
        about = json.loads(held["about"].tobytes())
        ids = [payment_id_text(raw.tobytes()) for raw in held["ids"]]
        times = zip(held["submitted_s"].tolist(), held["latency_ms"].tolist(), strict=True)
        seen = dict(zip(ids, times, strict=True))
    return LastRun(about["figures"], _marks(about), seen)


def load_ids(folder: Path) -> tuple[list[bytes], dict[int, int]]:
    """Only the ids of its payments, and its marks; raises as ``load`` does."""
    with _opened(folder) as held:
        about = json.loads(held["about"].tobytes())
        return [raw.tobytes() for raw in held["ids"]], _marks(about)


def _marks(about: Mapping[str, Any]) -> dict[int, int]:
    return {int(shard): mark for shard, mark in about["marks"].items()}


@contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    path = folder / _NAME
    try:
        with np.load(path, allow_pickle=False) as held:
            yield held
    except FileNotFoundError:
        raise BadInput(
            "no run was made in this lab", place=str(folder), remedy="Run one: paytm-lab run."
        ) from None
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise StorageCorrupt(
            f"the last run cannot be read: {error}", place=str(path), remedy="Run again."
        ) from error


def latency_of(folder: Path, payment_id: str) -> float:
    """What the caller of a payment of the folder's last run measured, in ms. NaN where that is not
    known: no run, one that cannot be read, another payment, or a run that repeated payments. A
    repeat has its original's id, and its wait is not the one that the original's caller felt.
    """
    try:
        raw = parse_payment_id(payment_id)
        with _opened(folder) as held:
            if json.loads(held["about"].tobytes())["figures"]["repeated"]:
                return float("nan")
            # Compared as two numbers each: a run of a million becomes no million texts.
            same = held["ids"].view("<u8").reshape(-1, 2) == np.frombuffer(raw, "<u8")
            place = np.flatnonzero(same.all(axis=1))
            return float(held["latency_ms"][place[-1]]) if len(place) else float("nan")
    except (BadInput, StorageCorrupt):
        return float("nan")
