"""Every row of the table that turns the ZooKeeper client's errors into the lab's."""

from __future__ import annotations

import pytest
from kazoo import exceptions as zk
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import RetryFailedError

from paytm_lab.backends.servers.zookeeper_errors import INTERRUPTIONS, TABLE, core_error, translated
from paytm_lab.core import errors

MEANINGS = {
    zk.ConnectionClosedError: errors.Unavailable,
    zk.SessionExpiredError: errors.Unavailable,
    zk.ConnectionLoss: errors.Unavailable,
    KazooTimeoutError: errors.Unavailable,
    zk.OperationTimeoutError: errors.Unavailable,
    zk.RequestTimeoutError: errors.Unavailable,
    zk.ThrottledOpError: errors.Unavailable,
    zk.SessionMovedError: errors.Unavailable,
    zk.NotReadOnlyCallError: errors.Unavailable,
    zk.NewConfigNoQuorumError: errors.Unavailable,
    zk.ReconfigInProcessError: errors.Unavailable,
    RetryFailedError: errors.Unavailable,
    zk.ZookeeperStoppedError: errors.Unavailable,
    zk.NodeExistsError: errors.Conflict,
    zk.BadVersionError: errors.Conflict,
    zk.NotEmptyError: errors.Conflict,
    zk.NoNodeError: errors.MissingPart,
    zk.NoAuthError: errors.InvalidSetting,
    zk.AuthFailedError: errors.InvalidSetting,
    zk.InvalidACLError: errors.InvalidSetting,
    zk.SessionClosedRequireSaslError: errors.InvalidSetting,
    zk.QuotaExceededError: errors.StorageFull,
    zk.DataInconsistency: errors.StorageCorrupt,
    zk.RuntimeInconsistency: errors.StorageCorrupt,
    zk.MarshallingError: errors.StorageCorrupt,
    zk.KazooException: errors.StoreError,
}


def test_every_row_is_here() -> None:
    assert {row[0] for row in TABLE} == set(MEANINGS)


@pytest.mark.parametrize(("raised", "meaning"), MEANINGS.items(), ids=lambda kind: kind.__name__)
def test_an_error_becomes_the_labs(
    raised: type[Exception], meaning: type[errors.PaytmLabError]
) -> None:
    with pytest.raises(errors.PaytmLabError) as caught, translated("/paytm_lab/locks/a"):
        raise raised("its own words")
    assert type(caught.value) is meaning
    assert caught.value.place == "/paytm_lab/locks/a"
    assert f"{raised.__name__}: its own words" in caught.value.message
    assert type(caught.value.__cause__) is raised


def test_every_error_of_the_server_has_a_meaning() -> None:
    known = {type(core_error(kind(), "x")) for kind in zk.EXCEPTIONS.values()}
    assert known <= set(MEANINGS.values())


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), translated("x"):
        raise KeyError("not the client's")


def test_no_row_hides_a_later_one() -> None:
    for i, (kind, *_) in enumerate(TABLE):
        assert not any(issubclass(later, kind) for later, *_ in TABLE[i + 1 :])


def test_what_leaves_the_outcome_open_is_unavailable() -> None:
    assert {MEANINGS[kind] for kind in INTERRUPTIONS} == {errors.Unavailable}
