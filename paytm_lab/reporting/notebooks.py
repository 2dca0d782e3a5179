"""Notebooks run by papermill, strictly: unknown parameters, missing tags and failing cells are
errors.

The story is ``execute``: read, check the parameters, run in a kernel of this interpreter, write.
The kernel is reached over Unix sockets in a folder of its own, so kernels started at once cannot
collide on ports, and no installed kernel specification is needed or used. What a notebook that
failed left in its temporary folder is shown to ``abandoned``, then removed.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import papermill
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from paytm_lab.core.errors import InvalidSetting, MalformedFile, NotebookFailed
from paytm_lab.reporting.export import read_notebook
from paytm_lab.reporting.running_kernels import RunningKernels

Progress = Callable[[str, int, int], None]
Abandoned = Callable[[Path], None]
KERNEL_STARTS_MAX = 3
# Longest path of a Unix socket on macOS is 103 bytes; what follows the folder takes under 20.
_SOCKET_FOLDER_CHARS_MAX = 80
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ENGINE = "paytm_lab"


@dataclass(frozen=True, slots=True)
class Task:
    """One notebook to run: where from, where to, with which parameters."""

    notebook: Path
    out: Path
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    task: Task
    error: NotebookFailed


def no_progress(name: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def no_matter(left: Path) -> None:
    """For a folder that stands for nothing elsewhere."""


def execute(
    notebook: Path,
    out: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 300.0,
    progress: Progress = no_progress,
    abandoned: Abandoned = no_matter,
    runs_in: Path | None = None,
    kernels: RunningKernels | None = None,
) -> Path:
    """Run ``notebook`` with ``parameters`` and write it, with outputs, to ``out``.

    It runs in its own folder, or in ``runs_in``. ``timeout_s`` bounds each cell. ``kernels`` hears
    of its kernel, and ends it when it is ended: NotebookFailed.
    ``progress(name, cells done, cells in all)`` is called after each cell, ``abandoned(folder)``
    after the kernel's end for each temporary folder that it did not remove: an open lab's, when a
    cell failed. InvalidSetting: a parameter that the notebook does not have, or of another type
    than its default. MalformedFile: no notebook, no cell tagged
    ``parameters``, or one that is not literals only. NotebookFailed: a cell raised or took too
    long; ``out`` then holds the outputs up to there.
    """
    nb = read_notebook(notebook)
    given = dict(parameters or {})
    check_parameters(notebook.name, known_parameters(nb, notebook.name), given)
    out.parent.mkdir(parents=True, exist_ok=True)
    where = (runs_in or notebook.parent).resolve()
    kernels = kernels or RunningKernels()
    for attempt in range(1, KERNEL_STARTS_MAX + 1):
        watch = _Watch(notebook.stem, progress)
        try:
            with (
                _kernel_folder() as folder,
                _temporary_folder(abandoned) as temporary,
                kernels.one() as started,
            ):
                kernel = _kernel_manager(folder, temporary, started)
                _run(notebook, out, given, watch, (where, kernel), timeout_s)
            return out
        except PapermillExecutionError as error:
            raise _failed(notebook, out, error.source, error.ename, error.evalue) from None
        except CellTimeoutError:
            limit = f"took longer than {timeout_s:g} s"
            raise _failed(notebook, out, watch.source, "Timeout", limit) from None
        except (DeadKernelError, RuntimeError) as error:
            # A kernel that died or stayed silent before the first cell did no work: start another.
            if watch.started or attempt == KERNEL_STARTS_MAX or kernels.ended:
                raise _failed(
                    notebook, out, watch.source, type(error).__name__, str(error)
                ) from error
    raise RuntimeError("a kernel start neither succeeded nor failed")


def execute_all(
    tasks: Sequence[Task],
    *,
    timeout_s: float = 300.0,
    jobs: int = 2,
    progress: Progress = no_progress,
    abandoned: Abandoned = no_matter,
) -> list[Failure]:
    """Run them all, at most ``jobs`` kernels at once. Failing notebooks do not stop the others;
    they are returned in the order of ``tasks``. Bad parameters raise before any kernel is started.
    Ctrl-C interrupts the kernels at work, and starts no more.
    """
    for task in tasks:
        known = known_parameters(read_notebook(task.notebook), task.notebook.name)
        check_parameters(task.notebook.name, known, task.parameters)

    kernels = RunningKernels()

    def one(task: Task) -> Failure | None:
        try:
            execute(
                task.notebook, task.out, task.parameters, timeout_s=timeout_s, progress=progress,
                abandoned=abandoned, kernels=kernels,
            )  # fmt: skip
        except NotebookFailed as error:
            return Failure(task, error)
        return None

    with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="notebook") as pool:
        waiting = [pool.submit(one, task) for task in tasks]
        try:
            done = [each.result() for each in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            kernels.end()
            raise
    return [failure for failure in done if failure is not None]


def known_parameters(nb: Any, name: str) -> dict[str, Any]:
    """Parameter names and defaults of the one cell tagged ``parameters``."""
    tagged = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise MalformedFile(
            f"{name} has {len(tagged)} cells tagged 'parameters'",
            remedy="Tag exactly one code cell, which assigns the defaults.",
        )
    try:
        statements = ast.parse(tagged[0].source).body
        return dict(_assignment(statement) for statement in statements)
    except (SyntaxError, ValueError) as error:
        raise MalformedFile(
            f"the parameters cell of {name} does not hold literals only: {error}",
            remedy="Write one `name = literal` a line; compute derived values in another cell.",
        ) from None


def check_parameters(name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """InvalidSetting when ``given`` has a name or a type that the notebook does not know."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidSetting(
            f"{name} has no parameter {', '.join(unknown)}",
            remedy=f"It has: {', '.join(known) or 'none'}.",
        )
    for key, value in given.items():
        default = known[key]
        fits = default is None or value is None or type(value) is type(default)
        if not fits and not (type(value) is int and type(default) is float):
            raise InvalidSetting(
                f"parameter {key} of {name} is {value!r}, a {type(value).__name__}",
                remedy=f"Give a {type(default).__name__}, like its default {default!r}.",
            )


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
        value: ast.expr | None = statement.value
    elif isinstance(statement, ast.AnnAssign):
        target, value = statement.target, statement.value
    else:
        raise ValueError(f"line {statement.lineno} is not an assignment")
    if not isinstance(target, ast.Name) or value is None:
        raise ValueError(f"line {statement.lineno} does not assign a value to one name")
    try:
        return target.id, ast.literal_eval(value)
    except ValueError:
        raise ValueError(f"{target.id} on line {statement.lineno} is not a literal") from None


