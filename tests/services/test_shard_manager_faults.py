"""The shard manager when parts are away: what is refused, what goes on, what is never lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from paytm_lab.core.events import unwrap
from paytm_lab.web.scopes import ADMIN, ANALYTICS_READ, TRANSFER_ANY, TRANSFER_OWN
from paytm_lab.web.server import settled
from tests.services.world import World, item, new_key, problem
from tests.waiting import answers, until

STALL_S_MAX = 0.05


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[World]:
    quick = {"breaker_probe_s": 0.2, "recovery_interval_s": 0.1, "pending_age_s": 0.1}
    many = {"velocity_limit": 1_000_000, "payments_per_window_max": 1_000_000}
    with World(profile=profile, shards=2, **quick, **many) as made:
        yield made
        made.lab.audit().require_clean()


def up(world: World) -> None:
    """Until the writers have found their shards again."""
    for shard in (0, 1):
        until(lambda shard=shard: answers(lambda: world.user(shard=shard)))  # type: ignore[misc]


def test_a_shard_that_is_down_refuses_and_loses_nothing(world: World) -> None:
    near, far = world.pair(cross=True)
    beside = world.user(shard=0)
    key = new_key()
    known = world.pay(near, far, "1", key=key)
    assert known.status_code == 201
    with world.lab.fault("shard-1", "down"):
        late = world.pay(near, far, "5", key="late")
        assert late.status_code == 202 and late.json()["status"] == "PENDING"
        assert late.headers["retry-after"] == "1"
        read = world.call("GET", late.headers["location"], near)
        assert (read.status_code, read.json()["status"]) == (200, "PENDING")
        problem(world.pay(far, near, "1"), 503, "shard_unavailable")
        said = problem(world.pay(near, far, "1"), 503, "shard_unavailable")
        assert said["place"] == "shard-1"
        # What was made is answered by its own shard alone, and what touches no other goes on.
        assert world.pay(near, far, "1", key=key).json()["payment_id"] == known.json()["payment_id"]
        assert world.pay(near, beside, "1").status_code == 201
        problem(world.call("GET", f"/accounts/{far}", far), 503, "shard_unavailable")
        assert world.call("GET", f"/accounts/{near}", near).status_code == 200
        bulk = world.call(
            "POST", "/transfers/bulk", near,
            json={"transfers": [item(near, far, "1"), item(near, beside, "1")]},
        ).json()["outcomes"]  # fmt: skip
        assert [each["status_code"] for each in bulk] == [503, 201]
        problem(world.call("POST", f"/accounts/{far}/freeze", "root", ADMIN), 503,
                "shard_unavailable")  # fmt: skip
    up(world)
    until(lambda: world.balance(far) == 100_000 + 100 + 500)
    again = world.pay(near, far, "5", key="late")
    assert (again.status_code, again.json()["status"]) == (200, "COMPLETED")


def test_health_names_a_shard_that_is_down(world: World) -> None:
    with world.lab.fault("shard-1", "down"):
        began = time.monotonic()
        ready = world.call("GET", "/ready")
        assert ready.status_code == 503 and time.monotonic() - began < 2
        parts = ready.json()["parts"]
        assert [name for name, part in parts.items() if part["state"] == "down"] == ["shard-1"]
        health = world.call("GET", "/health")
        assert health.status_code == 503
        assert world.call("GET", "/live").status_code == 200
        assert health.json()["parts"]["shard-1"]["state"] == "down"

        def figures() -> dict[str, Any]:
            return dict(world.call("GET", "/analytics", "root", ANALYTICS_READ).json())

        until(lambda: not figures()["complete"])
        assert [each["state"] for each in figures()["shards"]] == ["up", "down"]
    up(world)
    assert world.call("GET", "/ready").status_code == 200


def test_several_may_ask_for_health_at_once(world: World) -> None:
    async def at_once() -> list[int]:
        asked = [world.ask("GET", path) for path in ("/ready", "/health") * 5]
        return [said.status_code for said in await asyncio.gather(*asked)]

    assert world.run(at_once()) == [200] * 10


def test_a_lost_answer_is_said_and_a_repeat_finds_the_payment(world: World) -> None:
    near, far = world.user(shard=0), world.user(shard=0)
    with world.lab.fault("shard-0", "lost-commit-down"):
        lost = world.pay(near, far, "3", key="lost")
        payment = problem(lost, 504, "outcome_unknown")["payment_id"]
    until(lambda: world.pay(near, far, "3", key="lost").status_code == 200)
    again = world.pay(near, far, "3", key="lost").json()
    assert (again["payment_id"], again["status"]) == (payment, "COMPLETED")
    assert world.balance(near) == 99_700
    up(world)


def test_without_the_cache_money_stands_still_and_reads_go_on(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    world.pay(sender, receiver, "1")
    path = f"/accounts/{sender}"
    assert "warning" not in world.call("GET", path, sender).headers
    staff = world.bearer("root", (ADMIN,))
    unseen = world.signer.token(sender, TRANSFER_OWN)
    with world.lab.fault("cache", "gone"):
        until(lambda: not world.checker.is_fresh())
        said = world.pay(sender, receiver, "1")
        assert problem(said, 503, "unavailable")["place"] == "cache"
        body = {"transfers": [item(sender, receiver, "1")]}
        assert world.call("POST", "/transfers/bulk", sender, json=body).status_code == 503
        frozen = world.call("POST", f"{path}/freeze", headers=staff)
        problem(frozen, 503, "unavailable")
        for read in (path, f"{path}/statement"):
            shown = world.call("GET", read, sender)
            assert shown.status_code == 200 and shown.headers["warning"].startswith("199 ")
        # Also for a token that this process never saw before.
        said = world.call("GET", path, headers={"Authorization": f"Bearer {unseen}"})
        assert said.status_code == 200 and said.headers["warning"].startswith("199 ")
    until(lambda: world.pay(sender, receiver, "1").status_code == 201)
    assert world.balance(sender) == 99_800


def test_a_full_outbox_is_said(world: World) -> None:
    with World(shards=1, fraud_gate="off", outbox_rows_max=4) as small, ExitStack() as faults:
        sender, receiver = small.user(), small.user()
        small.lab.drain()
        faults.enter_context(small.lab.fault("relay", "stopped"))

        def pay() -> int:
            return small.pay(sender, receiver, "0.01").status_code

        until(lambda: pay() == 503)
        problem(small.pay(sender, receiver, "0.01"), 503, "outbox_full")


def test_more_than_are_admitted_hear_so_and_a_bulk_waits_its_turn() -> None:
    with World(shards=1, fraud_gate="off", in_flight_max=4, in_flight_per_shard_max=4) as small:
        sender, receiver = small.user(), small.user()

        async def at_once() -> list[Any]:
            path = f"/transfer/{sender}/{receiver}/0.01"
            return await asyncio.gather(*(small.ask("POST", path, sender) for _ in range(64)))

        with small.lab.fault("shard-0", "slow"):
            answers = small.run(at_once())
        assert {each.status_code for each in answers} == {201, 503}
        problem(next(each for each in answers if each.status_code == 503), 503, "overloaded")
        body = {"transfers": [item(sender, receiver, "0.01")] * 100}
        said = small.call("POST", "/transfers/bulk", sender, json=body).json()["outcomes"]
        assert [each["status_code"] for each in said] == [201] * 100


def test_who_asks_too_often_hears_so_and_others_do_not() -> None:
    with World(shards=1, fraud_gate="off", payments_per_window_max=20, rate_window_s=2) as strict:
        sender, receiver = strict.user(), strict.user()

        def many(count: int, user: str, other: str, *scopes: str) -> list[int]:
            async def at_once() -> list[Any]:
                path = f"/transfer/{user}/{other}/0.01"
                asked = (strict.ask("POST", path, user, *scopes) for _ in range(count))
                return await asyncio.gather(*asked)

            return [said.status_code for said in strict.run(at_once())]

        paid = many(60, sender, receiver)
        # A block (2) more than the limit: what a process gives out by itself.
        assert set(paid) == {201, 429} and 20 <= paid.count(201) <= 22
        said = problem(strict.pay(sender, receiver, "0.01"), 429, "rate_limited")
        assert "20 requests" in said["detail"]
        body = {"transfers": [item(sender, receiver, "0.01")] * 2}
        bulk = strict.call("POST", "/transfers/bulk", sender, json=body)
        problem(bulk, 429, "rate_limited")
        assert strict.call("GET", f"/accounts/{sender}", sender).status_code == 200
        assert many(10, receiver, sender) == [201] * 10
        assert many(100, "till", receiver, TRANSFER_ANY).count(429) == 0
        until(lambda: strict.pay(sender, receiver, "0.01").status_code == 201, within_s=20)
        assert strict.balance(sender) <= 100_000 - 20 + 10


def test_past_the_deadline_the_outcome_is_not_known() -> None:
    with World(shards=1, fraud_gate="off", deadline_s=1.0) as hasty:
        sender, receiver = hasty.user(), hasty.user()
        with hasty.lab.fault("shard-0", "frozen"):
            late = hasty.pay(sender, receiver, "1", key="late")
            payment = problem(late, 504, "outcome_unknown")["payment_id"]
            body = {"transfers": [item(sender, receiver, "1", idempotency_key="late")]}
            bulk = hasty.call("POST", "/transfers/bulk", sender, json=body).json()["outcomes"]
            assert bulk[0]["status_code"] == 504
        until(lambda: hasty.balance(sender) == 99_900)
        again = hasty.pay(sender, receiver, "1", key="late")
        assert (again.status_code, again.json()["payment_id"]) == (200, payment)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_body_over_the_limit_is_refused(world: World, claimed: bool) -> None:
    size = world.lab.settings.body_bytes_max + 1

    async def in_pieces() -> Any:
        for _ in range(size // 1_000 + 1):
            yield b" " * 1_000

    content = b" " * size if claimed else in_pieces()
    headers = {"content-type": "application/json"}
    said = world.call("POST", "/transfers", "a", content=content, headers=headers)
    assert problem(said, 413, "body_too_large")["title"]


def test_what_fails_within_is_a_problem_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret details")

    user = world.user()
    monkeypatch.setattr("paytm_lab.shard_manager.reading.account", broken)
    said = world.call("GET", f"/accounts/{user}", user)
    body = problem(said, 500, "internal_error")
    assert "secret" not in said.text
    assert said.headers["traceparent"].split("-")[1] in body["remedy"]


@pytest.mark.runs_alone  # thousands at once
def test_no_request_keeps_the_event_loop_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the work that the loop's own thread does in one go: time on the clock is also others'."""
    # Who follows ended sessions waits for a core, too, where others run: not what is asked here.
    monkeypatch.setattr("paytm_lab.web.tokens.STALE_S", 60.0)
    near, far = world.pair(cross=True)
    body = json.dumps({"transfers": [item(near, far, "0.01")] * 1_000}).encode()
    sent = {"content": body, "headers": {"content-type": "application/json"}}
    world.bearer("root", (ANALYTICS_READ,))

    async def again(times: int, *request: str, **more: Any) -> None:
        for _ in range(times):
            assert (await world.ask(*request, **more)).status_code == 200

    async def load() -> None:
        await asyncio.gather(
            *(again(2, "POST", "/transfers/bulk", near, **sent) for _ in range(2)),
            *(again(8, "GET", f"/accounts/{near}/statement?limit=200", near) for _ in range(3)),
            again(3, "GET", "/analytics", "root", ANALYTICS_READ),
        )

    world.run(load())  # what is made at the first use is made
    worked_s: list[float] = []
    handle_run = asyncio.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        before_s = time.thread_time()
        handle_run(handle)
        worked_s.append(time.thread_time() - before_s)

    with settled():
        monkeypatch.setattr(asyncio.Handle, "_run", measured)
        world.run(load())
        monkeypatch.undo()
    assert len(worked_s) > 100
    assert max(worked_s) < STALL_S_MAX


