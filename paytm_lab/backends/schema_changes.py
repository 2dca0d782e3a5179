"""What has to be done to a shard that was made before its schema grew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

from sqlalchemy import Dialect, MetaData, Table
from sqlalchemy.schema import CreateColumn

from paytm_lab.core.errors import StorageCorrupt

# In a table's ``info``: it came after labs were made, so that a shard without it is only older.
ADDED_LATER = "added_later"


def changes(
    metadata: MetaData,
    there: Mapping[str, Set[str]],
    dialect: Dialect,
    create: Callable[[Table], Sequence[str]],
    place: str,
) -> list[str]:
    """The statements that add what is missing. ``there``: table -> the columns that it has;
    ``create``: the statements that make a table. StorageCorrupt for a table that every version
    had, or a column without a default, that only another version can have left out.
    """
    found: list[str] = []
    for table in metadata.sorted_tables:
        has = there.get(table.name)
        if not has and table.info.get(ADDED_LATER):
            found += create(table)
            continue
        for column in table.columns:
            if has and column.name in has:
                continue
            if not has or column.server_default is None:
                raise StorageCorrupt(
                    f"{table.name} has no column {column.name}: another version made this shard",
                    place=place,
                    remedy="Open it with that version, or begin with a new data folder.",
                )
            definition = str(CreateColumn(column).compile(dialect=dialect))
            found.append(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
    return found
