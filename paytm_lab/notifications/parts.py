"""What the notification service needs of a running lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.notifications.contacts import Contacts
from paytm_lab.notifications.dead_letters import DeadLetters
from paytm_lab.notifications.delivery import Delivery
from paytm_lab.notifications.local_provider import LocalProvider
from paytm_lab.notifications.preferences import Preferences
from paytm_lab.notifications.user_inbox import UserInbox


class Parts(NamedTuple):
    """``operators``: the user under whose name system alerts go; ``checks``: a round trip to each
    part that the service stands on, by name.
    """

    preferences: Preferences
    contacts: Contacts
    inbox: UserInbox
    dead_letters: DeadLetters
    delivery: Delivery
    provider: LocalProvider
    clock: Clock
    operators: str
    checks: Mapping[str, Callable[[], object]]
