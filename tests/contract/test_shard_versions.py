"""A shard that was made before its schema grew."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from paytm_lab.core.errors import StorageCorrupt
from paytm_lab.ports.shard_database import ShardDatabase
from tests.contract import shard_database_process
from tests.contract.test_shard_database import in_transaction, insert, payment_id, payment_row

Make = Callable[[], ShardDatabase]
MakeOlder = Callable[[str], None]


@pytest.fixture
def make_older(profile: str, shard_place: str, make_shard_database: Make) -> MakeOlder:
    """A shard with one payment, as it was before this column of ``transactions`` came."""

    def make(column: str) -> None:
        insert(make_shard_database(), "transactions", [payment_row(1)])
        shard_database_process.drop_column(profile, shard_place, "transactions", column)

    return make


def test_it_gets_the_column_once_when_several_open_it(
    make_older: MakeOlder, make_shard_database: Make
) -> None:
    make_older("fraud_rule")
    with ThreadPoolExecutor(4) as pool:
        shard, *_ = pool.map(lambda _: make_shard_database(), range(4))
    insert(shard, "transactions", [(*payment_row(2)[:20], "velocity", 9, 9)])
    ids = [payment_id(1), payment_id(2)]
    found = in_transaction(shard, lambda tx: tx.find_payments(ids))
    assert {row.transaction_id: row.fraud_rule for row in found} == {ids[0]: "", ids[1]: "velocity"}


def test_one_that_cannot_be_brought_up_to_date_is_not_opened(
    make_older: MakeOlder, make_shard_database: Make
) -> None:
    make_older("receivable")
    with pytest.raises(StorageCorrupt, match=r"transactions has no column receivable") as caught:
        make_shard_database()
    assert "another version" in caught.value.message and caught.value.remedy


def test_it_gets_the_table_that_came_since(
    profile: str, shard_place: str, make_shard_database: Make
) -> None:
    insert(make_shard_database(), "transactions", [payment_row(1)])
    shard_database_process.drop_table(profile, shard_place, "credentials")
    with ThreadPoolExecutor(4) as pool:
        shard, *_ = pool.map(lambda _: make_shard_database(), range(4))
    insert(shard, "credentials", [("asha", "hash", "transfer:own", 1, 9, 9)])
    found = in_transaction(shard, lambda tx: tx.find_payments([payment_id(1)]))
    assert len(found) == 1


def test_one_that_lost_a_table_of_money_is_not_opened(
    profile: str, shard_place: str, make_shard_database: Make
) -> None:
    insert(make_shard_database(), "transactions", [payment_row(1)])
    shard_database_process.drop_table(profile, shard_place, "ledger_entries")
    with pytest.raises(StorageCorrupt, match="ledger_entries"):
        make_shard_database()
