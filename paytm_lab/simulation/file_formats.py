"""Which column of a payments file means what: by name, by ``--map``, by a known public header."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from paytm_lab.core.errors import InvalidSetting, MalformedFile

FIELDS = ("from", "to", "amount", "id", "time", "opening", "opening_to")
REQUIRED = ("from", "to", "amount")
# Files that count hours or seconds from their own start are laid on the calendar from here.
FILE_START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "from": ("from_user_id", "from_user", "from", "sender_id", "sender", "payer_id", "payer"),
    "to": ("to_user_id", "to_user", "to", "receiver_id", "receiver", "payee_id", "payee"),
    "amount": ("amount", "amount_rupees", "amount_paise"),
    "id": ("payment_id", "transaction_id", "idempotency_key", "id"),
    "time": ("at_us", "at", "time", "timestamp", "datetime", "created_at"),
    "opening": ("opening", "opening_balance", "opening_paise"),
    "opening_to": ("opening_to", "opening_balance_to", "opening_to_paise"),
}


@dataclass(frozen=True, slots=True)
class Format:
    """A public header. ``reversed_column``/``reversed_value``: rows whose money flows the other
    way.
    """

    name: str
    columns: Mapping[str, str]
    to_prefix: str = ""
    reversed_column: str = ""
    reversed_value: str = ""
    note: str = ""


_PAYSIM_NOTE = (
    "Each step is an hour. CASH_IN rows pay from nameDest to nameOrig: cash goes in at a merchant."
)
FORMATS = (
    Format(
        "PaySim",
        {
            "from": "nameOrig",
            "to": "nameDest",
            "amount": "amount",
            "time": "step",
            "opening": "oldbalanceOrg",
            "opening_to": "oldbalanceDest",
        },
        reversed_column="type",
        reversed_value="CASH_IN",
        note=_PAYSIM_NOTE,
    ),
    Format(  # the log that the simulator itself writes
        "PaySim",
        {
            "from": "nameOrig",
            "to": "nameDest",
            "amount": "amount",
            "time": "step",
            "opening": "oldBalanceOrig",
            "opening_to": "oldBalanceDest",
        },
        reversed_column="action",
        reversed_value="CASH_IN",
        note=_PAYSIM_NOTE,
    ),
    Format(
        "AMLSim",
        {
            "from": "orig_acct",
            "to": "bene_acct",
            "amount": "base_amt",
            "id": "tran_id",
            "time": "tran_timestamp",
        },
    ),
    Format(
        "Fraud-Detection-Handbook",
        {
            "from": "CUSTOMER_ID",
            "to": "TERMINAL_ID",
            "amount": "TX_AMOUNT",
            "id": "TRANSACTION_ID",
            "time": "TX_DATETIME",
        },
        to_prefix="terminal:",
        note="Terminals become users 'terminal:ID'.",
    ),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a file's fields are: ``at[field]`` is the column's position, ``names[field]`` its name.
    ``format_name``: the public header it was recognised by, or ''.
    """

    at: dict[str, int]
    names: dict[str, str]
    count: int
    format_name: str = ""
    to_prefix: str = ""
    reversed_at: int = -1
    reversed_value: str = ""
    notes: tuple[str, ...] = field(default=())


