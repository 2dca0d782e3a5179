"""Two clients on one balance: the model's counts, the shards' own answers, and that they agree."""

from __future__ import annotations

from math import comb

import pytest

from paytm_lab.backends.embedded import plain_session as embedded
from paytm_lab.backends.servers import plain_session as servers
from paytm_lab.backends.servers.mysql_server import MySqlServer
from paytm_lab.core.errors import BadInput, ShardUnavailable
from paytm_lab.simulation import isolation, lost_update
from paytm_lab.simulation.isolation import LEVELS, Row, count_outcomes, orders, play

SAFE = ("repeatable read, FOR UPDATE", "immediate", "one statement")


def counts(level: str, clients: int = 2) -> dict[str, int]:
    return count_outcomes(isolation.all_orders([level], clients))[0]


def at(order: str, client: str, step: int) -> int:
    """The place in the order of a client's step (0 read, 1 write, 2 commit)."""
    return [i for i, name in enumerate(order) if name == client][step]


def test_all_orders_are_there_once() -> None:
    assert orders(1) == ["AAA"]
    assert len(orders(2)) == len(set(orders(2))) == comb(6, 3) == isolation.orders_count(2)
    assert len(orders(3)) == len(set(orders(3))) == 1680


@pytest.mark.parametrize("order", orders(2))
def test_who_loses_follows_from_who_read_when(order: str) -> None:
    """The textbook's condition, written down apart from the model: each read too early."""
    overlap = [at(order, one, 0) < at(order, other, 2) for one, other in (("A", "B"), ("B", "A"))]
    for level in ("read committed", "repeatable read"):
        assert (play(level, order).outcome == "lost") == all(overlap), "before the other's commit"
    assert (play("deferred", order).outcome == "aborted") == all(overlap)
    early = [at(order, one, 0) < at(order, other, 1) for one, other in (("A", "B"), ("B", "A"))]
    assert (play("autocommit", order).outcome == "lost") == all(early), "before the other's write"


def test_counts_of_all_levels() -> None:
    lost = {level: counts(level)["lost"] for level in LEVELS}
    # Two of the orders are one client after the other; of autocommit's, the commits do not matter.
    assert lost["read committed"] == lost["repeatable read"] == comb(6, 3) - 2
    assert lost["autocommit"] == 12
    assert all(lost[level] == 0 for level in (*SAFE, "serializable", "deferred"))
    assert all(counts(level)["kept"] == 20 for level in SAFE)
    assert counts("deferred")["aborted"] == 18
    assert counts("serializable") | {"level": ""} == {
        "level": "", "orders": 20, "kept": 8, "aborted": 12, "lost": 0, "waited": 18,
        "lost_paise_max": 0,
    }  # fmt: skip
    assert counts("one statement")["waited"] == 0


def test_three_clients_keep_all_only_one_after_the_other() -> None:
    found = counts("repeatable read", 3)
    assert (found["orders"], found["kept"], found["lost_paise_max"]) == (1680, 6, 20_00)
    assert counts("immediate", 3)["kept"] == 1680


def test_a_model_that_forgets_its_locks_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Row, "own", lambda self, client: True)
    assert counts("immediate")["lost"] > 0


@pytest.mark.parametrize("order", ["", "AB", "AAABBC", "AAAAAA", "aaabbb", "ABABAB ", "A" * 300])
def test_what_is_no_order_is_said(order: str) -> None:
    with pytest.raises(BadInput, match="no order"):
        play("autocommit", order)


def test_what_is_no_level_is_said() -> None:
    with pytest.raises(BadInput, match="repeatable read"):
        play("read uncommited", "ABABAB")
    for clients in (0, 4, -1):
        with pytest.raises(BadInput, match="clients"):
            orders(clients)


def test_the_engines_levels_are_the_models() -> None:
    assert lost_update.LEVELS_OF == {"embedded": embedded.LEVELS, "servers": servers.LEVELS}
    assert set(embedded.LEVELS) | set(servers.LEVELS) == set(LEVELS)


def test_a_server_that_is_not_there_is_said() -> None:
    nobody = MySqlServer("127.0.0.1", 1, "lab", "", "paytm")
    with pytest.raises(ShardUnavailable, match="2003"):
        servers.MySqlPlainSession(nobody, "shard-0", "repeatable read")
    with pytest.raises(BadInput, match="no level"):
        servers.MySqlPlainSession(nobody, "shard-0", "immediate")
