"""Writes the tables of docs/data.md and docs/settings.md from the code that they describe.

usage: .venv/bin/python scripts/docs.py    (a test fails while they differ)

A document holds `<!-- begin NAME -->` and `<!-- end NAME -->`; what is between them is made here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from sqlalchemy import Table, UniqueConstraint
from sqlalchemy.dialects import sqlite

from paytm_lab.analytics.tables import WIDE_TABLES as ANALYTICS_TABLES
from paytm_lab.config import Settings, describe
from paytm_lab.core import events
from paytm_lab.fraud.tables import WIDE_TABLES as FRAUD_TABLES
from paytm_lab.ledger.schema import metadata
from paytm_lab.messaging.topics import GROUPS, PARTITIONS, dead_letter
from paytm_lab.notifications.tables import WIDE_TABLES as NOTIFICATION_TABLES

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "docs/data.md", ROOT / "docs/settings.md")
# Which record is the `data` of which event types.
RECORDS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    events.PaymentData: (
        "PaymentInitiated", "PaymentCompleted", "PaymentFailed", "PaymentCancelled",
    ),
    events.UserCreatedData: ("UserCreated",),
    events.BalanceUpdatedData: ("BalanceUpdated",),
    events.FraudData: ("FraudScoreCalculated", "TransactionBlocked", "ManualReviewRequired"),
    events.NotificationData: ("EmailSent", "SMSSent", "PushNotificationSent"),
    events.HealthData: ("SystemHealthCheck",),
}  # fmt: skip


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def shard_tables() -> str:
    return "\n".join(f"`{t.name}`: {_keys(t)}\n{_columns(t)}" for t in metadata.sorted_tables)


def _columns(shard_table: Table) -> str:
    dialect = sqlite.dialect()
    columns = [
        f"`{c.name}` {c.type.compile(dialect).lower()}{' or null' if c.nullable else ''}"
        for c in shard_table.columns
    ]
    return ", ".join(columns) + ".\n"


def _keys(shard_table: Table) -> str:
    keys = [f"primary key {', '.join(c.name for c in shard_table.primary_key)}"]
    uniques = [c for c in shard_table.constraints if isinstance(c, UniqueConstraint)]
    keys += sorted(f"unique {', '.join(c.name for c in u.columns)}" for u in uniques)
    for index in sorted(shard_table.indexes, key=lambda i: str(i.name)):
        names = ", ".join(c.name for c in index.columns)
        keys.append(f"{'unique' if index.unique else 'index'} {names}")
    return "; ".join(keys) + "."


def wide_tables() -> str:
    parts = []
    for wide in (*FRAUD_TABLES, *ANALYTICS_TABLES, *NOTIFICATION_TABLES):
        key = f"partition key {', '.join(wide.partition_key)}"
        if wide.clustering_key:
            key += f"; clustering key {', '.join(wide.clustering_key)}"
        columns = ", ".join(f"`{name}` {kind}" for name, kind in wide.columns.items())
        parts.append(f"`{wide.name}`: {key}.\n{columns}.\n")
    return "\n".join(parts)


def topics() -> str:
    rows = []
    for topic, partitions in PARTITIONS.items():
        types = [t for t, of in events.TOPIC_OF.items() if of == topic]
        readers = [group for group, read in GROUPS.items() if topic in read]
        rows.append(
            (f"`{topic}`", partitions, ", ".join(types), ", ".join(readers) or "nobody here",
             f"`{dead_letter(topic)}`")
        )  # fmt: skip
    return table(("topic", "partitions", "event types", "consumer groups", "dead letters"), rows)


def event_records() -> str:
    parts = []
    for record, types in RECORDS.items():
        rows = [
            (f"`{field.name}`", f"`{_type(record, field.name)}`",
             "" if field.required else f"left out when {_default(field)}")
            for field in msgspec.structs.fields(record)
        ]  # fmt: skip
        parts.append(f"{', '.join(types)}:\n\n{table(('field', 'type', ''), rows)}")
    return "\n".join(parts)


def _type(record: type[msgspec.Struct], field: str) -> str:
    return str(record.__annotations__[field]).replace(" | ", " or ")


def _default(field: msgspec.structs.FieldInfo) -> str:
    return "empty" if field.default == "" else f"{field.default}"


PLACES = {  # defaults that each machine has of its own
    "data_dir": "a folder of your data directory",
    "stack_dir": "`stack` in that folder",
}


def settings() -> str:
    rows = []
    for row in describe(Settings.model_construct()):
        default = PLACES.get(row.name, row.value)
        rows.append((f"`{row.variable}`", "none" if default is None else default, row.description))
    return table(("variable", "default", "what it does"), rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "shard-tables": shard_tables,
    "wide-tables": wide_tables,
    "topics": topics,
    "event-records": event_records,
    "settings": settings,
}


def renewed(text: str) -> str:
    """The document with every block made anew."""
    for name in re.findall(r"^<!-- begin (.*) -->$", text, flags=re.MULTILINE):
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{BLOCKS[name]()}\n{end}{after}"
    return text


def main() -> int:
    for path in DOCUMENTS:
        path.write_text(renewed(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
