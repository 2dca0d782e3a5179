"""What was compiled for one engine serves all that write the same SQL, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text

from paytm_lab import Lab
from paytm_lab.backends.compiled import KEPT_TOGETHER
from paytm_lab.backends.embedded.shard_database import AlikeSqlite
from paytm_lab.backends.servers.mysql_server import AlikeMysql

CACHE = KEPT_TOGETHER["compiled_cache"]


def mysql(version: tuple[int, ...], mode: str) -> AlikeMysql:
    dialect = AlikeMysql()
    dialect.server_version_info = version
    dialect._sql_mode = mode
    return dialect


def test_a_second_lab_is_audited_without_compiling_anything(tmp_path: Path) -> None:
    with Lab(data=tmp_path / "first") as lab:
        lab.audit().require_clean()
    known = set(CACHE)
    assert known
    with Lab(data=tmp_path / "second") as lab:
        lab.audit().require_clean()
    assert set(CACHE) == known


def test_each_engine_asks_its_own_database() -> None:
    asked = select(text("name")).select_from(text("who")).where(text("name = :name"))
    for name in ("first", "second"):
        engine = create_engine("sqlite+alike://", execution_options=KEPT_TOGETHER)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE who (name TEXT)")
            connection.exec_driver_sql(f"INSERT INTO who VALUES ('{name}')")
            assert connection.execute(asked, {"name": name}).scalars().all() == [name]
        engine.dispose()


@pytest.mark.parametrize(
    "other",
    [mysql((9, 7, 4), "ANSI_QUOTES"), mysql((8, 0, 36), ""), AlikeSqlite()],
    ids=["another mode", "another version", "another server"],
)
def test_engines_that_write_other_sql_are_not_alike(other: object) -> None:
    one = mysql((9, 7, 4), "")
    assert one == mysql((9, 7, 4), "") and hash(one) == hash(mysql((9, 7, 4), ""))
    assert one != other
