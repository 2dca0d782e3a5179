"""What an error of the ZooKeeper client means to the lab."""

from __future__ import annotations

from kazoo import exceptions as zk
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import RetryFailedError

from paytm_lab.backends.servers.error_table import ErrorTable, Row
from paytm_lab.core.errors import (
    Conflict,
    InvalidSetting,
    MissingPart,
    StorageCorrupt,
    StorageFull,
    StoreError,
    Unavailable,
)

# The answer did not come: the request may have been carried out all the same.
INTERRUPTIONS = (
    zk.ConnectionLoss,
    zk.OperationTimeoutError,
    zk.RequestTimeoutError,
    zk.SessionExpiredError,
    zk.SessionMovedError,
    KazooTimeoutError,
)

_AWAY = "Start ZooKeeper, or repeat when it answers again."
_RIGHTS = "Give the lab a ZooKeeper that anybody may use, or the rights on its chroot."
TABLE: tuple[Row, ...] = (
    (zk.ConnectionClosedError, Unavailable, "The connection to ZooKeeper was closed", ""),
    (zk.SessionExpiredError, Unavailable, "ZooKeeper ended the session", _AWAY),
    (zk.ConnectionLoss, Unavailable, "ZooKeeper's connection was lost", _AWAY),
    (KazooTimeoutError, Unavailable, "ZooKeeper does not answer", _AWAY),
    (zk.OperationTimeoutError, Unavailable, "ZooKeeper does not answer in time", _AWAY),
    (zk.RequestTimeoutError, Unavailable, "ZooKeeper does not answer in time", _AWAY),
    (zk.ThrottledOpError, Unavailable, "ZooKeeper has too much to do", _AWAY),
    (zk.SessionMovedError, Unavailable, "The session moved to another ZooKeeper", _AWAY),
    (zk.NotReadOnlyCallError, Unavailable, "This ZooKeeper may only be read", _AWAY),
    (zk.NewConfigNoQuorumError, Unavailable, "The ZooKeepers have no majority", _AWAY),
    (zk.ReconfigInProcessError, Unavailable, "The ZooKeepers are being changed", _AWAY),
    (RetryFailedError, Unavailable, "ZooKeeper did not answer any try", _AWAY),
    (zk.ZookeeperStoppedError, Unavailable, "The ZooKeeper client was stopped", ""),
    (zk.NodeExistsError, Conflict, "The node exists already in ZooKeeper", ""),
    (zk.BadVersionError, Conflict, "The node has another version in ZooKeeper", ""),
    (zk.NotEmptyError, Conflict, "Somebody uses the ZooKeeper node that was to go", ""),
    (zk.NoNodeError, MissingPart, "The node is gone from ZooKeeper", ""),
    (zk.NoAuthError, InvalidSetting, "ZooKeeper refuses access", _RIGHTS),
    (zk.AuthFailedError, InvalidSetting, "ZooKeeper does not accept this client", _RIGHTS),
    (zk.InvalidACLError, InvalidSetting, "ZooKeeper does not accept the rights asked", _RIGHTS),
    (zk.SessionClosedRequireSaslError, InvalidSetting, "ZooKeeper wants SASL", _RIGHTS),
    (zk.QuotaExceededError, StorageFull, "The quota in ZooKeeper is used up", ""),
    (zk.DataInconsistency, StorageCorrupt, "ZooKeeper's data contradicts itself", ""),
    (zk.RuntimeInconsistency, StorageCorrupt, "ZooKeeper contradicts itself", ""),
    (zk.MarshallingError, StorageCorrupt, "ZooKeeper's words cannot be read", ""),
    (zk.KazooException, StoreError, "ZooKeeper failed", ""),
)

_errors = ErrorTable(TABLE)
core_error = _errors.core_error
translated = _errors.translated
