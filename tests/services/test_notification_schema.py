"""Schemathesis over the notification service's own description: every check, in a real lab."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode

from paytm_lab.web.scopes import ALL
from tests.services.notification_world import NotificationWorld, notification_world

EXAMPLES = 12
NOT_SENT: list[object] = [None, [], {}, [None]]  # what is left out of a URL is no mistake in it
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
    # 422 where it says more than a schema can: zones and cursors that exist, two different times.
    expected = ["2xx", "303", "401", "404", "422"]
    checks = {"positive_data_acceptance": {"expected-statuses": expected}}
    config = schemathesis.Config.from_dict({"checks": checks})
    app: Any = world.app
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    answered: dict[str, Counter[int]] = defaultdict(Counter)
    headers = {"Authorization": f"Bearer {world.token('root', *ALL)}"}
    for found, mode in product(schema.get_all_operations(), GenerationMode):
        operation = found.ok()
        if mode.is_negative and not (
            operation.body or operation.query or operation.path_parameters
        ):
            continue  # nothing is sent that could be wrong

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            assume(all(value not in NOT_SENT for value in (case.query or {}).values()))
            said = case.call_and_validate(headers=headers)
            answered[f"{case.method} {case.path}"][said.status_code] += 1

        check()
    assert {name for name, statuses in answered.items() if not statuses[200]} <= NEVER
    assert len(answered) == schema.statistic.operations.total
