"""Tells people what happened to their money, and operators what happened to the lab: a messaging
Handler on payment and fraud events, and on the health monitor's checks.

Each notification is claimed durably, then sent, then recorded as sent, then announced in the log.
Whatever crashes in between and comes again goes on from there; only a crash between the provider
and the record can send one twice, which its row and the counters show. One that cannot be sent now
(quiet hours, a provider that is busy or away) is recorded as waiting, and the sweeper sends it;
one that is refused for good becomes a dead letter. Neither keeps others back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from paytm_lab.core.clock import Clock
from paytm_lab.core.events import Topic, read_fraud_event, read_payment_event
from paytm_lab.core.ids import SYSTEM_PREFIX
from paytm_lab.notifications.channels import Channel, Outgoing
from paytm_lab.notifications.delivery import Delivery
from paytm_lab.notifications.preferences import ChannelKind, Occasion, Preferences
from paytm_lab.notifications.records import (
    CLAIMED,
    FAILED,
    SENDING,
    SENT,
    UNKNOWN,
    WAITING,
    Parcel,
    notification_id,
    notification_key,
    row_of,
    stored_rows,
)
from paytm_lab.notifications.system_alerts import Alert, SystemAlerts
from paytm_lab.notifications.tables import CLAIMS, NOTIFICATIONS
from paytm_lab.notifications.templates import (
    FRAUD_TEMPLATES,
    PAYMENT_TEMPLATES,
    FraudTemplate,
    PaymentTemplate,
    Text,
    part_changed,
)
from paytm_lab.ports.event_log import EventLog, Record
from paytm_lab.ports.wide_store import WideStore

_PAYMENT = str(Topic.PAYMENT)
_FRAUD = str(Topic.FRAUD)
_ANALYTICS = str(Topic.ANALYTICS)
_EMAIL = str(ChannelKind.EMAIL)


class _About(NamedTuple):
    """What an event's notifications have in common."""

    id: str
    event_type: str
    traceparent: str
    at_us: int
    now_us: int


