"""Plain SQL on one row, by the levels of each engine: every step as the model says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from paytm_lab import Lab, wiring
from paytm_lab.core.errors import BadInput
from paytm_lab.simulation import lost_update
from paytm_lab.simulation.isolation import count_outcomes, orders, play
from tests import servers


@pytest.fixture(scope="module")
def lab(profile: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    given: dict[str, Any] = {}
    if profile == "servers" and servers.STACK_DIR:
        given["stack_dir"] = Path(servers.STACK_DIR)
    if profile == "servers":
        given["namespace"] = servers.new_namespace("iso")
    folder = tmp_path_factory.mktemp("isolation")
    with Lab(profile, shards=1, seed=1, data=folder, **given) as lab:
        yield lab
    if profile == "servers":
        wiring.remove(lab.settings)


def test_the_real_shard_does_each_step_as_the_model(lab: Lab) -> None:
    levels = lost_update.LEVELS_OF[lab.profile]
    real = lost_update.all_orders_on(lab)
    assert len(real) == 20 * len(levels)
    assert real == [play(level, order) for level, order in product(levels, orders())]
    lost = {row["level"]: row["lost"] for row in count_outcomes(real)}
    assert lost["autocommit"] == 12
    if lab.profile == "servers":
        assert lost["repeatable read"] == 18
        assert lost["repeatable read, FOR UPDATE"] == 0


def test_the_audit_sees_what_was_written_past_the_ledger(lab: Lab) -> None:
    lost_update.play_on(lab, "autocommit", "ABABAB")
    found = lab.audit()
    assert found.verdict == "failed"
    assert found.check("balances_equal_entries").state == "failed"


def test_a_level_of_another_engine_is_refused(lab: Lab) -> None:
    other = {"embedded": "repeatable read", "servers": "deferred"}[lab.profile]
    with pytest.raises(BadInput, match="no level"):
        lost_update.play_on(lab, other, "ABABAB")
    database = lab.system.databases[0].inner
    with pytest.raises(BadInput, match="no level"):
        database.plain_session(other)


def test_a_session_that_is_closed_twice_leaves_nothing_open(lab: Lab) -> None:
    lost_update.play_on(lab, "one statement", "AAABBB")
    database = lab.system.databases[0].inner
    level = {"embedded": "immediate", "servers": "repeatable read, FOR UPDATE"}[lab.profile]
    first, second = database.plain_session(level), database.plain_session(level)
    try:
        before = first.read(lost_update.USER)
        first.write(lost_update.USER, before + 1)
        first.close()
        first.close()
        assert second.read(lost_update.USER) == before, "rolled back, and the lock is free"
        with pytest.raises(BadInput, match="nobody"):
            second.read("nobody")
    finally:
        second.close()
