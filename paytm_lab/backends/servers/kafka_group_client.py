"""The Kafka client's consumer, with two faults of its way into a group mended (kafka-python 3.0).

A poll that comes to its end while the group is forming leaves the join under way to the next poll.
That one loses it in two ways:

- A leader that joins anew because a topic's partitions became known forgets that it wanted to, as
  it compares them with those that it has assigned meanwhile. It never takes the assignment: no
  partitions, no heartbeats, no error.
- A join that was completed between the two polls is thrown away and begun again. A leader that does
  so sets the whole group in motion; members that poll often never come to rest.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.util import WeakMethod


class _Coordinator(ConsumerCoordinator):  # type: ignore[misc]  # the package has no types
    _join_task: Any

    def need_rejoin(self) -> bool:
        """Who has begun to join wants to, until the assignment is taken."""
        return bool(self.rejoining or super().need_rejoin())

    async def join_group_async(self, timeout_ms: float | None = None) -> bool:
        """What was completed since the last poll counts: it is shown as not yet done, and is done
        as soon as it is waited for.
        """
        task = self._join_task
        if self.rejoining and task is not None and task.is_done:
            self._join_task = self._manager.call_soon(_result, task)
        return bool(await super().join_group_async(timeout_ms))


async def _result(task: Any) -> Any:
    return await task


class GroupConsumer(KafkaConsumer):  # type: ignore[misc]
    _coordinator: Any

    def __init__(self, **configs: Any) -> None:
        super().__init__(**configs)
        first = self._coordinator
        self._cluster.remove_listener(WeakMethod(first._handle_metadata_update))
        self._coordinator = _Coordinator(
            self._client,
            self._subscription,
            metrics=self._metrics,
            assignors=self.config["partition_assignment_strategy"],
            **self.config,
        )
