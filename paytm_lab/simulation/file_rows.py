"""One record of a payments file -> one payment, or the reason why it is none."""

from __future__ import annotations

from typing import NamedTuple

from paytm_lab.core.clock import require_time_us
from paytm_lab.core.errors import BadInput
from paytm_lab.core.ids import require_user_id
from paytm_lab.core.money import parse_rupees, require_amount
from paytm_lab.simulation.csv_records import Record
from paytm_lab.simulation.file_formats import Columns, time_reader, whole_number

ID_LENGTH_MAX = 255
UNKNOWN = -1
VALID_USERS_MAX = 100_000  # ids checked already; forgetting them costs only time


class Row(NamedTuple):
    """Openings are paise, or UNKNOWN where the row does not say."""

    from_user_id: str
    to_user_id: str
    amount_paise: int
    at_us: int | None
    id: str
    opening_paise: int
    opening_to_paise: int


class BadRow(Exception):
    """``reason``: a stable code; ``value``: the text that is to blame."""

    def __init__(self, reason: str, value: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value


class RowReader:
    """Reads the fields that ``columns`` names; the same record always gives the same answer.
    ``spaced``: the first user id so far that begins or ends with a space; '' for none.
    """

    def __init__(self, columns: Columns) -> None:
        at = columns.at
        self._columns = columns
        self._from, self._to, self._amount = at["from"], at["to"], at["amount"]
        self._id, self._time = at.get("id"), at.get("time")
        self._opening, self._opening_to = at.get("opening"), at.get("opening_to")
        self._paise = {name: _is_paise(column) for name, column in columns.names.items()}
        self._read_time = time_reader(columns.names.get("time", ""))
        self._valid: set[str] = set()
        self.spaced = ""

    def try_read(self, record: Record) -> Row | BadRow:
        """The payment, or what is wrong: the record's own reason or one of ``read``'s."""
        if record.reason:
            return BadRow(record.reason, "")
        try:
            return self.read(record.fields)
        except BadRow as bad:
            return bad

    def read(self, fields: list[str]) -> Row:
        """Raises BadRow: bad_user_id, same_account, bad_amount, zero_amount, bad_time, bad_id,
        overlong_field (of an id), bad_opening.
        """
        columns = self._columns
        payer, payee = fields[self._from], columns.to_prefix + fields[self._to]
        opening = _opening(fields, self._opening, self._paise.get("opening", False))
        opening_to = _opening(fields, self._opening_to, self._paise.get("opening_to", False))
        if columns.reversed_at >= 0 and fields[columns.reversed_at] == columns.reversed_value:
            payer, payee, opening, opening_to = payee, payer, opening_to, opening
        self._require_user(payer)
        self._require_user(payee)
        if payer == payee:
            raise BadRow("same_account", payer)
        text = fields[self._amount]
        try:
            amount_paise = _amount(text, self._paise["amount"])
        except (BadInput, ValueError):
            raise BadRow("bad_amount", text) from None
        if not amount_paise:
            raise BadRow("zero_amount", text)
        return Row(
            payer,
            payee,
            amount_paise,
            self._at_us(fields),
            self._id_of(fields),
            opening,
            opening_to,
        )

    def _require_user(self, user_id: str) -> None:
        if user_id in self._valid:
            return
        try:
            require_user_id(user_id)
        except BadInput:
            raise BadRow("bad_user_id", user_id) from None
        if user_id != user_id.strip():
            self.spaced = self.spaced or user_id
        if len(self._valid) >= VALID_USERS_MAX:
            self._valid.clear()
        self._valid.add(user_id)

    def _at_us(self, fields: list[str]) -> int | None:
        if self._time is None:
            return None
        try:
            return require_time_us(self._read_time(fields[self._time]))
        except (ValueError, OverflowError, BadInput):
            raise BadRow("bad_time", fields[self._time]) from None

    def _id_of(self, fields: list[str]) -> str:
        if self._id is None:
            return ""
        text = fields[self._id]
        if len(text) > ID_LENGTH_MAX:
            raise BadRow("overlong_field", text)
        if not text or not text.isprintable():
            raise BadRow("bad_id", text)
        return text


def _is_paise(column: str) -> bool:
    return column.strip().casefold().endswith("_paise")


def _amount(text: str, is_paise: bool) -> int:
    return require_amount(whole_number(text)) if is_paise else parse_rupees(text)


def _opening(fields: list[str], at: int | None, is_paise: bool) -> int:
    if at is None or not fields[at]:
        return UNKNOWN
    try:
        return _amount(fields[at], is_paise)
    except (BadInput, ValueError):
        raise BadRow("bad_opening", fields[at]) from None
