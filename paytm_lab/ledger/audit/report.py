"""What an audit says: named checks, one verdict."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import msgspec

from paytm_lab.core.errors import IntegrityError

PASSED = "passed"
FAILED = "failed"
UNKNOWN = "unknown"
EXIT_CODES = {PASSED: 0, FAILED: 1, UNKNOWN: 4}
OFFENDERS_MAX = 20


class Check(msgspec.Struct, frozen=True):
    """One named check. ``offenders``: payment ids, user ids or shards, at most ``OFFENDERS_MAX`` of
    ``offenders_total``.
    """

    name: str
    state: str
    detail: str
    offenders: tuple[str, ...] = ()
    offenders_total: int = 0


def checked(
    name: str, offenders: Sequence[str], good: str, bad: str, unknown: Sequence[str] = ()
) -> Check:
    """Failed if there are offenders; else unknown where a part could not be seen; else passed."""
    if offenders:
        total = len(offenders)
        return Check(name, FAILED, f"{total} {bad}", tuple(offenders[:OFFENDERS_MAX]), total)
    if unknown:
        return Check(name, UNKNOWN, "; ".join(unknown))
    return Check(name, PASSED, good)


def verdict_of(checks: Sequence[Check]) -> str:
    """failed before unknown before passed; no check at all is unknown."""
    states = {check.state for check in checks}
    if FAILED in states:
        return FAILED
    return UNKNOWN if UNKNOWN in states or not states else PASSED


class AuditReport(msgspec.Struct, frozen=True):
    """The result of one audit. ``stamp_us``: the closed stamp of a live audit. Amounts in paise.

    ``open_payments``: ids of payments under way, at most ``OFFENDERS_MAX`` of ``open_total``.
    """

    mode: str
    checks: tuple[Check, ...]
    stamp_us: int | None
    shards: int
    entries: int
    payments: int
    events: int | None
    users_paise: int
    funded_paise: int
    receivable_paise: int
    open_payments: tuple[str, ...]
    open_total: int
    open_paise: int
    seconds: float

    @property
    def verdict(self) -> str:
        return verdict_of(self.checks)

    @property
    def exit_code(self) -> int:
        """What a command line returns: 0 passed, 1 failed, 4 unknown."""
        return EXIT_CODES[self.verdict]

    def check(self, name: str) -> Check:
        """The check of that name; KeyError when this audit has none."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def not_passed(self) -> list[Check]:
        return [check for check in self.checks if check.state != PASSED]

    def require_clean(self) -> None:
        """IntegrityError, naming the checks, unless all passed (unknown is not clean either)."""
        if self.verdict == PASSED:
            return
        found = "; ".join(f"{c.name} {c.state}: {c.detail}" for c in self.not_passed())
        error = IntegrityError(f"the audit {self.verdict}: {found}")
        error.exit_code = self.exit_code
        raise error

    def rows(self) -> list[dict[str, Any]]:
        """One plain dict per check, for tables and frames."""
        return [
            {
                "check": check.name,
                "state": check.state,
                "detail": check.detail,
                "offenders": ", ".join(check.offenders),
            }
            for check in self.checks
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, the verdict included."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {"verdict": self.verdict, "exit_code": self.exit_code, **plain}

    def __str__(self) -> str:
        lines = [
            f"{check.state:8}{check.name}: {check.detail}"
            + (f" [{', '.join(check.offenders)}]" if check.offenders else "")
            for check in self.checks
        ]
        return "\n".join([*lines, f"money verdict: {self.verdict}"])

    def _repr_html_(self) -> str:
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row.values()) + "</tr>"
            for row in self.rows()
        )
        return (
            f"<p>Money verdict: <b>{escape(self.verdict)}</b> ({escape(self.mode)})</p><table>"
            "<tr><th>check</th><th>state</th><th>detail</th><th>offenders</th></tr>"
            f"{body}</table>"
        )
