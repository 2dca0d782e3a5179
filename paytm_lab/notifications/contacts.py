"""Where a user is reached: what they said, else an address of the lab, which leads nowhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from paytm_lab.core.errors import BadInput
from paytm_lab.core.ids import SYSTEM_PREFIX, require_user_id
from paytm_lab.notifications.tables import CONTACTS
from paytm_lab.ports.wide_store import WideStore

LAB_DOMAIN = "lab.invalid"  # RFC 2606: no such domain will ever be
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")  # E.164
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_PLAIN = re.compile(r"[a-z0-9_-]{1,64}")


class Contact(NamedTuple):
    """'' for what the user did not say."""

    email: str = ""
    phone: str = ""
    push_token: str = ""


class Contacts:
    def __init__(self, store: WideStore) -> None:
        self._store = store

    def of(self, user_ids: Sequence[str]) -> dict[str, Contact]:
        """What these users said; nothing for those who said nothing."""
        rows = self._store.fetch(CONTACTS, [(user_id,) for user_id in dict.fromkeys(user_ids)])
        return {
            key[0]: Contact(row["email"] or "", row["phone"] or "", row["push_token"] or "")
            for key, row in rows.items()
        }

    def store(self, user_id: str, contact: Contact) -> None:
        """In place of what was said before. BadInput names what is no address."""
        if not user_id.startswith(SYSTEM_PREFIX):
            require_user_id(user_id)
        require_contact(contact)
        self._store.upsert(CONTACTS, [{"user_id": user_id, **contact._asdict()}])


def require_contact(contact: Contact) -> Contact:
    email, phone, token = contact
    local = email.partition("@")[0]
    encoded = "=?" in email  # RFC 2047: letters are built by what reads that as something else
    if email and (encoded or not _EMAIL.fullmatch(email) or len(email) > 254 or len(local) > 64):
        raise BadInput(
            f"{email!r:.80} is not an email address", place="email",
            remedy="Write it in ASCII, as name@example.com.",
        )  # fmt: skip
    if phone and not _PHONE.fullmatch(phone):
        raise BadInput(
            f"{phone!r:.40} is not a phone number", place="phone",
            remedy="Write it as E.164: + and 7 to 15 digits, country first.",
        )  # fmt: skip
    if token and not _TOKEN.fullmatch(token):
        raise BadInput(
            "the push token is none", place="push_token",
            remedy="It has 1 to 512 visible ASCII characters.",
        )  # fmt: skip
    return contact


def lab_name(user_id: str) -> str:
    """An ASCII name for any user id, another for each. A name with '=' is made, never an id's."""
    if _PLAIN.fullmatch(user_id):
        return user_id
    return f"u={blake2b(user_id.encode(), digest_size=16).hexdigest()}"


def email_of(user_id: str, contact: Contact | None) -> str:
    return (contact.email if contact else "") or f"{lab_name(user_id)}@{LAB_DOMAIN}"
