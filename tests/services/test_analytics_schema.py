"""Schemathesis over the analytics service's own description: every check, in a real lab."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from itertools import product

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from paytm_lab.web.scopes import ADMIN
from tests.services.analytics_world import AnalyticsWorld

EXAMPLES = 12
# It answers for as long as somebody listens (test_analytics watches it).
WITHOUT_END = "/watch/{page}"


@pytest.fixture(scope="module")
def world() -> Iterator[AnalyticsWorld]:
    with AnalyticsWorld(profile="embedded", shards=2) as made:
        sender, receiver = made.pair(cross=True, opening="20000")
        made.lab.transfer(sender, receiver, "9000")
        made.lab.drain()
        yield made


def test_it_answers_as_it_describes(world: AnalyticsWorld) -> None:
    # 422 where it says more than a schema can: a payment id that is one.
    checks = {
        "positive_data_acceptance": {"expected-statuses": ["2xx", "303", "401", "404", "422"]}
    }
    config = schemathesis.Config.from_dict({"checks": checks})
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.app, config=config)
    answered: dict[str, Counter[int]] = defaultdict(Counter)
    headers = world.bearer("boss", (ADMIN,))
    for found, mode in product(schema.get_all_operations(), GenerationMode):
        operation = found.ok()
        nothing_sent = not (operation.body or operation.query or operation.path_parameters)
        if operation.path == WITHOUT_END or (mode.is_negative and nothing_sent):
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            said = case.call_and_validate(headers=headers, allow_redirects=False)
            answered[f"{case.method} {case.path}"][said.status_code] += 1

        # A path of any text at all has nothing that would be wrong.
        with suppress(Unsatisfiable) if mode.is_negative else nullcontext():
            check()
    never = {name for name, codes in answered.items() if not codes.keys() & {200, 303}}
    # Nobody guesses a payment's id, a file's name or a token.
    assert never == {
        "GET /payments/{payment_id}", "GET /api/payments/{payment_id}", "GET /find",
        "GET /assets/{name}", "POST /session", "POST /session/renew",
    }  # fmt: skip
    assert len(answered) == 23
