"""The main job as a user types it: seconds, and memory of the process tree, kernels included."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from paytm_lab.core.errors import IntegrityError

SAMPLE_S = 0.2
TIMEOUT_S = 600


def run(data_dir: Path, quick: bool = False) -> list[dict[str, Any]]:
    """One row: ``seconds`` of ``paytm-lab report`` with 10,000 users and 50,000 payments (a tenth
    when quick), ``peak_pss_mib``: the highest sum, over the process tree, of memory with shared
    pages divided among those that share them (RSS where the system does not tell PSS). Run it in
    the project's folder.
    """
    payments = 5_000 if quick else 50_000
    verb = f"report --seed 7 --users {payments // 5} --payments {payments} --quiet --out"
    command = [sys.executable, "-m", "paytm_lab.cli", *verb.split(), str(data_dir / "report")]
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - this very program
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = [0]
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(psutil.Process(process.pid), peak, done))
    sampler.start()
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        done.set()
        sampler.join()
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise IntegrityError(
            f"the report ended with exit code {process.returncode}: {said[-2000:]}"
        )
    return [
        {
            "payments": payments,
            "seconds": round(seconds, 2),
            "peak_pss_mib": round(peak[0] / 2**20, 1),
        }
    ]


def _sample(root: psutil.Process, peak: list[int], done: threading.Event) -> None:
    while not done.wait(SAMPLE_S):
        peak[0] = max(peak[0], sum(_bytes(process) for process in _tree(root)))


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(memory, "pss", memory.rss))
