"""Payments files: what each row becomes, that nothing is lost on the way, and the clear errors."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import pytest

from paytm_lab.core.errors import InvalidAmount, InvalidSetting, MalformedFile
from paytm_lab.simulation import csv_records
from paytm_lab.simulation.file_formats import (
    FIELDS,
    FILE_START_US,
    REQUIRED,
    USUAL_NAMES,
    parse_mapping,
    time_reader,
)
from paytm_lab.simulation.payments import Transfer
from paytm_lab.simulation.transfers_file import TransfersFile, open_transfers

DATA = Path(__file__).parents[1] / "data"
HEAD = "from_user,to_user,amount\n"


def us(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]


def write(folder: Path, text: str | bytes, name: str = "in.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def all_rows(file: TransfersFile) -> list[Transfer]:
    return [row for batch in file.rows() for row in batch]


def rejects(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def judged(
    folder: Path, text: str | bytes, **options: object
) -> tuple[TransfersFile, list[list[str]]]:
    out = folder / "rejects.csv"
    with open_transfers(write(folder, text), rejects=out, **options) as file:  # type: ignore[arg-type]
        listed = rejects(out)
        assert listed[0] == ["line", "reason", "value", "raw"]
        assert len(listed) - 1 == file.rejected == sum(file.rejected_by_reason.values())
        assert len(all_rows(file)) == file.accepted
        return file, listed[1:]


def test_own_columns_quotes_times_and_openings() -> None:
    with open_transfers(DATA / "payments.csv") as file:
        assert all_rows(file) == [
            Transfer(2, "asha", "ravi", 25_000, us(2026, 3, 1, 9, 30), "p1"),
            Transfer(3, "ravi", "asha", 7_550, us(2026, 3, 1, 9, 31), "p2"),
            Transfer(4, "asha", "Sen, Mira", 9_999, us(2026, 3, 1, 9, 32, 11) + 250_000, "p3"),
        ]
        assert file.openings() == {"asha": 100_000, "ravi": 2_000, "Sen, Mira": 0}
        assert file.opening_rule.startswith("column opening at a user's first sight")
        assert (file.accepted, file.rejected, file.collapsed) == (3, 0, 0)
        assert file.amount_total_paise == 25_000 + 7_550 + 9_999
        assert file.digest == hashlib.sha256((DATA / "payments.csv").read_bytes()).hexdigest()


def test_paysim_header(tmp_path: Path) -> None:
    with open_transfers(DATA / "paysim.csv", rejects=tmp_path / "r.csv") as file:
        assert file.format_name == "PaySim"
        assert any("CASH_IN" in note for note in file.notes)
        assert [(r.line, r.from_user_id, r.to_user_id, r.amount_paise) for r in all_rows(file)] == [
            (2, "C11", "M21", 12_050),
            (3, "C12", "C13", 30_025),
            (4, "C14", "C11", 50_000),  # cash goes in: nameDest pays nameOrig
            (6, "C13", "C11", 1_010),
        ]
        hour = 3_600_000_000
        assert [r.at_us for r in all_rows(file)] == [
            FILE_START_US + h * hour for h in (0, 0, 1, 25)
        ]
        # The first sight counts, also as a receiver: C13's later 340.25 does not.
        assert file.openings() == {
            "C11": 100_000,
            "M21": 0,
            "C12": 30_025,
            "C13": 4_000,
            "C14": 200_000,
        }
        assert "oldbalanceOrg" in file.opening_rule
    assert rejects(tmp_path / "r.csv")[1][:3] == ["5", "zero_amount", "0.0"]


def test_paysim_with_its_columns_mapped_is_taken_literally() -> None:
    mapping = "from=nameOrig,to=nameDest,amount=amount,opening=oldbalanceOrg,opening_to="
    with open_transfers(DATA / "paysim.csv", mapping) as file:
        assert [(r.from_user_id, r.to_user_id) for r in all_rows(file)][2] == ("C11", "C14")
        assert file.openings()["C14"] == 0 and file.openings()["C13"] == 34_025
        assert file.format_name == ""


def test_amlsim_header() -> None:
    with open_transfers(DATA / "amlsim.csv") as file:
        assert file.format_name == "AMLSim"
        assert all_rows(file)[0] == Transfer(2, "501", "502", 21_077, us(2017, 1, 1), "1")
        # 501 needs its first payment; 502 and 503 live on what they got before.
        assert file.openings() == {"501": 21_077, "502": 0, "503": 0}
        assert file.opening_rule == "just enough for the file (posted in its order)"


def test_handbook_header_makes_terminals_users() -> None:
    with open_transfers(DATA / "handbook.csv") as file:
        assert file.format_name == "Fraud-Detection-Handbook"
        first = Transfer(2, "596", "terminal:3156", 5_716, us(2018, 4, 1, 0, 0, 31), "0")
        assert all_rows(file)[0] == first
        assert all_rows(file)[1].to_user_id == "terminal:596"  # not the customer 596
        assert file.accepted == 3


BAD_ROWS = [
    ("a,b", "wrong_column_count", ""),
    ("a,b,1,2", "wrong_column_count", ""),
    ("a,b,1.234", "bad_amount", "1.234"),
    ("a,b,-1", "bad_amount", "-1"),
    ("a,b,1e3", "bad_amount", "1e3"),
    ("a,b,NaN", "bad_amount", "NaN"),
    ("a,b, 5", "bad_amount", " 5"),
    ("a,b,", "bad_amount", ""),
    ("a,b,१२", "bad_amount", "१२"),
    ("a,b,90071992547409.92", "bad_amount", "90071992547409.92"),
    ("a,b,0.00", "zero_amount", "0.00"),
    (",b,1", "bad_user_id", ""),
    ("a," + "b" * 65 + ",1", "bad_user_id", "b" * 65),
    ("a,e\u0301,1", "bad_user_id", "e\u0301"),
    ("a,system:funding,1", "bad_user_id", "system:funding"),
    ("a,b\tc,1", "bad_user_id", "b\\tc"),
    ("a,a,1", "same_account", "a"),
    ('a,"b,1', "unclosed_quote", ""),
    ('a,"b"x,1', "bad_quoting", ""),
    (b"a,b\0,1", "nul_byte", ""),
    (b"a,b\xff,1", "undecodable", ""),
    (b"a,b," + b"1" * csv_records.LINE_BYTES_MAX, "overlong_line", ""),
]


@pytest.mark.parametrize(("row", "reason", "value"), BAD_ROWS, ids=lambda v: repr(v)[:30])
def test_a_bad_row_is_listed_and_costs_no_other(
    tmp_path: Path, row: str | bytes, reason: str, value: str
) -> None:
    raw = row.encode() if isinstance(row, str) else row
    file, listed = judged(tmp_path, HEAD.encode() + b"x,y,1\n" + raw + b"\ny,x,2\n")
    assert [line[:3] for line in listed] == [["3", reason, value]]
    assert len(listed[0][3]) <= 4 * csv_records.RAW_SHOWN
    assert [row.line for row in all_rows(file)] == [2, 4]
    assert set(file.openings()) == {"x", "y"}


def test_all_bad_rows_together_in_order(tmp_path: Path) -> None:
    raws = [row.encode() if isinstance(row, str) else row for row, _, _ in BAD_ROWS]
    file, listed = judged(tmp_path, HEAD.encode() + b"\n".join([*raws, b"x,y,1"]))
    assert [(int(line[0]), line[1]) for line in listed] == [
        (number, reason) for number, (_, reason, _) in enumerate(BAD_ROWS, 2)
    ]
    assert file.accepted == 1


BAD_FIELDS = [
    ("id", "", "bad_id"),
    ("id", "a\u0007b", "bad_id"),
    ("id", "i" * 256, "overlong_field"),
    ("time", "yesterday", "bad_time"),
    ("time", "", "bad_time"),
    ("time", "1969-12-31T23:59:59Z", "bad_time"),
    ("time", "77", "bad_time"),
    ("opening", "-5", "bad_opening"),
    ("opening", "5.001", "bad_opening"),
]


@pytest.mark.parametrize(("column", "value", "reason"), BAD_FIELDS)
def test_a_bad_optional_field(tmp_path: Path, column: str, value: str, reason: str) -> None:
    text = f"from,to,amount,{column}\na,b,1,{value}\n"
    _, listed = judged(tmp_path, text)
    assert [line[1] for line in listed] == [reason]


def test_a_time_past_the_year_9999_is_none(tmp_path: Path) -> None:
    text = "from,to,amount,when_s\na,b,1,253402300799\na,b,1,253402300800\na,b,1,9999999999999999\n"
    file, listed = judged(tmp_path, text, mapping={"time": "when_s"})
    assert [line[:2] for line in listed] == [["3", "bad_time"], ["4", "bad_time"]]
    assert [row.at_us for row in all_rows(file)] == [253_402_300_799_000_000]


def test_repeated_ids_collapse_or_conflict(tmp_path: Path) -> None:
    text = "id,from,to,amount\n"
    text += "k1,a,b,1\nk1,a,b,1.00\nk1,a,b,2\nk2,a,b,1\nk1,c,b,1\nk2,a,b,1\n"
    file, listed = judged(tmp_path, text)
    assert [row.idempotency_key for row in all_rows(file)] == ["k1", "k2"]
    assert (file.accepted, file.collapsed, file.rejected) == (2, 2, 2)
    assert [line[:3] for line in listed] == [
        ["4", "idempotency_conflict", "k1"],
        ["6", "idempotency_conflict", "k1"],
    ]
    assert file.openings() == {"a": 200, "b": 0}


def test_repeated_ids_are_found_over_the_whole_file(tmp_path: Path) -> None:
    """Past one batch: each id comes twice, 10,000 rows apart, each tenth with another amount."""
    first = [f"id-{i},a,b,{i + 1}\n" for i in range(10_000)]
    second = [f"id-{i},a,b,{i + 1 + (i % 10 == 0)}\n" for i in range(10_000)]
    file, listed = judged(tmp_path, "id,from,to,amount\n" + "".join(first + second))
    assert (file.accepted, file.collapsed, file.rejected) == (10_000, 9_000, 1_000)
    assert [int(line[0]) for line in listed] == list(range(10_002, 20_002, 10))
    assert {line[1] for line in listed} == {"idempotency_conflict"}


def test_keys_without_an_id_column_come_from_the_text_and_the_line(tmp_path: Path) -> None:
    text = HEAD + "a,b,1\n\na,b,1\n"
    plain, _ = judged(tmp_path, text)
    keys = [row.idempotency_key for row in all_rows(plain)]
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    assert keys == [f"{digest}:2", f"{digest}:4"]  # the blank line is no row but counts as a line
    packed = write(tmp_path, gzip.compress(text.encode()), "in.csv.gz")
    with open_transfers(packed) as file:
        assert [row.idempotency_key for row in all_rows(file)] == keys
    with open_transfers("-", stdin=io.BytesIO(text.encode())) as file:
        assert [row.idempotency_key for row in all_rows(file)] == keys
        assert [row.idempotency_key for row in all_rows(file)] == keys  # readable again
    other, _ = judged(tmp_path, text + "a,b,1\n")
    assert not set(keys) & {row.idempotency_key for row in all_rows(other)}


def test_a_pipe_is_read_once_and_yet_twice(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(HEAD + "a,b,3\n",))
    writer.start()
    with open_transfers(pipe) as file:
        assert [row.amount_paise for row in all_rows(file)] == [300]
    writer.join(10)


def test_openings_given_or_just_enough(tmp_path: Path) -> None:
    text = HEAD + "a,b,10\nb,c,4\nc,a,4\na,b,1\nb,a,20\n"
    same, _ = judged(tmp_path, text, opening_paise=12_345)
    assert same.openings() == {"a": 12_345, "b": 12_345, "c": 12_345}
    assert same.opening_rule == "123.45 rupees for every user"
    least, _ = judged(tmp_path, text)
    assert least.openings() == {"a": 1_000, "b": 1_300, "c": 0}
    unordered, _ = judged(tmp_path, text, in_any_order=True)
    assert unordered.openings() == {"a": 1_100, "b": 2_400, "c": 400}
    assert "all that a user sends" in unordered.opening_rule


def test_just_enough_is_enough_and_no_paisa_more(tmp_path: Path) -> None:
    rows = [
        f"u{i * 7 % 11},u{i * 5 % 11 + 11 * (i % 2)},{i % 97 + 1}.{i % 100:02d}"
        for i in range(3_000)
    ]
    rows = [row for row in rows if row.split(",")[0] != row.split(",")[1]]
    file, _ = judged(tmp_path, HEAD + "\n".join(rows))
    balance, lowest = dict(file.openings()), dict(file.openings())
    for row in all_rows(file):
        balance[row.from_user_id] -= row.amount_paise
        balance[row.to_user_id] += row.amount_paise
        lowest[row.from_user_id] = min(lowest[row.from_user_id], balance[row.from_user_id])
    assert min(lowest.values()) == 0
    assert all(lowest[user] == 0 for user, paise in file.openings().items() if paise > 0)


def test_just_enough_of_absurd_amounts_stays_an_amount(tmp_path: Path) -> None:
    file, _ = judged(tmp_path, HEAD + "a,b,90071992547409.91\n" * 1_100)
    assert file.openings() == {"a": 2**53 - 1, "b": 0}


def test_an_opening_that_the_column_does_not_say(tmp_path: Path) -> None:
    text = "from,to,amount,opening\na,b,1,\nb,c,1,7\na,c,1,5\n"
    file, _ = judged(tmp_path, text, opening_paise=33)
    assert file.openings() == {"a": 500, "b": 700, "c": 33}
    assert file.opening_rule.endswith("0.33 rupees where it says none")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_other_delimiters_bom_and_crlf(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeffFrom_User,TO_USER, Amount \r\na,b,1.5\r\n".replace(",", delimiter)
    file, _ = judged(tmp_path, text)
    assert all_rows(file)[0].amount_paise == 150
    assert file.columns == {"from": "From_User", "to": "TO_USER", "amount": " Amount "}


def test_a_quoted_field_over_lines_is_one_record(tmp_path: Path) -> None:
    text = 'from,to,amount,memo\na,b,1,"first\nsecond, with ""quotes"""\nc,d,2,\n'
    file, listed = judged(tmp_path, text)
    assert not listed and [row.line for row in all_rows(file)] == [2, 4]


