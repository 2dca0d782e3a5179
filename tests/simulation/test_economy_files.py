"""An economy as a file and in a live lab: the same payments, and money that adds up."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import InvalidSetting, MalformedFile
from paytm_lab.simulation.economy import (
    KINDS,
    PATTERNS,
    Economy,
    EconomyBatch,
    EconomySource,
    joined,
    write_payments,
)
from paytm_lab.simulation.economy.files import FILE_COLUMNS
from paytm_lab.simulation.transfers_file import open_transfers
from tests.simulation.economies import SEED, cheated

SMALL = Economy(users=250, days=2, fraud={"cycle": 2, "account_drain": 1, "card_testing": 1})


def small() -> EconomyBatch:
    return joined(SMALL.generate(SEED))


@pytest.fixture(params=["csv", "parquet"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"economy.{request.param}"
    rows = write_payments(path, SMALL.generate(SEED), SMALL.accounts, SMALL.digest(SEED))
    assert rows == len(small())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    return path


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype={"from_user": str, "to_user": str})


def test_a_file_holds_every_column_of_every_payment(written: Path) -> None:
    batch, found = small(), read(written)
    ids = np.array(SMALL.accounts.ids())
    assert tuple(found.columns) == FILE_COLUMNS
    assert found.from_user.tolist() == ids[batch.from_account].tolist()
    assert found.to_user.tolist() == ids[batch.to_account].tolist()
    for name in ("amount_paise", "at_us", "ring", "from_balance_paise", "to_balance_paise"):
        assert found[name].tolist() == getattr(batch, name).tolist(), name
    assert found.kind.astype(str).tolist() == np.array(KINDS)[batch.kind].tolist()
    assert found.pattern.astype(str).tolist() == np.array(PATTERNS)[batch.pattern].tolist()
    assert found.id.tolist() == [f"{SMALL.digest(SEED)}-{n}" for n in range(1, len(batch) + 1)]


def test_the_same_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    again = tmp_path / f"again{written.suffix}"
    write_payments(again, SMALL.generate(SEED), SMALL.accounts, SMALL.digest(SEED))
    assert again.read_bytes() == written.read_bytes()
    write_payments(again, SMALL.generate(SEED + 1), SMALL.accounts, SMALL.digest(SEED + 1))
    assert again.read_bytes() != written.read_bytes()


def test_transfers_reads_either_file_as_the_same_payments(written: Path) -> None:
    batch = small()
    ids = SMALL.accounts.ids()
    with open_transfers(written) as file:
        rows = [row for part in file.rows() for row in part]
        assert (file.accepted, file.rejected, file.collapsed) == (len(batch), 0, 0)
        assert file.amount_total_paise == batch.amount_paise.sum()
    assert [(r.from_user_id, r.to_user_id, r.amount_paise, r.at_us) for r in rows] == [
        (ids[payer], ids[payee], paise, at_us)
        for payer, payee, paise, at_us in zip(
            batch.from_account.tolist(), batch.to_account.tolist(), batch.amount_paise.tolist(),
            batch.at_us.tolist(), strict=True,
        )
    ]  # fmt: skip
    assert rows[9].idempotency_key == f"{SMALL.digest(SEED)}-10"


def test_a_large_file_has_several_row_groups_and_loses_nothing(tmp_path: Path) -> None:
    economy = Economy(users=20_000, days=8, fraud={})
    path = tmp_path / "large.parquet"
    seen: list[int] = []
    rows = write_payments(
        path, economy.generate(1), economy.accounts, "x", lambda b: seen.append(len(b))
    )
    file = pq.ParquetFile(path)
    assert file.metadata.num_rows == rows == sum(seen) and file.num_row_groups >= 2
    ids = file.read(["id"]).column("id").to_pylist()
    assert ids[0] == "x-1" and ids[-1] == f"x-{rows}" and len(set(ids)) == rows


@pytest.mark.parametrize("name", ["out", "out.txt", "out.csv.gz", "parquet"])
def test_a_name_that_says_no_format_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="neither"):
        write_payments(tmp_path / name, SMALL.generate(SEED), SMALL.accounts, "x")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_cannot_be_written_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="cannot be written"):
        write_payments(tmp_path / "no" / f"e.{suffix}", SMALL.generate(SEED), SMALL.accounts, "x")
    old = tmp_path / f"old.{suffix}"
    old.write_text("precious")

    def broken():
        yield next(SMALL.generate(SEED))
        raise RuntimeError("stopped half way")

    with pytest.raises(RuntimeError):
        write_payments(old, broken(), SMALL.accounts, "x")
    assert old.read_text() == "precious" and [p.name for p in tmp_path.iterdir()] == [old.name]


# -- any Parquet file as transfers ----------------------------------------------------------------


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_another_parquet_file_is_read_by_mapped_columns_with_its_bad_rows(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "own.parquet",
        who=["asha", "ravi", None, "asha", 'a "b", c'],
        whom=["ravi", "asha", "ravi", "asha", "ravi"],
        rupees=pa.array([250.5, 75, 1, 2, 1e-9]),
        when=pa.array([1, 2, 3, 4, 5], pa.timestamp("ns", "Asia/Kolkata")),
    )
    rejects = tmp_path / "rejects.csv"
    mapping = "from=who,to=whom,amount=rupees,time=when"
    with open_transfers(path, mapping, rejects=rejects) as file:
        assert (file.accepted, file.rejected) == (2, 3)
        rows = [row for part in file.rows() for row in part]
    assert [(r.from_user_id, r.amount_paise) for r in rows] == [("asha", 25_050), ("ravi", 7_500)]
    listed = list(csv.reader(io.StringIO(rejects.read_text())))
    assert [row[:2] for row in listed[1:]] == [
        ["4", "bad_user_id"], ["5", "same_account"], ["6", "bad_amount"],
    ]  # fmt: skip


def test_parquet_from_standard_input(written: Path) -> None:
    with written.open("rb") as stream, open_transfers("-", stdin=stream) as file:
        assert file.accepted == len(small())


def test_a_damaged_parquet_file_and_one_of_lists_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    good = parquet(tmp_path / "good.parquet", from_user=["a"], to_user=["b"], amount=[1])
    path.write_bytes(good.read_bytes()[:-30])
    with pytest.raises(MalformedFile, match="damaged"):
        open_transfers(path)
    nested = parquet(tmp_path / "nested.parquet", from_user=["a"], to_user=["b"], amount=[[1]])
    with pytest.raises(MalformedFile, match="amount"):
        open_transfers(nested)


def test_rejects_never_overwrite_the_parquet_file_itself(tmp_path: Path) -> None:
    path = parquet(tmp_path / "own.parquet", from_user=["a"], to_user=["b"], amount=[0])
    before = path.read_bytes()
    with pytest.raises(InvalidSetting, match="overwrite"):
        open_transfers(path, rejects=path)
    assert path.read_bytes() == before


# -- a live lab -----------------------------------------------------------------------------------


def moved(economy: Economy, batch: EconomyBatch) -> dict[str, int]:
    net = np.zeros(economy.accounts.count, dtype=np.int64)
    np.add.at(net, batch.to_account, batch.amount_paise)
    np.subtract.at(net, batch.from_account, batch.amount_paise)
    return dict(zip(economy.accounts.ids(), net.tolist(), strict=True))


def test_an_economy_posted_into_a_lab_completes_and_audits_clean(tmp_path: Path) -> None:
    source, batch = EconomySource(SMALL, SEED), small()
    assert source.accepted == len(batch)
    with Lab(shards=4, seed=1, data=tmp_path) as lab:
        run = lab.run(source)
        lab.audit().require_clean()
        lab.replay().require_clean()
        assert run.answers == {"COMPLETED": len(batch)}
        opening, after = source.openings(), lab.balances()
        expected = moved(SMALL, batch)
        assert {user: after[user] - opening[user] for user in expected} == expected
        again = lab.run(EconomySource(SMALL, SEED))
        assert again.repeated == len(batch) and lab.balances() == after


def test_posted_in_order_every_wallet_ends_as_the_economy_says() -> None:
    tiny = Economy(users=100, days=1, merchants=10, fraud={"cycle": 1, "account_drain": 1})
    batch = joined(tiny.generate(SEED))
    with Lab(shards=2, seed=1, deterministic=True) as lab:
        run = lab.run(EconomySource(tiny, SEED, in_any_order=False), in_flight=1)
        lab.audit().require_clean()
        assert run.answers == {"COMPLETED": len(batch)}
        after = lab.balances()
    wallets = tiny.accounts.ids()[: tiny.accounts.wallets]
    opening = tiny.opening_paise(SEED)
    net = moved(tiny, batch)
    assert [after[w] for w in wallets] == [
        paise + net[w] for w, paise in zip(wallets, opening.tolist(), strict=False)
    ]


def test_a_source_can_be_read_twice() -> None:
    economy, _ = cheated()
    source = EconomySource(Economy(users=120, days=1, fraud={}), SEED)
    first = [row for part in source.rows() for row in part]
    assert first == [row for part in source.rows() for row in part]
    assert "time" in source.columns and economy.users > len({row.from_user_id for row in first})
