"""Two clients that read a balance, add to it and write it back: every order in which they can meet.

A pure model of what engines promise at a level of isolation, small enough to look at all orders of
the clients' steps. The anomaly is P4, "lost update", of Berenson, Bernstein, Gray, Melton, O'Neil
and O'Neil, "A Critique of ANSI SQL Isolation Levels" (1995). ``lost_update`` plays the same orders
on a real shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import factorial, prod
from typing import Any, NamedTuple, Protocol

from paytm_lab.core.errors import BadInput

READ, WRITE, COMMIT = "read", "write", "commit"
STEPS = (READ, WRITE, COMMIT)
NAMES = "ABCDEFGH"
ORDERS_MAX = 2_000
OPENING_PAISE, AMOUNT_PAISE = 100_00, 10_00
KEPT, ABORTED, LOST = "kept", "aborted", "lost"


class Level(NamedTuple):
    """What a client takes when it reads, and what happens when it writes.

    ``on_read``: '' nothing, 'snapshot' remembers what was committed then, 'share' and 'own' lock.
    ``on_write``: 'at once' commits by itself, 'add' is one statement that the engine does alone,
    'lock' waits for the row, 'first' waits too, and gives up if the row has changed since the
    snapshot.
    """

    name: str
    on_read: str
    on_write: str
    who: str


LEVELS = {
    level.name: level
    for level in (
        Level("autocommit", "", "at once", "each statement by itself, on any engine"),
        Level("read committed", "", "lock", "MySQL READ COMMITTED, PostgreSQL's default"),
        Level("repeatable read", "snapshot", "lock", "MySQL's default"),
        Level("deferred", "snapshot", "first", "SQLite BEGIN; PostgreSQL REPEATABLE READ"),
        Level("serializable", "share", "lock", "MySQL SERIALIZABLE"),
        Level("repeatable read, FOR UPDATE", "own", "lock", "MySQL SELECT ... FOR UPDATE"),
        Level("immediate", "own", "lock", "SQLite BEGIN IMMEDIATE"),
        Level("one statement", "", "add", "SET balance = balance + x, on any engine"),
    )
}


class Step(NamedTuple):
    """One try of a client's next step. ``said``: done | waits | gives up. ``paise``: the balance as
    the client knows it: what it read, later with its own amount. ``committed_paise``: what
    everybody else sees after the step.
    """

    client: str
    action: str
    said: str
    paise: int
    committed_paise: int


class History(NamedTuple):
    """How one order ended. ``outcome``: kept (all that committed is there), aborted (so is this,
    but a client has to try again), lost (a committed addition is not in ``final_paise``).
    """

    level: str
    order: str
    outcome: str
    final_paise: int
    expected_paise: int
    steps: tuple[Step, ...]

    @property
    def lost_paise(self) -> int:
        return self.expected_paise - self.final_paise

    @property
    def waited(self) -> bool:
        return any(step.said == "waits" for step in self.steps)


def level_of(name: str) -> Level:
    """BadInput that lists the levels where there is none of that name."""
    if name not in LEVELS:
        raise BadInput(f"{name!r} is no level", remedy=f"Use one of {', '.join(LEVELS)}.")
    return LEVELS[name]


def orders(clients: int = 2) -> list[str]:
    """All orders of the clients' three steps, 'AAABBB' first; (3n)! / 3!^n of them."""
    if clients < 1 or orders_count(clients) > ORDERS_MAX:
        raise BadInput(
            f"{clients} clients cannot be shown in all orders",
            remedy=f"Take 1 to 3 ({ORDERS_MAX:,} orders at most).",
        )
    return list(_merged([len(STEPS)] * clients))


def orders_count(clients: int) -> int:
    """The multinomial coefficient (3n)! / 3!^n."""
    return factorial(len(STEPS) * clients) // prod([factorial(len(STEPS))] * clients)


def _merged(left: Sequence[int]) -> Iterator[str]:
    if not any(left):
        yield ""
    for client, steps in enumerate(left):
        if steps:
            rest = [n - (other == client) for other, n in enumerate(left)]
            yield from (NAMES[client] + more for more in _merged(rest))


def require_order(order: str) -> int:
    """How many clients the order has; BadInput unless each of them has three turns in it."""
    clients = len(order) // len(STEPS)
    wanted = sorted(NAMES[:clients] * len(STEPS))
    if not order or clients > len(NAMES) or sorted(order) != wanted:
        raise BadInput(
            f"{order!r:.40} is no order of clients with {len(STEPS)} steps each",
            remedy="Write each client's letter three times, such as ABABAB.",
        )
    return clients


class Row:
    """The one row that all clients want: what is committed, and who holds it."""

    def __init__(self, committed_paise: int) -> None:
        self.committed_paise = committed_paise
        self.version = 0
        self.owner = ""
        self.sharers: set[str] = set()

    def put(self, paise: int) -> None:
        self.committed_paise = paise
        self.version += 1

    def own(self, client: str) -> bool:
        """Take the row alone; False where another one holds it or shares it."""
        if self.owner not in ("", client) or self.sharers - {client}:
            return False
        self.owner = client
        return True

    def share(self, client: str) -> bool:
        if self.owner not in ("", client):
            return False
        self.sharers.add(client)
        return True

    def let_go(self, client: str) -> None:
        self.sharers.discard(client)
        if self.owner == client:
            self.owner = ""