def test_a_quote_that_never_closes_costs_one_line(tmp_path: Path) -> None:
    text = HEAD + 'a,"b,1\n' + "c,d,1\n" * 5_000
    file, listed = judged(tmp_path, text)
    assert file.accepted == 5_000 and [line[:2] for line in listed] == [["2", "unclosed_quote"]]


def test_paise_columns_are_whole_paise(tmp_path: Path) -> None:
    text = "from_user_id,to_user_id,amount_paise\na,b,1250\na,b,12.50\n"
    file, listed = judged(tmp_path, text)
    assert [row.amount_paise for row in all_rows(file)] == [1_250]
    assert listed[0][1] == "bad_amount"


def test_the_raw_text_of_a_reject_is_short_and_harmless(tmp_path: Path) -> None:
    text = HEAD + "a,b," + "9" * 50_000 + "\n\x1b[31ma,b,x\n"
    _, listed = judged(tmp_path, text)
    assert listed[0][3] == ("a,b," + "9" * 50_000)[: csv_records.RAW_SHOWN]
    assert listed[1][3].startswith("\\x1b[31ma")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n\r\n\n", "is empty"),
        (HEAD.encode(), "no row"),
        (HEAD.encode() + b"\n\n", "no row"),
        (b"a,b,c\n1,2,3\n", "No column is known as 'from' or 'to' or 'amount'; found: a, b, c"),
        (b"from,to,betrag\na,b,1\n", "No column is known as 'amount'; found: from, to, betrag"),
        (b"from,to,amount\xff\n", "not UTF-8"),
        ("from,to,amount\na,b,1\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest", "spreadsheet"),
        (b"PAR1rest", "Parquet"),
        (b"from,to,amount\ra,b,1\r", "not a header"),
        (b"\0\0\0\0", "not a header"),
        (b"x" * 70_000, "not a header"),
        (b'"from,to,amount\n', "quotes do not close"),
        (gzip.compress(b"from,to,amount\n" + b"a,b,1\n" * 99, mtime=0)[:-9], "gzip"),
        (b"\x1f\x8bnot gzip at all", "gzip"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_a_file_that_is_no_payments_file(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(MalformedFile, match=message) as raised:
        open_transfers(write(tmp_path, text))
    assert raised.value.exit_code == 2
    assert raised.value.place.endswith("in.csv")


def test_a_missing_column_names_the_map_to_give(tmp_path: Path) -> None:
    path = write(tmp_path, "payer,wohin,betrag\na,b,1\n")
    with pytest.raises(MalformedFile, match="--map to=COLUMN,amount=COLUMN"):
        open_transfers(path)
    with pytest.raises(MalformedFile, match="no column 'Betrag!'"):
        open_transfers(path, "to=wohin,amount=Betrag!")
    with open_transfers(path, ["to=wohin", "amount=betrag"]) as file:
        assert file.accepted == 1
    with pytest.raises(MalformedFile, match="2 columns are named 'a'"):
        open_transfers(write(tmp_path, "a,a,b\n1,2,3\n"), "from=a,to=b,amount=a")
    with pytest.raises(MalformedFile, match="Payer and payee are one column"):
        open_transfers(write(tmp_path, "from,amount\n1,2\n"), "to=From")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("from", "names no column"),
        ("sender=a", "knows no field 'sender'"),
        ("from=a,from=b", "twice"),
        ("from=", "a payment needs one"),
        ("from=a,to=a", "payer and payee from one column"),
    ],
)
def test_a_mapping_that_cannot_be(mapping: str, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        parse_mapping(mapping)


def test_unreadable_places(tmp_path: Path) -> None:
    with pytest.raises(MalformedFile, match="no such file"):
        open_transfers(tmp_path / "none.csv")
    with pytest.raises(MalformedFile, match="a folder"):
        open_transfers(tmp_path)
    path = write(tmp_path, HEAD + "a,b,1\n")
    with pytest.raises(InvalidSetting, match="cannot be written"):
        open_transfers(path, rejects=tmp_path / "no" / "folder.csv")
    with pytest.raises(InvalidSetting, match="overwrite the file itself"):
        open_transfers(path, rejects=path)
    assert path.read_text() == HEAD + "a,b,1\n"
    with pytest.raises(InvalidAmount):
        open_transfers(path, opening_paise=-1)


def test_the_list_of_rejects_changes_only_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "rejects.csv"
    out.write_text("of another process\n")
    path = write(tmp_path, "from,to,amount\n" + "a,b,nothing\n" * 20_000)
    during: list[str] = []
    with open_transfers(path, rejects=out, progress=lambda _: during.append(out.read_text())):
        assert during and set(during) == {"of another process\n"}
        assert len(rejects(out)) == 20_001
    with pytest.raises(MalformedFile):
        open_transfers(write(tmp_path, "no,known,header\n1,2,3\n"), rejects=out)
    assert len(rejects(out)) == 20_001
    assert sorted(found.suffix for found in tmp_path.iterdir()) == [".csv", ".csv"]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "a,b,1\nc,d,2\n")
    with open_transfers(path) as file:
        path.write_text(HEAD + "a,b,1\nc,d,3\n")
        with pytest.raises(MalformedFile, match="changed while it was read"):
            all_rows(file)


