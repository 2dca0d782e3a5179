"""A shard with a switch: the named faults of an embedded lab, between the ledger and the real file.

On the servers the same faults are real (a stopped process, a cut connection); here the file cannot
go away by itself, so this wrapper answers as a driver would.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection

from paytm_lab.core.errors import CommitOutcomeLost, ConnectionLost, ShardUnavailable
from paytm_lab.ports.shard_database import OutboxRow, ShardDatabase, ShardTransaction

FROZEN_PATIENCE_S = 5.0  # as long as a driver waits for an answer that does not come


class ShardSwitch:
    """``down``: nothing answers; ``frozen``: nor is it refused, until a caller's patience ends.
    ``slow_s``: every commit takes so much longer. ``lose_commits``: so many commits happen, but
    their answer is lost; ``then_down``: and the shard stays away after.
    """

    def __init__(self) -> None:
        self._thawed = threading.Event()
        self._closed = False
        self.heal()

    def freeze(self) -> None:
        self._thawed.clear()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def answers(self) -> bool:
        """At once, or after the patience of a caller whom a frozen shard keeps waiting."""
        return self._thawed.wait(FROZEN_PATIENCE_S) and not self.down and not self._closed

    def close(self) -> None:
        """Nobody waits any more: as when a driver's connections are cut."""
        self._closed = True
        self._thawed.set()

    def heal(self) -> None:
        self._thawed.set()
        self.down = False
        self.slow_s = 0.0
        self.lose_commits = 0
        self.then_down = False


class FaultyShardDatabase:
    """A ``ports.shard_database.ShardDatabase`` around another one."""

    def __init__(self, inner: ShardDatabase, switch: ShardSwitch) -> None:
        self.inner = inner
        self.switch = switch
        self.shard_id = inner.shard_id

    def _require_up(self) -> None:
        if not self.switch.answers():
            raise ShardUnavailable("the shard does not answer", place=f"shard-{self.shard_id}")

    def begin(self) -> ShardTransaction:
        self._require_up()
        inner = self.inner.begin()
        switch = self.switch
        if switch.slow_s or switch.lose_commits or switch.frozen:
            return _FaultyTransaction(inner, switch, self.shard_id)
        return inner

    def read(self) -> AbstractContextManager[Connection]:
        self._require_up()
        return self.inner.read()

    def read_outbox(self, rows_max: int) -> list[OutboxRow]:
        self._require_up()
        return self.inner.read_outbox(rows_max)

    def delete_outbox(self, row_ids: Sequence[int]) -> None:
        self._require_up()
        self.inner.delete_outbox(row_ids)

    def outbox_rows(self) -> int:
        self._require_up()
        return self.inner.outbox_rows()

    def stored_bytes(self) -> int:
        self._require_up()
        return self.inner.stored_bytes()

    def ping(self) -> float:
        self._require_up()
        return self.inner.ping()

    def close(self) -> None:
        self.switch.close()
        self.inner.close()


class _FaultyTransaction:
    def __init__(self, inner: ShardTransaction, switch: ShardSwitch, shard_id: int) -> None:
        self._inner = inner
        self._switch = switch
        self._place = f"shard-{shard_id}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self) -> None:
        if self._switch.frozen and not self._switch.answers():
            self._inner.rollback()
            raise CommitOutcomeLost("no answer to the commit in time", place=self._place)
        if self._switch.down:
            self._inner.rollback()
            raise ConnectionLost("the connection was lost before the commit", place=self._place)
        if self._switch.slow_s:
            time.sleep(self._switch.slow_s)
        self._inner.commit()
        if self._switch.lose_commits > 0:
            self._switch.lose_commits -= 1
            self._switch.down = self._switch.then_down
            raise CommitOutcomeLost("the connection was lost while it committed", place=self._place)
