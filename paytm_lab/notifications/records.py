"""One notification on its way, and its rows in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from zlib import crc32

import msgspec

from paytm_lab.core.events import EventType, NotificationData, encode, wrap
from paytm_lab.core.ids import event_id
from paytm_lab.notifications.channels import Outgoing
from paytm_lab.notifications.preferences import ChannelKind
from paytm_lab.notifications.tables import NOTIFICATIONS
from paytm_lab.ports.wide_store import Row, WideStore

SOURCE = "/notifications"
CLAIMED, SENT, FAILED, UNKNOWN = "claimed", "sent", "failed", "unknown"
WAITING, SENDING = "waiting", "sending"
_BUCKET_LENGTH = 10  # of a payment's id, in hex and a hyphen: four seconds
_END_OF_TIME_US = (1 << 63) - 1
HOUR_US = 3_600_000_000
HOURS_END = _END_OF_TIME_US // HOUR_US
INBOX_PARTS = 32
_EVENT_OF = {
    str(ChannelKind.EMAIL): str(EventType.EMAIL_SENT),
    str(ChannelKind.SMS): str(EventType.SMS_SENT),
    str(ChannelKind.PUSH): str(EventType.PUSH_NOTIFICATION_SENT),
}


class Parcel(msgspec.Struct, gc=False):
    """What to send, what it is about, and how far it has come. ``at_us``: when what it tells of
    happened. ``due_us``: not to be sent before; 0: at once. ``attempts``: tries that the provider
    answered; ``attempts_before``: how many of them were made before a dead letter was retried.
    ``error``: why the last one was not taken.
    """

    message: Outgoing
    event_type: str
    traceparent: str
    at_us: int = 0
    attempts: int = 0
    possible_repeat: int = 0
    state: str = CLAIMED
    error: str = ""
    claimed_us: int = 0
    due_us: int = 0
    attempts_before: int = 0

    @property
    def id(self) -> str:
        return self.message.notification_id


decode_parcel = msgspec.json.Decoder(Parcel).decode


def notification_id(about: str, event_type: str, user_id: str, channel: str) -> str:
    """The Message-ID: what it is about (a payment's id), then 16 hex digits of the rest.

    Payment ids grow with time, so rows of one time lie together in the store.
    """
    # Injective: neither of the outer two can hold a '|'.
    text = f"{event_type}|{user_id}|{channel}"
    return f"{about}.{blake2b(text.encode(), digest_size=8).hexdigest()}"


def notification_key(id_: str) -> tuple[str, str]:
    """A notification's key in its two tables: the bucket, and its id."""
    return id_[:_BUCKET_LENGTH], id_


def row_of(parcel: Parcel) -> Row:
    """Its row in NOTIFICATIONS."""
    message = parcel.message
    bucket, id_ = notification_key(message.notification_id)
    return {
        "bucket": bucket,
        "notification_id": id_,
        "payment_id": message.payment_id,
        "event_type": parcel.event_type,
        "user_id": message.user_id,
        "channel": message.channel,
        "template": message.template,
        "state": parcel.state,
        "attempts": parcel.attempts,
        "possible_repeat": parcel.possible_repeat,
        "claimed_at_us": parcel.claimed_us or message.sent_us,
        "ended_at_us": message.sent_us if parcel.state in (SENT, FAILED) else 0,
        "due_at_us": parcel.due_us,
    }


class Shown(msgspec.Struct, frozen=True, gc=False):
    """What an inbox shows of a notification, beside its state."""

    notification_id: str
    channel: str
    template: str
    subject: str
    body: str
    payment_id: str
    at_us: int
    ended_at_us: int = 0
    due_at_us: int = 0


def inbox_row_of(parcel: Parcel) -> Row:
    """Its row in INBOX: the same key whenever it is written."""
    message = parcel.message
    shown = Shown(
        message.notification_id,
        message.channel,
        message.template,
        message.subject,
        message.body,
        message.payment_id,
        parcel.at_us,
        message.sent_us if parcel.state in (SENT, FAILED) else 0,
        parcel.due_us,
    )
    return {
        "hour": parcel.at_us // HOUR_US,
        "part": inbox_part(message.user_id),
        "user_id": message.user_id,
        "place": f"{_END_OF_TIME_US - parcel.at_us:016x}.{message.notification_id}",
        "state": parcel.state,
        "shown": _encode_shown(shown).decode(),
    }


def shown_in_inbox(row: Row) -> Row:
    """A row of INBOX by the names in ``Shown``, with its user_id, place and state."""
    shown = msgspec.structs.asdict(_decode_shown(row["shown"]))
    return {"user_id": row["user_id"], "place": row["place"], "state": row["state"], **shown}


_encode_shown = msgspec.json.Encoder().encode
_decode_shown = msgspec.json.Decoder(Shown).decode


def inbox_hour_row(user_id: str, hour: int) -> Row:
    """The row in INBOX_HOURS that says that there is something in this hour since 1970."""
    return {"user_id": user_id, "month": _month_of_hour(hour), "hours_left": HOURS_END - hour}


def inbox_part(user_id: str) -> int:
    return crc32(user_id.encode()) % INBOX_PARTS


def month_of(time_us: int) -> str:
    """'2026-01', UTC."""
    return _month_of_hour(time_us // HOUR_US)


@lru_cache(64)  # it is asked for each notification
def _month_of_hour(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3_600, UTC):%Y-%m}"


def time_of_place(place: str) -> int:
    """The time that a row's ``place`` in INBOX says; ValueError where it is none."""
    time_us = _END_OF_TIME_US - int(place[:16], 16)
    if not 0 <= time_us < 1 << 52 or place[16:17] != ".":  # until the year 2112
        raise ValueError(f"{place!r:.60} is no place")
    return time_us


def announcement(parcel: Parcel) -> bytes:
    """The event that says it was sent: to the byte the same whenever it is made."""
    message = parcel.message
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
        traceparent=parcel.traceparent,
    )


def stored_rows(store: WideStore, ids: Sequence[str]) -> dict[str, Row]:
    """Rows of NOTIFICATIONS by notification id; those that are there."""
    rows = store.fetch(NOTIFICATIONS, [notification_key(id_) for id_ in ids])
    return {row["notification_id"]: row for row in rows.values()}


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
