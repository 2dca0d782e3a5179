"""What an error of the Cassandra driver means to the lab.

After a timeout nobody knows whether a write was carried out. That is Unavailable all the same: all
that the lab writes there may be written again.
"""

from __future__ import annotations

import cassandra as driver
from cassandra import cluster, connection, pool, protocol

from paytm_lab.backends.servers.error_table import ErrorTable, Row
from paytm_lab.core.errors import (
    BadInput,
    Conflict,
    MissingPart,
    PaytmLabError,
    StorageCorrupt,
    StorageFull,
    StoreError,
    Unavailable,
)

_AWAY = "Start Cassandra, or repeat when it answers again."
_NODES = "Start the nodes that are down, or set PAYTM_LAB_CASSANDRA_REPLICATION to fewer."
_LOGIN = "Set PAYTM_LAB_CASSANDRA_USER and PAYTM_LAB_CASSANDRA_PASSWORD."
_ADDRESS = "Check PAYTM_LAB_CASSANDRA_SERVERS."

TABLE: tuple[Row, ...] = (
    (driver.AuthenticationFailed, MissingPart, "Cassandra refuses the user or password", _LOGIN),
    (driver.Unauthorized, MissingPart, "Cassandra refuses access", _LOGIN),
    (driver.UnresolvableContactPoints, MissingPart, "No such host", _ADDRESS),
    (driver.Unavailable, Unavailable, "Too few Cassandra nodes are up", _NODES),
    (driver.ReadTimeout, Unavailable, "Cassandra's replicas do not answer in time", _AWAY),
    (driver.WriteTimeout, Unavailable, "Cassandra did not confirm a write in time", _AWAY),
    (driver.OperationTimedOut, Unavailable, "Cassandra does not answer in time", _AWAY),
    (driver.CDCWriteFailure, StorageFull, "Cassandra's change log is full", ""),
    (driver.CoordinationFailure, Unavailable, "A Cassandra node failed", _AWAY),
    (driver.AlreadyExists, Conflict, "It exists already in Cassandra", ""),
    (driver.InvalidRequest, BadInput, "Cassandra cannot do this", ""),
    (cluster.NoHostAvailable, Unavailable, "Cassandra does not answer", _AWAY),
    (connection.ConnectionException, Unavailable, "Cassandra's connection was lost", _AWAY),
    (connection.ConnectionBusy, Unavailable, "Cassandra's connections are all busy", ""),
    (pool.NoConnectionsAvailable, Unavailable, "Cassandra's connections are all busy", ""),
    (protocol.OverloadedErrorMessage, Unavailable, "Cassandra has too much to do", ""),
    (protocol.IsBootstrappingErrorMessage, Unavailable, "Cassandra is starting", _AWAY),
    (protocol.TruncateError, Unavailable, "Cassandra could not empty a table", _AWAY),
    (protocol.ServerError, Unavailable, "Cassandra failed inside", "See its log."),
    (protocol.SyntaxException, StoreError, "Cassandra does not know a statement", ""),
    (protocol.ConfigurationException, BadInput, "Cassandra refuses a setting", ""),
    (protocol.ErrorMessage, StoreError, "Cassandra refused a request", ""),
    (driver.UnsupportedOperation, StoreError, "This Cassandra is too old", "Use 4.0 or later."),
    (connection.ProtocolError, StorageCorrupt, "Cassandra's words cannot be read", ""),
    (driver.DriverException, StoreError, "The Cassandra driver failed", ""),
)


class _Errors(ErrorTable):
    def core_error(self, error: Exception, place: str) -> PaytmLabError:
        if isinstance(error, cluster.NoHostAvailable) and isinstance(error.errors, dict):
            # What one host said is worth more than that there was none.
            for inner in error.errors.values():
                if isinstance(inner, driver.AuthenticationFailed | protocol.BadCredentials):
                    error = driver.AuthenticationFailed(str(inner))
        return super().core_error(error, place)


_errors = _Errors(TABLE)
core_error = _errors.core_error
translated = _errors.translated
