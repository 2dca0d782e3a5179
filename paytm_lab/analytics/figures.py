"""A picture as the JSON of each page: what programs read and what the pages are made of.

Amounts are whole paise, times RFC 3339 in UTC. ``models`` describes the fields.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from paytm_lab.analytics.checks import Finding
from paytm_lab.analytics.money import COUNTING, EQUAL, MISMATCH, Money
from paytm_lab.analytics.observatory import Picture
from paytm_lab.analytics.panel import rupees
from paytm_lab.analytics.rollups import (
    CANCELLED,
    COMPLETED,
    FAILED,
    HOUR_US,
    INITIATED,
    Sum,
    Totals,
    latency_bin_top_us,
)
from paytm_lab.core.events import EventType, rfc3339

Json = dict[str, Any]
HOURS_MAX, DAYS_MAX = 48, 60
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
BLOCKED = str(EventType.TRANSACTION_BLOCKED)
REVIEWED = str(EventType.MANUAL_REVIEW_REQUIRED)


def money(line: Money) -> Json:
    return {
        **{name: value for name, value in line._asdict().items() if name != "findings"},
        "findings": [_finding(found) for found in line.findings],
        "words": money_words(line),
    }


def _finding(found: Finding) -> Json:
    return {**found._asdict(), "shard": None if found.shard < 0 else found.shard}


def money_words(line: Money) -> str:
    """The line as a sentence."""
    if line.state == EQUAL:
        return f"Money in = money held: {rupees(line.funded_paise)}"
    if line.state == MISMATCH:
        names = [f"payment {f.payment_id}" for f in line.findings if f.payment_id]
        names += [f"account {f.user_id}" for f in line.findings if not f.payment_id]
        by = line.difference_paise or next((f.difference_paise for f in line.findings), 0)
        off = f"Money in ≠ money held: off by {rupees(by)}"
        return f"{off}, at {', '.join(names)}" if names else f"{off}; looking for the place"
    if line.state == COUNTING:
        return f"Going through the ledger: {line.counted:.0%} so far"
    down = ", ".join(f"shard {shard}" for shard in line.away)
    if down:
        return f"Not known whether money in = money held: {down} does not answer"
    return "Not known yet whether money in = money held"


def sum_json(sum_: Sum) -> Json:
    return {"payments": sum_.payments, "amount_paise": sum_.amount_paise}


def shards(picture: Picture) -> Json:
    return {
        "at": rfc3339(picture.at_us),
        "money": money(picture.money),
        "shards": [_shard(picture, shard) for shard in sorted(picture.queues)],
        "series": _series(picture),
    }


def _shard(picture: Picture, shard: int) -> Json:
    now = picture.shards.get(shard)
    if now is None:
        error = picture.errors.get(shard, "")
        return {
            "shard": shard,
            "state": "down" if error else "reading",
            "detail": error or "it is being read",
            "queue_depth": picture.queues[shard],
        }
    payments: Counter[str] = Counter()
    for what, (number, _) in now.payments.items():
        payments[what.status] += number
    lag_us = 0 if now.outbox_oldest_us is None else max(0, picture.at_us - now.outbox_oldest_us)
    return {
        "shard": shard,
        "state": "up",
        "detail": "",
        "counted": now.counted,
        "accounts": now.sums.accounts,
        "balance_paise": now.sums.balance_paise,
        "held_paise": now.sums.held_paise,
        "payments": dict(sorted(payments.items())),
        "payments_per_s": now.payments_per_s,
        "entries": now.entries,
        "queue_depth": picture.queues[shard],
        "outbox_rows": now.outbox_rows,
        "outbox_lag_s": round(lag_us / 1e6, 3),
        "reviews_open": now.reviews_open,
        "read_ms": now.read_ms,
    }


def _series(picture: Picture) -> list[Json]:
    return [
        {
            "at": rfc3339(point.at_us),
            "payments_per_s": {str(s): rate for s, rate in sorted(point.payments_per_s.items())},
            "outbox_rows": point.outbox_rows,
        }
        for point in picture.series
    ]


def overview(picture: Picture) -> Json:
    by_status: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    for now in picture.shards.values():
        for what, (number, _) in now.payments.items():
            by_kind[what.kind] += number
            if what.kind == "transfer":
                by_status[what.status] += number
    up = picture.shards.values()
    down = [f"shard {shard}: {said}" for shard, said in sorted(picture.errors.items())]
    if picture.history_error:
        down.append(f"history: {picture.history_error}")
    for name, answer in sorted((picture.around.parts if picture.around else {}).items()):
        if answer.state == "down" and not name.startswith("shard-"):
            down.append(f"{name}: {answer.detail}")
    return {
        "at": rfc3339(picture.at_us),
        "money": money(picture.money),
        "complete": len(picture.shards) == len(picture.queues),
        "accounts": sum(now.sums.accounts for now in up),
        "transfers": dict(sorted(by_status.items())),
        "kinds": dict(sorted(by_kind.items())),
        "payments_per_s": round(sum(now.payments_per_s or 0.0 for now in up), 2),
        "outbox_rows": sum(now.outbox_rows for now in up),
        "reviews_open": sum(now.reviews_open for now in up),
        "success_rate": picture.totals.success_rate(),
        "latency_ms": _quantiles(picture.totals.latency),
        "down": down,
        "series": _series(picture),
        "shards": [_shard(picture, shard) for shard in sorted(picture.queues)],
    }


def payments(picture: Picture) -> Json:
    totals = picture.totals
    same, cross = totals.same_and_cross()
    recent = picture.recent
    return {
        **_of_history(picture),
        "outcomes": [
            {"type": kind, "kind": of, **sum_json(sum_)}
            for (kind, of), sum_ in totals.outcomes_by_kind().items()
            if kind.startswith("Payment")
        ],
        "success_rate": totals.success_rate(),
        "reasons": [
            {"type": kind, "reason": reason, **sum_json(sum_)}
            for kind in (FAILED, CANCELLED)
            for reason, sum_ in totals.reasons(kind).items()
        ],
        "same_shard": sum_json(same),
        "cross_shard": sum_json(cross),
        "routes": [
            {"from_shard": a, "to_shard": b, **sum_json(sum_)}
            for (a, b), sum_ in sorted(totals.routes().items())
        ],
        "by_hour_of_day": [sum_json(sum_) for sum_ in totals.by_hour_of_day()],
        "hours": _hours(totals),
        "days": _days(totals),
        "latency_ms": _quantiles(totals.latency),
        "latency_ms_recent": _quantiles(recent.latency),
        "recent_s": round(recent.seconds, 1),
        "latency": [
            {"up_to_ms": latency_bin_top_us(bin_) / 1000, "payments": totals.latency[bin_]}
            for bin_ in sorted(totals.latency)
        ],
    }


def _of_history(picture: Picture) -> Json:
    return {
        "at": rfc3339(picture.at_us),
        "money": money(picture.money),
        "history_at": rfc3339(picture.history_at_us) if picture.history_at_us else None,
        "history_error": picture.history_error,
    }


def _hours(totals: Totals) -> list[Json]:
    """The last hours of business time that saw a payment, oldest first."""
    found: dict[int, Counter[str]] = {}
    for day, cells in totals.days.items():
        for cell, (number, paise) in cells.items():
            if cell.kind == "transfer" and cell.type != INITIATED:
                hour = found.setdefault(day * 24 + cell.hour, Counter())
                hour[cell.type] += number
                if cell.type == COMPLETED:
                    hour["cross" if cell.cross else "same"] += number
                    hour["paise"] += paise
    return [
        {
            "hour": rfc3339(hour * HOUR_US),
            "completed": found[hour][COMPLETED],
            "failed": found[hour][FAILED],
            "cancelled": found[hour][CANCELLED],
            "same_shard": found[hour]["same"],
            "cross_shard": found[hour]["cross"],
            "amount_paise": found[hour]["paise"],
        }
        for hour in sorted(found)[-HOURS_MAX:]
    ]


def _days(totals: Totals) -> list[Json]:
    completed, failed = totals.by_day(COMPLETED), totals.by_day(FAILED)
    return [
        {"day": day, "failed": failed[day].payments, **sum_json(completed[day])}
        for day in [d for d in completed if completed[d].payments or failed[d].payments][-DAYS_MAX:]
    ]


def _quantiles(latency: dict[int, int]) -> Json:
    totals = Totals()
    totals.latency.update(latency)
    return {name: totals.latency_ms(quantile) for name, quantile in QUANTILES}


def fraud(picture: Picture) -> Json:
    totals = picture.totals
    waiting = sorted(
        (row for now in picture.shards.values() for row in now.reviews),
        key=lambda row: (row.created_at_us, row.payment_id),
    )
    histogram = totals.score_histogram()
    return {
        **_of_history(picture),
        "scored": sum(histogram),
        "scores": [
            {"from": bin_ / 10, "to": (bin_ + 1) / 10, "payments": number}
            for bin_, number in enumerate(histogram)
        ],
        "decisions": [
            {"decision": decision, "rule": rule, **sum_json(sum_)}
            for (decision, rule), sum_ in totals.fraud_decisions().items()
        ],
        "blocked": _events(totals, BLOCKED),
        "sent_to_review": _events(totals, REVIEWED),
        "reviews_open": sum(now.reviews_open for now in picture.shards.values()),
        "shards_unknown": sorted(picture.errors),
        "reviews": [
            {
                "payment_id": row.payment_id,
                "from_user": row.from_user,
                "to_user": row.to_user,
                "amount_paise": row.amount_paise,
                "rule": row.rule,
                "opened_at": rfc3339(row.created_at_us),
            }
            for row in waiting[:20]
        ],
    }


def _events(totals: Totals, event_type: str) -> int:
    return sum(
        sum_.payments for (kind, _), sum_ in totals.outcomes_by_kind().items() if kind == event_type
    )


def system(picture: Picture) -> Json:
    around = picture.around
    said = around.said if around else {}
    return {
        "at": rfc3339(picture.at_us),
        "money": money(picture.money),
        "asked_at": rfc3339(around.at_us) if around else None,
        "services": [
            {"name": name, "address": place.address, "registered": place.registered,
             **answer._asdict()}
            for name, (place, answer) in sorted((around.services if around else {}).items())
        ],
        "parts": [
            {"name": name, **answer._asdict(),
             "last_check": _last_check(said[name]) if name in said else None}
            for name, answer in sorted((around.parts if around else {}).items())
        ],
        "health_events_error": around.events_error if around else "",
        "consumers": [
            {"group": lag.group, "topics": list(lag.topics), "events_behind": lag.events,
             "detail": lag.detail}
            for lag in (around.lags if around else [])
        ],
        "queues": [
            {"shard": shard["shard"], "state": shard["state"],
             "queue_depth": shard["queue_depth"], "outbox_rows": shard.get("outbox_rows"),
             "outbox_lag_s": shard.get("outbox_lag_s"),
             "outbox_rows_max": picture.outbox_rows_max}
            for shard in (_shard(picture, s) for s in sorted(picture.queues))
        ],
    }  # fmt: skip


def _last_check(said: Any) -> Json:
    return {
        "at": rfc3339(said.at_us),
        "state": said.data.state,
        "latency_ms": said.data.latency_ms,
        "detail": said.data.detail,
    }
