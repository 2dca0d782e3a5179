"""What the errors of a server's client mean to the lab: a table for each client, read here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from paytm_lab.core.errors import PaytmLabError

# The lab's error, what happened in words, and what to do about it ('' where nobody can say).
Meaning = tuple[type[PaytmLabError], str, str]
# The same behind the client's error that means it.
Row = tuple[type[Exception], type[PaytmLabError], str, str]
_DETAIL_LENGTH_MAX = 500  # a broker may answer with a whole page


class ErrorTable:
    """The first row that fits counts: subclasses come before what they are derived from. A client
    with more to it than its errors' classes overrides ``meaning`` or ``core_error``.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = tuple(rows)
        self._kinds = tuple(row[0] for row in rows)

    def meaning(self, error: Exception) -> Meaning | None:
        """None for an error of nobody the table knows."""
        return next((row[1:] for row in self._rows if isinstance(error, row[0])), None)

    def core_error(self, error: Exception, place: str) -> PaytmLabError:
        """The lab's error for one of the client's; its class and words are kept in the message.
        Raises ``error`` itself where the table does not know it.
        """
        meaning = self.meaning(error)
        if meaning is None:
            raise error
        kind, message, remedy = meaning
        words = str(error)
        detail = f"{type(error).__name__}: {words}" if words else type(error).__name__
        return kind(f"{message} ({detail:.{_DETAIL_LENGTH_MAX}})", place=place, remedy=remedy)

    @contextmanager
    def translated(self, place: str) -> Iterator[None]:
        """Errors of the client leave the block as errors of the lab, others as they are."""
        try:
            yield
        except self._kinds as error:
            raise self.core_error(error, place) from error
