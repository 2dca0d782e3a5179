"""SQL that is compiled once a process, not once an engine.

SQLAlchemy keeps what it compiled by engine, as every engine has a dialect of its own. A lab has one
or two engines for each shard, and they all ask the same: to compile the audit's statements again
for each takes longer than a small lab takes to answer them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.util import LRUCache

_STATEMENTS_MAX = 1_000

# The execution options of an engine whose dialect is ``Alike``.
KEPT_TOGETHER: dict[str, Any] = {"compiled_cache": LRUCache(_STATEMENTS_MAX)}


class Alike:
    """Of a dialect: those that write the same SQL are equal, so that what was compiled for one
    serves the others. That is: of one class, and for servers of one version in one mode.
    """

    def _writes_for(self) -> tuple[Any, ...]:
        mode = getattr(self, "_sql_mode", None)
        return (type(self), getattr(self, "server_version_info", None), mode)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike) and self._writes_for() == other._writes_for()

    def __hash__(self) -> int:
        return hash(type(self))  # the rest is known after the first connection only
