"""Whatever bytes a file holds, it is refused as a whole or each of its rows is accounted for."""

from __future__ import annotations

import csv
import tempfile
from io import BytesIO
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from paytm_lab.core.errors import MalformedFile
from paytm_lab.core.ids import require_user_id
from paytm_lab.core.money import AMOUNT_PAISE_MAX, format_rupees
from paytm_lab.simulation.payments import Transfer
from paytm_lab.simulation.repeated_ids import CONFLICT, NEW, REPEATED, SeenIds
from paytm_lab.simulation.transfers_file import open_transfers

HEAD = b"id,from,to,amount,at,opening\n"
FRAGMENTS = st.sampled_from(
    [
        *(b"a", b"b", b",", b",", b",", b"\n", b"\n", b'"', b"\r\n", b"\0", b"\xff", b"1.50", b"0"),
        b";",
        b"k,a,b,1,2026-01-01,5\n",
        b"k,a,b,2,2026-01-01,5\n",
        b'q,"a""x",b,1,2026-01-01,\n',
        b" ",
        b"\r",
    ]
)
GARBAGE = st.one_of(st.binary(max_size=400), st.lists(FRAGMENTS, max_size=60).map(b"".join))
USERS = st.sampled_from(["a", "b", "c", "sender", "Zoë", "x,y", 'say "so"'])


def judge(text: bytes) -> tuple[list[Transfer], list[list[str]], int, int, dict[str, int]]:
    """(accepted rows, rejects, collapsed, data rows, openings), checked against one another."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rejects.csv"
        with open_transfers("-", stdin=BytesIO(text), rejects=out) as file:
            rows = [row for batch in file.rows() for row in batch]
            with out.open(newline="", encoding="utf-8") as listed:
                rejects = list(csv.reader(listed))[1:]
            assert file.accepted == len(rows)
            assert file.rejected == len(rejects)
            assert file.data_rows == file.accepted + file.rejected + file.collapsed
            return rows, rejects, file.collapsed, file.data_rows, file.openings()


@settings(max_examples=300, deadline=None)
@given(GARBAGE)
@example(b'a,"b\n' * 70)
def test_garbage_after_a_header_is_accounted_for_line_by_line(garbage: bytes) -> None:
    lines = [line for line in garbage.split(b"\n") if line.strip(b"\r\n")]
    if not lines:
        return
    rows, rejects, collapsed, data_rows, openings = judge(HEAD + garbage)
    if b'"' not in garbage:
        assert data_rows == len(lines)
    else:  # a quoted field may span lines, so there can be fewer records, never more
        assert 1 <= data_rows <= len(lines)
    numbers = [row.line for row in rows]
    listed = [int(reject[0]) for reject in rejects]
    assert numbers == sorted(set(numbers)) and listed == sorted(set(listed))
    assert not set(numbers) & set(listed)
    assert all(reject[1] for reject in rejects)
    for row in rows:
        require_user_id(row.from_user_id)
        require_user_id(row.to_user_id)
        assert row.from_user_id != row.to_user_id and 0 < row.amount_paise <= AMOUNT_PAISE_MAX
    assert set(openings) == {user for row in rows for user in (row.from_user_id, row.to_user_id)}
    assert collapsed == 0 or rows


@settings(max_examples=200, deadline=None)
@given(GARBAGE)
def test_garbage_as_a_whole_file_is_refused_by_name(garbage: bytes) -> None:
    refusal = None
    try:
        judge(garbage)
    except MalformedFile as error:
        refusal = error
    assert refusal is None or (refusal.place == "standard input" and refusal.remedy)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(USERS, USERS, st.integers(0, 10**9)), min_size=1, max_size=40), st.booleans()
)
def test_what_was_written_properly_is_read_back(
    payments: list[tuple[str, str, int]], gaps: bool
) -> None:
    """A proper CSV writer's output; blank lines between rows carry no row."""
    folder = tempfile.TemporaryDirectory()
    with folder:
        path = Path(folder.name) / "in.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("from", "to", "amount"))
            for payer, payee, paise in payments:
                writer.writerow((payer, payee, format_rupees(paise)))
                if gaps:
                    file.write("\r\n")
        rows, rejects, collapsed, data_rows, openings = judge(path.read_bytes())
    good = [p for p in payments if p[0] != p[1] and p[2] > 0]
    assert [(r.from_user_id, r.to_user_id, r.amount_paise) for r in rows] == good
    assert (data_rows, len(rejects), collapsed) == (len(payments), len(payments) - len(good), 0)
    balance = dict(openings)
    for payer, payee, paise in good:
        balance[payer] -= paise
        balance[payee] += paise
        assert balance[payer] >= 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=30))
)
def test_repeated_ids_agree_with_a_plain_dict(batches: list[list[tuple[int, int]]]) -> None:
    seen, first = SeenIds(), {}
    for batch in batches:
        expected = []
        for id_, amount in batch:
            if id_ not in first:
                first[id_] = amount
                expected.append(NEW)
            else:
                expected.append(REPEATED if first[id_] == amount else CONFLICT)
        ids = [f"id{i}" for i, _ in batch]
        assert seen.classify(ids, [("a", "b", amount) for _, amount in batch]) == expected
