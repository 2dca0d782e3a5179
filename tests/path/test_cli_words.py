"""What the commands say: reasons, the next step, how to repeat, and which options go together."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from paytm_lab import benchmarks
from paytm_lab.simulation.faults import FAULTS, pattern
from paytm_lab.terminal import entry
from paytm_lab.verbs.bench import names
from tests.faults.processes import Ledger
from tests.path.command_line import Cli, Ran

POOR = "from_user,to_user,amount\nasha,ravi,5\nasha,ravi,7\nravi,mira,1000\nmira,asha,99\n"


def poor(folder: Path) -> Path:
    """Payments that cost more than an opening balance of 10 rupees: three of four fail."""
    file = folder / "poor.csv"
    file.write_text(POOR)
    return file


# -- a run's own line ------------------------------------------------------------------------------


def test_a_run_says_why_payments_failed(tmp_path: Path, cli: Cli) -> None:
    words = f"run --transfers {poor(tmp_path)} --opening-balance 10 --in-flight 1".split()
    said = cli(*words, "--data", str(tmp_path / "lab"))
    assert "1 COMPLETED, 3 FAILED (insufficient_funds 3)" in said.out
    run = cli(*words, "--data", str(tmp_path / "other"), "--json").json["run"]
    assert run["answers"] == {"COMPLETED": 1, "FAILED": 3}
    assert run["reasons"] == {"FAILED": {"insufficient_funds": 3}}


def hints(said: Ran) -> list[list[str]]:
    """The commands of the line ``next:``, in words, without the program's name."""
    line = next(line for line in said.err.splitlines() if line.startswith("next: "))
    commands = [shlex.split(each) for each in line.removeprefix("next: ").split(" | ")]
    assert {each[0] for each in commands} == {"paytm-lab"}
    return [each[1:] for each in commands]


def test_what_a_run_hints_at_works_on_its_lab(tmp_path: Path, cli: Cli) -> None:
    data = tmp_path / "a lab"
    run = cli(*["run", "--users", "30", "--payments", "100", "--seed", "3", "--data"], str(data))
    commands = hints(run)
    assert [words[0] for words in commands] == ["trace", "audit", "replay"]
    for words in commands:
        assert words[-2:] == ["--data", str(data)]
        assert cli(*words).code == 0
    payment = commands[0][1]
    assert Ledger(data).payments[payment].keys() == {"source", "destination"}


# -- trace without an id ---------------------------------------------------------------------------


def test_trace_takes_a_cross_shard_payment_of_the_last_run(tmp_path: Path, cli: Cli) -> None:
    data = str(tmp_path / "lab")
    seen = set()
    for seed in ("1", "2"):
        run = cli("run", "--users", "20", "--payments", "50", "--seed", seed, "--data", data)
        traced = cli("trace", "--data", data)
        assert traced.code == 0, traced.err
        payment = hints(run)[0][1]
        assert f"a cross-shard payment of the last run: {payment}" in traced.err
        assert f"payment {payment}: COMPLETED" in traced.out
        assert "leg (b)" in traced.out
        as_json = cli("trace", "--data", data, "--json")
        assert (as_json.json["payment_id"], as_json.err) == (payment, "")
        seen.add(payment)
    assert len(seen) == 2, "each time of the last run, not of the first"


