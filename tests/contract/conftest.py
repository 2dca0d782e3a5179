"""One fixture per port: ``make_<port>``, parametrised by profile, so that each suite says only what
the port promises and runs against every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.ports.coordination import Coordination


@pytest.fixture(params=["embedded"])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def coordination_place(profile: str, tmp_path: Path) -> str:
    """What tells a process where the coordination is: a folder, or an address."""
    return str(tmp_path / "coordination")


@pytest.fixture
def make_coordination(coordination_place: str) -> Iterator[Callable[[], Coordination]]:
    """Each call is another client of the same coordination."""
    with ExitStack() as clients:

        def make() -> Coordination:
            client = EmbeddedCoordination(Path(coordination_place))
            clients.callback(client.close)
            return client

        yield make
