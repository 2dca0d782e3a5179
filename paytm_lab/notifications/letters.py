"""A notification as an email: plain text, and the same as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paytm_lab.notifications.channels import Outgoing

_TEMPLATES = Path(__file__).parent / "templates_html"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")
_POLICY = SMTP.clone(cte_type="7bit")  # not every server takes more
SUBJECT_CHARACTERS_MAX = 200


class Letters:
    """``sender``: the From address; its domain is the Message-IDs', too."""

    def __init__(self, sender: str, sender_name: str = "paytm_lab") -> None:
        self.sender = sender
        self._from = Address(sender_name, addr_spec=sender)
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
        )
        self._html: Callable[..., str] = environment.get_template("letter.html").render

    def letter(self, message: Outgoing, to: str) -> bytes:
        """RFC 5322 with CRLF, in ASCII. The Message-ID is the notification's, whenever it is sent;
        what a subject holds stays in the subject.
        """
        letter = EmailMessage(policy=_POLICY)
        subject = one_line(message.subject or message.body)[:SUBJECT_CHARACTERS_MAX]
        letter["Subject"] = subject
        letter["From"] = self._from
        letter["To"] = Address(addr_spec=to)
        letter["Date"] = format_datetime(datetime.fromtimestamp(message.sent_us / 1e6, UTC))
        letter["Message-ID"] = f"<{message_id(message.notification_id, self.sender)}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.body)
        html = self._html(subject=subject, lines=message.body.splitlines())
        letter.add_alternative(html, subtype="html")
        letter.set_boundary(f"=_{message_id(message.notification_id, self.sender)[:60]}")
        return letter.as_bytes()


def one_line(text: str) -> str:
    return _UNSAFE.sub(" ", text).strip()


def message_id(notification_id: str, sender: str) -> str:
    """Of ASCII letters, digits and dots alone: ids of system alerts may hold a part's name."""
    plain = re.sub(r"[^A-Za-z0-9.-]", "_", notification_id)
    return f"{plain}@{sender.rpartition('@')[2]}"
