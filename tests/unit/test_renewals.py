"""What follows a used refresh token, over processes: real sessions, one cache, several renewals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from paytm_lab.auth.sessions import Sessions
from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import PaytmLabError, Unauthenticated, Unavailable
from paytm_lab.ports.cache import Hit
from paytm_lab.web import page_sessions
from paytm_lab.web.auth_client import Signed
from paytm_lab.web.page_sessions import PageSessions
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.renewals import CLAIMED_S, KEPT_HERE_MAX, RENEWED_KEPT_S, Renewals
from paytm_lab.web.sign_ins import Guesses, SignIns


class Auth:
    """The auth service's sessions without its HTTP. ``before`` and ``after`` are called around a
    refresh.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.asked = 0
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def refresh(self, token: str) -> Signed:
        self.asked += 1
        self.before()
        said = self.sessions.refresh(token)
        self.after()
        return Signed(f"access-{self.asked}", 2_000_000_000, said.refresh_token, 2_000_000_000)


class Watched(EmbeddedCache):
    """Remembers all that it was given."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock)
        self.given: list[bytes] = []

    def set_many(self, values: Mapping[str, bytes], ttl_s: float) -> None:
        self.given += [part for k, v in values.items() for part in (k.encode(), v)]
        super().set_many(values, ttl_s)

    def reserve(self, hit: Hit, window_s: float, count_max: int) -> tuple[bool, int]:
        self.given += [hit.key.encode(), hit.member.encode()]
        return super().reserve(hit, window_s, count_max)

    def keys(self, word: str) -> Sequence[str]:
        return [key for key in (*self._entries, *self._windows) if word in key]


class World:
    """Two processes, ``one`` and ``two``."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.cache = Watched(self.clock)
        self.auth = Auth(Sessions(self.cache, self.clock, b"s" * 32, 3_600.0, 300.0))
        self.one, self.two = self.process(), self.process()

    def process(self) -> Renewals:
        auth: Any = self.auth
        return Renewals(auth, self.cache, self.clock)

    def token(self) -> str:
        return self.auth.sessions.begin("asha", ["transfer:own"]).refresh_token


@pytest.fixture
def world() -> World:
    return World()


def test_for_a_moment_a_used_token_brings_the_same_everywhere(world: World) -> None:
    used = world.token()
    first = world.one.renew(used)
    assert first is not None and first.refresh_token != used
    world.clock.advance(RENEWED_KEPT_S - 0.1)
    assert world.two.renew(used) == world.one.renew(used) == first
    assert world.auth.asked == 1
    assert world.two.renew(first.refresh_token) is not None


def test_after_that_moment_it_is_reported_as_used_and_the_session_ends(world: World) -> None:
    used = world.token()
    first = world.one.renew(used)
    assert first is not None
    world.clock.advance(RENEWED_KEPT_S - 1)
    assert world.two.renew(used) == first  # a look makes it last no longer, here or there
    world.clock.advance(1.1)
    with pytest.raises(Unauthenticated, match="used before"):
        world.two.renew(used)
    for process in (world.one, world.two):
        with pytest.raises(Unauthenticated):
            process.renew(first.refresh_token)


def test_while_one_is_at_it_the_others_hear_to_look_again(world: World) -> None:
    used = world.token()
    said: list[Signed | None] = []
    world.auth.before = lambda: said.append(world.two.renew(used))
    world.auth.after = lambda: said.append(world.two.renew(used))
    first = world.one.renew(used)
    assert said == [None, None] and world.auth.asked == 1
    assert world.two.renew(used) == first


def test_the_cache_holds_no_token_and_nothing_to_read_one_by(world: World) -> None:
    used = world.token()
    first = world.one.renew(used)
    assert first is not None
    for secret in (used, first.refresh_token, first.access_token):
        assert not any(secret.encode() in given for given in world.cache.given)
    (name,) = world.cache.keys("page:renewed")
    value = world.cache.get(name)
    assert value is not None
    # Under another token's name it opens to nothing, and with a bit changed neither.
    other = world.token()
    foreign = world.process()
    second = foreign.renew(other)
    (moved,) = set(world.cache.keys("page:renewed")) - {name}
    world.cache.set_many({moved: value}, RENEWED_KEPT_S)
    with pytest.raises(Unauthenticated, match="used before"):
        world.two.renew(other)
    assert second is not None
    world.cache.set_many({name: value[:-1] + bytes([value[-1] ^ 1])}, RENEWED_KEPT_S)
    with pytest.raises(Unauthenticated, match="used before"):
        world.two.renew(used)


def test_a_token_that_is_none_leaves_nothing_behind(world: World) -> None:
    for n in range(KEPT_HERE_MAX + 5):
        with pytest.raises(Unauthenticated):
            world.one.renew(f"x.{n}.y")
    assert world.cache.keys("page:") == []
    asked = world.auth.asked
    with pytest.raises(Unauthenticated):
        world.one.renew(f"x.{KEPT_HERE_MAX}.y")
    assert world.auth.asked == asked, "what is refused once is refused"
    assert len(world.one._here) <= KEPT_HERE_MAX