class _Watch:
    """What a run is doing: the cell at work, and how many are done."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress
        self.started = False
        self.source = ""

    def begins(self, cell: Any) -> None:
        if cell.cell_type == "code":
            self.started, self.source = True, cell.source

    def ended(self, done: int, total: int) -> None:
        self.progress(self.name, done, total)


class _Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's own engine, telling a _Watch before and after each cell."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **more: Any) -> Any:
        watch: _Watch = more.pop("watch")
        start, complete = nb_man.cell_start, nb_man.cell_complete

        def cell_start(cell: Any, cell_index: int, **kwargs: Any) -> None:
            watch.begins(cell)
            start(cell, cell_index, **kwargs)

        def cell_complete(cell: Any, cell_index: int, **kwargs: Any) -> None:
            complete(cell, cell_index=cell_index, **kwargs)
            watch.ended(cell_index + 1, len(nb_man.nb.cells))

        nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
        return super().execute_managed_notebook(nb_man, kernel_name, **more)


class _OwnKernel(KernelSpecManager):
    """Every name means: ipykernel of this interpreter, whatever is installed around it."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [*kernel_command(), "-f", "{connection_file}", "--HistoryManager.enabled=False"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python", env={})


def kernel_command() -> list[str]:
    """What starts a kernel; its connection file and options follow."""
    return [sys.executable, "-m", "ipykernel_launcher"]


