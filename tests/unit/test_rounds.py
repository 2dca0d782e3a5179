"""Single payments before a gate: who goes alone, who goes together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from paytm_lab.core.errors import BadInput, Overloaded
from paytm_lab.ledger.gate_round import ROUND_MAX
from paytm_lab.ledger.operations import PaymentRequest
from paytm_lab.shard_manager.rounds import LANES, WAITING_MAX, Rounds


class Engine:
    """Begins what it is given once it is let; the payment's id is its amount."""

    def __init__(self, room: int = 10_000) -> None:
        self.rounds: list[int] = []
        self.go = threading.Event()
        self.room = room

    def submit_many(self, requests: Sequence[PaymentRequest], answers: Sequence[Any]) -> list[Any]:
        self.rounds.append(len(requests))
        self.go.wait(30)
        begun: list[Any] = []
        for request in requests:
            if self.room == 0:
                if not begun:
                    raise Overloaded("no room")
                break
            self.room -= 1
            wrong = request.amount_paise == 13
            begun.append(BadInput("13") if wrong else str(request.amount_paise).encode())
        return begun


def of(*paise: int) -> list[PaymentRequest]:
    return [PaymentRequest("1", "2", each) for each in paise]


def ask(engine: Engine, *groups: list[PaymentRequest]) -> list[Any]:
    """Each group comes when all before it are on their way or wait; then the engine is let."""

    async def asked() -> list[Any]:
        rounds: Any = Rounds(0, engine)  # type: ignore[arg-type]
        with closing(rounds):
            tasks = []
            for group in groups:
                tasks += [asyncio.create_task(rounds.submit(each, print)) for each in group]
                for _ in range(5):
                    await asyncio.sleep(0)
            engine.go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(asked())


def test_nobody_waits_while_a_lane_is_free_and_then_all_go_together() -> None:
    engine = Engine()
    alone = [of(n) for n in range(1, LANES + 1)]
    said = ask(engine, *alone, of(*range(100, 140)))
    assert engine.rounds == [1] * LANES + [40]
    assert said == [str(n).encode() for n in (*range(1, LANES + 1), *range(100, 140))]


def test_what_comes_at_once_goes_at_once() -> None:
    engine = Engine()
    ask(engine, of(1, 2, 3))
    assert engine.rounds == [3]


def test_a_round_has_a_limit() -> None:
    engine = Engine()
    alone = [of(n) for n in range(1, LANES + 1)]
    said = ask(engine, *alone, of(*range(100, 101 + ROUND_MAX)))
    assert sorted(engine.rounds) == sorted([*[1] * LANES, ROUND_MAX, 1])
    assert len(set(said)) == LANES + ROUND_MAX + 1


def test_so_many_may_wait() -> None:
    engine = Engine()
    alone = [of(n) for n in range(1, LANES + 1)]
    said = ask(engine, *alone, of(*range(100, 101 + WAITING_MAX)))
    assert [type(each) for each in said[-2:]] == [bytes, Overloaded]


def test_an_error_is_of_one_and_so_is_a_lack_of_room() -> None:
    said = ask(Engine(room=3), of(7, 13, 8, 9, 10))
    assert [type(each) for each in said] == [bytes, BadInput, bytes, Overloaded, Overloaded]


def test_what_breaks_is_said_to_all_of_a_round() -> None:
    class Breaks(Engine):
        def submit_many(self, requests: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
            raise ZeroDivisionError

    said = ask(Breaks(), of(1, 2))
    assert [type(each) for each in said] == [ZeroDivisionError] * 2


def test_who_comes_as_a_lane_ends_finds_a_free_one() -> None:
    """One after another: each comes in the very step in which the one before has been told."""

    async def asked() -> list[bytes]:
        engine = Engine()
        engine.go.set()
        with closing(Rounds(0, engine)) as rounds:  # type: ignore[arg-type]
            clients = [client(rounds, n) for n in range(8)]
            return [each for part in await asyncio.gather(*clients) for each in part]

    async def client(rounds: Rounds, number: int) -> list[bytes]:
        amounts = range(100 * (number + 1), 100 * (number + 1) + 50)
        return [await rounds.submit(request, print) for request in of(*amounts)]

    async def in_time() -> list[bytes]:
        async with asyncio.timeout(60):
            return await asked()

    assert len(set(asyncio.run(in_time()))) == 8 * 50


def test_who_has_gone_away_pays_nothing() -> None:
    engine = Engine()

    async def asked() -> None:
        with closing(Rounds(0, engine)) as rounds:  # type: ignore[arg-type]
            busy = [asyncio.create_task(rounds.submit(each, print)) for each in of(1)]
            for _ in range(LANES - 1):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                busy += [asyncio.create_task(rounds.submit(each, print)) for each in of(2)]
            for _ in range(5):
                await asyncio.sleep(0)
            gone = asyncio.create_task(rounds.submit(of(5)[0], print))
            await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            engine.go.set()
            await asyncio.gather(*busy)

    asyncio.run(asked())
    assert engine.rounds == [1] * LANES
