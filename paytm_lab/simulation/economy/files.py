"""An economy's payments as a file: CSV or Parquet, both of which ``--transfers`` posts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.extras import need
from paytm_lab.simulation.economy.batch import KINDS, PATTERNS, Accounts, EconomyBatch, joined
from paytm_lab.simulation.whole_file import whole_file

FILE_COLUMNS = (
    "id", "from_user", "to_user", "amount_paise", "at_us", "kind", "pattern", "ring",
    "from_balance_paise", "to_balance_paise",
)  # fmt: skip
SUFFIXES = (".csv", ".parquet")
ROW_GROUP_ROWS = 262_144

OnBatch = Callable[[EconomyBatch], object]


def suffix_of(path: str | os.PathLike[str]) -> str:
    """'.csv' or '.parquet'; InvalidSetting for any other ending of the name."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidSetting(
            f"{os.fspath(path)!r:.200} is neither a .csv nor a .parquet file",
            remedy="End the file's name in .csv or .parquet.",
        )
    if suffix == ".parquet":
        need("pyarrow")
    return suffix


def write_payments(
    path: str | os.PathLike[str],
    batches: Iterable[EconomyBatch],
    accounts: Accounts,
    id_prefix: str,
    on_batch: OnBatch | None = None,
) -> int:
    """Writes all payments; how many. Columns: FILE_COLUMNS; the id is '{id_prefix}-{line}', amounts
    and balances are paise, ``pattern`` is 'none' and ``ring`` 0 for ordinary payments.

    Parquet: zstd, row groups of up to ROW_GROUP_ROWS and a day more. The file appears whole or not
    at all. Raises InvalidSetting (its name, or it cannot be written), StorageFull, MissingPart
    (Parquet without the extra ``science``).
    """
    write = _parquet if suffix_of(path) == ".parquet" else _csv
    written = 0

    def counted() -> Iterator[EconomyBatch]:
        nonlocal written
        for batch in batches:
            written += len(batch)
            yield batch
            if on_batch is not None:
                on_batch(batch)

    with whole_file(Path(path)) as part:
        write(part, counted(), accounts, id_prefix)
    return written


def _csv(part: Path, batches: Iterable[EconomyBatch], accounts: Accounts, prefix: str) -> None:
    ids = accounts.ids()
    with part.open("w", encoding="ascii", newline="") as file:
        file.write(",".join(FILE_COLUMNS) + "\n")
        for batch in batches:
            columns = zip(
                range(batch.first_line, batch.first_line + len(batch)),
                map(ids.__getitem__, batch.from_account.tolist()),
                map(ids.__getitem__, batch.to_account.tolist()),
                batch.amount_paise.tolist(),
                batch.at_us.tolist(),
                map(KINDS.__getitem__, batch.kind.tolist()),
                map(PATTERNS.__getitem__, batch.pattern.tolist()),
                batch.ring.tolist(),
                batch.from_balance_paise.tolist(),
                batch.to_balance_paise.tolist(),
                strict=True,
            )
            file.writelines(
                f"{prefix}-{line},{payer},{payee},{paise},{at_us},{kind},{pattern},{ring},"
                f"{from_after},{to_after}\n"
                for line, payer, payee, paise, at_us, kind, pattern, ring, from_after, to_after
                in columns
            )  # fmt: skip


def _parquet(part: Path, batches: Iterable[EconomyBatch], accounts: Accounts, prefix: str) -> None:
    need("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = _Tables(accounts, prefix)
    with pq.ParquetWriter(
        part, tables.schema, compression="zstd", compression_level=1,
        use_dictionary=["kind", "pattern", "ring"],
        column_encoding={"id": "DELTA_BYTE_ARRAY", "at_us": "DELTA_BINARY_PACKED"},
    ) as writer:  # fmt: skip
        for batch in _larger(batches):
            writer.write_table(pa.table(tables.columns(batch), schema=tables.schema))


def _larger(batches: Iterable[EconomyBatch]) -> Iterator[EconomyBatch]:
    held: list[EconomyBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= ROW_GROUP_ROWS:
            yield joined(held)
            held = []
    if held:
        yield joined(held)


class _Tables:
    """Batches -> Arrow columns."""

    def __init__(self, accounts: Accounts, prefix: str) -> None:
        import pyarrow as pa

        self._ids = pa.array(accounts.ids())
        self._prefix = prefix
        text, name, whole = pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.int64()
        types = (text, text, text, whole, whole, name, name, pa.int32(), whole, whole)
        self.schema = pa.schema(list(zip(FILE_COLUMNS, types, strict=True)))

    def columns(self, batch: EconomyBatch) -> dict[str, Any]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        line = pa.array(np.arange(batch.first_line, batch.first_line + len(batch)))
        names = {"kind": (batch.kind, KINDS), "pattern": (batch.pattern, PATTERNS)}
        return {
            "id": pc.binary_join_element_wise(self._prefix, line.cast(pa.string()), "-"),
            "from_user": self._ids.take(pa.array(batch.from_account)),
            "to_user": self._ids.take(pa.array(batch.to_account)),
            **{name: pa.array(getattr(batch, name)) for name in _PLAIN},
            **{
                name: pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words))
                for name, (codes, words) in names.items()
            },
        }


_PLAIN = ("amount_paise", "at_us", "ring", "from_balance_paise", "to_balance_paise")
