"""The command line as a user runs it: every verb, every exit code, and what is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from paytm_lab import Lab
from paytm_lab.cli import app
from paytm_lab.core.errors import (
    BadInput,
    Conflict,
    IntegrityError,
    OutcomeUnknown,
    PaytmLabError,
    StorageCorrupt,
    StorageFull,
    Unavailable,
)
from paytm_lab.messaging.topics import GROUPS
from paytm_lab.terminal import errors_in_words
from paytm_lab.verbs.report import MARK
from tests.faults import processes
from tests.faults.processes import ROOT, Ledger, expected_balances, make_rows, write_file
from tests.path.command_line import Cli, Ran

DATA = ROOT / "tests" / "data"
TIMEOUT_S = 90
VERBS = (
    *(c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands),
    *(str(group.typer_instance.info.name) for group in app.registered_groups),
)


def paytm_lab(*words: str, **options: Any) -> Ran:
    """The real command, in a process of its own."""
    settings: dict[str, Any] = {"cwd": ROOT, "env": processes.environment(), "timeout": TIMEOUT_S}
    done = subprocess.run(
        processes.command(*words), capture_output=True, text=True, **(settings | options)
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small lab that was run once. Tests look at it, or copy it before they change it."""
    data = tmp_path_factory.mktemp("ran") / "lab"
    done = paytm_lab(*f"run --users 30 --payments 300 --seed 5 --json --data {data}".split())
    assert done.code == 0, done.err
    assert done.json["run"]["payments"] == 300
    assert done.json["audit"]["verdict"] == "passed"
    return data


def copied(folder: Path, to: Path) -> Path:
    subprocess.run(["cp", "-r", str(folder), str(to)], check=True)
    return to


