"""How long a session is surely kept, by our own clock alone."""

from __future__ import annotations

import pytest

from paytm_lab.backends.servers.coordination import ZooKeeperCoordination
from paytm_lab.backends.servers.zookeeper_session import SURE_PART, Lease
from paytm_lab.core.errors import BadInput, InvalidSetting


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(clock: Clock) -> Lease:
    return Lease(5.0, clock)


def test_nothing_is_sure_before_the_first_answer(lease: Lease) -> None:
    assert not lease.sure(lease.epoch)


def test_an_answer_counts_from_when_it_was_asked(lease: Lease, clock: Clock) -> None:
    sent_at_s = clock.now_s
    clock.now_s += 3.0  # so long the answer took
    lease.confirm(lease.epoch, sent_at_s)
    clock.now_s = sent_at_s + 5.0 * SURE_PART - 0.01
    assert lease.sure(lease.epoch)
    clock.now_s = sent_at_s + 5.0 * SURE_PART
    assert not lease.sure(lease.epoch)


def test_it_ends_before_the_server_can_end_the_session() -> None:
    assert SURE_PART < 1


def test_a_late_answer_takes_nothing_back(lease: Lease, clock: Clock) -> None:
    lease.confirm(lease.epoch, clock.now_s)
    lease.confirm(lease.epoch, clock.now_s - 4.5)
    assert lease.sure(lease.epoch)


def test_an_interruption_ends_what_was_held_for_good(lease: Lease, clock: Clock) -> None:
    before = lease.epoch
    lease.confirm(before, clock.now_s)
    lease.interrupt()
    assert not lease.sure(before)
    lease.confirm(before, clock.now_s)  # an answer that was under way
    assert not lease.sure(lease.epoch), "says nothing of the connection that follows"
    lease.confirm(lease.epoch, clock.now_s)
    assert lease.sure(lease.epoch)
    assert not lease.sure(before)


@pytest.mark.parametrize(("granted_s", "counts_s"), [(2.0, 2.0), (40.0, 5.0)])
def test_what_the_server_grants_counts_and_never_more_than_was_asked_for(
    lease: Lease, clock: Clock, granted_s: float, counts_s: float
) -> None:
    lease.grant(granted_s)
    assert lease.timeout_s == counts_s
    lease.confirm(lease.epoch, clock.now_s)
    clock.now_s += counts_s * SURE_PART - 0.01
    assert lease.sure(lease.epoch)
    clock.now_s += 0.02
    assert not lease.sure(lease.epoch)


@pytest.mark.parametrize("chroot", ["", "/", "paytm_lab", "//a", "/a/"])
def test_a_chroot_is_a_path(chroot: str) -> None:
    with pytest.raises(InvalidSetting):
        ZooKeeperCoordination("127.0.0.1:2181", chroot)


def test_nothing_is_opened_before_first_use() -> None:
    coordination = ZooKeeperCoordination("no-such-host.invalid:1", "/paytm_lab")
    with pytest.raises(BadInput):
        coordination.try_lead("")
    with pytest.raises(BadInput):
        coordination.write_document("d", bytes(1_000_001), None)
    coordination.close()
