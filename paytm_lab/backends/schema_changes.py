"""What has to be done to a shard that was made before its schema grew."""

from __future__ import annotations

from collections.abc import Mapping, Set

from sqlalchemy import Dialect, MetaData
from sqlalchemy.schema import CreateColumn

from paytm_lab.core.errors import StorageCorrupt


def added_columns(
    metadata: MetaData, there: Mapping[str, Set[str]], dialect: Dialect, place: str
) -> list[str]:
    """The statements that add what is missing. ``there``: table -> the columns that it has.
    StorageCorrupt for a table, or a column without a default, that only another version can have
    left out.
    """
    changes = []
    for table in metadata.sorted_tables:
        for column in table.columns:
            if column.name in there.get(table.name, ()):
                continue
            if not there.get(table.name) or column.server_default is None:
                raise StorageCorrupt(
                    f"{table.name} has no column {column.name}: another version made this shard",
                    place=place,
                    remedy="Open it with that version, or begin with a new data folder.",
                )
            definition = str(CreateColumn(column).compile(dialect=dialect))
            changes.append(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
    return changes
