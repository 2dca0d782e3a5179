"""The panels of what is now: overview, shards, system."""

from __future__ import annotations

from typing import Any

from paytm_lab.analytics import charts
from paytm_lab.analytics.panel import (
    Cell,
    Fact,
    Panel,
    Table,
    clock_of,
    count,
    head,
    milliseconds,
    number,
    rupees,
    seconds,
    share,
    text,
    time_of,
)

Json = dict[str, Any]
TONES = {"up": "good", "down": "bad", "not_ready": "warn", "not_served": ""}
NOTHING_YET = "No payment has been made yet: the first one shows here within a second or two."


def overview(data: Json) -> list[Panel]:
    transfers, latency = data["transfers"], data["latency_ms"]
    down = "; ".join(data["down"])
    return [
        Panel(
            "numbers",
            "Now",
            facts=[
                Fact("Payments a second", count(data["payments_per_s"])),
                Fact("Payments", count(sum(transfers.values())), _open_of(transfers)),
                Fact("Succeeded", share(data["success_rate"]), "of those that ended"),
                Fact("Time to completion", milliseconds(latency["p50"]),
                     f"p99 {milliseconds(latency['p99'])}"),
                Fact("Users", count(data["accounts"])),
                Fact("Reviews that wait", count(data["reviews_open"])),
                Fact("Events to relay", count(data["outbox_rows"]), "in all outboxes"),
            ],
            note=f"Not complete. {down}." if down else "",
            wide=True,
        ),
        _rates(data),
        _in_and_held(data),
        _statuses(data),
        _balance(data, "money", "Money by shard"),
        _outbox(data),
    ]  # fmt: skip


def _open_of(transfers: Json) -> str:
    waiting = [f"{count(transfers[s])} {s}" for s in ("PENDING", "HELD") if transfers.get(s)]
    return ", ".join(waiting) or "none open"


LOOK_GAP_S = 5.0  # looks are a second apart while somebody looks
NO_LOOK = "The shards were not looked at yet: it takes a second."


def _rates(data: Json) -> Panel:
    series = data["series"][-120:]
    names = [str(shard["shard"]) for shard in data["shards"]]
    drawn = charts.with_gaps(series, LOOK_GAP_S)
    x = [point["at"] for point in drawn]
    lines = [
        (f"shard {name}", [point.get("payments_per_s", {}).get(name) for point in drawn],
         charts.of_shard(position))
        for position, name in enumerate(names)
    ]  # fmt: skip
    if not series:
        return Panel("rates", "Payments a second, by shard that pays", why=NO_LOOK, wide=True)
    last = series[-10:]
    return Panel(
        "rates",
        "Payments a second, by shard that pays",
        chart=charts.lines(x, lines, "", "payments/s", xaxis=charts.last_two_minutes(data["at"])),
        chart_says=f"{count(data.get('payments_per_s'))} payments a second over all shards.",
        table=Table(
            "The last ten looks, a second apart",
            head("UTC", *(f"#shard {name}" for name in names)),
            [
                [text(clock_of(point["at"])),
                 *(number(count(point["payments_per_s"].get(name))) for name in names)]
                for point in last
            ],
        ),
        wide=True,
    )  # fmt: skip


def _outbox(data: Json) -> Panel:
    series = data["series"][-120:]
    if not series:
        return Panel("outbox", "Events that wait to be relayed", why=NO_LOOK)
    return Panel(
        "outbox",
        "Events that wait to be relayed",
        chart=charts.lines(
            [point["at"] for point in series],
            [("", [point["outbox_rows"] for point in series], charts.SAME)],
            "", "events", xaxis=charts.last_two_minutes(data["at"]),
        ),
        chart_says=f"{count(data['outbox_rows'])} events wait in all outboxes.",
        table=Table(
            "The last ten looks, a second apart", head("UTC", "#events"),
            [[text(clock_of(point["at"])), number(count(point["outbox_rows"]))]
             for point in series[-10:]],
        ),
    )  # fmt: skip


def _in_and_held(data: Json) -> Panel:
    line = data["money"]
    rows = [
        ("Came in (funding)", line["funded_paise"]),
        ("Held by users", line["users_paise"]),
        ("of it on hold", line["on_hold_paise"]),
        ("On its way between shards", line["under_way_paise"]),
        ("Owed back (receivable)", line["receivable_paise"]),
        ("Held in all", line["funded_paise"] + line["difference_paise"]),
        ("Held less came in", line["difference_paise"]),
    ]
    found = line["findings"]
    note = " ".join(_found_words(each) for each in found)
    return Panel(
        "in-held",
        "Money in, money held",
        table=Table(
            "Sums over all shards",
            head("", "#rupees"),
            [
                [text(name), number(rupees(paise), "bad" if name.startswith("Held less") and paise
                                    else "")]
                for name, paise in rows
            ],
        ),
        note=note,
    )  # fmt: skip


