"""The figures equal the ledger's, after a run and while one goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from paytm_lab import Workload
from paytm_lab.analytics import models, shard_watch
from paytm_lab.analytics.shard_watch import ShardWatch
from paytm_lab.web.scopes import ANALYTICS_READ
from paytm_lab.web.server import settled as settled_collector
from tests.services.analytics_world import PAGES, AnalyticsWorld
from tests.services.test_stalls import all_of, require_no_stall
from tests.services.world import of_model
from tests.waiting import until

MODELS: dict[str, Any] = {
    "overview": models.Overview,
    "shards": models.Shards,
    "payments": models.Payments,
    "fraud": models.Fraud,
    "system": models.System,
}
OWN = "role <> 'destination'"


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[AnalyticsWorld]:
    """A lab in which every kind of payment was made."""
    with AnalyticsWorld(profile=profile, shards=3, seed=11) as made:
        made.figures("overview")  # before there was anything
        made.lab.run(Workload(users=120, payments=1_500))
        for cross in (False, True):
            sender, receiver = made.pair(cross)
            made.lab.transfer(sender, receiver, "1", hold=True)
            made.lab.release(made.lab.transfer(sender, receiver, "2", hold=True).payment)
            made.lab.capture(made.lab.transfer(sender, receiver, "3", hold=True).payment)
            made.lab.transfer(sender, receiver, "99999")
            # As much as the receiver has, and gone by the time that it is to be given back.
            spent = made.lab.transfer(sender, receiver, "8000").payment
            review = made.lab.transfer(sender, receiver, "900").payment
            made.lab.transfer(receiver, sender, "1500")
            made.review(review)
            made.lab.reject(review)
            assert spent
        made.lab.drain()
        yield made


def each_shard(world: AnalyticsWorld, sql: str) -> dict[int, list[tuple[Any, ...]]]:
    def rows(connection: Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(text(sql))]

    found = {}
    for shard, database in world.lab.system.databases.items():
        with database.read() as connection:
            found[shard] = rows(connection)
    return found


def total(world: AnalyticsWorld, sql: str) -> int:
    return sum(int(rows[0][0] or 0) for rows in each_shard(world, sql).values())


def counted(world: AnalyticsWorld, sql: str) -> dict[str, int]:
    """SQL that groups: a word, a number -> their sums over all shards."""
    found: dict[str, int] = {}
    for rows in each_shard(world, sql).values():
        for *words, number in rows:
            key = "/".join(map(str, words))
            found[key] = found.get(key, 0) + int(number)
    return found


def settled(world: AnalyticsWorld) -> None:
    """Until what is watched has caught up with what was drained."""
    kept = total(world, "SELECT COUNT(*) FROM ledger_entries")
    waiting = total(world, "SELECT COUNT(*) FROM reviews WHERE state = 'open'")

    def is_caught_up() -> bool:
        shards = world.figures("shards")["shards"]
        return (
            sum(shard["entries"] for shard in shards) == kept
            and sum(shard["reviews_open"] for shard in shards) == waiting
        )

    until(is_caught_up, "it has caught up")


def test_every_page_is_as_its_documents_say(world: AnalyticsWorld) -> None:
    for page in PAGES:
        of_model(MODELS[page], world.figures(page))


def test_money(world: AnalyticsWorld) -> None:
    settled(world)
    money = world.figures("overview")["money"]
    entries = (
        "SELECT SUM(CASE WHEN direction = 'credit' THEN amount ELSE -amount END)"
        " FROM ledger_entries WHERE account_id"
    )
    assert money["state"] == "equal" and money["difference_paise"] == 0
    assert money["funded_paise"] == -total(world, f"{entries} = 1")
    assert money["users_paise"] == total(world, "SELECT SUM(balance) FROM accounts")
    assert money["on_hold_paise"] == total(world, "SELECT SUM(held) FROM accounts") == 200
    assert money["receivable_paise"] == total(world, f"{entries} = 2")
    assert money["under_way_paise"] == money["payments_under_way"] == 0
    assert money["funded_paise"] > 0


def test_every_shard(world: AnalyticsWorld) -> None:
    settled(world)
    shown = {shard["shard"]: shard for shard in world.figures("shards")["shards"]}
    users = "FROM accounts WHERE id >= 2000"
    sums = each_shard(world, f"SELECT COUNT(*), SUM(balance), SUM(held) {users}")
    states = each_shard(
        world, f"SELECT status, COUNT(*) FROM transactions WHERE {OWN} GROUP BY status"
    )
    entries = each_shard(world, "SELECT COUNT(*) FROM ledger_entries")
    reviews = each_shard(world, "SELECT COUNT(*) FROM reviews WHERE state = 'open'")
    assert set(shown) == set(sums) == {0, 1, 2}
    for shard, figures in shown.items():
        count, balance, held = map(int, sums[shard][0])
        assert figures["state"] == "up" and figures["counted"] == 1
        assert figures["accounts"] == count
        assert (figures["balance_paise"], figures["held_paise"]) == (balance, held)
        assert figures["payments"] == dict(states[shard])
        assert figures["entries"] == entries[shard][0][0]
        assert figures["reviews_open"] == reviews[shard][0][0]
        assert figures["outbox_rows"] == 0 and figures["outbox_lag_s"] == 0
    assert {s for f in shown.values() for s in f["payments"]} >= {"HELD", "CANCELLED", "FAILED"}


def test_the_overview(world: AnalyticsWorld) -> None:
    settled(world)
    shown = world.figures("overview")
    of = f"FROM transactions WHERE {OWN}"
    transfers = counted(world, f"SELECT status, COUNT(*) {of} AND kind = 'transfer' GROUP BY 1")
    assert shown["transfers"] == transfers
    assert shown["kinds"] == counted(world, f"SELECT kind, COUNT(*) {of} GROUP BY 1")
    assert set(shown["kinds"]) == {"transfer", "funding", "refund"}
    ended = transfers["COMPLETED"] + transfers["FAILED"] + transfers["CANCELLED"]
    assert shown["success_rate"] == transfers["COMPLETED"] / ended
    assert shown["accounts"] == total(world, "SELECT COUNT(*) FROM accounts WHERE id >= 2000")
    assert shown["complete"] and shown["down"] == []


def test_history(world: AnalyticsWorld) -> None:
    settled(world)
    shown = world.figures("payments")
    of = f"FROM transactions WHERE {OWN}"
    kinds = counted(world, f"SELECT kind, status, COUNT(*) {of} GROUP BY 1, 2")
    paise = counted(world, f"SELECT kind, status, SUM(amount) {of} GROUP BY 1, 2")
    ends = {f"{o['kind']}/{o['type'].removeprefix('Payment').upper()}": o
            for o in shown["outcomes"]}  # fmt: skip
    for kind in ("transfer", "funding", "refund"):
        initiated = sum(n for key, n in kinds.items() if key.startswith(f"{kind}/"))
        assert ends[f"{kind}/INITIATED"]["payments"] == initiated
    done = {key: n for key, n in kinds.items() if not key.endswith("HELD")}
    assert {key: ends[key]["payments"] for key in done} == done
    assert {key: ends[key]["amount_paise"] for key in done} == {key: paise[key] for key in done}
    failed = counted(world, f"SELECT reason, COUNT(*) {of} AND status = 'FAILED' GROUP BY 1")
    assert failed == {r["reason"]: r["payments"] for r in shown["reasons"]
                      if r["type"] == "PaymentFailed"}  # fmt: skip
    completed = f"{of} AND kind = 'transfer' AND status = 'COMPLETED'"
    for name, sign in (("same_shard", "="), ("cross_shard", "<>")):
        where = f"{completed} AND from_shard {sign} to_shard"
        assert shown[name] == {
            "payments": total(world, f"SELECT COUNT(*) {where}"),
            "amount_paise": total(world, f"SELECT SUM(amount) {where}"),
        }
    routes = counted(world, f"SELECT from_shard, to_shard, COUNT(*) {completed} GROUP BY 1, 2")
    assert {f"{r['from_shard']}/{r['to_shard']}": r["payments"] for r in shown["routes"]} == routes
    number = total(world, f"SELECT COUNT(*) {completed}")
    by_hour = "occurred_at / 1000000 % 86400 / 3600"
    if world.lab.settings.profile == "servers":
        by_hour = "occurred_at DIV 1000000 % 86400 DIV 3600"
    hours = counted(world, f"SELECT {by_hour}, COUNT(*) {completed} GROUP BY 1")
    assert {str(h): n["payments"] for h, n in enumerate(shown["by_hour_of_day"])
            if n["payments"]} == hours  # fmt: skip
    assert sum(day["payments"] for day in shown["days"]) == number
    assert sum(hour["completed"] for hour in shown["hours"]) == number
    assert sum(bin_["payments"] for bin_ in shown["latency"]) == number
    assert 0 < shown["latency_ms"]["p50"] <= shown["latency_ms"]["p99"]


def test_fraud(world: AnalyticsWorld) -> None:
    settled(world)
    shown = world.figures("fraud")
    features = list(world.lab.system.wide.scan("features"))
    decisions: dict[tuple[str, str], int] = {}
    for row in features:
        key = (row["decision"], row["rule"])
        decisions[key] = decisions.get(key, 0) + 1
    assert shown["scored"] == len(features) > 1_000
    assert {(d["decision"], d["rule"]): d["payments"] for d in shown["decisions"]} == decisions
    bins = [0] * 10
    for row in features:
        bins[min(9, int(row["score"] * 10))] += 1
    assert [bin_["payments"] for bin_ in shown["scores"]] == bins
    waiting = total(world, "SELECT COUNT(*) FROM reviews WHERE state = 'open'")
    assert shown["reviews_open"] == waiting > 0
    listed = [(r["opened_at"], r["payment_id"]) for r in shown["reviews"]]
    assert len(listed) == min(20, waiting) and listed == sorted(listed)


def test_system(world: AnalyticsWorld) -> None:
    shown = world.figures("system")
    until(lambda: world.figures("system")["asked_at"], "all have answered")

    def all_well() -> bool:
        shown = world.figures("system")
        parts = {p["name"]: p["state"] for p in shown["parts"]}
        behind = {c["group"]: c["events_behind"] for c in shown["consumers"]}
        return parts == dict.fromkeys(world.analytics.checks, "up") and behind == dict.fromkeys(
            world.lab.system.runners, 0
        )

    until(all_well, "every part answers, every consumer is at the end")
    shown = world.figures("system")
    until(
        lambda: all(p["last_check"] for p in world.figures("system")["parts"]),
        "each part has been told of by a SystemHealthCheck",
    )
    assert [q["shard"] for q in shown["queues"]] == [0, 1, 2]
    states = {s["name"]: (s["state"], s["registered"]) for s in shown["services"]}
    assert states["shard_manager"] == ("not_served", False)


def test_no_false_alarm_while_payments_are_made(profile: str) -> None:
    with AnalyticsWorld(profile=profile, shards=3, seed=3) as world:
        ran: list[object] = []
        load = threading.Thread(
            target=lambda: ran.append(world.lab.run(Workload(users=60, payments=9_000)))
        )
        seen = []
        with settled_collector():  # as a service runs; other tests' objects are not gone through
            load.start()
            while load.is_alive():
                seen.append(world.figures("overview")["money"])
                load.join(0.3)
        assert ran and len(seen) >= 3
        assert {line["state"] for line in seen} == {"equal"}, seen
        for line in seen:
            held = line["users_paise"] + line["under_way_paise"] + line["receivable_paise"]
            assert held == line["funded_paise"], line
        in_books = counted(
            world,
            f"SELECT status, COUNT(*) FROM transactions WHERE {OWN} AND kind = 'transfer'"
            " GROUP BY status",
        )
        until(lambda: world.figures("overview")["transfers"] == in_books, "the last are counted")


def settled_watch(world: AnalyticsWorld) -> ShardWatch:
    """One that has counted all that there was, and keeps it."""
    watch = ShardWatch(world.lab.system.databases[0], world.lab.system.clock)
    kept_s = time.monotonic() + shard_watch.SETTLED_S + 0.5
    until(lambda: watch.read().counted == 1 and time.monotonic() > kept_s, "all is counted")
    return watch


def test_a_look_costs_the_same_however_much_is_stored() -> None:
    """By the steps that SQLite makes for it, once all was counted."""
    steps = [0]

    def tick() -> int:
        steps[0] += 1
        return 0

    def count(_: Any, cursor: Any, *more: Any) -> None:
        cursor.connection.set_progress_handler(tick, 10)

    cost = []
    with AnalyticsWorld(profile="embedded", shards=1, seed=5) as world:
        database = world.lab.system.databases[0]
        with database.read() as connection:
            event.listen(connection.engine, "before_cursor_execute", count)
        for payments in (400, 6_000):
            world.lab.run(Workload(users=40, payments=payments))
            watch = settled_watch(world)
            looks = []
            for _ in range(40):
                steps[0] = 0
                watch.read()
                looks.append(steps[0])
            cost.append(sorted(looks)[len(looks) // 2])
    few, many = cost
    assert few > 0 and many < 1.5 * few + 20, cost


def test_a_store_that_was_there_before_is_gone_through(world: AnalyticsWorld) -> None:
    """By a service that starts now, in steps that are smaller than it."""
    small = pytest.MonkeyPatch()
    small.setattr(shard_watch, "ROWS_COUNTED", 100)
    small.setattr(shard_watch, "ROWS_HANDED", 100)
    small.setattr(shard_watch.watching, "NEAR", 0)
    with small.context():
        database = world.lab.system.databases[0]
        watch = ShardWatch(database, world.lab.system.clock)
        reads = [watch.read()]
        until(
            lambda: reads.append(watch.read()) or (reads[-1].counted == 1 and reads[-1].caught_up)
        )
    small.undo()
    shown = next(s for s in world.figures("shards")["shards"] if s["shard"] == 0)
    assert reads[-1].entries == shown["entries"]
    assert sum(n for n, _ in reads[-1].payments.values()) == sum(shown["payments"].values())
    handed = [entry.id for read in reads for entry in read.new]
    kept = each_shard(world, "SELECT COUNT(*) FROM ledger_entries WHERE account_id < 2000")
    assert len(handed) == len(set(handed)) == kept[0][0][0]


def test_no_page_keeps_others_from_being_answered(world: AnalyticsWorld) -> None:
    asked = [("GET", f"{where}/{page}", "reader", ANALYTICS_READ)
             for page in PAGES for where in ("", "/api")]  # fmt: skip

    async def work() -> None:
        assert await all_of(world, asked) == {200}

    require_no_stall(world, work)
