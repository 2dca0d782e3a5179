"""The naive way loses the same money each time, the ledger none, and the audit tells them apart."""

from __future__ import annotations

import pytest

from paytm_lab import Lab
from paytm_lab.simulation.naive import RIGHT, WRONG, Race, race_spends


@pytest.mark.parametrize("race", [Race(), Race(clients=4, rounds=3, opening_rupees=500)])
def test_racing_spends_lose_money_only_the_naive_way(race: Race) -> None:
    with Lab(shards=1, seed=7) as lab:
        wrong, right = race_spends(lab, race)
        report = lab.audit()
        paid = {user: lab.account(user) for user in ("40", "80")}
    affordable = race.opening_rupees // race.amount_rupees
    spends = race.clients * race.rounds
    assert (wrong["path"], right["path"]) == (WRONG, RIGHT)
    assert wrong["accepted"] == spends > affordable
    assert wrong["lost_paise"] == 100 * (spends * race.amount_rupees - race.opening_rupees)
    assert (right["accepted"], right["refused"]) == (affordable, spends - affordable)
    assert right["lost_paise"] == 0
    assert report.verdict == "failed"
    assert report.check("balances_equal_entries").offenders == ("4", "40")
    assert report.check("shard_debits_equal_credits").state == "passed", (
        "double entry alone is blind"
    )
    assert paid["80"] is not None and paid["80"].balance_paise == 100 * race.opening_rupees


def test_a_race_that_can_be_afforded_loses_nothing_either_way() -> None:
    with Lab(shards=1, seed=7) as lab:
        rows = race_spends(lab, Race(clients=2, rounds=2, opening_rupees=1_000))
    assert [row["lost_paise"] for row in rows] == [0, 0]
    assert [row["accepted"] for row in rows] == [4, 4]