def _found_words(found: Json) -> str:
    place = "" if found["shard"] is None else f" on shard {found['shard']}"
    who = f" (account {found['user_id']})" if found["user_id"] else ""
    what = f"Payment {found['payment_id']}" if found["payment_id"] else "No payment"
    return f"{what}{who}{place}: {found['what']}, {rupees(found['difference_paise'])}."


def _statuses(data: Json) -> Panel:
    transfers = data["transfers"]
    names = list(transfers)
    return Panel(
        "statuses",
        "Payments by state",
        chart=charts.bars(
            names, [("", [transfers[name] for name in names], charts.SAME)], "", "payments"
        ) if names else None,
        chart_says=", ".join(f"{name}: {count(n)}" for name, n in transfers.items()),
        table=Table(
            "A row for each state", head("state", "#payments"),
            [[text(name), number(count(n))] for name, n in transfers.items()],
        ) if names else None,
        why="" if names else _why_no_payment(data["shards"]),
        note="" if data["complete"] else "Without the shards that are down.",
    )  # fmt: skip


def _balance(data: Json, id_: str, title: str) -> Panel:
    up = [shard for shard in data["shards"] if shard["state"] == "up"]
    names = [f"shard {shard['shard']}" for shard in up]
    return Panel(
        id_,
        title,
        chart=charts.bars(
            names,
            [("", [shard["balance_paise"] / 100 for shard in up], charts.SAME)],
            "", "rupees",
        ) if up else None,
        chart_says=", ".join(f"shard {s['shard']}: {rupees(s['balance_paise'])}" for s in up),
        table=Table(
            "A row for each shard", head("shard", "#rupees held by users", "#users"),
            [[text(s["shard"]), number(rupees(s["balance_paise"])), number(count(s["accounts"]))]
             for s in up],
        ) if up else None,
        why="" if up else _why_none(data["shards"]),
        note=_down_words(data) if up else "",
    )  # fmt: skip


def _down_words(data: Json) -> str:
    down = [s for s in data["shards"] if s["state"] != "up"]
    return " ".join(f"Shard {s['shard']} is {_not_up(s)}." for s in down)


def _not_up(shard: Json) -> str:
    return "being read" if shard["state"] == "reading" else f"down: {shard['detail']}"


def _why_no_payment(shards_: list[Json]) -> str:
    known = all(shard["state"] == "up" for shard in shards_)
    return NOTHING_YET if known else _why_none(shards_)


def _why_none(shards_: list[Json]) -> str:
    reading = any(shard["state"] == "reading" for shard in shards_)
    return "The shards are being read: a moment." if reading else "Not every shard answers."


def shards(data: Json) -> list[Panel]:
    up = [shard for shard in data["shards"] if shard["state"] == "up"]
    names = [f"shard {shard['shard']}" for shard in up]
    why = _why_none(data["shards"])
    return [
        Panel(
            "shards", "Every shard",
            table=Table(
                "A row for each shard",
                head("shard", "state", "#users", "#rupees", "#payments sent", "#open", "#entries",
                     "#payments/s", "#queue", "#outbox", "#outbox lag", "#read in"),
                [_shard_row(shard) for shard in data["shards"]],
            ),
            note=_counted_words(up),
            wide=True,
        ),
        _rates(data),
        _balance(data, "balance", "Money"),
        _per_shard("users", "Users", up, "users", "accounts", why),
        _per_shard("rows", "Ledger entries", up, "entries", "entries", why),
        Panel(
            "sent",
            "Payments sent, by state",
            about="Opening balances and refunds are among them; the overview leaves them out.",
            chart=_sent_chart(up, names),
            chart_says=", ".join(
                f"shard {s['shard']}: {count(sum(s['payments'].values()))}" for s in up
            ),
            table=Table(
                "A row for each shard and state", head("shard", "state", "#payments"),
                [[text(s["shard"]), text(state), number(count(n))]
                 for s in up for state, n in s["payments"].items()],
            ) if any(s["payments"] for s in up) else None,
            why="" if any(s["payments"] for s in up) else _why_no_payment(data["shards"]),
        ),
    ]  # fmt: skip


def _counted_words(up: list[Json]) -> str:
    behind = [s for s in up if s["counted"] < 1]
    return " ".join(
        f"Shard {s['shard']} has been counted to {s['counted']:.0%} so far." for s in behind
    )


