"""Several processes on one lab at once, some of them killed: in effect each event is handled once.

`make test` leaves this out; `make test-stack` runs it on the real servers.
"""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from paytm_lab import Lab, wiring
from paytm_lab.config import PREFIX
from tests import servers
from tests.faults import processes
from tests.faults.processes import Ledger, expected_balances, make_rows, write_file
from tests.waiting import until

ROWS = 800  # of each poster
SHARED_ROWS = 200  # in both posters' files
SMALL_BATCHES = {
    f"{PREFIX}RELAY_BATCH_ROWS_MAX": "100",
    f"{PREFIX}CONSUMER_BATCH_RECORDS_MAX": "100",
}
AT_WORK = b"at work"
TIMEOUT_S = 90.0


@pytest.fixture
def lab_at(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Lab]]:
    """``lab_at(folder)``: the lab there, without workers. Its profile and servers are in the
    environment too, for processes. All folders mean one lab; it is removed at the end.
    """
    given = {"PROFILE": profile, "VELOCITY_LIMIT": "1000000"}
    if profile == "servers":
        given |= {"STACK_DIR": servers.STACK_DIR, "NAMESPACE": servers.new_namespace()}
    for name, value in given.items():
        if value:
            monkeypatch.setenv(f"{PREFIX}{name}", value)
    for name, value in processes.SHORT_SESSIONS.items():
        monkeypatch.setenv(name, value)

    def open_lab(folder: Path, **more: Any) -> Lab:
        return Lab(profile, data=folder, seed=7, **more)

    yield open_lab
    wiring.remove(open_lab(tmp_path / "lab").settings)


def prepare(lab: Lab) -> None:
    """Users who have enough, and accounts that are closed."""
    openings = {str(n): processes.OPENING_PAISE for n in range(1, processes.USERS + 1)}
    with lab:
        lab.open_accounts(openings | dict.fromkeys(processes.CLOSED, 0))
        for user in processes.CLOSED:
            lab.close_account(user)
        lab.drain()


def posted_at_once(folders: Sequence[Path], files: Sequence[Path], *more: str) -> Iterator[Any]:
    """A `paytm-lab run` for each file, all at once; yields how each ended."""
    with ThreadPoolExecutor(len(files)) as pool:
        yield from pool.map(
            lambda folder, file: processes.run_child(folder, file, more=more), folders, files
        )


@contextmanager
def at_work(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A relay's or consumers' process, from when it is at work on; it is gone at the end."""
    process = processes.start(*words, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        said = b""
        while AT_WORK not in said:
            line = process.stderr.readline()
            said += line
            assert line, f"{words} ended: {said.decode()}"
        yield process
    finally:
        process.kill()
        process.communicate()


def require_all_once(lab: Lab, rows: Sequence[Any], acks: Sequence[tuple[str, str]]) -> None:
    lab.audit().require_clean()
    lab.replay().require_clean()
    ledger = Ledger.of(lab)
    ledger.require_acknowledged(acks)
    ledger.require_applied_once()
    assert ledger.balances == expected_balances(rows)
    transfers = ledger.transfers("COMPLETED").keys() | ledger.transfers("FAILED").keys()
    assert len(transfers) == len(rows)
    print("notifications that may have been sent twice:", end=" ")
    print(processes.require_effects_once(lab, ledger))


@pytest.mark.timeout(240)
def test_the_other_relay_and_the_other_consumers_take_over_from_killed_ones(
    lab_at: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL_BATCHES.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "lab"
    prepare(lab_at(folder))
    shared, own = make_rows(SHARED_ROWS, 1, "shared"), [make_rows(ROWS, n, f"{n}") for n in (2, 3)]
    files = [
        write_file(tmp_path / f"{number}.csv", rows + shared) for number, rows in enumerate(own)
    ]
    with ExitStack() as running:
        # The first relay leads every shard, the first consumers read every partition: they die.
        workers = [
            running.enter_context(at_work(*words, "--data", str(folder)))
            for words in (("relay",), ("consume",), ("relay",), ("consume",))
        ]
        lab = running.enter_context(lab_at(folder, relay=False, consumers=()))
        before = lab.rollups().outcome("PaymentCompleted").payments

        def kill_when_counting_began() -> None:
            until(lambda: lab.rollups().outcome("PaymentCompleted").payments > before)
            for process in workers[:2]:
                assert process.poll() is None
                process.kill()

        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(kill_when_counting_began)
            ended = list(posted_at_once([folder] * 2, files, "--no-relay", "--no-consumers"))
            killing.result()
        assert [end.returncode for end in ended] == [0, 0]
        until(lambda: lab.system.backlog() == 0, lab.system.waiting(), TIMEOUT_S)
        for process in workers[2:]:
            process.send_signal(signal.SIGTERM)
            assert process.wait(processes.TIMEOUT_S) == 0
        acks = [ack for end in ended for ack in end.acks]
        assert len(acks) == 2 * (ROWS + SHARED_ROWS)
        require_all_once(lab, [*own[0], *own[1], *shared], acks)


@pytest.mark.timeout(240)
def test_two_whole_runs_at_once_from_one_folder_and_from_another(
    lab_at: Callable[..., Lab], tmp_path: Path, profile: str
) -> None:
    folder = tmp_path / "lab"
    other = tmp_path / "other" if profile == "servers" else folder
    prepare(lab_at(folder))
    parts = [make_rows(ROWS, seed, f"{seed}") for seed in (4, 5, 6)]
    files = [write_file(tmp_path / f"{n}.csv", rows) for n, rows in enumerate(parts)]
    ended = list(posted_at_once([folder, folder, other], files))
    assert [end.returncode for end in ended] == [0, 0, 0]
    with lab_at(folder) as lab:
        if other != folder:  # what its process told users lies in its own folder
            for file in (other / "inbox").iterdir():
                file.rename(folder / "inbox" / f"other-{file.name}")
        acks = [ack for end in ended for ack in end.acks]
        require_all_once(lab, [row for part in parts for row in part], acks)
        assert Counter(status for _, status in acks).keys() == {"COMPLETED", "FAILED"}