@pytest.mark.parametrize("used_up", [False, True])
def test_one_that_dies_at_it_keeps_the_others_out_for_a_while(world: World, used_up: bool) -> None:
    """Then whoever comes asks the auth service, which knows whether the token was used."""
    used = world.token()
    # What a dead process leaves: its claim, and perhaps a used token.
    world.cache.reserve(Hit(claim_of(used), "dead", world.clock.now_us()), CLAIMED_S, 1)
    if used_up:
        world.auth.sessions.refresh(used)
    world.clock.advance(CLAIMED_S - 0.1)
    assert world.one.renew(used) is world.two.renew(used) is None
    assert world.auth.asked == 0
    world.clock.advance(0.2)
    if used_up:
        with pytest.raises(Unauthenticated, match="used before"):
            world.two.renew(used)
    else:
        assert world.two.renew(used) == world.one.renew(used) is not None


def claim_of(token: str) -> str:
    """The name under which a process claims this token, as seen while one is at it."""
    other = World()
    found: list[str] = []
    other.auth.before = lambda: found.extend(other.cache.keys("page:renewing"))
    with pytest.raises(Unauthenticated):
        other.one.renew(token)  # of another installation: refused, but claimed
    (name,) = found
    return name


def test_an_auth_service_that_is_away_leaves_the_token_to_the_next(world: World) -> None:
    used = world.token()

    def away() -> None:
        raise Unavailable("the auth service does not answer")

    world.auth.before = away
    with pytest.raises(Unavailable):
        world.one.renew(used)
    world.auth.before = lambda: None
    assert world.two.renew(used) is not None
    assert world.cache.keys("page:renewing") == []


def test_without_the_cache_nobody_is_asked_and_the_token_still_counts(world: World) -> None:
    used = world.token()
    world.cache.available = False
    for process in (world.one, world.two):
        with pytest.raises(Unavailable):
            process.renew(used)
    assert world.auth.asked == 0
    world.cache.available = True
    assert world.two.renew(used) is not None


def test_a_cache_that_goes_in_between_leaves_it_to_the_one_that_knows(world: World) -> None:
    used = world.token()
    world.auth.after = lambda: setattr(world.cache, "available", False)
    first = world.one.renew(used)
    assert first is not None and world.one.renew(used) == first
    with pytest.raises(Unavailable):
        world.two.renew(used)
    world.cache.available = True
    world.clock.advance(1)
    # The other one does not use the token a second time: the session goes on where it is known.
    assert world.two.renew(used) is None
    assert world.one.renew(used) == first
    assert world.two.renew(first.refresh_token) is not None


def test_what_was_forgotten_is_forgotten_everywhere(world: World) -> None:
    used = world.token()
    assert world.one.renew(used) is not None
    world.two.forget(used)
    assert world.cache.keys("page:renewed") == []
    with pytest.raises(Unauthenticated, match="used before"):
        world.one.renew(used)


# -- who waits -------------------------------------------------------------------------------------


class Page:
    """A request of a browser that has this refresh token."""

    def __init__(self, pool: BoundedPool, process: Renewals) -> None:
        pages: Any = SimpleNamespace(service="test")
        guesses = Guesses(process._cache, process._clock)
        self.sessions = PageSessions(pages, SignIns(process, guesses), pool)

    async def renewed(self, token: str) -> Signed | PaytmLabError | None:
        request: Any = SimpleNamespace(cookies={"test_refresh": token})
        try:
            return await self.sessions.renewed(request)
        except PaytmLabError as error:
            return error


def test_who_waits_for_another_process_gets_what_it_got(world: World) -> None:
    used = world.token()

    async def two_tabs() -> None:
        pool = BoundedPool("test", 4, 16)
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        go_on = asyncio.Event()

        def hold() -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)

        world.auth.before = hold
        one, two = (Page(pool, each) for each in (world.one, world.two))
        first = asyncio.create_task(one.renewed(used))
        await begun.wait()
        second = asyncio.create_task(two.renewed(used))
        third = asyncio.create_task(two.renewed(used))
        done, _ = await asyncio.wait([second, third], timeout=3 * page_sessions.LOOK_AGAIN_S)
        assert not done
        go_on.set()
        signed = await first
        assert isinstance(signed, Signed)
        assert await second == await third == signed
        assert world.auth.asked == 1
        pool.close()

    asyncio.run(two_tabs())


def test_the_wait_for_one_that_died_is_bounded_and_says_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_sessions, "OTHERS_WAIT_S_MAX", 0.2)
    used = world.token()
    world.cache.reserve(Hit(claim_of(used), "dead", world.clock.now_us()), CLAIMED_S, 1)

    async def one_tab() -> Signed | PaytmLabError | None:
        pool = BoundedPool("test", 1, 4)
        page = Page(pool, world.two)
        said = await page.renewed(used)
        assert page.sessions._under_way == {}
        pool.close()
        return said

    said = asyncio.run(one_tab())
    assert isinstance(said, Unavailable) and "Load the page again" in said.remedy
    assert world.auth.asked == 0
