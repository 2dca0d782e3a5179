"""The store's words as the service's models, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from paytm_lab.core.events import rfc3339
from paytm_lab.notifications import models
from paytm_lab.notifications.dead_letters import DeadLetter
from paytm_lab.notifications.local_provider import Taken
from paytm_lab.notifications.preferences import DEFAULTS, Choice
from paytm_lab.notifications.quiet import QuietHours, minute_of, text_of, zone_of
from paytm_lab.ports.wide_store import Row


def notification(row: Row) -> models.Notification:
    return models.Notification(
        notification_id=row["notification_id"],
        channel=row["channel"],
        template=row["template"],
        subject=row["subject"],
        body=row["body"],
        about=row["payment_id"],
        state=row["state"],
        at=rfc3339(row["at_us"]),
        ended_at=rfc3339(row["ended_at_us"]) if row["ended_at_us"] else None,
        due_at=rfc3339(row["due_at_us"]) if row["state"] == "waiting" else None,
    )


def preferences(user_id: str, choice: Choice) -> models.Preferences:
    quiet = None
    if choice.quiet is not None:
        starts, ends, zone = choice.quiet
        quiet = models.QuietHoursBody(starts=text_of(starts), ends=text_of(ends), zone=zone)
    channels: dict[str, Any] = {o: list(kinds) for o, kinds in choice.channels.items()}
    return models.Preferences(user_id=user_id, quiet_hours=quiet, **channels)


def choice_of(body: models.PreferencesBody) -> Choice:
    """BadInput for hours that are none."""
    channels = {}
    for occasion, default in DEFAULTS.items():
        kinds = getattr(body, occasion)
        channels[occasion] = default if kinds is None else tuple(dict.fromkeys(kinds))
    quiet = None
    if body.quiet_hours is not None:
        hours = body.quiet_hours
        quiet = QuietHours(minute_of(hours.starts), minute_of(hours.ends), hours.zone)
    return Choice(channels, quiet)


def dead_letter(letter: DeadLetter) -> models.DeadLetter:
    message = letter.parcel.message
    kind: Any = message.channel
    return models.DeadLetter(
        notification_id=message.notification_id,
        user_id=message.user_id,
        channel=kind,
        template=message.template,
        about=message.payment_id,
        error=letter.error,
        attempts=letter.attempts,
        failed_at=rfc3339(letter.failed_us),
    )


def provider_message(taken: Taken) -> models.ProviderMessage:
    notice = taken.notice
    return models.ProviderMessage(
        notification_id=notice.notification_id,
        channel=notice.channel,
        user_id=notice.user_id,
        to=notice.to,
        text=notice.text,
        at=rfc3339(taken.at_us),
    )


def shown(row: Row, zone: str) -> dict[str, Any]:
    """A row of the inbox as its page shows it, times in the user's zone."""

    def local(time_us: int) -> str:
        at = datetime.fromtimestamp(time_us / 1e6, UTC).astimezone(zone_of(zone))
        return f"{at:%d %b %Y, %H:%M:%S}"

    head, *rest = (row["subject"] or row["body"]).split("\n")
    return {
        "head": head,
        "body": row["body"] if row["subject"] else "\n".join(rest),
        "channel": {"email": "Email", "sms": "SMS", "push": "Push"}[row["channel"]],
        "state": row["state"],
        "iso": rfc3339(row["at_us"]),
        "at": local(row["at_us"]),
        "ended": local(row["ended_at_us"]) if row["ended_at_us"] else "",
        "due": local(row["due_at_us"]) if row["state"] == "waiting" else "",
        "about": row["payment_id"],
    }
