"""Ids: user ids and their grammar, payment ids that know their slot, derived event ids."""

from __future__ import annotations

import os
import random
import unicodedata
from hashlib import blake2b

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput, InvalidUserId

SLOTS = 1024
SYSTEM_PREFIX = "system:"
FUNDING = "system:funding"
RECEIVABLE = "system:receivable"
USER_ID_LENGTH_MAX = 64
TRACEPARENT_LENGTH_MAX = 64
_REMEDY = "A user id is 1-64 characters in Unicode NFC without control characters."


def in_transit(peer_shard: int) -> str:
    """The system account on a shard for money on its way to or from ``peer_shard``."""
    return f"system:in_transit:{peer_shard}"


def require_text(user_id: str) -> str:
    """The same, if it is text; what came in as JSON, or a number of a program, may be anything."""
    if not isinstance(user_id, str):
        raise InvalidUserId(
            f"{user_id!r:.80} is not a user id: it must be text, not {type(user_id).__name__}",
            remedy=f"Write it in quotes. {_REMEDY}",
        )
    return user_id


def require_user_id(user_id: str) -> str:
    """The same text, if it is a user id; InvalidUserId otherwise."""
    require_text(user_id)
    if not 1 <= len(user_id) <= USER_ID_LENGTH_MAX:
        raise InvalidUserId(
            f"{user_id!r:.80} is not a user id: its length is wrong", remedy=_REMEDY
        )
    if user_id.isascii():
        if not user_id.isprintable():
            raise InvalidUserId(f"{user_id!r} holds a control character", remedy=_REMEDY)
    elif any(unicodedata.category(c) in ("Cc", "Cs") for c in user_id):
        raise InvalidUserId(f"{user_id!r} holds a control character or a surrogate", remedy=_REMEDY)
    elif not unicodedata.is_normalized("NFC", user_id):
        raise InvalidUserId(f"{user_id!r} is not in Unicode NFC", remedy=_REMEDY)
    if user_id.startswith(SYSTEM_PREFIX):
        raise InvalidUserId(
            f"{user_id!r} is reserved", remedy=f"Ids must not start with {SYSTEM_PREFIX!r}."
        )
    return user_id


class PaymentIds:
    """Makes UUIDv7 payment ids (RFC 9562, 16 bytes). The 10 bits after the variant are the source
    slot, so that a lookup by id asks one shard; 64 bits are random.

    Give a seeded ``rng`` only where a run must repeat exactly; the default draws from the system.
    """

    def __init__(self, clock: Clock, rng: random.Random | None = None) -> None:
        self._now_us = clock.now_us
        self._seeded = rng is not None
        self._bits = random.Random().getrandbits if rng is None else rng.getrandbits
        self._pid = os.getpid()

    def next(self, slot: int) -> bytes:
        if self._pid != os.getpid() and not self._seeded:
            # A forked child must not draw its parent's numbers again.
            self._bits, self._pid = random.Random().getrandbits, os.getpid()
        bits = self._bits(64)
        return (
            ((self._now_us() // 1000) << 80)
            | 0x7000_8000_0000_0000_0000
            | ((bits >> 52) << 64)
            | (slot << 52)
            | (bits & 0xF_FFFF_FFFF_FFFF)
        ).to_bytes(16, "big")


def slot_of_payment(payment_id: bytes) -> int:
    """The source slot (0..1023) that ``PaymentIds.next`` wrote into the id."""
    return int.from_bytes(payment_id[8:10], "big") >> 4 & 0x3FF


def admitted_at_us(payment_id: bytes) -> int:
    """When ``PaymentIds.next`` made the id, microseconds since 1970 UTC; whole milliseconds."""
    return int.from_bytes(payment_id[:6], "big") * 1000


def payment_id_text(payment_id: bytes) -> str:
    """16 bytes -> the usual text of a UUID."""
    h = payment_id.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def parse_payment_id(text: str) -> bytes:
    """Text as ``payment_id_text`` writes it, in either case -> 16 bytes; BadInput otherwise."""
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except (ValueError, AttributeError):
        raw = b""
    # fromhex passes over spaces, and the dashes stood anywhere: compare with the one right text.
    if (
        len(raw) != 16
        or raw[6] >> 4 != 7
        or raw[8] >> 6 != 2
        or payment_id_text(raw) != text.lower()
    ):
        raise BadInput(
            f"{text!r:.80} is not a payment id",
            remedy="A payment id is the UUID that a payment answered with.",
        )
    return raw


def event_id(subject: str, event_type: str, leg: str = "") -> str:
    """The id of the one event of this type (and leg) about ``subject``: always the same."""
    return f"{subject}.{event_type}.{leg}" if leg else f"{subject}.{event_type}"


def require_traceparent(text: str) -> str:
    """The same text, if an event has room for it (W3C's has 55 characters); BadInput otherwise."""
    if type(text) is not str or not text.isascii() or len(text) > TRACEPARENT_LENGTH_MAX:
        raise BadInput(
            f"{text!r:.80} is not a traceparent",
            remedy=f"Give at most {TRACEPARENT_LENGTH_MAX} ASCII characters, or none.",
        )
    return text


def key_hash(subject: str, from_user_id: str, idempotency_key: str) -> bytes:
    """16 bytes that stand for one Idempotency-Key within its scope (subject, from_user_id)."""
    scope = f"{len(subject)}:{subject}{len(from_user_id)}:{from_user_id}{idempotency_key}"
    try:
        return blake2b(scope.encode(), digest_size=16).digest()
    except UnicodeEncodeError:
        raise BadInput(
            f"{idempotency_key!r:.80} of {subject!r:.80} is not a key: it holds a surrogate",
            remedy="A key is any text that is Unicode.",
        ) from None
