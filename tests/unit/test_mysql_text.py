"""Statements hold nothing but integers, hexadecimal digits and words of our own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.backends.servers import mysql_schema, mysql_text
from paytm_lab.backends.servers.mysql_server import MySqlServer, connect_arguments, session_sql
from paytm_lab.backends.servers.mysql_text import Statements
from paytm_lab.ledger import schema

STATEMENTS = Statements(schema.metadata, schema.INSERT_COLUMNS)
TEXT = st.text(max_size=30)
SERVER = MySqlServer("db.example", 3306, "paytm_lab", "s3cret", "paytm_lab")


@given(TEXT, TEXT, st.none() | st.binary(min_size=16, max_size=16))
def test_what_a_user_typed_is_only_hexadecimal(user: str, currency: str, key: bytes | None) -> None:
    row = (user, 1, 0, currency, "active", 4, 1, key, 5, 5)
    sql = STATEMENTS.insert("accounts", [row, row])
    head, _, values = sql.partition(" VALUES ")
    assert head == "INSERT INTO accounts (" + ",".join(schema.INSERT_COLUMNS["accounts"]) + ")"
    literal = r"(x'([0-9a-f]{2})*'|-?\d+|NULL)"
    assert re.fullmatch(rf"(\({literal}(,{literal})*\),?)+", values)
    assert bytes.fromhex(re.findall(r"x'([0-9a-f]*)'", values)[0]).decode() == user


def test_a_word_in_the_place_of_a_number_is_refused() -> None:
    row = ("a", "0); DROP TABLE accounts;--", 0, "INR", "active", 4, 1, None, 5, 5)
    with pytest.raises(TypeError):
        STATEMENTS.insert("accounts", [row])
    for rows in ([(1, "2")], [(1, 2), (1, "2")]):
        with pytest.raises((TypeError, ValueError)):
            STATEMENTS.update("accounts", ("id",), ("balance",), rows)
    payment = (b"p" * 16, "source", "a", "b", 1, "INR", "PENDING", "", "transfer", 0, 1, 1, 1, 1)
    end = ("", None, 1, 1)
    with pytest.raises(ValueError, match="format"):
        STATEMENTS.insert("transactions", [(*payment, None, None, 0, "1 OR 1", *end)])


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        STATEMENTS.insert("applied_events", [("event", 1, 2)])
    with pytest.raises(ValueError, match="zip"):
        STATEMENTS.insert("applied_events", [("event", 1), ("event",)])


def test_one_row_is_changed_by_its_key_and_many_by_a_join() -> None:
    change = ("accounts", ("id",), ("balance", "state"))
    assert STATEMENTS.update(*change, [(7, 5, "frozen")]) == (
        "UPDATE accounts SET balance=5,state=x'66726f7a656e' WHERE id=7"
    )
    assert STATEMENTS.update(*change, [(7, 5, "ab"), (8, 6, "cd")]) == (
        "UPDATE (VALUES ROW(7,5,x'6162'),ROW(8,6,x'6364')) AS v (c0,c1,c2)"
        " STRAIGHT_JOIN accounts AS t ON t.id = v.c0 SET t.balance = v.c1,t.state = v.c2"
    )


def test_literals_for_comparing_name_their_character_set() -> None:
    assert mysql_text.text("é") == "_utf8mb4 x'c3a9'"
    assert mysql_text.texts(["a", ""]) == "_utf8mb4 x'61',_utf8mb4 x''"
    assert mysql_text.binaries([b"\x00'", b"\xff"]) == "x'0027',x'ff'"


def test_every_table_is_one_statement_with_its_indexes() -> None:
    for table in schema.metadata.sorted_tables:
        sql = mysql_schema.create_table(table)
        assert sql.startswith(f"CREATE TABLE IF NOT EXISTS {table.name} (")
        assert "ENGINE=InnoDB" in sql and "CHARSET=utf8mb4" in sql
        for index in table.indexes:
            assert sql.count(f"INDEX {index.name} (") == 1
            assert (f"UNIQUE INDEX {index.name}" in sql) == bool(index.unique)


def test_a_session_is_set_up_by_one_statement() -> None:
    sql = session_sql("READ-COMMITTED")
    assert sql.startswith("SET SESSION ") and ";" not in sql
    for part in ("STRICT_ALL_TABLES", "time_zone = '+00:00'", "innodb_lock_wait_timeout = 2"):
        assert part in sql


def test_every_wait_for_a_server_has_a_limit() -> None:
    arguments = connect_arguments(SERVER, "READ-COMMITTED", 5)
    for name in ("connect_timeout", "read_timeout", "write_timeout"):
        assert 0 < arguments[name] <= 30


def test_tls_is_off_required_or_verified() -> None:
    def tls(server: MySqlServer) -> dict[str, object]:
        arguments = connect_arguments(server, "READ-COMMITTED", 5)
        return {name: value for name, value in arguments.items() if name.startswith("ssl")}

    assert tls(SERVER) == {"ssl_disabled": True}
    assert tls(SERVER._replace(tls="required")) == {"ssl": {"ca": None}}
    assert tls(SERVER._replace(tls="verify", tls_ca="/ca.pem")) == {
        "ssl_ca": "/ca.pem",
        "ssl_verify_cert": True,
        "ssl_verify_identity": True,
    }
    with pytest.raises(ValueError, match="perhaps"):
        tls(SERVER._replace(tls="perhaps"))


def test_a_server_is_shown_without_its_password() -> None:
    assert "s3cret" not in repr(SERVER) + str(SERVER) + SERVER.place