def test_a_frozen_shard_keeps_nobody_else_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paytm_lab.backends.embedded.faulty.FROZEN_PATIENCE_S", 6.0)
    near, far = world.pair(cross=True)
    beside = world.user(shard=0)

    async def load(thaw: Callable[[], Any]) -> float:
        stuck = [
            *(asyncio.ensure_future(world.ask("GET", f"/accounts/{far}", far)) for _ in range(40)),
            asyncio.ensure_future(world.ask("POST", f"/transfer/{far}/{near}/1", far)),
            asyncio.ensure_future(world.ask("POST", f"/transfer/{near}/{far}/1", near)),
        ]
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        for _ in range(5):
            paid = await world.ask("POST", f"/transfer/{near}/{beside}/1", near)
            read = await world.ask("GET", f"/accounts/{near}", near)
            assert (paid.status_code, read.status_code) == (201, 200)
        took_s = time.perf_counter() - began
        assert not any(each.done() for each in stuck)
        thaw()
        await asyncio.gather(*stuck)
        return took_s

    with ExitStack() as fault:
        fault.enter_context(world.lab.fault("shard-1", "frozen"))
        assert world.run(load(fault.close)) < 5.0
    up(world)


# -- following a payment --------------------------------------------------------------------------


def test_the_callers_trace_is_found_in_the_events(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    trace_id = new_key()
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    paid = world.pay(sender, receiver, "1", headers=headers)
    assert paid.headers["traceparent"].startswith(f"00-{trace_id}-")
    payment = paid.json()["payment_id"]

    def traced() -> set[str]:
        return {
            event.type
            for record in world.lab.system.all_records()
            if payment.encode() in record.value
            and (event := unwrap(record.value)).traceparent[3:35] == trace_id
        }

    until(
        lambda: traced() >= {"PaymentInitiated", "PaymentCompleted", "FraudScoreCalculated"},
        "the trace in the events",
    )


def test_a_timeline_has_every_step_and_nothing_of_others(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.pay(sender, receiver, "1").json()["payment_id"]
    world.lab.drain()

    def whats(user: str, *scopes: str) -> list[str]:
        said = world.call("GET", f"/transfers/{payment}/timeline", user, *scopes)
        assert said.status_code == 200
        steps = said.json()["steps"]
        assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
        return [step["what"] for step in steps]

    seen = " | ".join(whats("root", ADMIN))
    for part in ("leg (a)", "leg (b)", "leg (c)", "PaymentCompleted at payment_events", "fraud: ",
                 "FraudScoreCalculated", f"to {sender}", f"to {receiver}"):  # fmt: skip
        assert part in seen, part
    for user, other in ((sender, receiver), (receiver, sender)):
        own = " | ".join(whats(user))
        assert f"to {user}" in own and "leg (b)" in own
        assert "fraud" not in own.lower() and f" to {other}:" not in own
