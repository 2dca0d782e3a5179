"""Many payments at once: in both directions between the same shards, with few tokens, beside a slow
shard, and from several processes.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import Overloaded, PaytmLabError
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result
from tests.path.conftest import OPENING_PAISE, USERS, MakeLab
from tests.path.ways import total_paise, wait_for

ALL_PAISE = USERS * OPENING_PAISE
DEADLINE_S = 60


class Payers:
    """Threads that start together; each posts its requests one after another and waits for room."""

    def __init__(self, lab: Lab, shares: list[list[PaymentRequest]]) -> None:
        self.results: list[Result] = []
        self.overloaded = 0
        self._engine = lab.system.engine
        self._barrier = threading.Barrier(len(shares))
        self._threads = [threading.Thread(target=self._post, args=(share,)) for share in shares]
        self._wanted = sum(map(len, shares))

    def _post(self, requests: list[PaymentRequest]) -> None:
        self._barrier.wait()
        pause = threading.Event()
        for request in requests:
            while True:
                try:
                    self._engine.submit(request, self.results.append)
                    break
                except Overloaded:
                    self.overloaded += 1
                    pause.wait(0.001)

    def run(self) -> Counter[str]:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a payer is stuck"
        wait_for(lambda: len(self.results) == self._wanted, "every payment is answered")
        return Counter(r.status if isinstance(r, Outcome) else r.code for r in self.results)


def test_pairs_in_both_directions_do_not_block_each_other(running_lab: Lab) -> None:
    """'1' and '2' on two shards, '1' and '5' on one: the same accounts from both ends at once."""
    lab = running_lab
    pairs = [("1", "2"), ("2", "1"), ("1", "5"), ("5", "1"), ("2", "5"), ("5", "2")]
    payers = Payers(lab, [[PaymentRequest(*pair, 100)] * 150 for pair in pairs])
    assert payers.run() == {"COMPLETED": 900}
    lab.drain()
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    assert sum(writer.stats.bisections for writer in lab.system.writers.values()) == 0
    lab.audit().require_clean()


@pytest.mark.parametrize("refuse", [False, True])
def test_full_queues_in_both_directions_drain(make_lab: MakeLab, refuse: bool) -> None:
    """Few tokens and tiny batches: legs (b) and (c) are never the ones that wait for room."""
    lab = make_lab(
        deterministic=False, in_flight_max=6, in_flight_per_shard_max=4, batch_rows_max=2
    )
    if refuse:
        lab.freeze("2", credits_too=True)
    shares = [[PaymentRequest("1", "2", 100)] * 60, [PaymentRequest("2", "1", 100)] * 60] * 2
    payers = Payers(lab, shares)
    found = payers.run()
    assert found == ({"FAILED": 240} if refuse else {"COMPLETED": 240})
    assert payers.overloaded > 0
    assert lab.system.engine.admission.in_flight == 0
    lab.drain()
    assert lab.balances()["1"] == lab.balances()["2"] == OPENING_PAISE
    lab.audit().require_clean()


def test_a_frozen_shard_does_not_take_every_token(make_lab: MakeLab) -> None:
    """Payments to and from shard 2 stand still; the others go on while those wait."""
    lab = make_lab(deterministic=False, in_flight_max=40, in_flight_per_shard_max=16)
    held = threading.Event()
    reached = threading.Event()

    def freeze() -> None:
        if threading.current_thread().name == "writer-2":
            reached.set()
            held.wait(DEADLINE_S)

    lab.system.fault_points["writer:before_commit"] = freeze
    stuck: list[Result] = []
    refused = 0
    for n in range(60):
        sender, receiver = [("2", "0"), ("1", "2"), ("2", "6"), ("3", "6")][n % 4]
        try:
            lab.system.engine.submit(PaymentRequest(sender, receiver, 100), stuck.append)
        except Overloaded:
            refused += 1
    assert reached.wait(DEADLINE_S)
    assert refused == 60 - 16
    started = time.monotonic()
    others = Payers(
        lab, [[PaymentRequest("1", "3", 100)] * 50, [PaymentRequest("0", "1", 100)] * 50]
    )
    assert others.run() == {"COMPLETED": 100}
    assert time.monotonic() - started < DEADLINE_S
    assert len(stuck) == 0
    held.set()
    wait_for(lambda: len(stuck) == 16, "the frozen ones go on")
    lab.drain()
    assert lab.system.engine.admission.in_flight == 0
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


def test_one_hot_account_never_goes_below_zero(running_lab: Lab) -> None:
    """1,000 rupees, 300 payments of 7 rupees from eight threads: 142 fit."""
    lab = running_lab
    shares = [[PaymentRequest("1", "25"[n % 2], 700)] * 38 for n in range(8)]
    assert Payers(lab, shares).run() == {"COMPLETED": 142, "FAILED": 8 * 38 - 142}
    lab.drain()
    assert lab.balances()["1"] == OPENING_PAISE - 142 * 700
    lab.audit().require_clean()


def test_accounts_made_at_once(running_lab: Lab) -> None:
    lab = running_lab
    results: list[Result] = []
    for n in range(80):
        lab.system.engine.submit_account(
            f"new-{n % 10}", 500, results.append, key=f"k{n // 10 % 2}"
        )
    wait_for(lambda: len(results) == 80, "all are answered")
    made = [r for r in results if isinstance(r, Outcome)]
    assert len(made) == 40  # of each user, those under the key that was first
    assert {r.code for r in results if isinstance(r, PaytmLabError)} == {"account_exists"}
    lab.drain()
    assert total_paise(lab) == ALL_PAISE + 10 * 500
    lab.audit().require_clean()


def test_closing_races_paying(running_lab: Lab) -> None:
    """An account is emptied, credited and closed at once: closed means empty, and it stays so."""
    lab = running_lab
    rng = random.Random(1)
    results: list[Result] = []
    submit = lab.system.engine.submit
    users = [f"close-{n}" for n in range(8)]
    for user in users:
        lab.create_account(user, "10")
        for _ in range(10):
            submit(PaymentRequest(user, rng.choice("123"), 1_000), results.append)
            submit(PaymentRequest(rng.choice("123"), user, 1_000), results.append)
            lab.close_account(user)
    wait_for(lambda: len(results) == 160, "all are answered")
    lab.drain()
    accounts = [account for user in users if (account := lab.account(user)) is not None]
    assert len(accounts) == 8
    assert all(a.balance_paise == 0 for a in accounts if a.state == "closed")
    assert total_paise(lab) == ALL_PAISE + 8 * 1_000
    lab.audit().require_clean()


def test_two_processes_post_on_the_same_shards(
    make_lab: MakeLab, start_posting: Callable[..., subprocess.Popen[str]]
) -> None:
    make_lab().close()
    processes = [start_posting("random", str(seed), "1500") for seed in (1, 2)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said: dict[str, str] = {}
    for process in processes:
        lines = process.communicate(timeout=DEADLINE_S)[0].splitlines()
        assert lines.pop() == "done"
        assert len(lines) == 1_500
        for line in lines:
            payment_id, status = line.split()
            said[payment_id] = status
    assert len(said) == 3_000
    lab = make_lab(deterministic=False)
    lab.drain()
    for payment_id, status in said.items():
        if status != "PENDING":
            assert lab.status(payment_id).status == status
    assert Counter(said.values())["COMPLETED"] > 2_000
    assert total_paise(lab) == ALL_PAISE
    assert lab.replay().verdict == "passed"
    lab.audit().require_clean()
