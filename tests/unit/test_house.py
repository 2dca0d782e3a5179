"""The habits of the house as tests. The lists of exceptions may only shrink."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "paytm_lab"
FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 600  # a list of cases reads well at greater length
FUNCTION_LINES_MAX = 70
# path (or path:function) -> the length it must not pass. Take out what has become short enough; put
# nothing new in.
LONG_FILES = {
    "paytm_lab/lab.py": 630,
    "paytm_lab/ledger/shard_writer.py": 480,
    "paytm_lab/wiring/system.py": 480,
}
LONG_FUNCTIONS: dict[str, int] = {}


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """Read once for all tests, none of which changes it."""
    return ast.parse(path.read_text())


def trees(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sources(*folders):
        yield name_of(path), tree_of(path)


def ratchet(lengths: dict[str, int], limit: int, exceptions: dict[str, int]) -> None:
    over = {n: length for n, length in lengths.items() if length > exceptions.get(n, limit)}
    assert over == {}, "shorten these"
    done = [name for name in exceptions if lengths.get(name, 0) <= limit]
    assert done == [], "take these out of the list of exceptions"


def file_lengths(*folders: str) -> dict[str, int]:
    return {name_of(path): len(path.read_text().splitlines()) for path in sources(*folders)}


def test_no_file_is_too_long() -> None:
    ratchet(file_lengths("paytm_lab", "scripts"), FILE_LINES_MAX, LONG_FILES)
    ratchet(file_lengths("tests"), TEST_FILE_LINES_MAX, {})


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{name}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, tree in trees("paytm_lab", "tests", "scripts")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    ratchet(lengths, FUNCTION_LINES_MAX, LONG_FUNCTIONS)


def test_the_ratchet_can_fail() -> None:
    with pytest.raises(AssertionError, match="shorten"):
        ratchet({"new": 401}, 400, {})
    with pytest.raises(AssertionError, match="shorten"):
        ratchet({"old": 411}, 400, {"old": 410})
    with pytest.raises(AssertionError, match="take these out"):
        ratchet({"old": 399}, 400, {"old": 410})
    ratchet({"old": 405, "short": 3}, 400, {"old": 410})


def test_invariants_do_not_vanish_under_optimisation() -> None:
    asserts = [
        f"{name}:{node.lineno}"
        for name, tree in trees("paytm_lab")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert asserts == []


SKIPS = {"skip", "skipif", "xfail", "importorskip"}


def is_banned(node: ast.AST) -> bool:
    """A way to skip, or a ``time.sleep`` of more than a poll's 10 ms."""
    if isinstance(node, ast.Attribute) and node.attr in SKIPS:
        return ast.unparse(node.value) in {"pytest", "pytest.mark"}
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}:
        argument = node.args[0]
        return not (isinstance(argument, ast.Constant) and argument.value <= 0.01)
    return False


def test_tests_neither_sleep_nor_skip() -> None:
    """Waiting is for a condition, with a deadline; a part that is missing fails."""
    found = [
        f"{name}:{getattr(node, 'lineno', 0)}"
        for name, tree in trees("tests")
        for node in ast.walk(tree)
        if is_banned(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        ("time.sleep(1)", True),
        ("time.sleep(pause_s)", True),
        ("time.sleep(0.005)", False),
        ("pytest.skip('no')", True),
        ("@pytest.mark.skipif(True)\ndef f(): ...", True),
        ("'time.sleep(600)'", False),
    ],
)
def test_the_ban_knows_what_it_bans(code: str, banned: bool) -> None:
    assert any(map(is_banned, ast.walk(ast.parse(code)))) == banned


def test_every_public_face_is_true() -> None:
    """Ruff holds ``__all__`` sorted; each of its names must exist, once."""
    for path in sources("paytm_lab"):
        for node in tree_of(path).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names = ast.literal_eval(node.value)
                assert len(names) == len(set(names)), path
                parts = path.relative_to(ROOT).with_suffix("").parts
                module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
                assert [n for n in names if not hasattr(module, n)] == [], path


def test_importing_starts_opens_and_connects_nothing(tmp_path: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sources("paytm_lab")
    ]
    code = f"""
import socket, sqlite3, subprocess, sys, threading, importlib
def refuse(*_, **__): raise SystemExit("something happens at import")
socket.socket.connect = sqlite3.connect = threading.Thread.start = refuse
for name in {modules!r}:
    importlib.import_module(name)
print(threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PAYTM_LAB_SHARDS": "not a number"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("1", 0), done.stderr
    assert [p.name for p in tmp_path.rglob("*") if "paytm" in p.name] == []


def test_every_package_says_what_it_is_for() -> None:
    for path in sources("paytm_lab"):
        if path.name == "__init__.py":
            assert ast.get_docstring(tree_of(path)), path
    for folder in {p.parent for p in sources("paytm_lab")}:
        assert (folder / "__init__.py").exists(), folder


def commands_in_docs() -> set[tuple[str, str]]:
    """(document, command) for each `make ...` and `paytm-lab ...` in code of README and docs."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = set()
    for path in documents:
        text = path.read_text()
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.splitlines()]
        for code in lines + re.findall(r"`([^`\n]+)`", text):
            words = code.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            if re.match(r"(make|paytm-lab) [a-z]", words):
                command = words.partition("#")[0].strip()
                found.add((name_of(path), command))
                if passed_on := re.match(r"make report ARGS=\"?([^\"]*)", command):
                    found.add((name_of(path), f"paytm-lab report {passed_on[1]}"))
    return found


def test_every_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = {(d, w) for d, c in commands_in_docs() if c.startswith("make ") for w in c.split()[1:2]}
    assert {"test", "report"} <= {word for _, word in shown}
    assert {(d, w) for d, w in shown if w not in targets and "=" not in w} == set()


def verb_of(command: str) -> tuple[str, ...]:
    words = command.split()[1:]
    return tuple(words[: 2 if words[0] == "stack" or words[1:2] == ["economy"] else 1])


def test_every_verb_and_option_in_the_docs_exists() -> None:
    """By asking each verb for its help."""
    shown = {(d, c) for d, c in commands_in_docs() if c.startswith("paytm-lab ")}
    assert shown
    for verb in sorted({verb_of(c) for _, c in shown}):
        done = subprocess.run(
            [sys.executable, "-c", "from paytm_lab.cli import main; main()", *verb, "--help"],
            env={"PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (verb, done.stderr)
        for document, command in shown:
            if verb_of(command) == verb:
                options = re.findall(r"(?<= )--[a-z-]+", command)
                assert [o for o in options if o not in done.stdout] == [], (document, command)


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), (path, target)
