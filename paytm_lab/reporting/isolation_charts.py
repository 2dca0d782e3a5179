"""Charts of isolation: two clients step by step, all their orders, and the bank test's totals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import bars, count, figure, line, rupees, sentence
from paytm_lab.web.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED

OUTCOME_LOOK = (("kept", GREEN, ""), ("aborted", ORANGE, "/"), ("lost", RED, "x"))
_SAID_COLOR = {"done": BLUE, "waits": ORANGE, "gives up": RED}
_READER_COLOR = (BLUE, RED, PURPLE, GREY)


def interleaving(history: Any, *, profile: str = "model") -> go.Figure:
    """One order of the clients' steps: a lane each, and what is committed after each step. Takes a
    ``simulation.isolation.History``.
    """
    title = f"{history.level}, order {history.order}"
    steps = history.steps
    clients = sorted({step.client for step in steps})
    if not steps:
        return sentence("Nobody took a step.", title=title, profile=profile)
    lanes = [f"client {name}" for name in clients]
    place = {name: len(clients) - i for i, name in enumerate(clients)}
    numbers = list(range(1, len(steps) + 1))
    traces: list[Any] = [
        go.Scatter(
            x=[n for n, step in zip(numbers, steps, strict=True) if step.said == said],
            y=[place[step.client] for step in steps if step.said == said],
            text=[_words(step) for step in steps if step.said == said],
            mode="markers+text",
            # Neighbours' words would touch on a phone.
            textposition=[
                "top center" if n % 2 else "bottom center"
                for n, step in zip(numbers, steps, strict=True)
                if step.said == said
            ],
            textfont={"size": 11.5, "color": INK},
            marker={"color": color, "size": 13, "symbol": "circle" if said == "done" else "x"},
            name=said,
            cliponaxis=False,
            hovertemplate="step %{x}: %{text}<extra></extra>",
        )
        for said, color in _SAID_COLOR.items()
        if any(step.said == said for step in steps)
    ]
    committed = [rupees(step.committed_paise).removesuffix(".00") for step in steps]
    traces.append(
        go.Scatter(
            x=numbers, y=[0] * len(numbers), text=committed, mode="markers+text",
            textposition="top center", textfont={"size": 11.5, "color": INK}, name="committed",
            marker={"color": GREY, "size": 9, "symbol": "square"}, cliponaxis=False,
            hovertemplate="after step %{x} everybody sees %{text}<extra></extra>",
        )
    )  # fmt: skip
    fig = figure(
        traces,
        title=f"{title}: {_ending(history)}",
        profile=profile,
        x="step (number)",
        y="",
        height=70 + 70 * len(lanes),
    )
    fig.update_xaxes(dtick=1, range=[0.4, len(steps) + 0.6], showgrid=False)
    fig.update_yaxes(
        tickvals=[*place.values(), 0], ticktext=[*lanes, "balance (₹)"],
        range=[-0.4, len(lanes) + 0.8], zeroline=False,
    )  # fmt: skip
    return fig


def _words(step: Any) -> str:
    money = rupees(step.paise).removesuffix(".00")
    words = {"read": f"reads {money}", "write": f"writes {money}", "commit": "commits"}
    if step.said == "waits":
        return f"{step.action}: waits"
    return "gives up" if step.said == "gives up" else words[step.action]


def _ending(history: Any) -> str:
    if history.outcome == "lost":
        return f"{rupees(history.lost_paise)} that was committed is gone"
    if history.outcome == "aborted":
        return "nothing is lost, one client has to try again"
    return "nothing is lost, one client waited" if history.waited else "nothing is lost"


def order_outcomes(
    rows: Sequence[dict[str, Any]],
    measured: Sequence[dict[str, Any]] = (),
    *,
    profile: str = "model",
) -> go.Figure:
    """How all orders end, a bar a level. Takes rows of ``simulation.isolation.count_outcomes``;
    ``measured``: the same of a real engine, drawn as diamonds at the number that were lost.
    """  # fmt: skip
    title = "All orders of two clients"
    if not rows:
        return sentence("No order was played.", title=title, profile=profile)
    frame = pd.DataFrame(rows).iloc[::-1]
    traces: list[Any] = [
        bars(
            frame[outcome],
            frame["level"],
            name=outcome,
            color=color,
            orientation="h",
            text=[str(n) if n else "" for n in frame[outcome]],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": "#ffffff"},
            marker={
                "pattern": {"shape": shape, "size": 8, "solidity": 0.12, "fillmode": "overlay"}
            },
        )
        for outcome, color, shape in OUTCOME_LOOK
    ]
    if measured:
        real = pd.DataFrame(measured)
        ended_well = real["orders"] - real["lost"]
        traces.append(
            go.Scatter(
                x=ended_well, y=real["level"], mode="markers", name="of the real engine, not lost",
                marker={"symbol": "diamond", "size": 12, "color": "#ffffff",
                        "line": {"color": INK, "width": 2}},
                hovertemplate="%{y}: %{x} of the real orders lost nothing<extra></extra>",
            )
        )  # fmt: skip
    worst = frame.loc[frame["lost"].idxmax()]
    fig = figure(
        traces,
        title=f"{title}: {worst['level']} loses an update in {count(worst['lost'])} of"
        f" {count(worst['orders'])}",
        profile=profile,
        x="orders of the steps (number)",
        y="",
        height=60 + 34 * len(frame),
        layout={"barmode": "stack"},
    )
    fig.update_yaxes(ticks="")
    return fig


def bank_totals(
    reads: Iterable[Any],
    total_paise: int = 100_00,
    *,
    x: str = "time since the start (s)",
    profile: str = "embedded",
) -> go.Figure:
    """The total that each read of the bank test saw, a line a reader, against what is there. Takes
    ``simulation.bank_test.Read`` records; ``x`` names the unit of their ``at``.
    """  # fmt: skip
    title = "Bank test"
    frame = pd.DataFrame(
        [(read.reader, read.at, read.total_paise) for read in reads],
        columns=["reader", "at", "total_paise"],
    )
    if frame.empty:
        return sentence("Nobody read, so nothing is known.", title=title, profile=profile)
    traces, said = [], []
    for (reader, part), color in zip(
        frame.groupby("reader", sort=False), _READER_COLOR, strict=False
    ):
        off = int((part["total_paise"] != total_paise).sum())
        said.append(f"{count(off)} of {count(len(part))} {reader}")
        traces.append(
            line(
                part["at"],
                part["total_paise"] / 100,
                name=str(reader),
                color=color,
                mode="lines+markers",
                marker={"size": 6, "symbol": "circle" if not off else "x"},
                hovertemplate="%{x:.2f}: the accounts sum to ₹%{y:,.2f}<extra></extra>",
            )
        )
    fig = figure(
        traces,
        title=f"{title}, reads with a wrong sum: " + ", ".join(said),
        profile=profile,
        x=x,
        y="sum of all accounts (₹)",
        note="dashed: what is there",
    )
    fig.add_hline(y=total_paise / 100, line={"color": GREY, "dash": "dash", "width": 1.5})
    return fig
