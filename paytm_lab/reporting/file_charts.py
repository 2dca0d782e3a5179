"""Charts of a payments file: what was rejected and why, and what too little money would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import bars, count, figure, line, sentence, share
from paytm_lab.web.palette import BLUE, GREEN, ORANGE, RED


def rows_judged(file: Any, *, profile: str = "simulation") -> go.Figure:
    """A judged file (``accepted``, ``collapsed``, ``rejected_by_reason``): what became of its
    rows; those that are payments are said in the title.
    """
    title = "Rows of the file"
    reasons: Mapping[str, int] = file.rejected_by_reason
    bad = {str(reason).replace("_", " "): int(n) for reason, n in reasons.items()}
    if file.collapsed:
        bad["repeats a row"] = int(file.collapsed)
    total = file.accepted + file.collapsed + sum(reasons.values())
    if not bad:
        return sentence(
            f"All {count(total)} rows are payments, none was left out.",
            title=title, profile=profile,
        )  # fmt: skip
    ordered = sorted(bad.items(), key=lambda item: (item[1], item[0]))
    fig = figure(
        [
            bars(
                [n for _, n in ordered],
                [reason for reason, _ in ordered],
                color=[ORANGE if name == "repeats a row" else RED for name, _ in ordered],
                orientation="h",
                text=[f" {count(n)}" for _, n in ordered],
                textposition="outside",
            )
        ],
        title=f"{title}: {count(file.accepted)} of {count(total)} are payments, "
        f"{share(total - file.accepted, total)} are left out",
        profile=profile,
        x="rows left out",
        y="why",
        height=80 + 30 * len(ordered),
        note="red: rejected, with line and reason; orange: the same payment again",
    )
    fig.update_xaxes(range=[0, 1.2 * max(bad.values())], dtick=1 if max(bad.values()) < 8 else None)
    return fig


def refused(rows: Any, opening_rupees: float, *, profile: str = "simulation") -> go.Figure:
    """Payments refused so far for want of money, over the file (rows of
    ``on_paper.spend_in_order``).
    """
    title = f"If everybody began with ₹{count(opening_rupees)}"
    frame = pd.DataFrame(rows)
    if frame.empty:
        return sentence("The file holds no payment.", title=title, profile=profile)
    last = int(frame["refused_so_far"].iloc[-1])
    fig = figure(
        [
            line(
                range(1, len(frame) + 1),
                frame["refused_so_far"],
                color=RED if last else GREEN,
                line={"shape": "hv"},
                customdata=frame["line"],
                hovertemplate="payment %{x:,} (line %{customdata}): %{y:,} refused<extra></extra>",
            )
        ],
        title=f"{title}, {count(last)} of {count(len(frame))} payments would be refused",
        profile=profile,
        x="payments of the file, in its order",
        y="refused so far",
        note="posted one after another",
    )
    fig.update_yaxes(range=[0, max(1.0, 1.08 * last)])
    return fig


def held_by_users(balances: Mapping[str, int], *, profile: str = "embedded") -> go.Figure:
    """What users hold (paise by user id), from the poorest to the richest."""
    title = "What users hold"
    if not balances:
        return sentence("There is no user.", title=title, profile=profile)
    ordered = sorted(balances.items(), key=lambda item: (item[1], item[0]))
    total = sum(balances.values())
    top = sum(paise for _, paise in ordered[-max(1, len(ordered) // 10) :])
    return figure(
        [
            line(
                range(1, len(ordered) + 1),
                [paise / 100 for _, paise in ordered],
                color=BLUE,
                fill="tozeroy",
                text=[user for user, _ in ordered],
                hovertemplate="user %{text}: ₹%{y:,.2f}<extra></extra>",
            )
        ],
        title=f"{title}: the richest tenth of {count(len(ordered))} hold {share(top, total)}",
        profile=profile,
        x="users, poorest first",
        y="balance (₹)",
    )
