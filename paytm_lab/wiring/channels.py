"""What carries notifications out, as the settings say, and the parts that use it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from paytm_lab.config import Settings
from paytm_lab.config_servers import addresses
from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import InvalidSetting
from paytm_lab.notifications.channels import (
    Channel,
    ConsoleChannel,
    FileChannel,
    MemoryChannel,
)
from paytm_lab.notifications.consumer import NotificationConsumer
from paytm_lab.notifications.contacts import Contacts
from paytm_lab.notifications.delivery import Delivery
from paytm_lab.notifications.preferences import ChannelKind
from paytm_lab.notifications.sweeper import Sweeper
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.wide_store import WideStore
from paytm_lab.wiring.secret_files import secret_of

Plain = ConsoleChannel | FileChannel | MemoryChannel
OPERATORS = "system:operators"  # nobody can register under such a name
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - to listen on, not to call


class Notifying:
    """The notifications' consumer and sweeper. ``channel``: where they go unless a setting of
    their kind says otherwise.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        wide: WideStore,
        log: EventLog,
        clock: Clock,
        coordination: Coordination,
    ) -> None:
        self.channel = _plain(settings.notification_channel, folder, clock)
        self._plain: dict[str, Plain] = {settings.notification_channel: self.channel}
        contacts = Contacts(wide)
        chosen = {
            "email": settings.notification_email,
            "sms": settings.notification_sms,
            "push": settings.notification_push,
        }
        channels: dict[str, Channel] = {}
        for kind in map(str, ChannelKind):
            name = chosen[kind] or settings.notification_channel
            if name == "smtp":
                channels[kind] = _smtp(settings, contacts, clock)
            elif name == "http":
                channels[kind] = _webhook(settings, kind, folder, contacts, clock)
            else:
                if name not in self._plain:
                    self._plain[name] = _plain(name, folder, clock)
                channels[kind] = self._plain[name]
        self.delivery = Delivery(
            wide,
            channels,
            log,
            clock,
            attempts_max=settings.notification_attempts_max,
            backoff_s=settings.notification_backoff_s,
        )
        self.consumer = NotificationConsumer(
            wide, channels, log, clock,
            delivery=self.delivery,
            alert_users=alert_users(settings),
        )  # fmt: skip
        self.sweeper = Sweeper(wide, self.delivery, coordination, clock)

    def close(self) -> None:
        self.sweeper.close()
        for channel in self._plain.values():
            if isinstance(channel, FileChannel):
                channel.close()


def alert_users(settings: Settings) -> list[str]:
    """Whom system alerts go to: the operators' own inbox, and who is named."""
    named = [user.strip() for user in settings.notification_alert_users.split(",")]
    return [OPERATORS, *(user for user in named if user)]


def webhook_secret(settings: Settings, folder: Path) -> bytes:
    """What SMS and push are signed with: the setting, or the lab's own."""
    given = settings.notification_http_secret
    if given is not None and given.get_secret_value():
        return given.get_secret_value().encode()
    return secret_of(folder / "notifications" / "webhook.secret")


def _plain(name: str, folder: Path, clock: Clock) -> Plain:
    if name == "file":
        return FileChannel(folder / "inbox", clock)
    return ConsoleChannel() if name == "console" else MemoryChannel()


def _smtp(settings: Settings, contacts: Contacts, clock: Clock) -> Channel:
    # Templates and the rules of letters take a twentieth of a process's start.
    from paytm_lab.notifications.letters import Letters
    from paytm_lab.notifications.smtp import Server, SmtpChannel

    (address,) = addresses(settings.notification_smtp_server)
    password = settings.notification_smtp_password
    if settings.notification_smtp_user and password is None:
        raise InvalidSetting(
            "notification_smtp_user has no password", remedy="Set notification_smtp_password."
        )
    plain = settings.notification_smtp_tls == "none"
    if settings.notification_smtp_user and plain and not _is_here(address.host):
        raise InvalidSetting(
            "a password would go to the mail server for everybody to read",
            place=str(address),
            remedy="Set notification_smtp_tls to starttls or implicit.",
        )
    server = Server(
        address.host,
        address.port,
        settings.notification_smtp_tls,
        str(settings.notification_smtp_ca or ""),
        settings.notification_smtp_user,
        password.get_secret_value() if password else "",
        settings.notification_smtp_timeout_s,
    )
    return SmtpChannel(server, Letters(settings.notification_smtp_from), contacts, clock)


def _webhook(
    settings: Settings, kind: str, folder: Path, contacts: Contacts, clock: Clock
) -> Channel:
    from paytm_lab.notifications.webhook import Provider, WebhookChannel

    host = "127.0.0.1" if settings.host in EVERYWHERE else settings.host
    base = settings.notification_http_url or f"http://{host}:{settings.notification_port}/provider"
    provider = Provider(
        f"{base.rstrip('/')}/{kind}",
        webhook_secret(settings, folder),
        settings.notification_http_timeout_s,
    )
    return WebhookChannel(provider, contacts, clock)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
