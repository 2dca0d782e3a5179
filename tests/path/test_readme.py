"""What the README and the docs show is what happens: their code blocks are run, in order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Run by .ci/run on a fresh clone, as nothing inside a test run could.
RUN_BY_CI = {"make report", "make test"}
CI = (ROOT / ".ci/run").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
# Where nothing is started for the tests these end with 3, a missing part: not 2, wrong usage.
NEED_SERVERS = ("make stack-", "stack status", "--profile servers")
MISSING_PART = 3
LOG_IN = "connection.env"  # a block that reads it is one piece, and needs servers to log in to
SERVED = [["serve", "all"]]
MAIN = "from paytm_lab.cli import main; main()"


def blocks(language: str) -> list[tuple[str, str]]:
    """(document, code) of every fenced block in this language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    return [(p.name, code) for p in DOCUMENTS for code in fence.findall(p.read_text())]


def commands() -> list[str]:
    shown = [block for _, block in blocks("bash") if LOG_IN not in block]
    lines = [line for block in shown for line in block.splitlines()]
    return [c for line in lines if (c := line.partition("#")[0].strip())]


def test_no_command_hides_in_another_kind_of_block() -> None:
    fences = re.compile(r"^```(\S+)", flags=re.MULTILINE)
    shown = {language for path in DOCUMENTS for language in fences.findall(path.read_text())}
    assert shown <= {"bash", "python", "csv"}, "blocks whose language is not looked at"


def test_the_way_to_log_in_is_a_script() -> None:
    (script,) = (block for _, block in blocks("bash") if LOG_IN in block)
    subprocess.run(["sh", "-n", "-c", script], check=True)


def test_every_shown_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYTM_LAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PAYTM_LAB_STACK_DIR", str(tmp_path / "no stack"))
    for server in ("MYSQL_SERVERS", "REDIS_SERVER", "ZOOKEEPER_SERVERS"):  # whatever runs here
        monkeypatch.setenv(f"PAYTM_LAB_{server}", "127.0.0.1:1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for folder in ("tests", "notebooks"):  # the files that commands name
        (tmp_path / folder).symlink_to(ROOT / folder)
    ran = 0
    for command in commands():
        if command in RUN_BY_CI:
            assert re.search(rf"^{command}( |$)", CI, flags=re.MULTILINE), command
            continue
        program, *arguments = shlex.split(command)
        on_servers = any(words in command for words in NEED_SERVERS)
        if on_servers and program == "make":
            assert re.search(rf"^{arguments[0]}:", MAKEFILE, flags=re.MULTILINE), command
            continue
        if "compose/" in command:  # there is no Docker here; tests/stack/test_compose.py reads them
            (file,) = (word for word in (program, *arguments) if word.startswith("compose/"))
            assert (ROOT / file).is_file(), command
            continue
        assert program == ".venv/bin/paytm-lab", command
        if arguments[0] == "serve":  # it ends when it is told to: tests/services/test_serve.py
            assert arguments in SERVED, command
            continue
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        ends_with = MISSING_PART if on_servers else 0
        assert done.returncode == ends_with, (command, done.stdout, done.stderr)
        if not on_servers and arguments[0] in {"run", "audit", "replay"}:
            assert "money verdict: passed" in done.stdout, command
        ran += 1
    assert ran >= 7
    assert (tmp_path / "data" / "shards" / "shard-0.sqlite").exists()


def test_every_shown_python_runs() -> None:
    shown = blocks("python")
    assert shown
    for document, code in shown:
        *lines, last = code.rstrip().splitlines()
        names: dict[str, object] = {}
        if "Lab(" not in code:  # it shows a formula or a simulation, and checks it itself
            assert "assert " in code, document
            exec(compile(code, document, "exec"), names)
            continue
        assert re.match(r"    lab\.charts\.", last), document
        source = "\n".join([*lines, last.replace("    ", "    figure = ", 1)])
        exec(compile(source, document, "exec"), names)
        assert isinstance(names["figure"], go.Figure)
        assert names["figure"].data