def test_trace_of_a_run_that_only_repeated(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "f.csv"
    file.write_text("payment_id,from_user,to_user,amount\n1,4,8,1\n2,4,5,1\n")
    words = ("run", "--transfers", str(file), "--data", str(tmp_path / "lab"))
    first, second = cli(*words), cli(*words)
    assert "2 were posted before" in second.out
    assert hints(first)[0] == hints(second)[0]
    assert hints(first)[0][0] == "trace"


def test_trace_where_there_is_nothing_to_take(tmp_path: Path, cli: Cli) -> None:
    data = tmp_path / "lab"
    run = cli(*f"run --shards 1 --users 10 --payments 20 --data {data}".split())
    assert [words[0] for words in hints(run)] == ["audit", "replay"]
    none = cli("trace", "--data", str(data))
    assert none.code == 2
    assert "the last run made no cross-shard payment" in none.err
    (data / "last_run.npz").unlink()
    never = cli("trace", "--data", str(data))
    assert never.code == 2
    assert "no run was made in this lab" in never.err
    assert "Name a payment's id" in never.err


# -- to repeat -------------------------------------------------------------------------------------


def repeating(said: Ran) -> list[str]:
    """The command after ``to repeat:``, without the program's name."""
    line = next(line for line in said.err.splitlines() if "to repeat: " in line)
    return shlex.split(line.split("to repeat: paytm-lab ")[1])


def test_a_run_says_its_seed_and_how_to_repeat_it(tmp_path: Path, cli: Cli) -> None:
    words = f"run --users 20 --payments 60 --data {tmp_path / 'lab'}"
    done = cli(*words.split())
    assert done.code == 0
    line = next(line for line in done.err.splitlines() if line.startswith("seed "))
    command = line.split("to repeat: paytm-lab ")[1]
    assert f"--seed {line.split()[1].rstrip(';')}" in command
    assert "money verdict: passed" in done.out
    assert "next: paytm-lab" in done.err
    again = cli(*command.split(), "--data", str(tmp_path / "again"), "--json")
    assert again.code == 0
    quiet = cli(*words.replace("lab", "quiet").split(), "--quiet")
    assert quiet.err == ""


def test_a_run_is_repeated_with_the_options_it_was_given(tmp_path: Path, cli: Cli) -> None:
    data = str(tmp_path / "a lab")
    options = ["--in-flight", "1", "--shards", "3", "--fraud-gate", "before", "--no-consumers"]
    first = cli("run", "--users", "20", "--payments", "60", *options, "--data", data)
    words = repeating(first)
    assert " ".join(options[:2]) in " ".join(words)
    assert words[-2:] == ["--data", data]
    assert {"3", "before", "--no-consumers"} <= set(words)
    assert "repeat it in a new folder (another --data)" in first.err
    words[-1] = str(tmp_path / "new")
    again = cli(*words)
    assert Ledger(tmp_path / "new").balances == Ledger(tmp_path / "a lab").balances
    assert repeating(again)[:-1] == words[:-1], "it says itself again"


def test_a_folder_that_was_used_is_said_to_have_other_balances(tmp_path: Path, cli: Cli) -> None:
    data = str(tmp_path / "lab")
    words = ("run", "--users", "20", "--payments", "20", "--data", data)
    assert "used before" not in cli(*words, "--shards", "2").err
    second = cli(*words)
    assert "this folder was used before and its users keep their balances" in second.err
    said = repeating(second)
    assert said[said.index("--shards") + 1] == "2", "a new folder would get 4"


def test_what_writes_a_file_names_it_to_repeat(tmp_path: Path, cli: Cli) -> None:
    out = str(tmp_path / "a file.csv")
    paper = cli("simulate", "--users", "20", "--payments", "50", "--out", out)
    assert repeating(paper)[-2:] == ["--out", out]
    economy = cli("simulate", "economy", "--users", "100", "--days", "1", "--out", out)
    assert repeating(economy)[-2:] == ["--out", out]


def test_a_report_is_repeated_to_its_place_and_never_from_inside_it(
    tmp_path: Path, cli: Cli
) -> None:
    out, notebooks = tmp_path / "a report", tmp_path / "notebooks"
    notebooks.mkdir()
    empty = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (notebooks / "99_empty.ipynb").write_text(json.dumps(empty))  # none of those it would execute
    words = ["report", "--users", "20", "--payments", "40", "--notebooks", str(notebooks)]
    said = repeating(cli(*words, "--out", str(out)))
    assert said[-4:] == ["--notebooks", str(notebooks), "--out", str(out)]
    assert "--data" not in said, "its own lab is made anew"
    kept = repeating(cli(*words, "--out", str(out), "--data", str(tmp_path / "lab")))
    assert kept[-2:] == ["--data", str(tmp_path / "lab")]


# -- settings --------------------------------------------------------------------------------------


def test_another_number_of_shards_is_refused_in_the_words_that_were_typed(
    tmp_path: Path, cli: Cli
) -> None:
    data = str(tmp_path / "lab")
    run = ("run", "--users", "5", "--payments", "5", "--data", data)
    assert cli(*run, "--shards", "2").code == 0
    other = cli(*run, "--shards", "3")
    assert other.code == 2
    assert f"--shards 3 does not fit: the lab in {data} has 2 shards." in other.err
    assert "Leave out --shards" in other.err
    assert cli(*run, "--shards", "2").code == cli(*run).code == 0


# -- options that do not go together ---------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run", "report"])
@pytest.mark.parametrize(
    "option", ["--users 10", "--payments 9", "--zipf-s 0", "--cross-shard-share 0.5"]
)
def test_a_file_and_a_workload_are_refused_together(
    verb: str, option: str, tmp_path: Path, cli: Cli
) -> None:
    file, data = poor(tmp_path), tmp_path / "lab"
    done = cli(verb, "--transfers", str(file), *option.split(), "--data", str(data))
    assert done.code == 2
    assert f"{option.split()[0]} does not go with --transfers {file}" in done.err
    assert not data.exists()


# -- lists that the code keeps ---------------------------------------------------------------------


def test_help_lists_every_benchmark_and_every_fault(cli: Cli) -> None:
    shown = " ".join(cli("bench", "--help").out.replace("│", " ").split())
    assert f"{', '.join(names())}; what each" in shown
    modules = {path.stem for path in Path(benchmarks.__path__[0]).glob("*.py")}
    assert set(names()) <= modules
    shown = " ".join(cli("fault", "--help").out.replace("│", " ").split())
    words = set(re.split(r"[ ,.]+", shown))
    for fault in FAULTS:
        assert fault.kind in words
    assert {"shard-N", "consumer-NAME", "wide-store", "crash-after-give-back"} <= words


def test_a_fault_that_cannot_be_is_said_before_anything_is_promised(
    tmp_path: Path, cli: Cli
) -> None:
    data = ("--data", str(tmp_path / "lab"))
    for target in ("shard-9", "shard-x", "consumer-nobody"):
        done = cli("fault", target, "slow", *data)
        assert done.code == 2
        assert f"{target!r} is not a " in done.err
        assert "to repeat" not in done.err
        assert "heals" not in done.err
        assert target == "consumer-nobody" or not (tmp_path / "lab").exists()


def test_a_target_without_that_fault_hears_which_it_can_have(cli: Cli) -> None:
    shard = cli("fault", "shard-2", "poison")
    assert shard.code == 2
    assert "shard-2 poison is not a fault. Known: shard-N down; shard-N frozen" in shard.err
    assert "shard-N lost-commit-down." in shard.err
    assert "process" not in shard.err and "payment_events" not in shard.err
    unknown = cli("fault", "toaster", "down")
    assert "consumer-NAME dead" in unknown.err and "wide-store gone." in unknown.err


def test_each_fault_is_an_entry_of_three_lines_that_needs_no_table(cli: Cli) -> None:
    lines = cli("fault").out.splitlines()
    assert len(lines) == 3 * len(FAULTS)
    for fault, title, sees, heals in zip(FAULTS, *(lines[n::3] for n in range(3)), strict=True):
        assert title.split("  ")[0] == f"{pattern(fault)} {fault.kind}"
        assert ("SIGKILL" in title or "SIGSTOP" in title) == bool(fault.signal)
        assert sees.strip() == f"sees: {fault.sight}"
        assert heals.strip() == f"heals: {fault.heals}"
    assert cli("fault", "shard").out.splitlines()[0].startswith("shard-N down")


def test_on_a_terminal_an_entry_folds_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Console(width=60, force_terminal=True)
    monkeypatch.setattr("paytm_lab.terminal._stdout", screen)
    text = "the consumer sets lost-commit-down aside in payment_events.dead_letter " * 3
    entry("title", text)
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "title"
    assert len(lines) > 1 and max(map(len, lines)) <= 60
    assert [word for line in lines for word in line.split()] == text.split()


def test_each_crash_says_what_is_true_of_it() -> None:
    crashes = {fault.kind: fault for fault in FAULTS if fault.target == "process"}
    assert len({fault.sight.split("; ", 1)[1] for fault in crashes.values()}) == len(crashes)
    assert len({fault.heals for fault in crashes.values()}) == len(crashes)
    in_transit = {kind for kind, fault in crashes.items() if "in transit" in fault.sight}
    assert in_transit == {"crash-after-leg-a", "crash-after-refusal"}


def test_one_of_a_thing_is_not_called_many(tmp_path: Path, cli: Cli) -> None:
    words = ["sweep", "simulate", "-p", "users=20", "-p", "payments=50", "-p", "shards=2"]
    out = ("--out", str(tmp_path / "out"))
    first = cli(*words, "--workers", "1", *out)
    assert first.code == 0, first.err
    assert "1 point of simulate on 1 process\n" in first.err
    assert "1 of 1 point was finished before" in cli(*words, *out).err
    run = cli(*f"run --users 5 --payments 1 --data {tmp_path / 'lab'}".split())
    assert run.out.startswith("1 payment in ")
