"""Admission: never more than the bounds, and one shard's payments cannot take every token."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from paytm_lab.core.errors import Overloaded
from paytm_lab.ledger.admission import Admission


def admitted(admission: Admission, source: int, destination: int, wanted: int) -> int:
    for taken in range(wanted):
        try:
            admission.acquire(source, destination)
        except Overloaded:
            return taken
    return wanted


def test_no_more_than_the_bound_in_all() -> None:
    admission = Admission(10, 8)
    assert admitted(admission, 0, 1, 6) + admitted(admission, 2, 3, 99) == 10
    assert admission.in_flight == 10
    with pytest.raises(Overloaded) as raised:
        admission.acquire(4, 5)
    assert raised.value.retry_after_s > 0 and raised.value.exit_code == 3


@pytest.mark.parametrize(("source", "destination"), [(0, 7), (7, 0), (7, 7)])
def test_a_frozen_shard_takes_its_share_at_either_end(source: int, destination: int) -> None:
    admission = Admission(100, 10)
    assert admitted(admission, source, destination, 99) == 10
    assert admitted(admission, 7, 1, 1) == admitted(admission, 1, 7, 1) == 0
    assert admitted(admission, 1, 2, 10) == 10


def test_payments_to_all_sides_of_a_frozen_shard_leave_room() -> None:
    admission = Admission(100, 10)
    ends = [(7, peer) for peer in range(5)] + [(peer, 7) for peer in range(5)]
    taken = sum(admitted(admission, *pair, 1) for pair in ends * 9)
    assert taken == 10
    assert admitted(admission, 0, 1, 1) == 1


@pytest.mark.parametrize(("source", "destination"), [(0, 1), (1, 1)])
def test_a_token_that_is_given_back_is_free(source: int, destination: int) -> None:
    admission = Admission(1, 1)
    for _ in range(3):
        admission.acquire(source, destination)
        assert admitted(admission, source, destination, 1) == 0
        admission.release(source, destination)
    assert admission.in_flight == 0


def test_many_threads_never_pass_the_bounds() -> None:
    admission = Admission(20, 12)
    held: Counter[str] = Counter()

    def work(seed: int) -> int:
        rng = random.Random(seed)
        taken: list[tuple[int, int]] = []
        refused = 0
        for _ in range(2_000):
            if taken and rng.random() < 0.5:
                admission.release(*taken.pop())
                continue
            pair = rng.randrange(3), rng.randrange(3)
            try:
                admission.acquire(*pair)
                taken.append(pair)
                held["most"] = max(held["most"], admission.in_flight)
            except Overloaded:
                refused += 1
        for pair in taken:
            admission.release(*pair)
        return refused

    with ThreadPoolExecutor(4) as pool:
        refusals = sum(pool.map(work, range(4)))
    assert refusals > 0
    assert 0 < held["most"] <= 20
    assert admission.in_flight == 0
    assert admitted(admission, 0, 1, 99) == 12
