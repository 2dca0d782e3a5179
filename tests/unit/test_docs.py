"""The tables of the docs are those that the code makes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import msgspec
import pytest

from paytm_lab.core import events

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts/docs.py")
assert spec is not None and spec.loader is not None
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)


@pytest.mark.parametrize("path", docs.DOCUMENTS, ids=lambda p: p.name)
def test_the_tables_of_the_docs_are_current(path: Path) -> None:
    text = path.read_text()
    assert "<!-- begin " in text
    assert text == docs.renewed(text), "run: make docs"


def test_every_event_type_and_record_is_described() -> None:
    described = [t for types in docs.RECORDS.values() for t in types]
    assert sorted(described) == sorted(map(str, events.EventType))
    records = {
        r for n, r in vars(events).items()
        if n.endswith("Data") and isinstance(r, type) and issubclass(r, msgspec.Struct)
    }  # fmt: skip
    assert records == set(docs.RECORDS)


def test_every_shard_table_is_introduced_in_words() -> None:
    words = (ROOT / "docs/data.md").read_text().partition("<!-- begin shard-tables -->")[0]
    missing = [t.name for t in docs.metadata.sorted_tables if f"`{t.name}`" not in words]
    assert missing == []


def test_every_key_of_the_cache_is_described() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "paytm_lab").rglob("*.py"))
    keys = set(re.findall(r'f"((?:fraud|shard|user|rate_limit):\w+:)\{\w+\}"', sources))
    assert len(keys) >= 4
    described = (ROOT / "docs/data.md").read_text().partition("## Keys in the cache")[2]
    assert [key for key in keys if f"`{key}{{" not in described] == []
