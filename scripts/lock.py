"""Writes requirements.lock from pyproject.toml, and environment.yml from requirements.lock.

Binder would take the Dockerfile in the root before anything else there, but looks into `binder/`
alone where that exists. So environment.yml lies there again, beside what installs the lab.

usage: .venv/bin/python scripts/lock.py [--upgrade]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
CONDA = (ROOT / "environment.yml", ROOT / "binder" / "environment.yml")
CONDA_HEAD = """\
# Made by `make lock` from requirements.lock; do not edit.
#   conda env create -f environment.yml && conda activate paytm-lab
#   pip install --no-deps -e .
name: paytm-lab
channels:
  - conda-forge
dependencies:
  - python=3.13
  - pip
  - pip:
"""


def pins(lock: str) -> list[str]:
    """'name==version ; marker' for each package of the lock, in its order.

    pip, unlike uv, cannot leave out a requirement of a requirement, so the packages that the lock
    switches off by the marker 'never' are pinned here for everybody.
    """
    lines = re.findall(r"^[a-zA-Z0-9].*==.*?(?= \\$|$)", lock, flags=re.MULTILINE)
    return [line.strip().removesuffix(" ; sys_platform == 'never'") for line in lines]


def conda_environment(lock: str) -> str:
    return CONDA_HEAD + "".join(f'      - "{pin}"\n' for pin in pins(lock))


def main(arguments: list[str]) -> int:
    # The user's own index settings must not shape what is committed.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_"))}
    environment["UV_CUSTOM_COMPILE_COMMAND"] = "make lock"
    command = [
        str(ROOT / ".venv/bin/uv"), "pip", "compile", "--quiet", "--universal",
        "--python-version", "3.11", "--generate-hashes", "--all-extras",
        "--group", "dev",
        "pyproject.toml", "--output-file", LOCK.name, *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode == 0:
        for path in CONDA:
            path.write_text(conda_environment(LOCK.read_text()))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