def _shard_row(shard: Json) -> list[Cell]:
    if shard["state"] != "up":
        blanks = [number("–")] * 10
        return [
            text(shard["shard"]),
            text(_not_up(shard), "bad" if shard["state"] == "down" else ""),
            *blanks,
        ]
    payments = shard["payments"]
    open_ = payments.get("PENDING", 0) + payments.get("HELD", 0)
    return [
        text(shard["shard"]),
        text("up", "good"),
        number(count(shard["accounts"])),
        number(rupees(shard["balance_paise"])),
        number(count(sum(payments.values()))),
        number(count(open_)),
        number(count(shard["entries"])),
        number(count(shard["payments_per_s"])),
        number(count(shard["queue_depth"])),
        number(count(shard["outbox_rows"])),
        number(seconds(shard["outbox_lag_s"])),
        number(milliseconds(shard["read_ms"])),
    ]


def _per_shard(id_: str, title: str, up: list[Json], unit: str, field: str, why: str) -> Panel:
    names = [f"shard {shard['shard']}" for shard in up]
    values = [shard[field] for shard in up]
    return Panel(
        id_,
        title,
        chart=charts.bars(names, [("", values, charts.SAME)], "", unit) if up else None,
        chart_says=", ".join(f"{n}: {count(v)}" for n, v in zip(names, values, strict=True)),
        table=Table(
            "A row for each shard", head("shard", f"#{unit}"),
            [[text(s["shard"]), number(count(s[field]))] for s in up],
        ) if up else None,
        why="" if up else why,
    )  # fmt: skip


def _sent_chart(up: list[Json], names: list[str]) -> charts.Chart | None:
    states = sorted({state for shard in up for state in shard["payments"]})
    if not states:
        return None
    colours = {"COMPLETED": charts.GOOD, "FAILED": charts.BAD, "PENDING": charts.CROSS,
               "HELD": charts.HELD, "CANCELLED": charts.PLAIN}  # fmt: skip
    series = [
        (state, [shard["payments"].get(state, 0) for shard in up],
         colours.get(state, charts.PLAIN))
        for state in states
    ]  # fmt: skip
    return charts.bars(names, series, "", "payments", stacked=True)


def system(data: Json) -> list[Panel]:
    asking = "" if data["asked_at"] else "They are being asked; the answers show in a moment."
    return [
        Panel(
            "services",
            "Services",
            table=None if asking else Table(
                "A row for each service",
                head("service", "state", "address", "#answered in", "what it says"),
                [
                    [text(s["name"]), _state(s["state"]), text(s["address"]),
                     number(milliseconds(s["latency_ms"])), text(s["detail"] or "–")]
                    for s in data["services"]
                ],
            ),
            why=asking,
            wide=True,
        ),
        Panel(
            "servers",
            "Servers",
            table=None if asking else Table(
                "A row for each part that the services stand on",
                head("part", "state", "#round trip", "what it says", "last SystemHealthCheck"),
                [
                    [text(p["name"]), _state(p["state"]), number(milliseconds(p["latency_ms"])),
                     text(p["detail"] or "–"), _check_cell(p["last_check"])]
                    for p in data["parts"]
                ],
            ),
            note=data["health_events_error"],
            why=asking,
            wide=True,
        ),
        Panel(
            "queues",
            "Queues",
            table=Table(
                "A row for each shard",
                head("shard", "#wait for the writer", "#events in the outbox", "#at most",
                     "#oldest event"),
                [_queue_row(queue) for queue in data["queues"]],
            ),
            about="What waits for a writer is of this process: each has writers of its own.",
        ),
        Panel(
            "consumers",
            "Consumers",
            table=None if asking else Table(
                "A row for each group",
                head("group", "topics", "#events behind"),
                [
                    [text(c["group"]), text(", ".join(c["topics"])),
                     number(count(c["events_behind"])) if not c["detail"]
                     else text(c["detail"], "bad")]
                    for c in data["consumers"]
                ],
            ),
            why=asking,
        ),
    ]  # fmt: skip


def _queue_row(queue: Json) -> list[Cell]:
    if queue["state"] != "up":
        what = "being read" if queue["state"] == "reading" else "down"
        return [text(queue["shard"]), number(count(queue["queue_depth"])),
                text(f"the shard is {what}"), number("–"), number("–")]  # fmt: skip
    return [
        text(queue["shard"]),
        number(count(queue["queue_depth"])),
        number(count(queue["outbox_rows"])),
        number(count(queue["outbox_rows_max"])),
        number(seconds(queue["outbox_lag_s"])),
    ]


def _state(state: str) -> Cell:
    return text(state.replace("_", " "), TONES.get(state, ""))


def _check_cell(check: Json | None) -> Cell:
    if check is None:
        return text("none yet: the monitor tells every 10 s")
    return text(f"{check['state']} at {time_of(check['at'])}", TONES.get(check["state"], ""))
