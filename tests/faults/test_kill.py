"""kill -9 of real processes: nothing that was acknowledged is lost, nothing is applied twice.

Each chain keeps one data folder through all of its kills. A process acknowledges payments on a pipe
as they happen and dies at a point of the protocol, or at any moment, after 500 of them or more.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from paytm_lab import Lab
from paytm_lab.config import PREFIX
from paytm_lab.messaging.topics import GROUPS
from paytm_lab.simulation.faults import CRASH_POINTS
from tests.faults import processes
from tests.faults.processes import Ledger, expected_balances, make_rows, run_child, write_file

ACKS_MIN = 500
ROWS_A_KILL = 1_000
ANY_MOMENT = "any moment"
OPENING = "while it opens, at "
RECOVERED_FROM = "leg_a:committed"  # leaves payments pending for certain


class Chain(NamedTuple):
    """``kills``: points in order; ``while it opens`` comes right after a kill, with no recovery
    between. ``seed``: of the moments that no point names.
    """

    seed: int
    kills: tuple[str, ...]


def chain(seed: int, *opening: str) -> Chain:
    rng = random.Random(seed)
    points = [*CRASH_POINTS.values(), ANY_MOMENT]
    rng.shuffle(points)
    for point in opening:
        points.insert(points.index(RECOVERED_FROM) + 1, OPENING + point)
    return Chain(seed, tuple(points))


CHAINS = (
    chain(1, "leg_b:committed"),
    chain(2, "writer:before_commit"),
    chain(3, "writer:committed"),
)


def test_the_plan_kills_often_enough_and_everywhere() -> None:
    planned = Counter(kill for chain in CHAINS for kill in chain.kills)
    assert planned.total() >= 30
    assert all(planned[point] >= 3 for point in [*CRASH_POINTS.values(), ANY_MOMENT])
    assert sum(count for kill, count in planned.items() if kill.startswith(OPENING)) >= 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("chain", CHAINS, ids=[f"chain-{c.seed}" for c in CHAINS])
def test_kill_dash_nine(
    chain: Chain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    for name, value in processes.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    data, rng = tmp_path / "lab", random.Random(chain.seed)
    processes.prepare(data)
    rows: list[processes.FileRow] = []
    kills: Counter[str] = Counter()
    acknowledged: list[tuple[str, str]] = []
    since_recovery = 0
    for number, kill in enumerate(chain.kills):
        opening = kill.startswith(OPENING)
        if not opening:
            rows += make_rows(ROWS_A_KILL, rng.randrange(10**9), f"{number}")
            since_recovery = 0
        file = write_file(tmp_path / "part.csv", rows[-ROWS_A_KILL:])
        if kill == ANY_MOMENT:
            ended = run_child(data, file, kill_after_acks=rng.randrange(ACKS_MIN, 900))
        elif opening:
            ended = run_child(data, file, crash_at=kill.removeprefix(OPENING))
        else:
            ended = run_child(data, file, crash_at=f"{kill}@{rng.randrange(ACKS_MIN, 700)}")
        assert ended.returncode == -signal.SIGKILL, f"it did not die at {kill}"
        kills[kill] += 1
        acknowledged += ended.acks
        since_recovery += len(ended.acks)
        assert since_recovery >= ACKS_MIN
        assert not opening or not ended.acks, "it died before it was open"
        if number + 1 < len(chain.kills) and chain.kills[number + 1].startswith(OPENING):
            continue
        with Lab(data=data) as lab:
            assert lab.recovered is not None
            assert lab.recovered.found or kill != RECOVERED_FROM
            lab.audit().require_clean()
            ledger = Ledger(data)
            ledger.require_acknowledged(acknowledged)
            ledger.require_applied_once()
    # Every file once more, to its end: what is there is not posted again, what is missing is.
    ended = run_child(data, write_file(tmp_path / "all.csv", rows))
    assert (ended.returncode, len(ended.acks)) == (0, len(rows))
    with Lab(data=data) as lab:
        lab.audit().require_clean()
        assert lab.replay().exit_code == 0
        ledger = Ledger(data)
        ledger.require_acknowledged([*acknowledged, *ended.acks])
        ledger.require_applied_once()
        assert ledger.balances == expected_balances(rows)
        possible_repeats = processes.require_effects_once(lab, ledger)
    print(f"{kills.total()} kills after {len(acknowledged)} acknowledged payments")
    print(f"notifications that may have been sent twice: {possible_repeats}")
    record_property("kills", dict(kills))


# Batches this small make several of them of a few hundred payments.
SMALL_BATCHES = {
    f"{PREFIX}RELAY_BATCH_ROWS_MAX": "150",
    f"{PREFIX}CONSUMER_BATCH_RECORDS_MAX": "150",
}


@pytest.mark.slow
def test_relays_and_consumers_as_processes_of_their_own_die_and_go_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    for name, value in (processes.ENVIRONMENT | SMALL_BATCHES).items():
        monkeypatch.setenv(name, value)
    data, rows = tmp_path / "lab", make_rows(700, 5, "p")
    processes.prepare(data)
    file = write_file(tmp_path / "file.csv", rows)
    posted = run_child(data, file, more=("--no-relay", "--no-consumers"))
    assert (posted.returncode, len(posted.acks)) == (0, len(rows))
    workers = {"relay": ["relay"], **{group: ["consume", group] for group in GROUPS}}
    kills: Counter[str] = Counter()
    for round_ in range(2):
        dying = {}
        for name, words in workers.items():
            point = "relay:acked:2" if name == "relay" else f"consumer:handled:{1 + round_}"
            words = [*words, "--data", str(data), "--quiet", "--crash-at", point]
            dying[name] = processes.start(*words)
        for name, process in dying.items():
            assert process.wait(processes.TIMEOUT_S) == -signal.SIGKILL, name
            kills["relay:acked" if name == "relay" else "consumer:handled"] += 1
    for verb in ("relay", "consume"):  # what they left over, to its end
        words = [verb, "--until-drained", "--data", str(data), "--quiet"]
        assert processes.start(*words).wait(processes.TIMEOUT_S) == 0
    with Lab(data=data) as lab:
        lab.audit().require_clean()
        ledger = Ledger(data)
        ledger.require_acknowledged(posted.acks)
        ledger.require_applied_once()
        assert ledger.balances == expected_balances(rows)
        possible_repeats = processes.require_effects_once(lab, ledger)
    print(f"notifications that may have been sent twice: {possible_repeats}")
    record_property("kills", dict(kills))
