"""The money line: it turns red and names the payment when somebody changes the ledger by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from paytm_lab.analytics.checks import EntryChecks
from paytm_lab.analytics.money import Money
from paytm_lab.analytics.observatory import Observatory
from paytm_lab.core.ids import parse_payment_id
from paytm_lab.ledger import watching
from tests.services.analytics_world import AnalyticsWorld
from tests.waiting import until


@pytest.fixture
def world(profile: str) -> Iterator[AnalyticsWorld]:
    with AnalyticsWorld(profile=profile, shards=2, fraud_gate="off") as made:
        yield made


def line(world: AnalyticsWorld) -> dict[str, Any]:
    return dict(world.figures("overview")["money"])


def becomes(world: AnalyticsWorld, state: str) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    def is_so() -> bool:
        seen.append(line(world))
        return bool(seen[-1]["state"] == state)

    until(is_so, f"the line is {state}", within_s=30)
    return seen[-1]


def change(world: AnalyticsWorld, shard: int, table: str, column: str, row: int, by: int) -> None:
    """Behind the ledger's back."""
    database = world.lab.system.databases[shard]
    with database.read() as connection:
        asked = text(f"SELECT {column} FROM {table} WHERE id = :row")
        value = connection.execute(asked, {"row": row}).scalar_one()
    tx = database.begin()
    tx.update(table, ("id",), (column,), [(row, value + by)])
    tx.commit()


def account_row(world: AnalyticsWorld, shard: int, user: str) -> int:
    with world.lab.system.databases[shard].read() as connection:
        asked = text("SELECT id FROM accounts WHERE user_id = :user")
        return int(connection.execute(asked, {"user": user}).scalar_one())


def entries(world: AnalyticsWorld, shard: int, payment: str) -> list[tuple[int, int]]:
    """(entry id, account id)."""
    with world.lab.system.databases[shard].read() as connection:
        asked = text("SELECT id, account_id FROM ledger_entries WHERE payment_id = :id ORDER BY id")
        rows = connection.execute(asked, {"id": parse_payment_id(payment)})
        return [(row[0], row[1]) for row in rows]


def paid(world: AnalyticsWorld, cross: bool) -> tuple[str, str, str]:
    """The last of a few payments between two users, and they."""
    sender, receiver = world.pair(cross)
    for _ in range(3):
        payment = world.lab.transfer(sender, receiver, "7").payment
    becomes(world, "equal")
    return payment, sender, receiver


@pytest.mark.parametrize("by", [1, -1])
def test_a_changed_balance(world: AnalyticsWorld, by: int) -> None:
    payment, sender, _ = paid(world, cross=False)
    change(world, 0, "accounts", "balance", account_row(world, 0, sender), by)
    red = becomes(world, "mismatch")
    red = line(world) if not red["findings"] else red
    assert red["difference_paise"] == by
    until(lambda: line(world)["findings"], "it is found")
    (found,) = line(world)["findings"]
    assert (found["user_id"], found["payment_id"]) == (sender, payment)
    assert (found["shard"], found["difference_paise"]) == (0, by)
    assert "is not the sum" in found["what"]
    assert payment in line(world)["words"] and "≠" in line(world)["words"]
    change(world, 0, "accounts", "balance", account_row(world, 0, sender), -by)
    assert becomes(world, "equal")["findings"] == []


@pytest.mark.parametrize("which", ["of the sender", "in transit", "of the receiver"])
def test_a_changed_entry(world: AnalyticsWorld, which: str) -> None:
    payment, _, _ = paid(world, cross=True)
    shard = 1 if which == "of the receiver" else 0
    rows = entries(world, shard, payment)
    in_transit = which == "in transit"
    entry = next(id_ for id_, account in rows if (account < 2_000) == in_transit)
    change(world, shard, "ledger_entries", "amount", entry, 500)
    becomes(world, "mismatch")
    until(lambda: payment in line(world)["words"], "the payment is named", within_s=30)
    assert {f["payment_id"] for f in line(world)["findings"]} == {payment}
    change(world, shard, "ledger_entries", "amount", entry, -500)
    assert becomes(world, "equal")["findings"] == []


def test_two_balances_that_cancel_each_other_out(world: AnalyticsWorld) -> None:
    _, sender, receiver = paid(world, cross=False)
    rows = [account_row(world, 0, user) for user in (sender, receiver)]
    for row, by in zip(rows, (5, -5), strict=True):
        change(world, 0, "accounts", "balance", row, by)
    until(lambda: len(line(world)["findings"]) >= 1, "one is found", within_s=30)
    assert line(world)["state"] == "mismatch"
    for row, by in zip(rows, (-5, 5), strict=True):
        change(world, 0, "accounts", "balance", row, by)
    becomes(world, "equal")


