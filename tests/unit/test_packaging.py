from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ADDRESS = re.compile(r"://|^\s*-|^--|index-url|find-links|file:", re.MULTILINE)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locked() -> dict[str, list[Version]]:
    pins: dict[str, list[Version]] = {}
    for pin in script("lock").pins(LOCK):
        requirement = Requirement(pin)
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        pins.setdefault(requirement.name, []).append(Version(specifier.version))
    return pins


def test_every_locked_package_is_pinned_with_its_hashes() -> None:
    blocks = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == sum(map(len, locked().values())) > 100
    for block in blocks:
        assert re.match(r"[a-z0-9.-]+==\S+", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_the_lock_holds_no_addresses() -> None:
    assert not ADDRESS.search(LOCK.replace("    --hash=sha256:", "hash:"))


def test_the_lock_satisfies_the_project() -> None:
    pins = locked()
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    for requirement in map(Requirement, wanted):
        assert requirement.name in pins
        assert all(requirement.specifier.contains(v) for v in pins[requirement.name]), requirement


def test_the_slow_schema_package_is_switched_off() -> None:
    assert "rfc3987-syntax==1.1.0 ; sys_platform == 'never'" in LOCK


def test_the_conda_environment_has_the_versions_of_the_lock() -> None:
    text = (ROOT / "environment.yml").read_text()
    pins = re.findall(r'^      - "(.*)"$', text, flags=re.MULTILINE)
    assert {(Requirement(p).name, str(Requirement(p).specifier)) for p in pins} == {
        (name, f"=={version}") for name, versions in locked().items() for version in versions
    }
    assert text == script("lock").conda_environment(LOCK)
    python = re.search(r"python=([0-9.]+)", text)
    assert python and python[1] in (ROOT / ".github/workflows/ci.yml").read_text()


def test_what_is_declared_in_two_places_is_the_same() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert script("bootstrap").NEEDED == (3, 11)
    classifiers = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"]]
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text())
    assert matrix
    assert re.findall(r"[0-9.]+", matrix[1]) == [c for c in classifiers if c.startswith("3.")]
    assert (ROOT / "LICENSE").read_text().split()[:2] == ["Apache", "License"]


def test_the_bootstrap_starts_on_any_python() -> None:
    """So that an old one gets the message: nothing here that Python 2.7 or 3.4 cannot parse."""
    newer = (
        ast.JoinedStr,
        ast.AnnAssign,
        ast.NamedExpr,
        ast.AsyncFunctionDef,
        ast.Nonlocal,
        ast.Match,
    )
    for node in ast.walk(ast.parse((ROOT / "scripts/bootstrap.py").read_text())):
        assert not isinstance(node, newer), f"line {node.lineno}"
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None and not node.args.kwonlyargs
        if isinstance(node, ast.List | ast.Tuple):
            assert not any(isinstance(e, ast.Starred) for e in node.elts), f"line {node.lineno}"


def test_a_wrong_python_gets_a_clear_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap = script("bootstrap")
    monkeypatch.setattr(bootstrap, "NEEDED", (99, 1))
    assert bootstrap.main() == 3
    message = capsys.readouterr().err
    found = ".".join(map(str, sys.version_info[:3]))
    assert f"needs Python 99.1 or newer; found {found} ({sys.executable})" in message
    assert "make PYTHON=" in message and "apt-get install" in message


def test_a_newer_python_is_found_only_if_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, body in {
        "python3.13": "exit 127",
        "python3.12": f'exec {sys.executable} "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert script("bootstrap").find_newer() == sys.executable


def test_an_environment_is_made_again_only_when_what_it_depends_on_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bootstrap = script("bootstrap")
    for name in ("LOCK", "ROOT", "STAMP", "PYTHON"):
        monkeypatch.setattr(bootstrap, name, str(tmp_path / name.lower()))
    monkeypatch.setattr(bootstrap, "ROOT", str(tmp_path))
    made = []
    monkeypatch.setattr(bootstrap, "install", lambda wanted: made.append(wanted) or 0)
    (tmp_path / "requirements.lock").write_text("a==1")
    (tmp_path / "pyproject.toml").write_text("")
    assert bootstrap.main() == 0
    assert len(made) == 1
    (tmp_path / "python").write_text("")
    (tmp_path / "stamp").write_text("\n".join(made[0]))
    assert bootstrap.main() == 0
    assert len(made) == 1
    (tmp_path / "requirements.lock").write_text("a==2")
    assert bootstrap.main() == 0
    assert made[0][0] == made[1][0] and made[0][1] != made[1][1]
    (tmp_path / "requirements.lock").write_text("a==1")
    (tmp_path / "python").unlink()  # its base Python was removed
    assert bootstrap.main() == 0
    assert made[2] == made[0]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # These tests run under a make of their own, whose settings are not this one's.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_make_alone_lists_the_targets() -> None:
    listed = {line.split()[0] for line in make().stdout.splitlines()}
    assert listed >= {"report", "test", "test-notebooks", "check", "lab", "bench", "clean", "help"}
    makefile = (ROOT / "Makefile").read_text()
    assert listed == set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


def test_make_names_a_python_that_is_not_there() -> None:
    done = make("env", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer, and 'no-such-python' is not a command here" in done.stderr


def test_continuous_integration_calls_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for place in (".ci/run", ".github/workflows/ci.yml"):
        text = (ROOT / place).read_text()
        for command in ("make test", "make report"):
            assert re.search(rf"(^|run: ){command}( |$)", text, flags=re.MULTILINE), (
                place,
                command,
            )
            assert command in readme