class ModelClient:
    """A client as the model plays it. Each call answers 'done', 'waits' or 'gives up'."""

    def __init__(self, name: str, level: Level, row: Row, amount_paise: int) -> None:
        self.name = name
        self._level = level
        self._row = row
        self._amount = amount_paise
        self._seen = 0
        self._version = 0
        self._pending: int | None = None

    def do(self, action: str) -> tuple[str, int]:
        if action == READ:
            return self._read(), self._seen
        if action == WRITE:
            return self._write(), self._seen + self._amount
        if self._pending is not None:
            self._row.put(self._pending)
        self._row.let_go(self.name)
        return "done", self._seen + self._amount

    def give_up(self) -> None:
        self._row.let_go(self.name)

    def _read(self) -> str:
        take = {"share": self._row.share, "own": self._row.own}.get(self._level.on_read)
        if take is not None and not take(self.name):
            return "waits"
        self._seen, self._version = self._row.committed_paise, self._row.version
        return "done"

    def _write(self) -> str:
        how, row = self._level.on_write, self._row
        if how in ("add", "at once"):
            row.put((row.committed_paise if how == "add" else self._seen) + self._amount)
            return "done"
        if not row.own(self.name):
            return "waits"
        if how == "first" and row.version != self._version:
            return "gives up"
        self._pending = self._seen + self._amount
        return "done"


class Player(Protocol):
    """A client that takes turns. ``do`` answers what the engine said (done | waits | gives up) and
    the balance in paise as it knows it; ``give_up`` ends what it has begun.
    """

    name: str

    def do(self, action: str) -> tuple[str, int]: ...

    def give_up(self) -> None: ...


def take_turns(
    level: str,
    order: str,
    players: Sequence[Player],
    committed_paise: Callable[[], int],
    amount_paise: int,
) -> History:
    """Let the players do their three steps in this order. One that has to wait tries the same step
    again at its next turn and after the order's end; where all wait for each other, the one that
    came last gives up (an engine's deadlock).
    """
    opening_paise = committed_paise()
    by_name = {player.name: player for player in players}
    left = {name: list(STEPS) for name in by_name}
    waiting: set[str] = set()
    steps: list[Step] = []
    given_up: list[str] = []

    def turn(name: str) -> None:
        if not left[name]:
            return
        said, paise = by_name[name].do(left[name][0])
        waiting.discard(name)
        if said == "done":
            steps.append(Step(name, left[name].pop(0), said, paise, committed_paise()))
            waiting.clear()  # what it has let go, others may want
            return
        if said == "waits":
            waiting.add(name)
            said = "gives up" if waiting == {n for n in left if left[n]} else said
        steps.append(Step(name, left[name][0], said, paise, committed_paise()))
        if said == "gives up":
            by_name[name].give_up()
            left[name].clear()
            given_up.append(name)
            waiting.clear()

    for name in order:
        turn(name)
    while any(left.values()):
        for name in by_name:
            turn(name)
    final = committed_paise()
    expected = opening_paise + amount_paise * (len(by_name) - len(given_up))
    outcome = LOST if final != expected else ABORTED if given_up else KEPT
    return History(level, order, outcome, final, expected, tuple(steps))


def play(
    level: str, order: str, *, opening_paise: int = OPENING_PAISE, amount_paise: int = AMOUNT_PAISE
) -> History:
    """Clients A, B, ... each add ``amount_paise`` to one balance, in the model. BadInput for a
    level or an order that there is not.
    """
    row, found = Row(opening_paise), level_of(level)
    names = NAMES[: require_order(order)]
    players = [ModelClient(name, found, row, amount_paise) for name in names]
    return take_turns(level, order, players, lambda: row.committed_paise, amount_paise)


def count_outcomes(histories: Iterable[History]) -> list[dict[str, Any]]:
    """One row a level: how many orders were kept, aborted and lost, in how many somebody waited,
    and the most that one of them lost.
    """
    rows: dict[str, dict[str, Any]] = {}
    for history in histories:
        row = rows.setdefault(
            history.level,
            {"level": history.level, "orders": 0, KEPT: 0, ABORTED: 0, LOST: 0, "waited": 0}
            | {"lost_paise_max": 0},
        )
        row["orders"] += 1
        row[history.outcome] += 1
        row["waited"] += history.waited
        row["lost_paise_max"] = max(row["lost_paise_max"], history.lost_paise)
    return list(rows.values())


def all_orders(levels: Iterable[str] = tuple(LEVELS), clients: int = 2) -> list[History]:
    """Every order at every level, in the model."""
    found = orders(clients)
    return [play(level, order) for level in levels for order in found]
