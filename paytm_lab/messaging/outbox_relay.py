"""From a shard's outbox to the log: read in id order, produce, wait for the ack, delete by id.

No cursor is kept, so no row that commits late can be skipped; a crash between ack and delete only
repeats what consumers deduplicate by event id. The relay of a shard runs in one place at a time
(``LeadingRelay``), which keeps the order and spares repeats; correctness does not hang on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import StoreError, Unavailable
from paytm_lab.core.events import (
    TOPIC_OF,
    BalanceUpdatedData,
    EventType,
    Topic,
    encode,
    wrap,
)
from paytm_lab.core.ids import event_id
from paytm_lab.messaging.topics import dead_letter
from paytm_lab.messaging.worker import Trouble, Worker
from paytm_lab.ports.coordination import Coordination, Leadership
from paytm_lab.ports.event_log import EventLog, Message
from paytm_lab.ports.shard_database import OutboxRow, ShardDatabase

BATCH_ROWS_MAX = 1_000
DELETE_ROWS = 64
ACKED = "relay:acked"  # the fault point between the log's ack and the delete

_TOPICS = {event_type: topic.value for event_type, topic in TOPIC_OF.items()}
_ANALYTICS = Topic.ANALYTICS.value
_BALANCE_UPDATED = str(EventType.BALANCE_UPDATED)
_BALANCES = "_balance_paise"  # only rows with this text are decoded for their balances
_LEGS = {
    str(EventType.PAYMENT_INITIATED): "initiated",
    str(EventType.PAYMENT_COMPLETED): "completed",
    str(EventType.PAYMENT_FAILED): "failed",
}


class _Balances(msgspec.Struct, gc=False):
    """The part of PaymentData that a BalanceUpdated is made of."""

    payment_id: str
    from_user_id: str
    to_user_id: str
    stamp_us: int
    from_balance_paise: int | None = None
    to_balance_paise: int | None = None


_decode_balances = msgspec.json.Decoder(_Balances).decode


def messages_of(row: OutboxRow, source: str) -> list[Message]:
    """The row's event for its topic, and a BalanceUpdated for each balance that it carries, under
    ids derived from the payment and the leg, the same on each delivery. A row of a type that nobody
    knows goes to a dead letter topic.
    """
    _, row_event_id, event_type, key, data, created_us, trace = row
    body = wrap(
        event_id=row_event_id,
        event_type=event_type,
        subject=key,
        source=source,
        time_us=created_us,
        data=data.encode(),
        traceparent=trace,
    )
    topic = _TOPICS.get(event_type)
    if topic is None:
        unknown = (("error", f"unknown event type {event_type!r:.80}".encode()),)
        return [Message(dead_letter(Topic.PAYMENT), key, body, unknown)]
    leg = _LEGS.get(event_type)
    if leg is None or _BALANCES not in data:
        return [Message(topic, key, body)]
    messages = [Message(topic, key, body)]
    try:
        after = _decode_balances(data)
    except msgspec.DecodeError:
        return messages  # the event itself goes on; its readers send it to their dead letters
    if after.from_balance_paise is not None:
        user, balance = after.from_user_id, after.from_balance_paise
        messages.append(_balance_updated(row, source, f"from-{leg}", user, balance, after))
    if after.to_balance_paise is not None:
        user, balance = after.to_user_id, after.to_balance_paise
        messages.append(_balance_updated(row, source, f"to-{leg}", user, balance, after))
    return messages


def _balance_updated(
    row: OutboxRow, source: str, side: str, user_id: str, balance_paise: int, after: _Balances
) -> Message:
    data = BalanceUpdatedData(user_id, balance_paise, after.payment_id, after.stamp_us)
    body = wrap(
        event_id=event_id(after.payment_id, _BALANCE_UPDATED, side),
        event_type=_BALANCE_UPDATED,
        subject=row.aggregate_id,
        source=source,
        time_us=row.created_at,
        data=encode(data),
        traceparent=row.traceparent,
    )
    return Message(_ANALYTICS, row.aggregate_id, body)


class OutboxRelay:
    """Relays one shard's outbox. One thread at a time calls ``step``.

    ``fault`` is called with the name of each fault point (``ACKED``) and may raise, as a crash
    there would. While ``paused`` is true a step does nothing. ``relayed`` counts rows acked.

    ``delete_after_s``: acked rows are deleted together, once they are ``DELETE_ROWS`` or the oldest
    was acked so long ago; 0 in the same step. A delete is a durable commit of its own, as dear as a
    payment's, and until it comes the rows are read again with the next ones: that is all that
    waiting costs. A crash meanwhile repeats them, as it does between an ack and its delete.
    """

    def __init__(
        self,
        database: ShardDatabase,
        log: EventLog,
        clock: Clock,
        batch_rows_max: int = BATCH_ROWS_MAX,
        fault: Callable[[str], None] | None = None,
        *,
        delete_after_s: float = 0.0,
    ) -> None:
        self.paused = False
        self.relayed = 0
        self.events = 0
        self.relayed_at_us = 0  # when the last rows went through
        self.fault = fault
        self._database = database
        self._log = log
        self._clock = clock
        self.rows_max = batch_rows_max
        self._delete_after_s = delete_after_s
        self._acked: dict[int, str] = {}  # id -> event id of rows still to be deleted
        self._acked_at_s = 0.0  # the oldest of them
        self._source = f"/shards/{database.shard_id}"

    def step(self) -> int:
        """Relay the oldest rows once. Returns how many rows; 0 when there was nothing to do.

        Raises what the database and the log raise; then rows may have been produced, but none that
        was not produced has been deleted.
        """
        if self.paused:
            return 0
        rows = self._new_rows()
        if rows:
            self._relay(rows)
        if self._is_due():
            self._delete()
        return len(rows)

    def settle(self) -> None:
        """Delete what was acked, now: at the end of its work a relay leaves nothing to be repeated.
        Does nothing while ``paused``; raises what the database raises.
        """
        if self._acked and not self.paused:
            self._new_rows()
            self._delete()

    def _new_rows(self) -> list[OutboxRow]:
        """The oldest rows that were not acked; of those that were, which are still there."""
        rows = self._database.read_outbox(self.rows_max + len(self._acked))
        # By event id too: where another relay led meanwhile, an id may be another row's by now.
        self._acked = {row.id: row.event_id for row in rows if self._is_acked(row)}
        return [row for row in rows if row.id not in self._acked]

    def _delete(self) -> None:
        if self._acked:
            self._database.delete_outbox(list(self._acked))
            self._acked.clear()

    def _is_acked(self, row: OutboxRow) -> bool:
        return self._acked.get(row.id) == row.event_id

    def _relay(self, rows: Sequence[OutboxRow]) -> None:
        messages = self._messages(rows)
        self._log.append(messages)
        if self.fault is not None:
            self.fault(ACKED)
        if not self._acked:
            self._acked_at_s = self._clock.monotonic_s()
        self._acked |= {row.id: row.event_id for row in rows}
        self.relayed += len(rows)
        self.events += len(messages)
        self.relayed_at_us = self._clock.now_us()

    def _is_due(self) -> bool:
        return (
            len(self._acked) >= DELETE_ROWS
            or self._clock.monotonic_s() - self._acked_at_s >= self._delete_after_s
        )

    def _messages(self, rows: Sequence[OutboxRow]) -> list[Message]:
        source = self._source
        return [message for row in rows for message in messages_of(row, source)]


class LeadingRelay:
    """A relay that works only while it leads its shard (``relay-shard-N``), so that any number of
    processes may run one for each shard.
    """

    def __init__(self, relay: OutboxRelay, coordination: Coordination, shard_id: int) -> None:
        self.relay = relay
        self._coordination = coordination
        self._name = f"relay-shard-{shard_id}"
        self._leadership: Leadership | None = None
        self._stepping = threading.Lock()
        self._closed = False

    def leads(self) -> bool:
        leadership = self._leadership
        return leadership is not None and leadership.held()

    def step(self) -> int:
        """Like ``OutboxRelay.step``; 0 as well while somebody else leads. A leadership that may
        have been lost is given up before anything is produced.
        """
        with self._stepping:
            if self._closed or not self._lead():
                return 0
            return self.relay.step()

    def _lead(self) -> bool:
        if self._leadership is not None and not self._leadership.held():
            self._leadership.release()
            self._leadership = None
        if self._leadership is None:
            self._leadership = self._coordination.try_lead(self._name)
        return self._leadership is not None

    def close(self) -> None:
        """Give up leadership, after a step that is under way, and leave no acked row behind where
        the shard answers. Harmless when called twice.
        """
        with self._stepping:
            self._closed = True
            if self._leadership is not None:
                if self._leadership.held():
                    with suppress(Unavailable, StoreError):
                        self.relay.settle()
                self._leadership.release()
                self._leadership = None


def leading_relays(
    databases: Mapping[int, ShardDatabase],
    log: EventLog,
    clock: Clock,
    coordination: Coordination,
    *,
    rows_max: int = BATCH_ROWS_MAX,
    fault: Callable[[str], None] | None = None,
    delete_after_s: float = 0.0,
) -> dict[int, LeadingRelay]:
    """One for each shard; what they take is said at ``OutboxRelay``."""
    return {
        shard: LeadingRelay(
            OutboxRelay(database, log, clock, rows_max, fault, delete_after_s=delete_after_s),
            coordination,
            shard,
        )
        for shard, database in databases.items()
    }


class RelayRound:
    """One step of every shard's relay in turn. A shard that is away does not keep others waiting,
    and is said once.
    """

    def __init__(self, relays: Mapping[int, LeadingRelay]) -> None:
        self.relays = relays
        self._troubles = {shard: Trouble(f"relay of shard {shard}") for shard in relays}

    def errors(self) -> list[Exception]:
        """What the relays that fail now met last."""
        return [t.error for t in self._troubles.values() if t.error is not None]

    def step(self) -> int:
        """Returns how many rows were relayed. Raises only where no relay works at all."""
        relayed = failed = 0
        for shard, relay in self.relays.items():
            trouble = self._troubles[shard]
            try:
                relayed += relay.step()
            except (Unavailable, StoreError) as error:
                failed += 1
                trouble.failed(error)
                if failed == len(self.relays):
                    raise
            else:
                trouble.well()
        return relayed


def relay_workers(
    relays: RelayRound, one_each: bool, idle_wait_s: float, rest_wait_s: float
) -> dict[int, Worker]:
    """Shard -> the worker that relays it: one for all, or ``one_each``, where a shard that does not
    answer holds its relay for seconds. ``rest_wait_s``: between looks at an outbox that has been
    empty for a while.
    """
    if not one_each:
        one = Worker("relay", relays.step, idle_wait_s, rest_wait_s=rest_wait_s)
        return dict.fromkeys(relays.relays, one)
    return {
        shard: Worker(
            f"relay of shard {shard}",
            leading.step,
            idle_wait_s,
            rest_wait_s=rest_wait_s,
            again_from=leading.relay.rows_max,
        )
        for shard, leading in relays.relays.items()
    }
