"""What surrounds the containers: passwords, the image's recipe, continuous integration.

The compose file itself is checked by docker-compose, in tests/stack.
"""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SECRETS = (
    "PAYTM_LAB_MYSQL_PASSWORD",
    "PAYTM_LAB_REDIS_PASSWORD",
    "MYSQL_ROOT_PASSWORD",
    "JUPYTER_TOKEN",
)
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def make_secrets(file: Path) -> dict[str, str]:
    subprocess.run([ROOT / "compose/secrets.sh", file], check=True, timeout=30)
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_passwords_are_random_long_and_for_the_owner_only(tmp_path: Path) -> None:
    one, other = make_secrets(tmp_path / "one"), make_secrets(tmp_path / "other")
    assert set(one) == set(SECRETS)
    assert len({*one.values(), *other.values()}) == 2 * len(SECRETS)
    assert all(re.fullmatch("[A-Za-z0-9]{32}", secret) for secret in one.values())
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_passwords_are_made_once(tmp_path: Path) -> None:
    first = make_secrets(tmp_path / ".env")
    assert make_secrets(tmp_path / ".env") == first


def test_what_the_user_wrote_stays_and_what_is_missing_is_added(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MYSQL_IMAGE=mysql:8.0.40\nMYSQL_ROOT_PASSWORD=mine\nJUPYTER_TOKEN=")
    file.chmod(0o644)
    found = make_secrets(file)
    assert found["MYSQL_IMAGE"] == "mysql:8.0.40"
    assert found["MYSQL_ROOT_PASSWORD"] == "mine"
    assert len(found["JUPYTER_TOKEN"]) == len(found["PAYTM_LAB_MYSQL_PASSWORD"]) == 32
    assert file.stat().st_mode & 0o777 == 0o600


def test_several_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make_secrets, [tmp_path / ".env"] * 4))
    assert set(make_secrets(tmp_path / ".env")) == set(SECRETS)


def test_passwords_stay_out_of_the_repository_and_the_image() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().split("\n")[1] == "*"


def test_the_image_is_built_from_files_that_are_there_and_reach_the_builder() -> None:
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.removeprefix("--chown=lab:lab ").split()[:-1]
    ]
    assert len(sources) >= 6
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed


def test_the_image_installs_what_is_locked_and_runs_as_nobody_special() -> None:
    assert "pip install --no-deps --require-hashes -r requirements.lock" in DOCKERFILE
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)$", last_stage, re.MULTILINE)
    assert users == ["lab"]
    assert re.search(r"useradd --uid [1-9]\d{3,} .*\blab\b", last_stage)


def jobs() -> dict[str, Any]:
    parsed = yaml.safe_load(WORKFLOW)
    assert parsed["permissions"] == {"contents": "read"}
    return dict(parsed["jobs"])


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step["run"] for step in job["steps"] if "run" in step)


def test_continuous_integration_tests_the_oldest_and_the_newest_python() -> None:
    job = jobs()["test"]
    assert {"3.11", "3.13"} <= set(job["strategy"]["matrix"]["python"])
    assert "make test" in commands(job)


def test_continuous_integration_runs_the_contracts_on_the_containers() -> None:
    job = jobs()["servers"]
    services = yaml.safe_load((ROOT / "compose/compose.yml").read_text())["services"]
    said = commands(job)
    assert "pytest --profile servers tests/contract" in said
    started = re.search(r"up --wait --wait-timeout \d+ \\\n\s+(.+)", said)
    assert started is not None
    assert set(started[1].split()) == {n for n, s in services.items() if "build" not in s}


def test_what_continuous_integration_calls_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in jobs().values():
        assert job["timeout-minutes"] <= 60
        called = re.findall(r"^make ([a-z-]+)", commands(job), re.MULTILINE)
        assert called or "requirements.lock" in commands(job)  # which is looked at as it is
        assert set(called) <= targets
