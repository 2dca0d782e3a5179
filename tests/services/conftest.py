"""The services of a lab, called in this process: real applications, real tokens, no network."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from paytm_lab import Lab
from paytm_lab.wiring.services import Services
from tests.services.client import Client

HERE = Path(__file__).parent
# As cheap as argon2 allows: what is tested is not how long a guess takes.
CHEAP = {"password_hash_memory_kib": 64, "password_hash_passes": 1}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that sets a fault or runs a whole workload gets the mark ``runs_alone``: on the real
    servers it stops what other tests use, or takes all of the machine.

    Where the servers are asked for, a test here that takes no profile, in a module whose others do,
    is left out: it would only do again what it did without them.
    """
    functions = [item for item in items if isinstance(item, pytest.Function)]
    for item in functions:
        source = inspect.getsource(item.function)
        if ".fault(" in source or "Workload(" in source:
            item.add_marker(pytest.mark.runs_alone)
    if config.getoption("--profile") != "servers":
        return
    on_profiles = {item.path for item in functions if "profile" in item.fixturenames}
    again = [
        item
        for item in functions
        if item.path.parent == HERE and item.path in on_profiles
        if "profile" not in item.fixturenames
    ]
    config.hook.pytest_deselected(items=again)
    items[:] = [item for item in items if item not in again]


@pytest.fixture
def lab_settings() -> dict[str, Any]:
    """A test module overrides it."""
    return {}


@pytest.fixture
def lab(tmp_path: Path, lab_settings: dict[str, Any]) -> Iterator[Lab]:
    with Lab(data=tmp_path / "lab", seed=7, **(CHEAP | lab_settings)) as lab:
        yield lab


@pytest.fixture
def services(lab: Lab) -> Iterator[Services]:
    services = Services(lab.system)
    yield services
    services.close()


@pytest.fixture
def auth(services: Services) -> Iterator[Client]:
    service = services.make("auth")
    services.start()
    with Client(httpx.ASGITransport(service.app)) as client:
        yield client
