"""kill -9 of real processes: nothing that was acknowledged is lost, nothing is applied twice.

Each chain keeps one data folder through all of its kills. A process acknowledges payments on a pipe
as they happen and dies at a point of the protocol, or at any moment, after hundreds of them.
`make test-stack` does it on the real servers too, which are never stopped here.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from paytm_lab import Lab, Settings, wiring
from paytm_lab.config import PREFIX
from paytm_lab.messaging.topics import GROUPS
from paytm_lab.simulation.faults import CRASH_POINTS
from tests import servers
from tests.faults import processes
from tests.faults.processes import Ledger, expected_balances, make_rows, run_child, write_file

ACKS_MIN = {"embedded": 500, "servers": 200}
ROWS_A_KILL = {"embedded": 1_000, "servers": 500}
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
ON_SERVERS = CHAINS[:1]  # a process takes longer to open there


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "chain" in metafunc.fixturenames:
        servers_only = metafunc.config.getoption("--profile") == "servers"
        chains = ON_SERVERS if servers_only else CHAINS
        metafunc.parametrize("chain", chains, ids=[f"chain-{c.seed}" for c in chains])


def test_the_plan_kills_often_enough_and_everywhere() -> None:
    planned = Counter(kill for chain in CHAINS for kill in chain.kills)
    assert planned.total() >= 30
    assert all(planned[point] >= 3 for point in [*CRASH_POINTS.values(), ANY_MOMENT])
    assert sum(count for kill, count in planned.items() if kill.startswith(OPENING)) >= 3


@pytest.fixture
def data(profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The lab's folder. What else says which lab it is is in the environment, for processes too."""
    given = processes.ENVIRONMENT | {f"{PREFIX}PROFILE": profile}
    if profile == "servers":
        given |= {f"{PREFIX}NAMESPACE": servers.new_namespace()}
        given |= processes.SHORT_SESSIONS
        given |= {f"{PREFIX}STACK_DIR": servers.STACK_DIR} if servers.STACK_DIR else {}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "lab"
    processes.prepare(folder, profile)
    yield folder
    wiring.remove(Settings(data_dir=folder))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_dash_nine(
    chain: Chain,
    profile: str,
    data: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    rng, acks_min, rows_a_kill = random.Random(chain.seed), ACKS_MIN[profile], ROWS_A_KILL[profile]
    rows: list[processes.FileRow] = []
    kills: Counter[str] = Counter()
    acknowledged: list[tuple[str, str]] = []
    since_recovery = 0
    opened_s: list[float] = []
    for number, kill in enumerate(chain.kills):
        opening = kill.startswith(OPENING)
        if not opening:
            rows += make_rows(rows_a_kill, rng.randrange(10**9), f"{number}")
            since_recovery = 0
        file = write_file(tmp_path / "part.csv", rows[-rows_a_kill:])
        if kill == ANY_MOMENT:
            after = rng.randrange(acks_min, acks_min * 3 // 2)
            ended = run_child(data, file, kill_after_acks=after)
        elif opening:
            ended = run_child(data, file, crash_at=kill.removeprefix(OPENING))
        else:
            after = rng.randrange(acks_min, acks_min * 5 // 4)
            ended = run_child(data, file, crash_at=f"{kill}@{after}")
        assert ended.returncode == -signal.SIGKILL, f"it did not die at {kill}"
        kills[kill] += 1
        acknowledged += ended.acks
        since_recovery += len(ended.acks)
        assert since_recovery >= acks_min
        assert not opening or not ended.acks, "it died before it was open"
        if number + 1 < len(chain.kills) and chain.kills[number + 1].startswith(OPENING):
            continue
        began = time.monotonic()
        with Lab(profile, data=data) as lab:
            opened_s.append(round(time.monotonic() - began, 2))
            assert lab.recovered is not None
            assert lab.recovered.found or kill != RECOVERED_FROM
            lab.audit().require_clean()
            ledger = Ledger.of(lab)
            ledger.require_acknowledged(acknowledged)
            ledger.require_applied_once()
    # Every file once more, to its end: what is there is not posted again, what is missing is.
    ended = run_child(data, write_file(tmp_path / "all.csv", rows))
    assert (ended.returncode, len(ended.acks)) == (0, len(rows))
    with Lab(profile, data=data) as lab:
        lab.audit().require_clean()
        assert lab.replay().exit_code == 0
        ledger = Ledger.of(lab)
        ledger.require_acknowledged([*acknowledged, *ended.acks])
        ledger.require_applied_once()
        assert ledger.balances == expected_balances(rows)
        possible_repeats = processes.require_effects_once(lab, ledger)
    print(f"{kills.total()} kills after {len(acknowledged)} acknowledged payments")
    print(f"notifications that may have been sent twice: {possible_repeats}")
    record_property("kills", dict(kills))
    record_property("recovery", {"opened and recovered after": max(opened_s)})


# Batches this small make several of them of a few hundred payments.
SMALL_BATCHES = {
    f"{PREFIX}RELAY_BATCH_ROWS_MAX": "150",
    f"{PREFIX}CONSUMER_BATCH_RECORDS_MAX": "150",
}


@pytest.mark.slow
def test_relays_and_consumers_as_processes_of_their_own_die_and_go_on(
    profile: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    for name, value in SMALL_BATCHES.items():
        monkeypatch.setenv(name, value)
    rows = make_rows(700, 5, "p")
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
    with Lab(profile, data=data) as lab:
        lab.audit().require_clean()
        ledger = Ledger.of(lab)
        ledger.require_acknowledged(posted.acks)
        ledger.require_applied_once()
        assert ledger.balances == expected_balances(rows)
        possible_repeats = processes.require_effects_once(lab, ledger)
    print(f"notifications that may have been sent twice: {possible_repeats}")
    record_property("kills", dict(kills))
