"""Charts of a run: shards, throughput, latency, the cost of crossing, hours, outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from paytm_lab.core.errors import BadInput
from paytm_lab.reporting import frames
from paytm_lab.reporting.look import bars, count, figure, line, log_axis, sentence, share
from paytm_lab.web.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, RED

PATH_LOOK = ((False, "same shard", BLUE, "solid"), (True, "cross shard", ORANGE, "dash"))
_BALANCE_BY = {
    "accounts": ("accounts", "accounts", 1),
    "balance": ("balance_paise", "users' money (₹)", 100),
    "payments": ("payments", "payments sent from the shard", 1),
    "load": ("entries", "ledger entries written (rows)", 1),
}
# So few accounts are uneven by chance; so far above the mean is none of many by chance.
_ACCOUNTS_MIN, _CROWDED = 50, 1.5
_QUANTILES = 1 - np.logspace(0, -4, 161)  # 0 to 99.99 %, evenly spaced in nines


def shard_balance(
    shards: pd.DataFrame, *, by: str = "accounts", profile: str = "embedded"
) -> go.Figure:
    """Bars, one a shard, against the even share. ``by``: accounts | balance | payments | load."""
    if by not in _BALANCE_BY:
        raise BadInput(
            f"shards cannot be compared by {by!r}", remedy=f"Use one of {', '.join(_BALANCE_BY)}."
        )
    column, label, unit = _BALANCE_BY[by]
    title = f"Shard balance by {by}"
    if shards.empty:
        return sentence(
            "No shard reported anything, so there is nothing to compare.",
            title=title,
            profile=profile,
        )
    value = shards[column] / unit
    even = float(value.mean())
    if not value.any():
        return sentence(f"Every shard has zero {label}.", title=title, profile=profile)
    fullest = int(value.idxmax())
    over = value[fullest] / even - 1 if even else 0.0
    said = (
        f"the fullest, shard {shards['shard'][fullest]}, is {100 * over:.1f} % over an even share"
        if over >= 0.0005
        else "all shards hold an even share"
    )
    names = [f"shard {shard}" for shard in shards["shard"]]
    text = [f"{count(v)}<br>{100 * (v / even - 1):+.1f} %" if even else count(v) for v in value]
    fig = figure(
        [bars(names, value, color=BLUE, text=text, textposition="inside", insidetextanchor="end")],
        title=f"{title}: {said}",
        profile=profile,
        x="shard",
        y=label,
        note="dashed: an even share" + (_CROWDED_NOTE if _crowded(shards["accounts"]) else ""),
    )
    fig.update_traces(insidetextfont={"color": "#ffffff"})
    fig.add_hline(y=even, line={"color": GREY, "dash": "dash", "width": 1.5})
    fig.update_yaxes(rangemode="tozero")
    return fig


_CROWDED_NOTE = (
    f"; warning: one shard has over {_CROWDED:g} times the mean of accounts. Ids of digits are"
    " their own hash, so multiples of 4 (or 4,096) meet on one shard: put a letter before such ids"
)


def _crowded(accounts: pd.Series) -> bool:
    return bool(accounts.sum() >= _ACCOUNTS_MIN and accounts.max() > _CROWDED * accounts.mean())


def throughput(
    payments: pd.DataFrame, *, profile: str = "embedded", bins_max: int = 60
) -> go.Figure:
    """Payments answered per second over the run, from ``submitted_s`` and ``latency_ms``."""
    title = "Throughput over the run"
    payments = payments.dropna(subset=["submitted_s", "latency_ms"])
    if payments.empty:
        return sentence(
            "No payment of this lab was timed, so there is no rate.", title=title, profile=profile
        )
    answered_s = np.sort((payments["submitted_s"] + payments["latency_ms"] / 1000).to_numpy())
    end_s = max(float(answered_s[-1]), 1e-3)
    # Batches answer many at once: a bin of fewer than some hundred payments shows only that.
    width_s = _round_up(end_s / min(bins_max, max(8, len(payments) // 300)))
    edges = np.arange(0.0, end_s + width_s, width_s)
    made, _ = np.histogram(answered_s, edges)
    # The last bin is usually cut short by the run's end: its rate is over what there was of it.
    spans = np.minimum(edges[1:], end_s) - edges[:-1]
    keep = spans > 0.2 * width_s
    rate = made[keep] / spans[keep]
    mean = len(payments) / end_s
    fig = figure(
        [
            line(
                edges[:-1][keep] + spans[keep] / 2,
                rate,
                color=BLUE,
                mode="lines+markers" if keep.sum() < 25 else "lines",
                fill="tozeroy",
                fillcolor="rgba(43,123,186,.18)",
                hovertemplate="%{x:.2f} s: %{y:,.0f} payments/s<extra></extra>",
            )
        ],
        title=f"{title}: {count(mean)} payments a second on average",
        profile=profile,
        x="time since the run's start (s)",
        y="payments answered (per s)",
        note=f"counted every {1000 * width_s:g} ms; dashed: the average",
    )
    fig.add_hline(y=mean, line={"color": GREY, "dash": "dash", "width": 1.5})
    fig.update_yaxes(rangemode="tozero")
    fig.update_xaxes(range=[0, end_s])
    return fig


def latency_percentiles(payments: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """Latency by percentile, same- and cross-shard, both axes logarithmic (like HdrHistogram's)."""
    title = "Latency by percentile"
    done = payments[(payments["status"] == "COMPLETED") & payments["latency_ms"].notna()]
    if done.empty:
        return sentence(
            "No payment was completed, so no latency was measured.", title=title, profile=profile
        )
    traces, words, most = [], [], 0
    for crossing, name, color, dash in PATH_LOOK:
        part = done.loc[done["cross_shard"] == crossing, "latency_ms"]
        if part.empty:
            continue
        most = max(most, len(part))
        # Beyond 1 - 1/n a quantile of n values is its largest one and tells nothing new.
        q = _QUANTILES[len(part) >= 1 / (1 - _QUANTILES)]
        ms = np.quantile(part, q)
        words.append(f"{name} {np.quantile(part, 0.99):,.1f} ms")
        traces.append(
            line(
                1 / (1 - q),
                ms,
                name=f"{name} ({count(len(part))})",
                color=color,
                dash=dash,
                mode="lines" if len(q) > 1 else "markers",
                customdata=100 * q,
                hovertemplate="%{customdata:.3f} %: %{y:,.2f} ms<extra></extra>",
            )
        )
    ticks = [1, 2, 10, 100, 1000, 10_000]
    shown = [t for t in ticks if t <= max(most, 2)]
    fig = figure(
        traces,
        title=f"{title}: 99 % are answered within: " + ", ".join(words),
        profile=profile,
        x="percentile of payments (%)",
        y="latency, submission to answer (ms)",
        note="a steep right end is a slow tail",
    )
    names = {1: "0", 2: "50", 10: "90", 100: "99", 1000: "99.9", 10_000: "99.99"}
    fig.update_xaxes(type="log", tickvals=shown, ticktext=[names[t] for t in shown])
    log_axis(fig, "y")
    return fig


def cross_shard_cost(payments: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """p50, p90 and p99 of same- and cross-shard payments of one run, side by side."""
    title = "What crossing shards costs"
    table = frames.latency_summary(payments).set_index("path") if len(payments) else pd.DataFrame()
    missing = [name for _, name, _, _ in PATH_LOOK if name not in table.index]
    if missing:
        return sentence(
            f"No {' and no '.join(missing)} payment was completed, so there is nothing to compare.",
            title=title,
            profile=profile,
        )
    columns = ["latency_ms_p50", "latency_ms_p90", "latency_ms_p99"]
    ratio = table.loc["cross shard", columns[0]] / table.loc["same shard", columns[0]]
    traces = [
        bars(
            ["p50", "p90", "p99"],
            table.loc[name, columns],
            name=name,
            color=color,
            text=[f"{v:,.1f}" for v in table.loc[name, columns]],
            textposition="outside",
            marker={"pattern": {"shape": "/" if crossing else "", "size": 6, "solidity": 0.25}},
        )
        for crossing, name, color, _ in PATH_LOOK
    ]
    fig = figure(
        traces,
        title=f"{title}: {ratio:.1f} times a same-shard payment at the median",
        profile=profile,
        x="percentile",
        y="latency (ms)",
        note=frames.closed_loop(payments),
        layout={"barmode": "group"},
    )
    fig.update_yaxes(rangemode="tozero")
    return fig


def hourly(hours: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """Payments by hour of the day at which they were asked for (UTC)."""
    title = "Payments by hour of the day"
    if hours.empty or not hours["payments"].any():
        return sentence("No payment carries a time of day.", title=title, profile=profile)
    busiest = int(hours["payments"].idxmax())
    top = int(hours["hour"][busiest])
    fig = figure(
        [
            bars(
                hours["hour"],
                hours["payments"],
                color=[ORANGE if h == top else BLUE for h in hours["hour"]],
                customdata=hours["amount_paise"] / 100,
                hovertemplate="%{x}:00: %{y:,} payments, ₹%{customdata:,.0f}<extra></extra>",
            )
        ],
        title=f"{title}: {share(hours['payments'][busiest], hours['payments'].sum())} fall in "
        f"the hour from {top}:00",
        profile=profile,
        x="hour of the day (UTC)",
        y="payments",
        note="orange: the busiest hour",
    )
    fig.update_xaxes(tickvals=list(range(0, 24, 3)), ticktext=[f"{h}:00" for h in range(0, 24, 3)])
    return fig


def outcomes(payments: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """How payments ended, and why those that did not complete did not."""
    title = "How payments ended"
    if payments.empty:
        return sentence("The run made no payment.", title=title, profile=profile)
    words = payments["status"].str.lower()
    words = words.where(payments["reason"] == "", words + ": " + payments["reason"])
    counts = words.value_counts().sort_values()
    total = int(counts.sum())
    colors = {
        "completed": GREEN,
        "failed": RED,
        "cancelled": ORANGE,
        "pending": PURPLE,
        "held": GREY,
    }
    fig = figure(
        [
            bars(
                counts.to_numpy(),
                [str(name).replace("_", " ") for name in counts.index],
                orientation="h",
                color=[colors.get(str(name).split(":")[0], GREY) for name in counts.index],
                text=[f" {count(n)} ({share(n, total)})" for n in counts],
                # A label takes about half the width of a phone's plot.
                textposition=["inside" if n > counts.max() / 2 else "outside" for n in counts],
                insidetextfont={"color": "#ffffff"},
                insidetextanchor="end",
            )
        ],
        title=f"{title}: {share(counts.get('completed', 0), total)} completed",
        profile=profile,
        x="payments",
        y="state and reason",
        height=120 + 34 * len(counts),
    )
    fig.update_xaxes(rangemode="tozero", nticks=6)
    return fig


def _round_up(seconds: float) -> float:
    """The next of 1, 2, 5 x 10^n: bins with round widths read better."""
    power = 10.0 ** np.floor(np.log10(seconds))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= seconds * 0.999))
