"""Two people's SQL on one row: what a program does that reads a balance, thinks, and writes it.

Nothing in the ledger uses it. It is there to show isolation levels on the real engines; the ledger
itself locks the accounts it evaluates.
"""

from __future__ import annotations

from typing import Protocol


class PlainSession(Protocol):
    """One client's connection to one shard, at one of ``levels``. No call ever waits for a lock.

    Where it would have to, LockTimeout is raised, the transaction is still open and the same call
    may be made again; Deadlock where the engine gave the transaction up, which is then rolled back.
    """

    def read(self, user_id: str) -> int:
        """The user's stored balance in paise; starts the transaction where the level has one."""

    def write(self, user_id: str, balance_paise: int) -> None:
        """Store the balance. Nothing checks that it is still what was read."""

    def add(self, user_id: str, amount_paise: int) -> None:
        """The same in one statement: the engine reads and writes under its own lock."""

    def commit(self) -> None:
        """End the transaction, where there is one."""

    def close(self) -> None:
        """Roll back what is open and give the connection up. Harmless when called twice."""
