"""SMS and push by an HTTP provider: one signed POST a notification.

The signature is Stripe's form, ``t=SECONDS,v1=HEX``: HMAC-SHA256 over the time, a dot and the body,
so that neither can be changed, and an old one is known as old. ``Idempotency-Key`` is the
notification's id: a provider that keeps it sends once, however often it is asked.
"""

from __future__ import annotations

import hmac
import http.client
import ssl
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import InvalidSetting, Unauthenticated, Unavailable
from paytm_lab.notifications.channels import TAKEN, Answer, Outgoing, Verdict
from paytm_lab.notifications.contacts import Contact, Contacts
from paytm_lab.notifications.cutoff import cutoff

SIGNATURE = "Paytm-Lab-Signature"
IDEMPOTENCY_KEY = "Idempotency-Key"
TOLERANCE_S = 300
BATCH_S_MAX = 5.0
_ANSWER_BYTES_MAX = 65_536
_AGAIN = (408, 409, 425, 429)  # of 4xx, those that say "not now"


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST. ``to``: a phone number (E.164) or push token, '' where the user gave
    none: then the provider finds them by ``user_id``, or refuses.
    """

    notification_id: str
    channel: str
    user_id: str
    to: str
    text: str
    template: str
    payment_id: str


class Provider(NamedTuple):
    """``url``: where to POST. ``timeout_s``: of one answer, in all."""

    url: str
    secret: bytes
    timeout_s: float = 5.0


def signature(secret: bytes, body: bytes, at_s: int) -> str:
    """The header's value."""
    digest = hmac.new(secret, str(at_s).encode() + b"." + body, sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def require_signed(secret: bytes, header: str, body: bytes, now_s: int) -> None:
    """Unauthenticated for a body that this secret's holder did not sign within ``TOLERANCE_S``."""
    parts = dict(part.partition("=")[::2] for part in header[:200].split(","))
    at = parts.get("t", "")
    plain = at.isascii() and at.isdigit() and len(at) <= 12
    if not plain or not hmac.compare_digest(
        signature(secret, body, int(at)).encode(), f"t={at},v1={parts.get('v1', '')}".encode()
    ):
        raise Unauthenticated(
            "the signature is not the body's", place=f"header.{SIGNATURE}",
            remedy="Sign the time, a dot and the body with the shared secret.",
        )  # fmt: skip
    if abs(now_s - int(at)) > TOLERANCE_S:
        raise Unauthenticated(
            "the signature is too old, or of a time to come", place=f"header.{SIGNATURE}",
            remedy="Set the clock, and sign each request anew.",
        )  # fmt: skip


class WebhookChannel:
    """A ``channels.Channel`` for sms and push: one connection a batch."""

    def __init__(
        self,
        provider: Provider,
        contacts: Contacts,
        clock: Clock,
        *,
        batch_s_max: float = BATCH_S_MAX,
    ) -> None:
        address = urlsplit(provider.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InvalidSetting(
                f"{provider.url!r:.200} is not the address of a provider",
                remedy="Give an http or https URL.",
            )
        self._provider = provider
        self._tls = address.scheme == "https"
        self._host, self._port = address.hostname, address.port
        self._path = (address.path or "/") + (f"?{address.query}" if address.query else "")
        self._contacts = contacts
        self._clock = clock
        self._batch_s_max = batch_s_max

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        contacts = self._contacts.of([message.user_id for message in messages])
        until_s = self._clock.monotonic_s() + self._batch_s_max
        connection = self._connection()
        answers: list[Answer] = []
        try:
            for message in messages:
                if self._clock.monotonic_s() >= until_s:
                    break
                answer = self._post(connection, notice_of(message, contacts.get(message.user_id)))
                if answer.verdict is Verdict.AWAY:
                    if not answers:
                        raise Unavailable(answer.why, place=self._provider.url)
                    break
                answers.append(answer)
                if answer.verdict is Verdict.UNKNOWN:
                    break  # the next would wait as long
        finally:
            connection.close()
        rest = len(messages) - len(answers)
        return answers + [Answer(Verdict.AWAY, "the provider stopped answering")] * rest

    def _connection(self) -> http.client.HTTPConnection:
        timeout_s = self._provider.timeout_s
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)

    def _post(self, connection: http.client.HTTPConnection, notice: Notice) -> Answer:
        body = msgspec.json.encode(notice)
        headers = {
            "Content-Type": "application/json",
            IDEMPOTENCY_KEY: notice.notification_id,
            SIGNATURE: signature(self._provider.secret, body, self._clock.now_us() // 1_000_000),
        }
        with cutoff(lambda: connection.sock, self._provider.timeout_s) as fired:
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError as error:
                return Answer(Verdict.AWAY, f"the provider cannot be reached: {error}")
            try:
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                said = response.read(_ANSWER_BYTES_MAX)
                if fired.is_set() or (response.length and len(said) < _ANSWER_BYTES_MAX):
                    raise http.client.IncompleteRead(said)
                if not response.isclosed():
                    connection.close()  # there is more of it than anybody reads
            except (OSError, http.client.HTTPException) as error:
                # Asked, and not answered: the Idempotency-Key makes a repeat harmless.
                with suppress(OSError):
                    connection.close()
                return Answer(Verdict.UNKNOWN, f"no answer: {error!r}")
        return _answer(response.status, said)


def notice_of(message: Outgoing, contact: Contact | None) -> Notice:
    to = ""
    if contact is not None:
        to = contact.phone if message.channel == "sms" else contact.push_token
    text = message.body if not message.subject else f"{message.subject}\n{message.body}"
    return Notice(
        message.notification_id,
        message.channel,
        message.user_id,
        to,
        text,
        message.template,
        message.payment_id,
    )


def _answer(status: int, said: bytes) -> Answer:
    if 200 <= status < 300:
        return TAKEN
    why = f"{status} {said[:200].decode(errors='replace')}"
    later = status in _AGAIN or not 400 <= status < 500
    return Answer(Verdict.LATER if later else Verdict.REFUSED, why)
