"""Makes the project's environment, `.venv`, from nothing but a Python with pip.

It does nothing (in about 30 ms) when the environment is already the one that requirements.lock and
pyproject.toml ask for. It must start on any Python since 2.7, so that a wrong one gets a clear
message in place of a SyntaxError: no f-strings, no annotations.
"""

from __future__ import print_function

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time

NEEDED = (3, 11)
OTHERS = ("python3.13", "python3.12", "python3.11", "python3.14", "python3")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "paytm-lab-stamp")
LOCK = os.path.join(ROOT, "requirements.lock")
WARM = (
    "IPython, ipykernel.kernelapp, jupyter_client, msgspec, nbconvert.exporters, nbformat, numpy",
    "pandas, papermill, plotly.graph_objects, plotly.io, psutil, pydantic_settings, rich.progress",
    "sqlalchemy, typer",
)
WRONG_PYTHON = """\
paytm_lab needs Python {needed} or newer; found {found} ({where}).
How to get one:
  Debian, Ubuntu   apt-get install python3.11   (or a newer one that you have)
  macOS            brew install python@3.13
  conda            conda create -n paytm-lab python=3.13 pip, then conda activate paytm-lab
  anywhere         https://www.python.org/downloads/
Then repeat; to name one: make PYTHON=/path/to/python3.13 ..."""
NO_PIP = """\
paytm_lab needs pip once, to install its locked requirements; {where} has none.
How to get it:
  Debian, Ubuntu   apt-get install python3-pip
  elsewhere        {where} -m ensurepip"""


def main():
    if sys.version_info[:2] < NEEDED:
        other = find_newer()
        if other is None:
            print(wrong_python(), file=sys.stderr)
            return 3
        os.execv(other, [other, os.path.abspath(__file__)] + sys.argv[1:])
    wanted = fingerprint()
    if made_for() == wanted:
        return 0
    with only_one():
        if made_for() == wanted:  # another make was faster
            return 0
        return install(wanted)


def wrong_python():
    return WRONG_PYTHON.format(
        needed="%d.%d" % NEEDED, found=platform.python_version(), where=sys.executable
    )


def find_newer():
    """The first command of OTHERS that really runs and is new enough (a pyenv shim may not run)."""
    probe = "import sys; print(sys.executable if sys.version_info[:2] >= %r else '')" % (NEEDED,)
    for name in OTHERS:
        try:
            with open(os.devnull, "w") as nowhere:
                out = subprocess.check_output([name, "-c", probe], stderr=nowhere)
        except (OSError, subprocess.CalledProcessError):
            continue
        path = out.decode("utf-8", "replace").strip()
        if path:
            return path
    return None


def fingerprint():
    """What the environment depends on: [this Python and folder, digest of the two files]."""
    digest = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return ["%d.%d %s" % (sys.version_info[0], sys.version_info[1], ROOT), digest.hexdigest()]


def made_for():
    """The fingerprint of the environment that is there; empty when there is none or half of one."""
    # A venv whose base Python was removed keeps its files but has a dangling link.
    if not os.path.exists(PYTHON):
        return []
    try:
        with open(STAMP) as file:
            return file.read().splitlines()
    except (IOError, OSError):
        return []


class only_one(object):
    """Two makes at once (`make -j report test`) build one environment, one after the other."""

    def __enter__(self):
        import fcntl

        os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
        self.file = open(os.path.join(ROOT, "build", ".bootstrap.lock"), "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def install(wanted):
    started = time.time()
    print("Making .venv with Python %s (%s)" % (platform.python_version(), sys.executable))
    if made_for()[:1] == wanted[:1]:
        os.remove(STAMP)
    else:  # another Python, or a moved folder: the scripts inside hold absolute paths
        shutil.rmtree(VENV, ignore_errors=True)
        # Without pip: ensurepip takes seconds, and Debian ships it in a package of its own.
        run([sys.executable, "-m", "venv", "--without-pip", VENV])
    install_uv()
    uv = os.path.join(VENV, "bin", "uv")
    run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", PYTHON, LOCK])
    run([uv, "pip", "install", "--quiet", "--no-deps", "--python", PYTHON, "--editable", ROOT])
    warm_up()
    with open(STAMP, "w") as file:
        file.write("\n".join(wanted))
    print("Made .venv in %.0f s" % (time.time() - started))
    return 0


def install_uv():
    """The locked uv, by pip, with the lock's own hashes."""
    with open(LOCK) as file:
        lines = file.read().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("uv=="))
    last = next(i for i in range(first, len(lines)) if not lines[i].endswith("\\"))
    wanted = os.path.join(VENV, "uv.txt")
    with open(wanted, "w") as file:
        file.write("\n".join(lines[first : last + 1]) + "\n")
    if subprocess.call([sys.executable, "-m", "pip", "--version"], stdout=subprocess.DEVNULL):
        raise SystemExit(NO_PIP.format(where=sys.executable))
    pip = [sys.executable, "-m", "pip", "--python", PYTHON, "--disable-pip-version-check"]
    run(pip + ["install", "--quiet", "--no-deps", "--require-hashes", "-r", wanted])


def warm_up():
    """Import once what a report imports, so that its bytecode is written before several processes
    want it at the same time, and so that a broken environment shows here. Compiling everything
    takes three times as long and saves nothing more: docs/decisions/0005.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run([PYTHON, "-c", "import " + ", ".join(WARM)], env=environment)


def run(command, env=None):
    if subprocess.call(command, env=env):
        print("paytm_lab: this failed: %s" % " ".join(command), file=sys.stderr)
        raise SystemExit(3)


if __name__ == "__main__":
    sys.exit(main())