class NotificationConsumer:
    """``delivery`` sends and records; ``alert_users``: whom a part's going down is told.

    ``counters`` are the delivery's, and repeated: found sent already.
    """

    def __init__(
        self,
        wide_store: WideStore,
        channels: Mapping[str, Channel],
        log: EventLog,
        clock: Clock,
        *,
        preferences: Preferences | None = None,
        delivery: Delivery | None = None,
        alert_users: Sequence[str] = (),
    ) -> None:
        self.preferences = (
            preferences if preferences is not None else Preferences(wide_store, clock)
        )
        self.delivery = (
            delivery if delivery is not None else Delivery(wide_store, channels, log, clock)
        )
        self.counters = self.delivery.counters
        self._alerts = SystemAlerts(wide_store)
        self._alert_users = tuple(alert_users)
        self._store = wide_store
        self._clock = clock

    def handle(self, records: Sequence[Record]) -> None:
        self.preferences.refresh_if_due()
        changes = self._alerts.changes(records) if self._alert_users else None
        wanted = self._wanted(records, changes.alerts if changes else ())
        if wanted:
            self._deliver(wanted)
        if changes:
            self._alerts.remember(changes)

    def _deliver(self, wanted: Mapping[str, Parcel]) -> None:
        settled = self._claim(wanted)
        self.counters["repeated"] += sum(parcel.state == SENT for parcel in settled)
        to_send = [p for p in wanted.values() if p.state in (CLAIMED, UNKNOWN)]
        self.delivery.send(to_send)
        self.delivery.record(to_send)
        # Also what was settled or waited already: who recorded that may have died before the rest.
        waiting = [p for p in wanted.values() if p.state in (WAITING, SENDING)]
        with self.delivery.showing([*to_send, *settled]):
            self.delivery.waiting.put(waiting)
            self.delivery.announce(wanted.values())

    # What to send

    def _wanted(self, records: Sequence[Record], alerts: Sequence[Alert]) -> dict[str, Parcel]:
        """By notification id, which makes duplicates within the batch one."""
        wanted: dict[str, Parcel] = {}
        now_us = self._clock.now_us()
        for record in records:
            if record.topic == _PAYMENT:
                self._want_payment(record.value, now_us, wanted)
            elif record.topic == _FRAUD:
                self._want_alert(record.value, now_us, wanted)
        for alert in alerts:
            about = _About(alert.id, alert.event_type, alert.traceparent, alert.at_us, now_us)
            for user_id in self._alert_users:
                for channel in self.preferences.channels(user_id, Occasion.SYSTEM):
                    text = part_changed(alert.part, alert.state, alert.detail, channel == _EMAIL)
                    self._want(
                        wanted, about, user_id, channel, Occasion.SYSTEM, "part_changed", text
                    )
        return wanted

    def _want_payment(self, body: bytes, now_us: int, wanted: dict[str, Parcel]) -> None:
        event = read_payment_event(body)
        data = event.data
        templates = PAYMENT_TEMPLATES.get((event.type, data.kind))
        if templates is None:
            return
        to_sender, to_receiver = templates
        about = _About(data.payment_id, event.type, event.traceparent, _time_us(event.time), now_us)
        told: list[tuple[str, str, PaymentTemplate]] = [
            (data.from_user_id, Occasion.PAID, to_sender)
        ]
        if to_receiver is not None:
            told.append((data.to_user_id, Occasion.RECEIVED, to_receiver))
        for user_id, occasion, template in told:
            for channel in self._channels_for(user_id, occasion):
                text = template(data, channel == _EMAIL)
                self._want(wanted, about, user_id, channel, occasion, template.__name__, text)

    def _want_alert(self, body: bytes, now_us: int, wanted: dict[str, Parcel]) -> None:
        event = read_fraud_event(body)
        template: FraudTemplate | None = FRAUD_TEMPLATES.get(event.type)
        if template is None:
            return
        data = event.data
        about = _About(data.payment_id, event.type, event.traceparent, _time_us(event.time), now_us)
        for channel in self._channels_for(data.user_id, Occasion.ALERT):
            text = template(data, channel == _EMAIL)
            self._want(
                wanted, about, data.user_id, channel, Occasion.ALERT, template.__name__, text
            )

    def _channels_for(self, user_id: str, occasion: str) -> tuple[str, ...]:
        return (
            ()
            if user_id.startswith(SYSTEM_PREFIX)
            else self.preferences.channels(user_id, occasion)
        )

    def _want(
        self,
        wanted: dict[str, Parcel],
        about: _About,
        user_id: str,
        channel: str,
        occasion: str,
        template: str,
        text: Text,
    ) -> None:
        id_ = notification_id(about.id, about.event_type, user_id, channel)
        if id_ in wanted:
            return
        message = Outgoing(
            user_id, id_, channel, template, text.subject, text.body, about.id, about.now_us
        )
        due_us = self.preferences.not_before_us(user_id, occasion, about.now_us)
        wanted[id_] = Parcel(
            message, about.event_type, about.traceparent, about.at_us, due_us=due_us
        )

    # Claim

    def _claim(self, wanted: Mapping[str, Parcel]) -> list[Parcel]:
        """Claim all; take over what earlier deliveries left. Returns those that were sent, or given
        up, already.

        What waits, is being sent by the sweeper or was given up stays as it is.
        """
        claims = self._store.insert_if_absent(
            CLAIMS,
            [
                {"bucket": bucket, "notification_id": id_}
                for bucket, id_ in map(notification_key, wanted)
            ],
        )
        if all(claims):
            return []
        old = [p for p, is_new in zip(wanted.values(), claims, strict=True) if not is_new]
        rows = stored_rows(self._store, [parcel.id for parcel in old])
        settled = []
        unknown = []
        for parcel in old:
            row = rows.get(parcel.id)
            if row is not None:
                parcel.attempts, parcel.possible_repeat = row["attempts"], row["possible_repeat"]
                parcel.claimed_us = row["claimed_at_us"]
            if row is None or row["state"] in (CLAIMED, UNKNOWN):
                parcel.possible_repeat = 1
                parcel.state = UNKNOWN
                unknown.append(parcel)
                continue
            parcel.state = row["state"]
            parcel.due_us = row["due_at_us"] or 0
            if parcel.state in (SENT, FAILED):
                parcel.message = replace(parcel.message, sent_us=row["ended_at_us"])
                settled.append(parcel)
        if unknown:
            self._store.upsert(NOTIFICATIONS, [row_of(parcel) for parcel in unknown])
        return settled


def _time_us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)
