"""``paytm-lab fault``: what it prints for each kind of fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.faults import FAULTS, SLOW_COMMIT_S, pattern
from paytm_lab.verbs import fault as verb
from paytm_lab.verbs.common import Common

SECONDS = 0.4


@pytest.fixture(autouse=True)
def short_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "BEFORE_S", 0.3)
    monkeypatch.setattr(verb, "AFTER_S", 0.3)
    monkeypatch.setattr(verb, "CHILD_PAYMENTS", 3_000)


def result_of(
    target: str, kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    code = verb.fault(Common(data=folder, seed=1, quiet=True, as_json=True), target, kind, SECONDS)
    printed = json.loads(capsys.readouterr().out)
    assert printed["audit"]["verdict"] == "passed"
    assert code == printed["audit"]["exit_code"] == 0
    assert printed["fault"] == kind
    return dict(printed)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("shard-2", "down"),
        ("shard-1", "frozen"),
        ("shard-0", "slow"),
        ("shard-1", "lost-commit"),
        ("shard-3", "lost-commit-down"),
        ("relay", "stopped"),
        ("consumer-analytics", "slow"),
        ("consumer-notifications", "dead"),
        ("payment_events", "poison"),
        ("cache", "gone"),
        ("event-log", "gone"),
        ("coordination", "gone"),
        ("wide-store", "gone"),
    ],
)
def test_a_fault_under_load(
    target: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = result_of(target, kind, tmp_path, capsys)
    rows = {row["phase"]: row for row in printed["load"]}
    before, during, after = (rows[phase] for phase in ("before", "during", "after"))
    assert printed["healed_s"] < 1
    assert before["COMPLETED"] > 0
    assert after["COMPLETED"] > 0
    assert during["latency_ms_p50"] <= during["latency_ms_p99"]
    if kind == "down":
        assert during["shard_unavailable"] > 0
    elif kind == "slow" and target.startswith("shard"):
        assert during["latency_ms_p99"] >= SLOW_COMMIT_S * 1e3
    elif kind in ("stopped", "dead"):
        assert during["events_behind_max"] > before["events_behind_max"]
    elif kind == "lost-commit":
        assert "outcome_unknown" not in during
    assert printed["dead_lettered"] == (3 if kind == "poison" else 0)


@pytest.mark.parametrize("kind", ["crash-after-leg-a", "crash-after-refusal"])
def test_a_process_that_is_killed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = result_of("process", kind, tmp_path, capsys)
    assert printed["acknowledged"] >= verb.ACKS_BEFORE_CRASH
    assert printed["lost"] == 0
    assert "pending payments" in printed["recovery"]


def test_who_refuses_is_found_in_a_lab_whose_users_have_money(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result_of("process", "crash-after-leg-a", tmp_path, capsys)
    for kind in ("crash-after-refusal", "crash-after-give-back"):
        printed = result_of("process", kind, tmp_path, capsys)
        assert printed["lost"] == 0
        assert kind == "crash-after-give-back" or ", 0 given back" not in printed["recovery"]


def test_a_run_that_never_reaches_the_point_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "CHILD_PAYMENTS", 5)
    with pytest.raises(BadInput, match="the run of 5 payments ended before") as error:
        verb.fault(Common(data=tmp_path, seed=1, quiet=True), "process", "crash-after-leg-a", 1)
    assert "--seed" in error.value.remedy


def test_every_kind_is_tried_here() -> None:
    source = Path(__file__).read_text()
    for fault in FAULTS:
        assert fault.target == "process" or f'"{fault.kind}"' in source


def test_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.fault(Common(seed=1), "shard-2", "down", SECONDS) == 0
    printed = capsys.readouterr()
    sight = next(fault for fault in FAULTS if fault.kind == "down")
    assert sight.sight in printed.err
    assert sight.heals in printed.err
    for phase in ("before", "during", "after"):
        assert phase in printed.out
    assert "money verdict: passed" in printed.out


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.fault(Common(as_json=True, quiet=True), None, None, SECONDS) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["fault"] for row in rows] == [fault.kind for fault in FAULTS]
    assert all(row["what one sees"] and row["how it heals"] for row in rows)
    assert verb.fault(Common(quiet=True), "shard-1", None, SECONDS) == 0
    printed = capsys.readouterr().out
    assert "lost-commit-down" in printed
    assert "crash-after-leg-a" not in printed


@pytest.mark.parametrize(("target", "kind"), [("planet", None), ("shard-2", "explodes")])
def test_an_unknown_one_names_the_known(target: str, kind: str | None) -> None:
    with pytest.raises(BadInput) as error:
        verb.fault(Common(quiet=True), target, kind, SECONDS)
    assert error.value.exit_code == 2
    said = error.value.remedy.removeprefix("Known: ").rstrip(".").split("; ")
    known = [fault for fault in FAULTS if kind is None or fault.target == "shard"]
    assert said == [f"{pattern(fault)} {fault.kind}" for fault in known]
