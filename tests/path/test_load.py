"""`paytm-lab load`: services and Locust in processes of their own, and the verdict at the end."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from paytm_lab import Lab
from paytm_lab.config import Settings
from paytm_lab.ledger import queries
from tests import plain_http
from tests.faults import processes
from tests.ports import free_port, free_ports
from tests.waiting import until

PORTS = [name for name in Settings.model_fields if name.endswith("_port")]


def start(data: Path, *words: str) -> subprocess.Popen[str]:
    ports = zip(PORTS, free_ports(len(PORTS)), strict=True)
    settings = {f"PAYTM_LAB_{name.upper()}": str(port) for name, port in ports}
    settings |= {"PAYTM_LAB_PASSWORD_HASH_MEMORY_KIB": "64"}
    return subprocess.Popen(
        processes.command("load", "--users", "8", "--spawn-rate", "8", "--json", *words,
                          "--data", str(data)),
        env=processes.environment() | settings,
        cwd=processes.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    try:
        output, errors = process.communicate(timeout=90)
    finally:
        process.kill()
    said = json.loads(output)
    assert "audit" in said, (said, errors)
    return process.returncode, said, errors


@pytest.mark.slow
def test_a_load_ends_in_a_verdict_and_a_report(tmp_path: Path) -> None:
    data = tmp_path / "lab"
    code, said, errors = ended(start(data, "--no-page", "--seconds", "6"))
    assert code == 0, errors
    assert said["audit"]["verdict"] == "passed"
    assert said["load"]["failed"] == 0, errors
    assert said["load"]["requests"] > 8 * 5  # each has registered and paid at the least
    assert "/transfer/{from}/{to}/{amount}" in Path(said["load"]["report"]).read_text()
    assert (data / "load" / "admin.json").stat().st_mode & 0o777 == 0o600
    with Lab(data=data, read_only=True) as lab:
        totals = [queries.totals(each) for each in lab.system.databases.values()]
    # Nobody who pays may live on one of them.
    made = sum(each.payments.get("COMPLETED", 0) for each in totals)
    assert made > 8 * 2, "each till's and each user's money, and payments between users"


@pytest.mark.slow
def test_stop_on_the_page_ends_it_as_well(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path / "lab", "--page-port", str(port))
    page = f"http://127.0.0.1:{port}"

    def all_are_there() -> bool:
        assert process.poll() is None
        said = plain_http.looked_at(port, "/stats/requests")
        return said is not None and bool(json.loads(said[1])["user_count"] == 8)

    try:
        until(all_are_there, "Locust's page counts the users")
        elsewhere = {"Origin": "http://evil.example"}
        assert plain_http.post(f"{page}/swarm", headers=elsewhere).status_code == 403
        assert plain_http.post(f"{page}/stop", headers={"Origin": page}).status_code == 200
        code, said, errors = ended(process)
    finally:
        process.kill()
    assert (code, said["audit"]["verdict"]) == (0, "passed"), errors


@pytest.mark.slow
def test_a_signal_ends_it_in_order(tmp_path: Path) -> None:
    process = start(tmp_path / "lab", "--no-page")
    report = tmp_path / "lab" / "load" / "admin.json"
    until(report.exists, "the services have started")
    process.send_signal(signal.SIGINT)
    code, said, errors = ended(process)
    assert (code, said["audit"]["verdict"]) == (0, "passed"), errors


@pytest.mark.slow
def test_killed_it_leaves_nothing_behind(tmp_path: Path) -> None:
    process = start(tmp_path / "lab", "--no-page")
    until((tmp_path / "lab" / "load" / "admin.json").exists, "the services have started")

    def others() -> list[psutil.Process]:
        return psutil.Process(process.pid).children()

    until(lambda: len(others()) == 2, "Locust has started as well")
    started = others()
    process.kill()
    process.wait(30)
    until(lambda: not any(each.is_running() for each in started), "both have ended with it")
