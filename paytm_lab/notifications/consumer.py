"""Tells people what happened to their money: a messaging Handler on payment and fraud events.

Each notification is claimed durably, then sent, then recorded as sent, then announced in the log.
Whatever crashes in between and comes again goes on from there; only a crash between the provider
and the record can send one twice, which its row and the counters show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import DeliveryFailed, PaytmLabError, StoreError, Unavailable
from paytm_lab.core.events import (
    EventType,
    NotificationData,
    Topic,
    encode,
    read_fraud_event,
    read_payment_event,
    wrap,
)
from paytm_lab.core.ids import SYSTEM_PREFIX, event_id
from paytm_lab.notifications.channels import Channel, Outgoing
from paytm_lab.notifications.preferences import ChannelKind, Occasion, Preferences
from paytm_lab.notifications.tables import CLAIMS, NOTIFICATIONS
from paytm_lab.notifications.templates import (
    FRAUD_TEMPLATES,
    PAYMENT_TEMPLATES,
    FraudTemplate,
    PaymentTemplate,
    Text,
)
from paytm_lab.ports.event_log import EventLog, Message, Record
from paytm_lab.ports.wide_store import Row, WideStore

SOURCE = "/notifications"
CLAIMED, SENT, FAILED, UNKNOWN = "claimed", "sent", "failed", "unknown"
# Of a payment's id, in hex and a hyphen: four seconds.
_BUCKET_LENGTH = 10
_ANNOUNCED_MAX = 100_000
_PAYMENT = str(Topic.PAYMENT)
_FRAUD = str(Topic.FRAUD)
_EMAIL = str(ChannelKind.EMAIL)
_EVENT_OF = {
    _EMAIL: str(EventType.EMAIL_SENT),
    str(ChannelKind.SMS): str(EventType.SMS_SENT),
    str(ChannelKind.PUSH): str(EventType.PUSH_NOTIFICATION_SENT),
}


class _Wanted(msgspec.Struct, gc=False):
    """One notification on its way: what to send, what it is about, and how far it has come."""

    message: Outgoing
    event_type: str
    traceparent: str
    attempts: int = 0
    possible_repeat: int = 0
    state: str = CLAIMED
    error: str = ""
    claimed_us: int = 0


class NotificationConsumer:
    """``channels``: provider by kind (email, sms, push).

    A notification that its provider refuses ``attempts_max`` times is recorded as failed, and
    DeliveryFailed is raised once everything else of the batch is done, so that the runner finds
    that one record and sets it aside. A provider that cannot be reached raises Unavailable: nothing
    of it was sent, the batch comes again. ``counters``: sent, repeated (found sent already),
    failed, possible_repeat, unavailable, and one per kind.
    """

    def __init__(
        self,
        wide_store: WideStore,
        channels: Mapping[str, Channel],
        log: EventLog,
        clock: Clock,
        *,
        preferences: Preferences | None = None,
        attempts_max: int = 3,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.preferences = (
            preferences if preferences is not None else Preferences(wide_store, clock)
        )
        self._store = wide_store
        self._channels = channels
        self._log = log
        self._clock = clock
        self._attempts_max = attempts_max
        # Ids announced in batches that then failed: the runner repeats such a batch in halves, many
        # times.
        self._announced: set[str] = set()

    def handle(self, records: Sequence[Record]) -> None:
        self.preferences.refresh_if_due()
        wanted = self._wanted(records)
        if not wanted:
            return
        repeated = self._claim(wanted)
        to_send = [w for w in wanted.values() if w.state != SENT]
        unreachable = self._send(to_send)
        if to_send:
            self._store.upsert(NOTIFICATIONS, [_row(w, w.message.sent_us) for w in to_send])
        self._count(to_send, repeated)
        self._announce([w for w in wanted.values() if w.state == SENT])
        failed = [w for w in to_send if w.state == FAILED]
        if failed:
            self._remember_announced(wanted)
            if unreachable is not None:
                raise unreachable
            raise DeliveryFailed(
                f"{len(failed)} notifications were refused, the first: {failed[0].error}",
                place=f"{failed[0].message.channel} provider",
            )

    # What to send

    def _wanted(self, records: Sequence[Record]) -> dict[str, _Wanted]:
        """By notification id, which makes duplicates within the batch one."""
        wanted: dict[str, _Wanted] = {}
        now_us = self._clock.now_us()
        for record in records:
            if record.topic == _PAYMENT:
                self._want_payment(record.value, now_us, wanted)
            elif record.topic == _FRAUD:
                self._want_alert(record.value, now_us, wanted)
        return wanted

    def _want_payment(self, body: bytes, now_us: int, wanted: dict[str, _Wanted]) -> None:
        event = read_payment_event(body)
        data = event.data
        templates = PAYMENT_TEMPLATES.get((event.type, data.kind))
        if templates is None:
            return
        to_sender, to_receiver = templates
        head = (data.payment_id, event.type, event.traceparent, now_us)
        for channel in self._channels_for(data.from_user_id, Occasion.PAID):
            _want(
                wanted,
                head,
                data.from_user_id,
                channel,
                to_sender,
                to_sender(data, channel == _EMAIL),
            )
        if to_receiver is not None:
            for channel in self._channels_for(data.to_user_id, Occasion.RECEIVED):
                _want(
                    wanted,
                    head,
                    data.to_user_id,
                    channel,
                    to_receiver,
                    to_receiver(data, channel == _EMAIL),
                )

    def _want_alert(self, body: bytes, now_us: int, wanted: dict[str, _Wanted]) -> None:
        event = read_fraud_event(body)
        template = FRAUD_TEMPLATES.get(event.type)
        if template is None:
            return
        data = event.data
        head = (data.payment_id, event.type, event.traceparent, now_us)
        for channel in self._channels_for(data.user_id, Occasion.ALERT):
            _want(wanted, head, data.user_id, channel, template, template(data, channel == _EMAIL))

    def _channels_for(self, user_id: str, occasion: str) -> tuple[str, ...]:
        return (
            ()
            if user_id.startswith(SYSTEM_PREFIX)
            else self.preferences.channels(user_id, occasion)
        )

    # Claim, send, announce

    def _claim(self, wanted: dict[str, _Wanted]) -> int:
        """Claim all; take over what earlier deliveries left. Returns how many were sent already."""
        claims = self._store.insert_if_absent(
            CLAIMS,
            [
                {"bucket": bucket, "notification_id": id_}
                for bucket, id_ in map(notification_key, wanted)
            ],
        )
        if all(claims):
            return 0
        old = [w for w, is_new in zip(wanted.values(), claims, strict=True) if not is_new]
        rows = self._store.fetch(
            NOTIFICATIONS, [notification_key(w.message.notification_id) for w in old]
        )
        repeated = 0
        unknown = []
        for w in old:
            row = rows.get(notification_key(w.message.notification_id))
            if row is not None:
                w.attempts, w.possible_repeat = row["attempts"], row["possible_repeat"]
                w.claimed_us = row["claimed_at_us"]
            if row is None or row["state"] in (CLAIMED, UNKNOWN):
                w.possible_repeat = 1
                unknown.append(w)
            elif row["state"] == SENT:
                w.state = SENT
                w.message = msgspec.structs.replace(w.message, sent_us=row["ended_at_us"])
                repeated += 1
        if unknown:
            for w in unknown:
                w.state = UNKNOWN
            self._store.upsert(NOTIFICATIONS, [_row(w, 0) for w in unknown])
        return repeated

    def _send(self, to_send: Sequence[_Wanted]) -> PaytmLabError | None:
        """Send in one batch per provider; each ends SENT or FAILED. The last provider's outage, if
        any.
        """
        outage: PaytmLabError | None = None
        by_provider: dict[int, list[_Wanted]] = {}
        for w in to_send:
            by_provider.setdefault(id(self._channels[w.message.channel]), []).append(w)
        for batch in by_provider.values():
            provider = self._channels[batch[0].message.channel]
            try:
                self._send_batch(provider, batch)
            except (Unavailable, StoreError) as error:
                self.counters["unavailable"] += 1
                outage = error
                for w in batch:
                    if w.state != SENT:
                        w.state, w.error = FAILED, str(error)
        return outage

    def _send_batch(self, provider: Channel, batch: Sequence[_Wanted]) -> None:
        rest = batch
        for _ in range(self._attempts_max):
            errors = provider.send([w.message for w in rest])
            for w, error in zip(rest, errors, strict=True):
                w.attempts += 1
                w.state, w.error = (FAILED, error) if error else (SENT, "")
            if not any(errors):
                return
            rest = [w for w in rest if w.state == FAILED]

    def _announce(self, sent: Sequence[_Wanted]) -> None:
        announced = self._announced
        topic = str(Topic.NOTIFICATION)
        messages = [
            Message(topic, w.message.payment_id, _announcement(w))
            for w in sent
            if not announced or w.message.notification_id not in announced
        ]
        if messages:
            self._log.append(messages)

    def _remember_announced(self, wanted: dict[str, _Wanted]) -> None:
        if len(self._announced) > _ANNOUNCED_MAX:
            self._announced.clear()
        self._announced.update(i for i, w in wanted.items() if w.state == SENT)

    def _count(self, ended: Sequence[_Wanted], repeated: int) -> None:
        counters = self.counters
        counters["repeated"] += repeated
        for w in ended:
            counters[w.state] += 1
            if w.state == SENT:
                counters[w.message.channel] += 1
                counters["possible_repeat"] += w.possible_repeat


def notification_id(payment_id: str, event_type: str, user_id: str, channel: str) -> str:
    """The Message-ID: the payment's id, then 16 hex digits of the rest.

    Payment ids grow with time, so rows of one time lie together in the store.
    """
    # Injective: neither of the outer two can hold a '|'.
    text = f"{event_type}|{user_id}|{channel}"
    return f"{payment_id}.{blake2b(text.encode(), digest_size=8).hexdigest()}"


def notification_key(id_: str) -> tuple[str, str]:
    """A notification's key in its two tables: the bucket, and its id."""
    return id_[:_BUCKET_LENGTH], id_


