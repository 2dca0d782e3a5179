"""The panels of what was: payments and fraud."""

from __future__ import annotations

from typing import Any

from paytm_lab.analytics import charts
from paytm_lab.analytics.panel import (
    Fact,
    Panel,
    Table,
    count,
    head,
    milliseconds,
    number,
    payment_link,
    rupees,
    share,
    text,
    time_of,
)

Json = dict[str, Any]
NOT_COUNTED = (
    "The analytics consumer has counted no payment yet: what is paid shows here some seconds later."
)


def payments(data: Json) -> list[Panel]:
    ended = {o["type"]: o for o in data["outcomes"] if o["kind"] == "transfer"}
    latency, recent = data["latency_ms"], data["latency_ms_recent"]
    done = ended.get("PaymentCompleted", {"payments": 0, "amount_paise": 0})
    return [
        Panel(
            "totals",
            "All time",
            facts=[
                Fact("Completed", count(done["payments"]), rupees(done["amount_paise"])),
                Fact("Failed", count(ended.get("PaymentFailed", {}).get("payments", 0))),
                Fact("Cancelled", count(ended.get("PaymentCancelled", {}).get("payments", 0))),
                Fact("Succeeded", share(data["success_rate"]), "of those that ended"),
                Fact("Across shards", _cross_share(data), "of those completed"),
                Fact("Time to completion", milliseconds(latency["p50"]),
                     f"p99 {milliseconds(latency['p99'])}"),
                Fact("In the last minute", milliseconds(recent["p50"]),
                     f"p99 {milliseconds(recent['p99'])}"),
            ],
            note=_history_words(data),
            wide=True,
        ),
        _hours(data),
        _hours_of_day(data),
        _days(data),
        _success(data),
        _same_cross(data),
        _latency(data),
        _reasons(data),
    ]  # fmt: skip


def _history_words(data: Json) -> str:
    if data["history_error"]:
        return f"As of {time_of(data['history_at'])}; since then: {data['history_error']}."
    return ""


def _why(data: Json) -> str:
    if data["history_error"] and not data["history_at"]:
        return f"History cannot be read: {data['history_error']}."
    return NOT_COUNTED if data["success_rate"] is None else "No payment has completed yet."


def _cross_share(data: Json) -> str:
    same, cross = data["same_shard"]["payments"], data["cross_shard"]["payments"]
    return share(cross / (same + cross)) if same + cross else "–"


def _hours(data: Json) -> Panel:
    hours = data["hours"]
    return Panel(
        "hours",
        "Completed by hour",
        chart=charts.bars(
            [hour["hour"] for hour in hours],
            [
                ("same shard", [hour["same_shard"] for hour in hours], charts.SAME),
                ("across shards", [hour["cross_shard"] for hour in hours], charts.CROSS),
            ],
            "hour, UTC", "payments", stacked=True,
            xaxis={"type": "category", "tickvals": _some([h["hour"] for h in hours]),
                   "ticktext": [_hour_text(h) for h in _some([h["hour"] for h in hours])]},
        ) if hours else None,
        chart_says=f"The last {len(hours)} hours that had a payment.",
        table=Table(
            "A row for each hour", head("hour, UTC", "#same shard", "#across", "#rupees"),
            [[text(time_of(h["hour"])[:16]), number(count(h["same_shard"])),
              number(count(h["cross_shard"])), number(rupees(h["amount_paise"]))]
             for h in reversed(hours)],
        ) if hours else None,
        why="" if hours else _why(data),
        wide=True,
    )  # fmt: skip


