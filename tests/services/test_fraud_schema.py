"""Schemathesis over the fraud service's own description: every check, in a real lab."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode

from paytm_lab.web.scopes import ADMIN, REVIEW
from tests.services.fraud_world import FraudWorld

EXAMPLES = 25
NOT_SENT: list[object] = [None, [], {}, [None]]  # what is left out of a URL is no mistake in it


@pytest.fixture(scope="module")
def world() -> Iterator[FraudWorld]:
    with FraudWorld(profile="embedded", shards=2) as made:
        yield made


def test_it_answers_as_it_describes(world: FraudWorld) -> None:
    # 422 where it says more than a schema can: ids in NFC, two different users, a day that exists.
    checks = {"positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "422"]}}
    config = schemathesis.Config.from_dict({"checks": checks})
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.fraud_app, config=config)
    answered: dict[str, Counter[int]] = defaultdict(Counter)
    headers = world.bearer("boss", (ADMIN, REVIEW))
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
    never = {name for name, statuses in answered.items() if not statuses[200]}
    # Nobody guesses the id of a payment, or (more than once) the version of the rules.
    assert never <= {"GET /decisions/{payment_id}", "PUT /rules"}
    assert len(answered) == schema.statistic.operations.total
