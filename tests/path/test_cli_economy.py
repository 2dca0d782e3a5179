"""`paytm-lab simulate economy`: what it prints, writes, and answers to the shell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from paytm_lab.simulation.economy import KINDS, PATTERNS, Economy
from paytm_lab.simulation.economy.books import Books
from paytm_lab.simulation.economy.economy import Tuning
from paytm_lab.simulation.economy.world import World
from paytm_lab.verbs import economy as verb
from tests.path.command_line import Cli

WORDS = ["simulate", "economy", "--users", "400", "--days", "3", "--seed", "5"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_an_economy_writes_can_be_run(suffix: str, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / f"economy.{suffix}"
    words = [*WORDS, "--fraud", "cycle=2,fan_in=1", "--json", "--out", str(file)]
    done, again = cli(*words), cli(*words)
    assert done.code == 0, done.err
    assert done.json == again.json, "the same seed, the same answer"
    said = done.json
    assert [row["kind"] for row in said["kinds"]] == list(KINDS)
    rings = {row["pattern"]: row["rings"] for row in said["patterns"]}
    assert rings == dict.fromkeys(PATTERNS[1:], 0) | {"cycle": 2, "fan_in": 1}
    assert {row["state"] for row in said["books"] + said["profile"]} == {"passed"}
    read = pd.read_csv(file) if suffix == "csv" else pd.read_parquet(file)
    assert len(read) == said["payments"] == sum(row["payments"] for row in said["kinds"])
    run = cli(*f"run --transfers {file} --data {tmp_path / 'lab'} --json".split())
    assert run.code == 0, run.err
    assert run.json["run"]["answers"] == {"COMPLETED": said["payments"]}
    assert run.json["audit"]["verdict"] == "passed"


def test_it_prints_tables_a_verdict_and_how_to_repeat_it(cli: Cli) -> None:
    done = cli(*WORDS)
    assert done.code == 0, done.err
    for word in ("top_up", "merchant_collusion", "nrmse", "mix of kinds", "money kept"):
        assert word in done.out
    line = next(line for line in done.err.splitlines() if line.startswith("seed 5; to repeat: "))
    again = cli(*line.split("paytm-lab ")[1].split())
    assert again.out == done.out
    other = cli(*WORDS[:-1], "6", "--fraud", "none", "--quiet")
    assert other.err == "" and "merchant_collusion" not in other.out
    assert other.out.splitlines()[1] != done.out.splitlines()[1]


def test_the_people_are_drawn_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, seen = World.draw, []

    def counted(economy: Economy, seed: int) -> World:
        seen.append((economy.users, seed))
        return draw(economy, seed)

    monkeypatch.setattr(World, "draw", counted)
    assert cli(*WORDS, "--no-calibrate").code in (0, 1)
    assert seen == [(400, 5)]


def test_a_target_that_is_missed_is_exit_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tuning with far too many cash-outs for the profile."""
    off = Tuning(cash_out=0.8)
    monkeypatch.setattr(verb, "calibrated", lambda made, seed: replace(made, tuning=off))
    done = cli(*WORDS, "--fraud", "none", "--json")
    failed = [row["series"] for row in done.json["profile"] if row["state"] == "failed"]
    assert (done.code, failed) == (1, ["mix of kinds"])
    assert "1 of 6 are off" in cli(*WORDS, "--fraud", "none").out


def test_money_that_is_lost_is_exit_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """One paisa less in the books' opening than there was."""
    init = Books.__init__

    def short(self: Books, accounts: object, opening: object) -> None:
        init(self, accounts, opening)  # type: ignore[arg-type]
        self.balance_paise[0] -= 1

    monkeypatch.setattr(Books, "__init__", short)
    done = cli(*WORDS, "--fraud", "none")
    assert done.code == 1
    assert "money_kept" in done.out and "NOT KEPT" in done.out


def test_a_target_is_written_changed_and_given_back(tmp_path: Path, cli: Cli) -> None:
    target, words = tmp_path / "target.json", [*WORDS, "--fraud", "none"]
    assert cli(*words, "--save-target", str(target)).code == 0
    target.write_text(target.read_text().replace('"upi_like"', '"mine"'))
    done = cli(*words, "--target", str(target), "--json")
    assert (done.code, done.json["target"]) == (0, "mine")
    target.write_text("{")
    assert cli(*words, "--target", str(target)).code == 2


def test_auto_says_which_share_is_fraud_where_a_ring_of_each_is_more_than_asked(cli: Cli) -> None:
    done = cli(*WORDS)
    said = cli(*WORDS, "--json").json
    frauds = sum(row["payments"] for row in said["patterns"])
    assert {row["rings"] for row in said["patterns"]} == {1}
    assert said["fraud_share"] == round(frauds / said["payments"], 6) > 0.003
    line = next(line for line in done.out.splitlines() if "are fraud" in line)
    assert line.startswith(f"{frauds} of {said['payments']} payments are fraud: ")
    assert line.endswith("not the 0.3% of auto: there is at least one ring of each")
    asked = cli(*WORDS, "--fraud", "1")
    assert "of auto" not in asked.out and "payments are fraud" in asked.out