@pytest.mark.parametrize("by", [300, -300])
def test_a_credit_that_is_not_its_debit(world: AnalyticsWorld, by: int) -> None:
    """Each shard is right in itself: the payment is debited by one amount on one and credited by
    another on the other.
    """
    sender, receiver = world.pair(cross=True)
    becomes(world, "equal")
    source = world.lab.system.databases[0]
    payment = world.lab.transfer(sender, receiver, "7").payment
    for entry, _ in entries(world, 1, payment):
        change(world, 1, "ledger_entries", "amount", entry, by)
    change(world, 1, "accounts", "balance", account_row(world, 1, receiver), by)
    assert source.shard_id == 0
    with AnalyticsWorld.watching_anew(world) as anew:
        red = becomes(anew, "mismatch")
        assert [f["payment_id"] for f in red["findings"]] == [payment]
        assert red["findings"][0]["shard"] is None
        assert red["findings"][0]["difference_paise"] == by == red["difference_paise"]
    for entry, _ in entries(world, 1, payment):
        change(world, 1, "ledger_entries", "amount", entry, -by)
    change(world, 1, "accounts", "balance", account_row(world, 1, receiver), -by)
    with AnalyticsWorld.watching_anew(world) as anew:
        becomes(anew, "equal")


def test_old_entries_are_looked_over_again_and_again(world: AnalyticsWorld) -> None:
    """A walk in small steps finds an entry wherever it lies, and a payment that a step's end cuts
    in two is not taken for one that does not balance.
    """
    for _ in range(30):
        payment, _, _ = paid(world, cross=True)
    checks = EntryChecks(0)
    database = world.lab.system.databases[0]

    def found() -> list[str]:
        with database.read() as connection:
            return [f.payment_id for f in checks.step(connection, watching.heads(connection))]

    seen: list[str] = []
    until(lambda: seen.extend(found()) or checks.rounds >= 2, "two rounds", within_s=60)
    assert seen == []
    entry = entries(world, 0, payment)[0][0]
    change(world, 0, "ledger_entries", "amount", entry, 1)
    until(lambda: payment in found(), "it is found", within_s=60)
    change(world, 0, "ledger_entries", "amount", entry, -1)
    until(lambda: found() == [], "it is right again")


def test_a_reading_that_was_lost_is_no_mismatch(world: AnalyticsWorld) -> None:
    """A shard that answered too late for a look: what it said then is read again."""
    sender, receiver = world.pair(cross=True)
    observatory = Observatory(world.analytics)
    seen: list[Money] = []

    def look() -> bool:
        observatory._last = None
        seen.append(world.run(observatory.look()).money)
        return seen[-1].state == "equal" and seen[-1].counted == 1

    until(look, "it begins well")
    world.lab.transfer(sender, receiver, "7")
    for watch in observatory._watches.values():
        watch.read()
    until(lambda: look() and seen[-1].funded_paise == 200_000, "it is right again")
    assert not any(money.state == "mismatch" for money in seen)
    world.run(observatory.close())


def test_a_reading_that_comes_too_late_still_counts(
    world: AnalyticsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = world.pair(cross=True)
    observatory = Observatory(world.analytics)

    def look() -> Money:
        observatory._last = None
        return world.run(observatory.look()).money

    until(lambda: look().counted == 1, "it begins well")
    before = look()
    shard = world.lab.system.router.locate(sender)[1]
    read, go_on, came = observatory._watches[shard].read, threading.Event(), threading.Event()

    def late() -> Any:
        now = read()
        go_on.wait(30)
        came.set()
        return now

    world.lab.transfer(sender, receiver, "7")
    with monkeypatch.context() as patch:
        patch.setattr(observatory._watches[shard], "read", late)
        assert look().state == "unknown"
    go_on.set()
    assert came.wait(30)
    until(lambda: look().state == "equal", "what came late is weighed with the next")
    monkeypatch.setattr(observatory, "_restart", pytest.fail)  # nothing has to be counted anew
    after = look()
    assert (after.state, after.funded_paise) == ("equal", before.funded_paise)
    world.run(observatory.close())


def test_a_shard_that_is_away_makes_it_unknown(world: AnalyticsWorld) -> None:
    paid(world, cross=True)
    with world.lab.fault("shard-1", "down"):
        said = becomes(world, "unknown")
        assert said["away"] == [1] and "shard 1 does not answer" in said["words"]
        shown = world.figures("shards")
        states = {shard["shard"]: shard["state"] for shard in shown["shards"]}
        assert states == {0: "up", 1: "down"}
        assert next(s for s in shown["shards"] if s["shard"] == 1)["detail"]
        overview = world.figures("overview")
        assert not overview["complete"] and overview["down"][0].startswith("shard 1")
        page = world.page("/shards").text
        assert "Shard 1 is down" in page and "shard 0" in page
    becomes(world, "equal")