def test_times() -> None:
    moment = us(2026, 1, 2, 3, 4, 5)
    read = time_reader("when")
    for text in (
        "2026-01-02T03:04:05Z",
        "2026-01-02 03:04:05",
        "2026-01-02T08:34:05+05:30",
        str(moment),
        str(moment // 1_000),
        str(moment // 1_000_000),
    ):
        assert read(text) == moment
    assert time_reader("t_s")("5") == 5_000_000
    assert time_reader("t_ms")("5") == 5_000
    assert time_reader("at_us")("5") == 5
    assert time_reader("step")("1") == FILE_START_US


_MEMORY = """
import resource, sys
from paytm_lab.simulation.transfers_file import open_transfers

def read(path):
    with open_transfers(path) as file:
        rows = sum(len(batch) for batch in file.rows())
    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

print(*read(sys.argv[1]), *read(sys.argv[2]))
"""


def test_memory_grows_with_users_and_ids_not_with_rows(tmp_path: Path) -> None:
    paths = []
    for rows in (40_000, 240_000):
        lines = (
            f"payment-{i},user-{i % 500},user-{i % 499 + 500},{i}.50\n" for i in range(1, rows + 1)
        )
        paths.append(write(tmp_path, "id,from,to,amount\n" + "".join(lines), f"{rows}.csv"))
    out = subprocess.run(
        [sys.executable, "-c", _MEMORY, *map(str, paths)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    small_rows, small_bytes, large_rows, large_bytes = map(int, out)
    assert (small_rows, large_rows) == (40_000, 240_000)
    # 200,000 more rows: 16 bytes an id, twice that while runs merge; a kept row would be 400 bytes.
    assert large_bytes - small_bytes < 200_000 * 16 * 4 + 4 * 2**20


def test_a_gzip_on_standard_input() -> None:
    packed = gzip.compress((HEAD + "a,b,3\n").encode())
    with open_transfers("-", stdin=io.BytesIO(packed)) as file:
        assert [row.amount_paise for row in all_rows(file)] == [300]


def _table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading of the document, without its two head lines."""
    text = (Path(__file__).parents[2] / "docs" / "transfers-file.md").read_text(encoding="utf-8")
    rows = text.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    first = next(i for i, line in enumerate(rows) if line.startswith("|"))
    table = list(takewhile(lambda line: line.startswith("|"), rows[first:]))
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in table[2:]]


def test_the_document_names_every_reason_and_every_column_name() -> None:
    produced = {reason for _, reason, _ in BAD_ROWS}
    produced |= {reason for _, _, reason in BAD_FIELDS} | {"idempotency_conflict"}
    assert {row[0] for row in _table("Bad rows")} == produced
    names = {row[0]: tuple(row[2].split(", ")) for row in _table("Columns")}
    assert names == USUAL_NAMES and tuple(names) == FIELDS
    assert [row[1] for row in _table("Columns")] == [
        "yes" if name in REQUIRED else "no" for name in FIELDS
    ]
