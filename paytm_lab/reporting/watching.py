"""A deterministic lab watched step by step: what each step did, and what one could see after it.

``lab`` is an open ``paytm_lab.Lab(deterministic=True)``; the functions only step it and look.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pandas as pd

from paytm_lab.core.errors import AccountExists, BadInput
from paytm_lab.core.money import format_rupees
from paytm_lab.ledger.shard_writer import SimulatedCrash

STEPS_MAX = 2_000
_IDLE_MAX = 20


def submit_all(lab: Any, workload: Any) -> list[Any]:
    """Open the workload's accounts (those that exist keep theirs), then submit all its payments and
    step no further. Returns their tickets.
    """
    for user_id, opening_paise in workload.openings(lab.seed).items():
        with suppress(AccountExists):
            lab.create_account(user_id, format_rupees(opening_paise))
    lab.drain()
    return [
        lab.submit(row.from_user_id, row.to_user_id, format_rupees(row.amount_paise))
        for batch in workload.rows(lab.seed)
        for row in batch
    ]


def payment_steps(lab: Any, ticket: Any, until: str = "") -> pd.DataFrame:
    """Step until ``until`` is the payment's status (or nothing moves any more); a row each step.

    Columns: actor, handled, status, users_paise (what all users hold), in_transit_paise (what left
    a sender and has not arrived). BadInput when the status is not reached.
    """
    before = _status(lab, ticket.payment_id)
    total = sum(lab.balances().values())
    if before[0] == "PENDING":
        total += before[1]
    rows: list[dict[str, Any]] = []
    for moved in _steps(lab):
        held = sum(lab.balances().values())
        status, _ = _status(lab, ticket.payment_id)
        rows.append(
            {
                "actor": moved.actor,
                "handled": moved.handled,
                "status": status,
                "users_paise": held,
                "in_transit_paise": total - held,
            }
        )
        if status == until:
            break
    else:
        if until:
            raise BadInput(f"the payment never became {until}", remedy="See the last status.")
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="step"))


def backlog_steps(lab: Any) -> pd.DataFrame:
    """Step until nothing moves any more; a row each step, for ``charts.backlog``.

    Columns: at_s (simulated seconds since now), outbox (rows waiting on all shards), and how far
    each consumer is behind the log's end.
    """
    system = lab.system
    start_us = system.clock.now_us()
    rows = [_backlog(system, start_us)]
    rows += [_backlog(system, start_us) for _ in _steps(lab)]
    return pd.DataFrame(rows)


def _steps(lab: Any) -> Any:
    idle = 0
    for _ in range(STEPS_MAX):
        try:
            moved = lab.step()
        except SimulatedCrash:
            return
        if moved is not None:
            idle = 0
            yield moved
        elif lab.crashed_at:
            return
        else:
            # Lazy work (a finished payment's last leg) waits for time to pass, not for a step.
            idle += 1
            lab.system.clock.advance(0.01)
            if idle > _IDLE_MAX:
                return


def _status(lab: Any, payment_id: str) -> tuple[str, int]:
    try:
        outcome = lab.status(payment_id)
    except BadInput:
        return "not written yet", 0
    return str(outcome.status), int(outcome.amount)


def _backlog(system: Any, start_us: int) -> dict[str, Any]:
    return {
        "at_s": (system.clock.now_us() - start_us) / 1e6,
        "outboxes": sum(database.outbox_rows() for database in system.databases.values()),
        **{f"consumer {group}": system.lag(group) for group in system.runners},
    }


def crash_steps(lab: Any, kind: str, amount_rupees: int = 250) -> pd.DataFrame:
    """One payment across shards in a deterministic lab, the process killed by the fault ``kind`` on
    the way, then recovered and stepped to the end. The lab is opened and closed here.

    Columns: step, what, after_recovery, and where the payment's money is (sender_paise,
    in_transit_paise, receiver_paise). ``attrs``: point, ended, known (the ledger had heard of it).
    """
    with lab:
        for user in ("1", "2"):
            lab.create_account(user, amount_rupees)
        lab.drain()
        ticket = lab.submit("1", "2", amount_rupees)
        rows = [_where(lab, amount_rupees, "asked for", False)]
        with lab.fault("process", kind):
            rows += [_where(lab, amount_rupees, str(moved), False) for moved in _steps(lab)]
        point = lab.crashed_at
        if not point:
            raise BadInput(f"no payment came to {kind}", remedy="Take one of the first five.")
        rows.append(_where(lab, amount_rupees, "killed", False))
        lab.recover()
        rows.append(_where(lab, amount_rupees, "opened again", True))
        rows += [_where(lab, amount_rupees, str(moved), True) for moved in _steps(lab)]
        ended = _status(lab, ticket.payment_id)[0].replace("not written yet", "never written")
    frame = pd.DataFrame(rows)
    frame.insert(0, "step", range(len(frame)))
    frame.attrs |= {"point": point, "ended": ended}
    return frame


def _where(lab: Any, amount_rupees: int, what: str, after_recovery: bool) -> dict[str, Any]:
    held = lab.balances()
    amount = 100 * amount_rupees
    sender, receiver = held["1"], held["2"] - amount
    return {
        "what": what,
        "after_recovery": after_recovery,
        "sender_paise": sender,
        "in_transit_paise": amount - sender - receiver,
        "receiver_paise": receiver,
    }