def _some(values: list[str], most: int = 6) -> list[str]:
    step = max(1, -(-len(values) // most))
    return values[::step]


def _hour_text(at: str) -> str:
    return f"{at[5:10]} {at[11:13]}h"


def _hours_of_day(data: Json) -> Panel:
    hours = data["by_hour_of_day"]
    there = any(hour["payments"] for hour in hours)
    return Panel(
        "hours-of-day",
        "By hour of the day",
        chart=charts.bars(
            list(range(24)), [("", [hour["payments"] for hour in hours], charts.SAME)],
            "hour of the day, UTC", "payments completed", xaxis={"dtick": 4},
        ) if there else None,
        chart_says="Completed payments by hour of the day, over all days.",
        table=Table(
            "A row for each hour of the day", head("hour", "#payments", "#rupees"),
            [[text(f"{number_:02d}"), number(count(hour["payments"])),
              number(rupees(hour["amount_paise"]))] for number_, hour in enumerate(hours)],
        ) if there else None,
        why="" if there else _why(data),
    )  # fmt: skip


def _days(data: Json) -> Panel:
    days = data["days"]
    return Panel(
        "days",
        "By day",
        chart=charts.bars(
            [day["day"] for day in days],
            [("completed", [day["payments"] for day in days], charts.SAME),
             ("failed", [day["failed"] for day in days], charts.BAD)],
            "day, UTC", "payments", stacked=True, xaxis={"type": "category"},
        ) if days else None,
        chart_says=f"{len(days)} days with payments.",
        table=Table(
            "A row for each day", head("day", "#completed", "#failed", "#rupees"),
            [[text(d["day"]), number(count(d["payments"])), number(count(d["failed"])),
              number(rupees(d["amount_paise"]))] for d in reversed(days)],
        ) if days else None,
        why="" if days else _why(data),
    )  # fmt: skip


def _success(data: Json) -> Panel:
    hours = [h for h in data["hours"] if h["completed"] + h["failed"] + h["cancelled"]]
    rates = [100 * h["completed"] / (h["completed"] + h["failed"] + h["cancelled"]) for h in hours]
    return Panel(
        "success",
        "Succeeded by hour",
        chart=charts.bars(
            [h["hour"] for h in hours], [("", rates, charts.GOOD)], "hour, UTC", "% completed",
            xaxis={"type": "category", "tickvals": _some([h["hour"] for h in hours]),
                   "ticktext": [_hour_text(h) for h in _some([h["hour"] for h in hours])]},
            yaxis={"range": [0, 101]},
        ) if hours else None,
        chart_says=f"{share(data['success_rate'])} of all payments that ended succeeded.",
        table=Table(
            "A row for each hour", head("hour, UTC", "#completed", "#failed", "#cancelled"),
            [[text(time_of(h["hour"])[:16]), number(count(h["completed"])),
              number(count(h["failed"])), number(count(h["cancelled"]))] for h in reversed(hours)],
        ) if hours else None,
        why="" if hours else _why(data),
    )  # fmt: skip


def _same_cross(data: Json) -> Panel:
    routes = data["routes"]
    names = sorted({r["from_shard"] for r in routes} | {r["to_shard"] for r in routes})
    cells = {(r["from_shard"], r["to_shard"]): r["payments"] for r in routes}
    return Panel(
        "routes",
        "From shard to shard",
        chart=charts.bars(
            [f"from {a}" for a in names],
            [(f"to {b}", [cells.get((a, b), 0) for a in names], charts.of_shard(position))
             for position, b in enumerate(names)],
            "", "payments completed", stacked=True,
        ) if routes else None,
        chart_says=f"{_cross_share(data)} of completed payments cross shards.",
        table=Table(
            "A row for each pair of shards", head("from", "to", "#payments", "#rupees"),
            [[text(r["from_shard"]), text(r["to_shard"]), number(count(r["payments"])),
              number(rupees(r["amount_paise"]))] for r in routes],
        ) if routes else None,
        why="" if routes else _why(data),
    )  # fmt: skip


def _latency(data: Json) -> Panel:
    bins = data["latency"]
    latency = data["latency_ms"]
    return Panel(
        "latency",
        "Time to completion",
        chart=charts.bars(
            [b["up_to_ms"] for b in bins], [("", [b["payments"] for b in bins], charts.SAME)],
            "ms from the debit to the end, up to", "payments",
            xaxis={"type": "category", "nticks": 8,
                   "tickvals": _some_numbers([b["up_to_ms"] for b in bins]),
                   "ticktext": [milliseconds(v).removesuffix(" ms")
                                for v in _some_numbers([b["up_to_ms"] for b in bins])]},
            bargap=0.05,
        ) if bins else None,
        chart_says=f"p50 {milliseconds(latency['p50'])}, p95 {milliseconds(latency['p95'])},"
        f" p99 {milliseconds(latency['p99'])}.",
        table=Table(
            "Quantiles", head("", "#all time", "#last minute"),
            [[text(name), number(milliseconds(latency[name])),
              number(milliseconds(data["latency_ms_recent"][name]))]
             for name in ("p50", "p95", "p99")],
        ) if bins else None,
        why="" if bins else _why(data),
    )  # fmt: skip


def _some_numbers(values: list[float]) -> list[float]:
    return values[:: max(1, -(-len(values) // 7))]


def _reasons(data: Json) -> Panel:
    reasons = data["reasons"]
    ended = data["success_rate"] is not None
    return Panel(
        "reasons",
        "Why payments did not succeed",
        table=Table(
            "A row for each reason", head("reason", "how it ended", "#payments", "#rupees"),
            [[text(r["reason"].replace("_", " ") or "–"),
              text(r["type"].removeprefix("Payment").lower()),
              number(count(r["payments"])), number(rupees(r["amount_paise"]))] for r in reasons],
        ) if reasons else None,
        why="" if reasons else
        ("Every payment that has ended succeeded." if ended else _why(data)),
    )  # fmt: skip


def fraud(data: Json) -> list[Panel]:
    scored = data["scored"]
    return [
        Panel(
            "totals",
            "All time",
            facts=[
                Fact("Scored", count(scored)),
                Fact("Blocked", count(data["blocked"])),
                Fact("Sent to review", count(data["sent_to_review"])),
                Fact("Reviews that wait", count(data["reviews_open"])),
            ],
            note=_history_words(data),
            wide=True,
        ),
        _scores(data),
        _decisions(data),
        _queue(data),
    ]


def _why_unscored(data: Json) -> str:
    if data["history_error"] and not data["history_at"]:
        return _why(data)
    return (
        "No payment has been scored yet. Scores come from the fraud consumer, and not for payments"
        " that were refused; with PAYTM_LAB_FRAUD_GATE=off there are none."
    )


def _scores(data: Json) -> Panel:
    scores = data["scores"]
    return Panel(
        "scores",
        "Scores",
        chart=charts.bars(
            [f"{s['from']:.1f}" for s in scores],
            [("", [s["payments"] for s in scores], charts.SAME)],
            "score, from", "payments", xaxis={"type": "category"}, bargap=0.05,
        ) if data["scored"] else None,
        chart_says=f"{count(data['scored'])} payments scored.",
        table=Table(
            "A row for each tenth", head("score", "#payments"),
            [[text(f"{s['from']:.1f} to {s['to']:.1f}"), number(count(s["payments"]))]
             for s in scores],
        ) if data["scored"] else None,
        why="" if data["scored"] else _why_unscored(data),
    )  # fmt: skip


def _decisions(data: Json) -> Panel:
    decisions = data["decisions"]
    kinds = sorted({d["decision"] for d in decisions})
    rules = sorted({d["rule"] for d in decisions})
    cells = {(d["decision"], d["rule"]): d["payments"] for d in decisions}
    return Panel(
        "decisions",
        "Decisions by rule",
        chart=charts.bars(
            [rule.replace("_", " ") for rule in rules],
            [(kind, [cells.get((kind, rule), 0) for rule in rules],
              {"allow": charts.GOOD, "review": charts.CROSS}.get(kind, charts.BAD))
             for kind in kinds],
            "", "payments", stacked=True, xaxis={"type": "category"},
        ) if decisions else None,
        chart_says=", ".join(f"{d['decision']} by {d['rule']}: {count(d['payments'])}"
                             for d in decisions),
        table=Table(
            "A row for each decision and rule", head("decision", "rule", "#payments", "#rupees"),
            [[text(d["decision"]), text(d["rule"]), number(count(d["payments"])),
              number(rupees(d["amount_paise"]))] for d in decisions],
        ) if decisions else None,
        why="" if decisions else _why_unscored(data),
    )  # fmt: skip


def _queue(data: Json) -> Panel:
    rows = data["reviews"]
    unknown = ", ".join(f"shard {shard}" for shard in data["shards_unknown"])
    return Panel(
        "reviews",
        "Review queue",
        table=Table(
            "The payments that have waited longest",
            head("payment", "from", "to", "#rupees", "rule", "waits since"),
            [[payment_link(r["payment_id"]), text(r["from_user"]), text(r["to_user"]),
              number(rupees(r["amount_paise"])), text(r["rule"]), text(time_of(r["opened_at"]))]
             for r in rows],
        ) if rows else None,
        why="" if rows else "No payment waits for a review.",
        note=f"Without {unknown}, which is down." if unknown else "",
        wide=True,
    )  # fmt: skip