def notification_totals(wide_store: WideStore) -> Counter[tuple[str, str]]:
    """(channel, state) -> notifications, and (channel, 'possible_repeat') -> those; a scan, for
    reports.
    """
    totals: Counter[tuple[str, str]] = Counter()
    for row in wide_store.scan(NOTIFICATIONS):
        totals[row["channel"], row["state"]] += 1
        if row["possible_repeat"]:
            totals[row["channel"], "possible_repeat"] += 1
    return totals


def _want(
    wanted: dict[str, _Wanted],
    head: tuple[str, str, str, int],
    user_id: str,
    channel: str,
    template: PaymentTemplate | FraudTemplate,
    text: Text,
) -> None:
    payment_id, event_type, traceparent, now_us = head
    id_ = notification_id(payment_id, event_type, user_id, channel)
    if id_ not in wanted:
        message = Outgoing(
            user_id, id_, channel, template.__name__, text.subject, text.body, payment_id, now_us
        )
        wanted[id_] = _Wanted(message, event_type, traceparent)


def _row(w: _Wanted, ended_us: int) -> Row:
    message = w.message
    bucket, id_ = notification_key(message.notification_id)
    return {
        "bucket": bucket,
        "notification_id": id_,
        "payment_id": message.payment_id,
        "event_type": w.event_type,
        "user_id": message.user_id,
        "channel": message.channel,
        "template": message.template,
        "state": w.state,
        "attempts": w.attempts,
        "possible_repeat": w.possible_repeat,
        "claimed_at_us": w.claimed_us or message.sent_us,
        "ended_at_us": ended_us,
    }


def _announcement(w: _Wanted) -> bytes:
    message = w.message
    event_type = _EVENT_OF[message.channel]
    data = NotificationData(
        message.notification_id,
        message.user_id,
        message.channel,
        message.template,
        message.payment_id,
    )
    return wrap(
        event_id=event_id(message.notification_id, event_type),
        event_type=event_type,
        subject=message.payment_id,
        source=SOURCE,
        time_us=message.sent_us,
        data=encode(data),
        traceparent=w.traceparent,
    )
