"""The services answer as they describe themselves: every check of schemathesis, real labs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from paytm_lab import Lab
from paytm_lab.web.scopes import ALL
from paytm_lab.wiring.services import Services
from tests.services import described
from tests.services.client import PASSWORD, Client
from tests.services.world import World

EXAMPLES = 15


@pytest.fixture
def world() -> Iterator[World]:
    with World(shards=2, payments_per_window_max=10_000_000) as made:
        yield made


def test_the_shard_manager(world: World) -> None:
    world.lab.create_account("payer", "1000")
    answered = described.answers(world.app, world.bearer("payer", ALL), EXAMPLES)
    assert len(answered) >= 20
    assert not [name for name, seen in answered.items() if any(s >= 500 for s in seen)]
    assert answered["GET /analytics"].keys() == {200}
    world.lab.drain()
    world.lab.audit().require_clean()


@pytest.fixture
def lab_settings() -> dict[str, Any]:
    return {"login_attempts_max": 1_000}


def test_auth(lab: Lab, services: Services, auth: Client) -> None:
    app = services.make("auth").app
    once = (lab.data / "admin.token").read_text().strip()
    login = {"user_id": "boss", "password": PASSWORD}
    assert auth("POST", "/admin", json=login | {"admin_token": once}).status_code == 201
    headers = {"Authorization": f"Bearer {auth.login('boss')['access_token']}"}
    # These end the session that asks, so that all later ones would be 401.
    ending = frozenset({"POST /logout", "POST /logout/everywhere", "PUT /password"})
    answered = described.answers(app, headers, EXAMPLES, skip=ending)
    assert len(answered) >= 10
    assert not [name for name, seen in answered.items() if any(s >= 500 for s in seen)]
    ended = described.answers(app, headers, 5, skip=frozenset(answered))
    assert ended.keys() == ending