def parse_mapping(text: str | Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    """``'from=nameOrig,to=nameDest'`` (or several such texts, or a dict) -> field -> column name.

    A field with an empty column (``id=``) is not read at all. Raises InvalidSetting for another
    field, a field named twice, and for one column as both payer and payee.
    """
    remedy = f"Write FIELD=COLUMN,... where FIELD is one of: {', '.join(FIELDS)}."
    if text is None:
        return {}
    if isinstance(text, Mapping):
        pairs = [(str(name), str(column)) for name, column in text.items()]
    else:
        joined = text if isinstance(text, str) else ",".join(text)
        parts = [part for part in joined.split(",") if part.strip()]
        pairs = []
        for part in parts:
            name, equals, column = part.partition("=")
            if not equals:
                raise InvalidSetting(f"--map {part.strip()!r:.80} names no column", remedy=remedy)
            pairs.append((name.strip(), column.strip()))
    mapping: dict[str, str] = {}
    for name, column in pairs:
        if name not in FIELDS:
            raise InvalidSetting(f"--map knows no field {name!r:.40}", remedy=remedy)
        if name in mapping:
            raise InvalidSetting(f"--map names the field {name!r} twice", remedy=remedy)
        if name in REQUIRED and not column:
            raise InvalidSetting(
                f"--map {name}= names no column, and a payment needs one", remedy=remedy
            )
        mapping[name] = column
    if mapping.get("from") and mapping.get("from") == mapping.get("to"):
        raise InvalidSetting(
            f"--map takes payer and payee from one column, {mapping['from']!r:.40}", remedy=remedy
        )
    return mapping


def resolve(header: Sequence[str], mapping: Mapping[str, str], place: str) -> Columns:
    """Finds each field's column: as mapped, else as the public header says, else by a usual name.

    Raises MalformedFile for a missing or ambiguous column, naming what was found and what to map.
    """
    known = _recognise(header)
    names: dict[str, str] = {}
    at: dict[str, int] = {}
    missing: list[str] = []
    for wanted in FIELDS:
        column = mapping.get(wanted)
        if column is None:
            column = known.columns.get(wanted, "") if known else _usual_name(wanted, header)
            if column not in header:
                column = ""
        if column:
            at[wanted] = _position(wanted, column, header, place)
            names[wanted] = header[at[wanted]]
        elif wanted in REQUIRED:
            missing.append(wanted)
    if missing:
        raise MalformedFile(
            f"No column is known as {' or '.join(map(repr, missing))}; found: {_found(header)}",
            place=place,
            remedy=f"Give --map {','.join(f'{name}=COLUMN' for name in missing)}.",
        )
    if at["from"] == at["to"]:
        raise MalformedFile(
            f"Payer and payee are one column, {names['from']!r:.40}; found: {_found(header)}",
            place=place,
            remedy="Give --map from=COLUMN,to=COLUMN.",
        )
    if known is None or "from" in mapping or "to" in mapping:
        return Columns(at, names, len(header))
    reverses = known.reversed_column in header
    return Columns(
        at,
        names,
        len(header),
        known.name,
        known.to_prefix,
        header.index(known.reversed_column) if reverses else -1,
        known.reversed_value,
        (known.note,) if known.note else (),
    )


def _recognise(header: Sequence[str]) -> Format | None:
    """The public format with payer, payee and amount in this header; of several the best match."""
    there = set(header)
    fitting = [f for f in FORMATS if all(f.columns[name] in there for name in REQUIRED)]
    return max(fitting, key=lambda f: len(there.intersection(f.columns.values())), default=None)


def _usual_name(wanted: str, header: Sequence[str]) -> str:
    folded = {name.strip().casefold(): name for name in reversed(header)}
    return next((folded[usual] for usual in USUAL_NAMES[wanted] if usual in folded), "")


def _position(wanted: str, column: str, header: Sequence[str], place: str) -> int:
    """Exactly so named, else the same name without regard to case and outer blanks."""
    found = [i for i, name in enumerate(header) if name == column]
    if not found:
        folded = column.strip().casefold()
        found = [i for i, name in enumerate(header) if name.strip().casefold() == folded]
    if len(found) != 1:
        how_many = "There is no column" if not found else f"{len(found)} columns are named"
        raise MalformedFile(
            f"{how_many} {column!r:.60}; found: {_found(header)}",
            place=place,
            remedy=f"Give --map {wanted}=COLUMN with a name that is there once.",
        )
    return found[0]


def _found(header: Sequence[str]) -> str:
    names = [f"{name:.40}" for name in header[:20]]
    return ", ".join(names) + (f", and {len(header) - 20} more" if len(header) > 20 else "")


def time_reader(column: str) -> Callable[[str], int]:
    """How a time column's text becomes microseconds since 1970 UTC; the reader raises ValueError.

    ``step`` (PaySim) counts hours from 1. A name ending in ``_us``, ``_ms`` or ``_s`` says its
    unit. Else whole numbers are seconds, milliseconds or microseconds since 1970 by their size, and
    anything else is an ISO 8601 date and time (UTC where no offset is given).
    """
    name = column.strip().casefold()
    if name == "step":
        return lambda text: FILE_START_US + (whole_number(text) - 1) * 3_600_000_000
    for suffix, factor in (("_us", 1), ("_ms", 1_000), ("_s", 1_000_000)):
        if name.endswith(suffix):
            return lambda text, factor=factor: whole_number(text) * factor  # type: ignore[misc]
    return _by_size_or_iso


def whole_number(text: str) -> int:
    """1-16 ASCII digits -> their number; ValueError for anything else."""
    if not _DIGITS.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _by_size_or_iso(text: str) -> int:
    if _DIGITS.fullmatch(text):
        number = int(text)
        for low, high, factor in ((8, 11, 1_000_000), (11, 14, 1_000), (14, 17, 1)):
            if 10**low <= number < 10**high:
                return number * factor
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    at_us = (moment - _EPOCH) // _MICROSECOND
    if at_us < 0:
        raise ValueError(text)
    return at_us