def _kernel_manager(
    folder: Path, temporary: Path, started: Callable[[int], None]
) -> type[AsyncKernelManager]:
    """A kernel manager class (nbclient makes the object) whose files all lie in ``folder``, and its
    kernel's temporary ones in ``temporary``. ``started`` is told the kernel's process id.
    """

    class KernelManager(AsyncKernelManager):
        def __init__(self, **more: Any) -> None:
            more |= {"kernel_spec_manager": _OwnKernel(), "connection_file": str(folder / "k.json")}
            super().__init__(**more)
            if len(str(folder)) <= _SOCKET_FOLDER_CHARS_MAX and os.name == "posix":
                self.transport, self.ip = "ipc", str(folder / "k")

        async def start_kernel(self, **more: Any) -> None:  # type: ignore[override]
            # What a kernel says outside its cells is for the error message, not for the terminal.
            with (folder / "kernel.log").open("wb") as log:
                environment = {**kernel_environment(folder), "TMPDIR": str(temporary)}
                own = {"env": environment, "stdout": log, "stderr": log}
                await super().start_kernel(**{**more, **own})
            if (pid := cast("LocalProvisioner", self.provisioner).pid) is not None:
                started(pid)

    return KernelManager


class _kernel_folder:
    """A short-lived folder for sockets, connection files and IPython's own state."""

    def __enter__(self) -> Path:
        short = Path("/tmp")  # noqa: S108  a private folder is made inside; TMPDIR is too long on macOS
        where = short if os.access(short, os.W_OK) else None
        self.path = Path(tempfile.mkdtemp(prefix="paytm-lab-", dir=where))
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def _temporary_folder(abandoned: Abandoned) -> Iterator[Path]:
    """Where a kernel puts temporary files: beside ours, and gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="paytm-lab-notebook-"))
    try:
        yield folder
    finally:
        for left in sorted(path for path in folder.iterdir() if path.is_dir()):
            abandoned(left)
        shutil.rmtree(folder, ignore_errors=True)


_registering = threading.Lock()
_SILENT = logging.NullHandler()


def _run(
    notebook: Path,
    out: Path,
    given: dict[str, Any],
    watch: _Watch,
    place: tuple[Path, type[AsyncKernelManager]],
    timeout_s: float,
) -> None:
    where, kernel = place
    with _registering:
        papermill_engines.register(_ENGINE, _Engine)
        # Its words about a failing cell come as our exception; without a handler they go to stderr.
        logging.getLogger("papermill").addHandler(_SILENT)
    papermill.execute_notebook(
        str(notebook),
        str(out),
        parameters=given,
        engine_name=_ENGINE,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        request_save_on_cell_execute=False,
        start_timeout=120,
        execution_timeout=max(1, round(timeout_s)),
        watch=watch,
        kernel_manager_class=kernel,
        resources={"metadata": {"path": str(where)}},
    )


def kernel_environment(folder: Path) -> dict[str, str]:
    """Figures recorded as data, this package importable, nobody's IPython profile."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    return {
        **os.environ,
        "PLOTLY_RENDERER": "plotly_mimetype",
        "PYTHONPATH": path,
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _failed(notebook: Path, out: Path, source: str, name: str, value: str) -> NotebookFailed:
    cell = "\n".join(f"    {line}" for line in source.strip().splitlines())
    told = _ANSI.sub("", value).strip()
    raised = f"{name}: {told}" if told else name
    error = NotebookFailed(
        f"{notebook.name} failed in this cell:\n{cell}\n  {raised}",
        place=str(out),
        remedy="Open it in JupyterLab (make lab) and run it cell by cell.",
    )
    error.raised = raised.partition("\n")[0].rstrip()
    return error