def fingerprint(folder: Path) -> dict[str, str]:
    """What lies in the shards, by file: unchanged files are unchanged money."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "shards").glob("*.sqlite"))
    }


# -- help and usage --------------------------------------------------------------------------------


def test_the_verbs_are_those_of_the_design_that_are_built() -> None:
    assert set(VERBS) == {
        *("run", "report", "audit", "replay", "trace", "relay", "consume"),
        *("fault", "simulate", "bench", "config", "serve", "load", "stack", "sweep"),
    }


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app([verb, "--help"], prog_name="paytm-lab")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"paytm-lab {verb}" in shown
    assert "ack-fd" not in shown
    assert "crash-at" not in shown


def test_help_of_the_whole_lists_verbs_and_exit_codes() -> None:
    done = paytm_lab("--help")
    assert done.code == 0
    assert all(verb in done.out for verb in VERBS)
    assert "4 the verdict is unknown" in " ".join(done.out.replace("│", " ").split())
    assert paytm_lab().code == 2, "no verb: the help, and the code of bad usage"


BAD_USAGE = [
    ("run --bogus", "No such option"),
    ("nosuch", "No such command"),
    ("run --users many", "--users"),
    ("run --users 1 --payments 5", "users = 1"),
    ("run --payments 0", "payments = 0"),
    ("run --zipf-s -1", "zipf_s"),
    ("run --cross-shard-share 2", "cross_shard_share"),
    ("run --in-flight 0", "in-flight"),
    ("run --seed -1", "seed=-1"),
    ("run --shards 65", "shards=65"),
    ("run --shards 3", "--shards 3 does not fit: the lab in"),
    ("run --profile server", "profile='server'"),
    ("run --fraud-gate maybe", "fraud_gate='maybe'"),
    ("run --map from=a", "--transfers"),
    ("run --transfers nosuch.csv", "no such file"),
    (f"run --transfers {DATA}/payments.csv --map from=zzz", "no column 'zzz'"),
    (f"run --transfers {DATA}/payments.csv --opening-balance 1e3", "'1e3' is not an amount"),
    (f"run --transfers {DATA}", "folder"),
    ("run --ack-fd 77", "77"),
    ("run --crash-at nowhere", "not a point"),
    ("audit --mode deep", "'deep' is not an audit mode"),
    ("trace 123", "not a payment id"),
    ("trace 019b76da-a93c-7b64-8097-e8a8e5ee4c91", "is not known"),
    ("consume nobody", "'nobody' is not a consumer"),
    ("fault shard-2 explodes", "Known: shard-N down"),
    ("fault shard-9 down", "Name one of shard-0"),
    ("bench nosuch", "Name one of"),
    ("simulate --shards 4,x", "4,x"),
    ("simulate economies", "No such command"),
    ("simulate economy --users 10", "users = 10"),
    ("simulate economy --days 0", "days = 0"),
    ("simulate economy --fraud phishing=2", "'phishing=2'"),
    ("simulate economy --fraud cycle=x", "'cycle=x'"),
    ("simulate economy --users 100 --days 1 --fraud 99", "can take part"),
    ("simulate economy --out there.xlsx", "neither a .csv nor a .parquet"),
    ("simulate economy --out nowhere/there.csv", "nowhere is no folder"),
    ("simulate economy --save-target nowhere/there.json", "nowhere is no folder"),
    ("simulate economy --out tests", "neither a .csv nor a .parquet"),
    ("simulate economy --target nosuch.json", "cannot be read"),
    ("simulate --out nowhere/there.csv", "nowhere is no folder"),
    ("simulate --out tests", "it is a folder"),
    ("run --cross-shard-share 2", "cross_shard_share = 2"),
    ("run --users 4 --cross-shard-share 0.5", "a shard holds a single user"),
    ("run --zipf-s 99", "zipf_s = 99"),
]


@pytest.mark.parametrize(("words", "said"), BAD_USAGE, ids=[w[:40] for w, _ in BAD_USAGE])
def test_bad_usage_is_exit_2_and_changes_nothing(
    words: str, said: str, ran: Path, cli: Cli
) -> None:
    before = Ledger(ran)
    with_data = words.split()[0] in ("run", "audit", "trace", "consume", "fault")
    done = cli(*words.split(), *(["--data", str(ran)] if with_data else []))
    assert done.code == 2
    shown = " ".join(done.err.replace("│", " ").split())
    assert said.lower() in shown.lower()
    assert "Traceback" not in shown and "to repeat:" not in shown
    after = Ledger(ran)
    assert after.payments.keys() == before.payments.keys()
    assert after.balances == before.balances


REPORTED = [
    ("--users 1", "users = 1"),
    ("--payments 0", "payments = 0"),
    ("--zipf-s 99", "zipf_s = 99"),
    ("--transfers nosuch.csv", "no such file"),
    (f"--transfers {DATA}/payments.csv --map from=zzz", "no column 'zzz'"),
    (f"--transfers {DATA}/payments.csv --map payer=a", "no field 'payer'"),
    (f"--transfers {DATA}/payments.csv --opening-balance 1e3", "'1e3' is not an amount"),
]


@pytest.mark.parametrize(("words", "said"), REPORTED, ids=[w[:40] for w, _ in REPORTED])
def test_bad_options_leave_the_earlier_report(
    words: str, said: str, tmp_path: Path, cli: Cli
) -> None:
    """They are judged before anything is removed, opened or said."""
    (tmp_path / MARK).touch()
    (tmp_path / "index.html").write_text("the earlier one")
    done = cli("report", *words.split(), "--out", str(tmp_path))
    assert done.code == 2 and said in done.err.lower()
    assert done.err.startswith("paytm-lab: "), "nothing is said before"
    assert sorted(p.name for p in tmp_path.iterdir()) == [MARK, "index.html"]


@pytest.mark.parametrize("verb", ["audit", "replay", "trace 019b76da-a93c-7b64-8097-e8a8e5ee4c91"])
def test_looking_makes_no_lab(verb: str, tmp_path: Path, cli: Cli) -> None:
    done = cli(*verb.split(), "--data", str(tmp_path / "none"))
    assert done.code == 2
    assert "there is no lab" in done.err
    assert not (tmp_path / "none").exists()


# -- exit codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IntegrityError("x"), 1),
        (BadInput("x"), 2),
        (Conflict("x"), 2),
        (Unavailable("x"), 3),
        (StorageFull("x"), 3),
        (StorageCorrupt("x"), 3),
        (OutcomeUnknown("x", payment_id="p"), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_exit_code(
    error: PaytmLabError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_in_words(as_json=True):
        raise error
    assert ended.value.code == code
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "error": error.code,
        "message": str(error),
        "exit_code": code,
    }
    assert printed.err.startswith("paytm-lab: x")


def test_an_audit_that_finds_something_is_exit_1(ran: Path, tmp_path: Path, cli: Cli) -> None:
    data = copied(ran, tmp_path / "lab")
    with sqlite3.connect(data / "shards" / "shard-1.sqlite") as shard:
        shard.execute("UPDATE accounts SET balance = balance + 1 WHERE user_id = '1'")
    shard.close()
    done = cli("audit", "--data", str(data), "--json")
    assert (done.code, done.json["verdict"]) == (1, "failed")
    failed = {check["name"] for check in done.json["checks"] if check["state"] == "failed"}
    assert "balances_equal_entries" in failed
    words = cli("audit", "--data", str(data))
    assert words.code == 1
    assert words.out.splitlines()[-1] == "money verdict: failed"
    replayed = cli("replay", "--data", str(data), "--json")
    assert replayed.code == 1, "the replay sees it too"


def test_a_log_that_lost_its_beginning_is_exit_4(ran: Path, tmp_path: Path, cli: Cli) -> None:
    data = copied(ran, tmp_path / "lab")
    with sqlite3.connect(data / "log" / "payment_events.sqlite") as log:
        (ends,) = log.execute("SELECT ends FROM head").fetchone()
        starts = json.dumps([min(1, end) for end in json.loads(ends)])
        log.execute("UPDATE head SET starts = ?", (starts,))
    log.close()
    done = cli("replay", "--data", str(data), "--json")
    assert done.code == 4, (done.out, done.err)
    assert done.json["verdict"] == "unknown"


# -- folders, files, disks -------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["below a file", "a file", "/proc"])
def test_a_folder_that_cannot_be_used_is_exit_3(place: str, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "file"
    file.write_text("")
    folder = {"below a file": file / "lab", "a file": file, "/proc": Path("/proc/lab")}[place]
    done = cli(*f"run --users 5 --payments 5 --json --data {folder}".split())
    assert (done.code, done.json["error"]) == (3, "missing_part")
    assert "data folder" in done.err
    assert file.read_text() == ""


@pytest.mark.parametrize("place", ["file/report", "file", "/proc/report"])
def test_a_report_that_cannot_be_written_is_said_before_the_run(
    place: str, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "file").write_text("mine")
    data = tmp_path / "lab"
    words = f"report --users 5 --payments 5 --json --out {tmp_path / place} --data {data}"
    done = cli(*words.split())
    assert done.code == (2 if place == "file" else 3)
    assert "--out" in done.err
    assert (tmp_path / "file").read_text() == "mine"
    assert not data.exists()


def test_a_crowd_of_problems_is_said_at_once_and_soon(tmp_path: Path, cli: Cli) -> None:
    """Nothing is started: all that is wrong is listed with its remedy."""
    done = cli(*["run", "--users", "5", "--payments", "5", "--data", "/proc/lab"])
    assert done.code == 3
    assert "problem(s)" in done.err
    assert "  1. " in done.err
    assert "--data" in done.err


@pytest.mark.parametrize("damage", ["header", "pages", "half", "empty", "gone"])
def test_a_corrupted_shard_is_named_and_the_others_stay_as_they_are(
    damage: str, ran: Path, tmp_path: Path, cli: Cli
) -> None:
    data = copied(ran, tmp_path / "lab")
    broken = data / "shards" / "shard-2.sqlite"
    size = broken.stat().st_size
    if damage == "gone":
        broken.unlink()
    else:
        with broken.open("r+b") as file:
            if damage == "header":
                file.write(b"not a database file!" * 10)
            elif damage == "pages":
                file.seek(4096)
                file.write(random.Random(1).randbytes(size - 4096))
            else:
                file.truncate(size // 2 if damage == "half" else 0)
    before = fingerprint(data)
    for verb in ("audit", "run --users 30 --payments 20 --seed 5"):
        done = cli(*verb.split(), "--json", "--data", str(data))
        assert (done.code, done.json["error"]) == (3, "storage_corrupt")
        assert "shard-2" in done.err
        assert "Traceback" not in done.err
        assert fingerprint(data) == before, "nothing was changed"


@pytest.mark.parametrize("limit", [60_000, 300_000])
def test_a_full_disk_is_named_and_nothing_is_half_applied(limit: int, tmp_path: Path) -> None:
    """The limit on file sizes stands for the disk's: writes past it fail."""
    data = tmp_path / "lab"
    words = f"run --users 50 --payments 1500 --seed 1 --in-flight 64 --json --data {data}".split()
    done = paytm_lab(
        *words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert (done.code, done.json["error"]) == (3, "storage_full")
    assert "Free" in done.json["message"]
    assert "Traceback" not in done.err
    again = paytm_lab(*words)  # with room: what was half done is finished, and it goes on
    assert again.code == 0
    ledger = Ledger(data)
    ledger.require_applied_once()
    assert again.json["audit"]["verdict"] == "passed"


# -- several processes, and interruption -----------------------------------------------------------


def test_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    data = tmp_path / "lab"
    readable, writable = os.pipe()
    words = f"run --users 50 --payments 200000 --in-flight 64 --data {data} --ack-fd {writable}"
    child = processes.start(*words.split(), pass_fds=(writable,), stderr=subprocess.PIPE)
    os.close(writable)
    acks = []
    with os.fdopen(readable, encoding="ascii") as lines:
        for line in lines:
            acks.append((line.split()[0], line.split()[1]))
            if len(acks) == 300:
                child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 130
    assert b"interrupted" in said
    assert b"Traceback" not in said
    audited = paytm_lab("audit", "--data", str(data), "--json")
    assert (audited.code, audited.json["verdict"]) == (0, "passed")
    Ledger(data).require_acknowledged(acks)


@pytest.mark.slow
def test_two_runs_and_two_of_each_worker_on_one_folder(tmp_path: Path) -> None:
    data = tmp_path / "lab"
    processes.prepare(data)
    rows = [make_rows(400, seed, f"run{seed}") for seed in (1, 2)]
    shared = make_rows(200, 3, "both")  # each run has these too: they are posted once
    workers = [
        processes.start(*words, "--data", str(data), "--quiet")
        for words in (["relay"], ["relay"], ["consume"], ["consume"])
    ]
    files = [write_file(tmp_path / f"{n}.csv", [*part, *shared]) for n, part in enumerate(rows)]
    runs = [
        processes.start(
            "run", "--transfers", str(file), *processes.OPENING_OPTIONS, "--data", str(data),
            "--quiet", "--json", "--in-flight", "64", stdout=subprocess.PIPE,
        )
        for file in files
    ]  # fmt: skip
    answers: Counter[str] = Counter()
    repeated = 0
    for child in runs:
        out, _ = child.communicate(timeout=TIMEOUT_S)
        assert child.returncode == 0, out
        found = json.loads(out.splitlines()[-1])["run"]
        answers.update(found["answers"])
        repeated += found["repeated"]
    for worker in workers:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(TIMEOUT_S) == 0, "a worker ends cleanly when it is told to"
    assert answers.total() == 1200
    assert repeated == 200
    with Lab(data=data, **{"velocity_limit": 10**6}) as lab:
        lab.audit().require_clean()
        assert lab.replay().exit_code == 0
        ledger = Ledger(data)
        ledger.require_applied_once()
        assert ledger.balances == expected_balances([*rows[0], *rows[1], *shared])
        assert processes.require_effects_once(lab, ledger) == 0


# -- payments files --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["payments", "paysim", "amlsim", "handbook"])
def test_a_file_is_posted_once(name: str, tmp_path: Path, cli: Cli) -> None:
    data = tmp_path / "lab"
    words = ["run", "--transfers", str(DATA / f"{name}.csv"), "--data", str(data), "--json"]
    first, second = cli(*words), cli(*words)
    assert (first.code, second.code) == (0, 0), first.err
    posted = first.json["run"]
    assert posted["payments"] > 0
    assert posted["repeated"] == 0
    repeated = second.json["run"]
    assert repeated["repeated"] == repeated["payments"] == posted["payments"]
    assert repeated["answers"] == posted["answers"]
    assert second.json["audit"]["payments"] == first.json["audit"]["payments"]


BAD_ROWS = """payment_id,from_user,to_user,amount
a1,asha,ravi,10.00
a2,asha,ravi,1e3
a3,asha,asha,5
a4,,ravi,5
a5,asha,ravi,0
a6,asha,ravi,-5
a7,asha,ravi,1.234
a8,system:funding,ravi,5
a1,asha,ravi,10.00
a9,ravi,asha,2.50
a10,asha,ravi
"""


def test_bad_rows_are_listed_with_line_and_reason(tmp_path: Path, cli: Cli) -> None:
    file, data = tmp_path / "bad.csv", tmp_path / "lab"
    file.write_text(BAD_ROWS)
    done = cli("run", "--transfers", str(file), "--data", str(data))
    assert done.code == 0, done.err
    lines = (data / "rejects.csv").read_text().splitlines()
    assert lines[0].startswith("line,reason")
    assert [int(line.split(",")[0]) for line in lines[1:]] == [3, 4, 5, 6, 7, 8, 9, 12]
    assert all(line.split(",")[1] for line in lines[1:])
    assert "2 payments of 12.50 rupees accepted, 8 rows rejected, 1 repeated" in done.err
    assert "rejects.csv" in done.err


def test_a_file_from_standard_input(tmp_path: Path) -> None:
    text = (DATA / "payments.csv").read_text()
    words = ["run", "--transfers", "-", "--data", str(tmp_path / "lab"), "--json"]
    first, second = paytm_lab(*words, input=text), paytm_lab(*words, input=text)
    assert (first.code, second.code) == (0, 0), first.err
    assert first.json["run"]["repeated"] == 0
    assert second.json["run"]["repeated"] == first.json["run"]["payments"] == 3
    empty = paytm_lab(*words, input="")
    assert empty.code == 2


def test_what_simulate_writes_can_be_run(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "out.csv"
    words = f"simulate --users 40 --payments 200 --seed 3 --json --out {file}".split()
    done, again = cli(*words), cli(*words)
    assert done.code == 0
    assert done.json == again.json, "the same seed, the same answer"
    assert done.json["rows"]
    run = cli(*f"run --transfers {file} --data {tmp_path / 'lab'} --json".split())
    assert run.code == 0
    assert run.json["run"]["payments"] == 200


# -- the other verbs -------------------------------------------------------------------------------


def test_deterministic_runs_print_one_hash_for_one_seed(tmp_path: Path, cli: Cli) -> None:
    def run(folder: str, seed: int) -> dict[str, Any]:
        words = f"run --deterministic --users 20 --payments 60 --seed {seed} --json"
        done = cli(*words.split(), "--data", str(tmp_path / folder))
        assert done.code == 0, done.err
        return done.json

    first, again, other = run("a", 4), run("b", 4), run("c", 5)
    assert first["run"]["state_hash"] == again["run"]["state_hash"]
    assert first["run"]["state_hash"] != other["run"]["state_hash"]
    assert "--deterministic" in first["run"]["command"]


def test_trace_follows_a_payment(ran: Path, cli: Cli) -> None:
    ledger = Ledger(ran)
    crossing = next(p for p, sides in ledger.payments.items() if "destination" in sides)
    for as_json in (True, False):
        done = cli("trace", crossing, "--data", str(ran), *(["--json"] if as_json else []))
        assert done.code == 0, done.err
        for word in (crossing, "PaymentInitiated", "PaymentCompleted"):
            assert word in done.out


def test_replay_finds_no_drift(ran: Path, cli: Cli) -> None:
    done = cli("replay", "--data", str(ran), "--json")
    assert (done.code, done.json["verdict"]) == (0, "passed")
    assert cli("replay", "--data", str(ran)).code == 0


def test_a_live_audit_beside_a_run(tmp_path: Path) -> None:
    data = tmp_path / "lab"
    processes.prepare(data)
    file = write_file(tmp_path / "file.csv", make_rows(20_000, 1, "x"))
    words = ("run", "--transfers", str(file), *processes.OPENING_OPTIONS, "--data", str(data))
    child = processes.start(*words, "--quiet", "--in-flight", "64")
    try:
        for _ in range(2):
            done = paytm_lab("audit", "--mode", "live", "--data", str(data), "--json")
            assert (done.code, done.json["verdict"]) == (0, "passed"), done.json
            assert child.poll() is None, "it was beside the run"
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(TIMEOUT_S)


@pytest.mark.parametrize("words", [("relay",), ("consume", "fraud")])
def test_workers_of_a_lab_that_is_not_there_yet_say_so(
    words: tuple[str, ...], tmp_path: Path, cli: Cli
) -> None:
    began = [cli(*words, "--until-drained", "--data", str(tmp_path / "typo")) for _ in range(2)]
    assert [done.code for done in began] == [0, 0]
    said = [f"no lab in {tmp_path / 'typo'}: a new one is made" in done.err for done in began]
    assert said == [True, False]


def test_relay_and_consume_end_when_drained(tmp_path: Path, cli: Cli) -> None:
    data = tmp_path / "lab"
    words = f"run --users 20 --payments 100 --no-relay --no-consumers --json --data {data}"
    assert cli(*words.split()).code == 0
    relayed = cli("relay", "--until-drained", "--json", "--data", str(data))
    consumed = cli("consume", "--until-drained", "--json", "--data", str(data))
    assert (relayed.code, consumed.code) == (0, 0)
    assert relayed.json["handled"]["relay"] >= 240
    assert set(consumed.json["handled"]) >= set(GROUPS)
    assert cli("audit", "--data", str(data), "--json").json["verdict"] == "passed"


def test_config_shows_every_setting_and_where_it_came_from(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYTM_LAB_BATCH_ROWS_MAX", "77")
    done = cli("config", "--json", "--data", str(tmp_path))
    assert done.code == 0
    assert done.json["batch_rows_max"] == {"value": 77, "source": "environment"}
    assert done.json["data_dir"]["value"] == str(tmp_path)
    words = cli("config", "--data", str(tmp_path))
    assert "PAYTM_LAB_BATCH_ROWS_MAX" in words.out
    monkeypatch.setenv("PAYTM_LAB_BATCH_ROWS_MAX", "none")
    wrong = cli("config")
    assert wrong.code == 2
    assert "PAYTM_LAB_BATCH_ROWS_MAX" in wrong.err


def test_a_closed_pipe_ends_quietly(ran: Path) -> None:
    line = f"{' '.join(processes.command('audit', '--data', str(ran)))} | head -1"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_S,
        env=processes.environment(),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
