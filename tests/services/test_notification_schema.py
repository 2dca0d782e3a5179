"""Schemathesis over the notification service's own description: every check, in a real lab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from paytm_lab import Lab
from paytm_lab.web.scopes import ALL
from paytm_lab.wiring.services import Service, Services
from tests.services import described
from tests.services.conftest import CHEAP
from tests.services.notification_world import NotificationWorld, notification_world
from tests.services.serving import served

EXAMPLES = 12
# Nobody guesses a token, a signature or a dead letter's id.
NEVER = {
    "POST /session",
    "POST /session/renew",
    "POST /sign-out",
    "POST /provider/{channel}",
    "POST /dead-letters/{notification_id}/retry",
}


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An auth service that answers somewhere; another lab's, as the test signs its own tokens."""
    with Lab(data=tmp_path_factory.mktemp("auth"), seed=7, **CHEAP) as lab:
        services = Services(lab.system)
        service = services.make("auth")
        with served(service.app) as address:
            yield service._replace(port=int(address.rpartition(":")[2]))
        services.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, auth: Service) -> Iterator[NotificationWorld]:
    with notification_world(data=tmp_path_factory.mktemp("lab")) as world:
        world.services.register(auth)
        world.paid("root", "other")
        yield world


def test_it_answers_as_it_describes(world: NotificationWorld) -> None:
    headers = {"Authorization": f"Bearer {world.token('root', *ALL)}"}
    # 422 where it says more than a schema can: zones and cursors that exist, two different times.
    expected = ["2xx", "303", "401", "404", "422"]
    answered = described.answers(world.app, headers, EXAMPLES, expected=expected)
    assert {name for name, statuses in answered.items() if not statuses[200]} <= NEVER
    paths = world.client("GET", "/openapi.json").json()["paths"]
    every = {f"{m.upper()} {path}" for path, methods in paths.items() for m in methods}
    assert answered.keys() == every
