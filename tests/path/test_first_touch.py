"""The first minutes: `make lab`, an image for Binder, and what is said where extras are missing."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from paytm_lab.core.errors import NotebookFailed
from paytm_lab.core.extras import _EXTRAS
from paytm_lab.reporting.export import read_notebook
from paytm_lab.reporting.notebooks import execute
from tests import waiting
from tests.ports import free_port
from tests.unit.test_reporting_notebooks import PARAMETERS, write

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TOKEN = "first-touch"
# As if none of the extras' modules were installed, for every process that finds this on its path.
BLOCKER = f"""\
import importlib.machinery
find_spec = importlib.machinery.PathFinder.find_spec
class PathFinder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in {set(_EXTRAS)!r}:
            return find_spec(name, path, target)
import sys
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = PathFinder
"""


@pytest.fixture
def without_extras(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that find no module of an extra."""
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker" / "sitecustomize.py").write_text(BLOCKER)
    return {**os.environ, "PYTHONPATH": f"{tmp_path / 'blocker'}{os.pathsep}{ROOT}"}


def make_lab(*options: str) -> str:
    """What `make lab` runs after making the environment, with this interpreter's programs."""
    words = ["make", "-n", "lab", f"BIN={Path(sys.executable).parent}", f"ARGS={' '.join(options)}"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    said = subprocess.run(words, cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    return said.stdout[said.stdout.index("JUPYTER_PREFER_ENV_PATH") :]


class Jupyter:
    """A running JupyterLab, asked over HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def ask(self, path: str, body: dict[str, str] | None = None) -> tuple[str, Any]:
        """Where the answer came from in the end, and the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {TOKEN}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        asked = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.url, answer.read()

    def answers(self) -> bool:
        with suppress(OSError):
            self.ask("/api")
            return True
        return False


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[Jupyter]:
    """As a user with another, broken kernel of the same name in the home folder."""
    spec = tmp_path / ".local" / "share" / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    other = {"argv": ["/bin/false"], "display_name": "not this one", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(other))
    port = free_port()
    options = ("--no-browser", "--allow-root", "--ServerApp.port_retries=0")
    command = make_lab(*options, f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "XDG"))}
    environment = {**kept, "HOME": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec env {command}"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    started = Jupyter(process, port)
    try:
        waiting.until(started.answers, (tmp_path / "log").read_text())
        yield started
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


@pytest.mark.timeout(90)
def test_make_lab_opens_the_first_notebook_with_this_kernel(jupyter: Jupyter) -> None:
    where, _ = jupyter.ask("/")
    assert where.partition("?")[0].endswith("/lab/tree/00_start_here.ipynb")
    _, answer = jupyter.ask("/api/contents/00_start_here.ipynb")
    name = json.loads(answer)["content"]["metadata"]["kernelspec"]["name"]
    jupyter.ask("/api/kernels", {"name": name})
    # Jupyter has other children for a moment, to look at its machine.
    commands = []
    for child in psutil.Process(jupyter.process.pid).children():
        with suppress(psutil.Error):
            commands.append(child.cmdline())
    kernels = [command for command in commands if "ipykernel_launcher" in command]
    assert [command[:3] for command in kernels] == [[sys.executable, "-m", "ipykernel_launcher"]]


def test_every_notebook_asks_for_the_kernel_that_every_image_has() -> None:
    for path in NOTEBOOKS:
        spec = read_notebook(path).metadata.kernelspec
        assert (spec.name, spec.language) == ("python3", "python"), path


def test_binder_finds_the_same_environment_and_installs_the_lab(tmp_path: Path) -> None:
    """Binder reads only `binder/` where there is one; without it, it would take the Dockerfile."""
    assert (ROOT / "Dockerfile").exists()
    binder = ROOT / "binder"
    assert sorted(path.name for path in binder.iterdir()) == ["environment.yml", "postBuild"]
    assert (binder / "environment.yml").read_bytes() == (ROOT / "environment.yml").read_bytes()
    assert os.access(binder / "postBuild", os.X_OK)
    pins = re.findall(r'"([a-z0-9-]+)==', (binder / "environment.yml").read_text())
    assert {"jupyterlab", "ipykernel", "distributed", "scikit-learn", "ipywidgets"} <= set(pins)
    # What it runs, with a python that writes down how it was called.
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$PWD $@" >> {tmp_path}/called\n')
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([binder / "postBuild"], cwd=ROOT, env=environment, check=True)
    install, warm = (tmp_path / "called").read_text().splitlines()
    assert re.fullmatch(
        rf"{re.escape(str(ROOT))} -m pip install .*--no-deps.* --editable \.", install
    )
    modules = warm.partition(" -c import ")[2].split(", ")
    assert modules and all(importlib.util.find_spec(module) for module in modules)


def imports_of(path: Path) -> str:
    """The import statements of a notebook, in order."""
    code = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    nodes = [node for source in code for node in ast.walk(ast.parse(source))]
    return "\n".join(ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom))


def test_what_a_notebook_imports_says_what_to_install(without_extras: dict[str, str]) -> None:
    """With no extra installed each import of each notebook works, or names the extra."""
    statements = {path.stem: imports_of(path).splitlines() for path in NOTEBOOKS}
    code = f"""
import json
found = {{}}
for name, lines in {statements!r}.items():
    for line in lines:
        try:
            exec(line)
        except Exception as error:
            found.setdefault(name, []).append(f"{{type(error).__name__}}: {{error}}")
print(json.dumps(found))"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=without_extras, capture_output=True, text=True, check=True
    )
    for name, errors in json.loads(done.stdout).items():
        # What an unfinished import would have defined may be missing after it.
        assert re.match(r"MissingPart: .* `pip install 'paytm-lab\[", errors[0]), (name, errors)


def test_a_notebook_run_without_an_extra_says_what_to_install(
    tmp_path: Path, without_extras: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = "from paytm_lab.core.extras import need\nneed('sklearn')\nimport sklearn"
    notebook = write(tmp_path / "a.ipynb", PARAMETERS, (cell,))
    monkeypatch.setenv("PYTHONPATH", without_extras["PYTHONPATH"])
    with pytest.raises(NotebookFailed, match=r"scikit-learn is not .*'paytm-lab\[science\]'"):
        execute(notebook, tmp_path / "out.ipynb")


def test_a_sweep_on_dask_without_the_extra_says_what_to_install(
    tmp_path: Path, without_extras: dict[str, str]
) -> None:
    words = ["sweep", "simulate", "--dask", "local", "--out", str(tmp_path / "s")]
    done = subprocess.run(
        [sys.executable, "-m", "paytm_lab.cli", *words], env=without_extras, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "distributed is not installed. `pip install 'paytm-lab[dask]'`" in done.stderr


def test_the_blocker_blocks(without_extras: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", "import sklearn"], env=without_extras,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "No module named 'sklearn'" in done.stderr
