"""The command that a run prints repeats it; settings of the environment reach every verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from paytm_lab.cli import app


def paytm_lab(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_the_printed_command_repeats_a_run_with_all_its_options(tmp_path: Path) -> None:
    options = "--deterministic --shards 3 --fraud-gate before --in-flight 8 --cross-shard-share 0.5"
    words = f"run --users 20 --payments 60 --seed 4 --json {options}".split()
    first = paytm_lab(*words, "--data", str(tmp_path / "first"))
    assert first.exit_code == 0, first.output
    run = json.loads(first.stdout)["run"]
    command = run["command"].split()
    assert command.pop(0) == "paytm-lab"
    again = paytm_lab(*command, "--json", "--data", str(tmp_path / "again"))
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["run"]["state_hash"] == run["state_hash"]


def test_consumers_of_a_lab_without_a_scorer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYTM_LAB_FRAUD_GATE", "off")
    data = ("--data", str(tmp_path / "lab"))
    run = paytm_lab("run", "--users", "20", "--payments", "60", "--no-consumers", "--json", *data)
    assert run.exit_code == 0, run.output
    consumed = paytm_lab("consume", "--until-drained", "--json", *data)
    assert consumed.exit_code == 0, consumed.output
    handled = json.loads(consumed.stdout)["handled"]
    assert handled["analytics"] > 100
    assert "fraud" not in handled
    refused = paytm_lab("consume", "fraud", "--until-drained", *data)
    assert refused.exit_code == 2
    assert "no consumer fraud" in refused.stderr


def test_settings_of_the_environment_are_those_of_the_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYTM_LAB_SEED", "11")
    monkeypatch.setenv("PAYTM_LAB_PROFILE", "embedded")
    words = ["simulate", "--users", "20", "--payments", "50"]
    said = paytm_lab(*words)
    assert "--seed 11" in said.stderr
    assert json.loads(paytm_lab(*words, "--json").stdout)["seed"] == 11
    config = json.loads(paytm_lab("config", "--json", "--data", str(tmp_path)).stdout)
    assert {config[name]["source"] for name in ("seed", "profile")} == {"environment"}

    monkeypatch.setenv("PAYTM_LAB_QUIET", "true")
    run = paytm_lab("run", "--users", "20", "--payments", "50", "--data", str(tmp_path / "lab"))
    assert (run.exit_code, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1] == "money verdict: passed"
    config = json.loads(paytm_lab("config", "--json", "--data", str(tmp_path)).stdout)
    assert config["quiet"] == {"value": True, "source": "environment"}

    monkeypatch.setenv("PAYTM_LAB_PROFILE", "nowhere")
    assert paytm_lab("audit", "--data", str(tmp_path / "lab")).exit_code == 2


def test_notifications_on_the_console_leave_the_result_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYTM_LAB_NOTIFICATION_CHANNEL", "console")
    words = ["run", "--users", "5", "--payments", "3", "--json", "--data", str(tmp_path / "lab")]
    run = paytm_lab(*words)
    assert json.loads(run.stdout)["audit"]["verdict"] == "passed"
    assert "[email to " in run.stderr
