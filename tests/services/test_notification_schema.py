"""The notification service keeps what its own documents promise, whatever it is sent."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import unsupported_method

from paytm_lab.web.scopes import ALL
from tests.services.notification_world import NotificationWorld, notification_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationWorld]:
    with notification_world(data=tmp_path_factory.mktemp("lab")) as world:
        world.paid("root", "other")
        yield world
