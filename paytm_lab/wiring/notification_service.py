"""What the notification service needs of a running lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paytm_lab.notifications import service as notification
from paytm_lab.notifications.contacts import Contacts
from paytm_lab.notifications.dead_letters import DeadLetters
from paytm_lab.notifications.local_provider import LocalProvider
from paytm_lab.notifications.parts import Parts
from paytm_lab.notifications.user_inbox import UserInbox
from paytm_lab.web.app import Application
from paytm_lab.web.metrics import Metrics
from paytm_lab.wiring.channels import OPERATORS, webhook_secret

if TYPE_CHECKING:
    from paytm_lab.wiring.services import Services


def notification_service(services: Services) -> Application:
    system, settings = services.system, services.settings
    delivery = system.notifying.delivery
    apart = tuple(f"shard-{shard}" for shard in system.databases)  # nothing of it lies there
    parts = Parts(
        system.notifications.preferences,
        Contacts(system.wide),
        UserInbox(system.wide, system.clock),
        DeadLetters(system.wide, delivery.waiting, system.clock),
        delivery,
        LocalProvider(webhook_secret(settings, system.folder), system.clock, system.cache),
        system.clock,
        OPERATORS,
        {name: check for name, check in system.checks().items() if name not in apart},
    )
    return notification.make_service(
        parts, services.callers, Metrics("notification"), settings.body_bytes_max
    )
