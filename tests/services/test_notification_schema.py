"""Schemathesis over the notification service's own description: every check, in a real lab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from paytm_lab.web.scopes import ALL
from tests.services import described
from tests.services.notification_world import NotificationWorld, notification_world

EXAMPLES = 12
# Nobody guesses a token, a signature or a dead letter's id.
NEVER = {
    "POST /session",
    "POST /sign-out",
    "POST /provider/{channel}",
    "POST /dead-letters/{notification_id}/retry",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationWorld]:
    with notification_world(data=tmp_path_factory.mktemp("lab")) as world:
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
