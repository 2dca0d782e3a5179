"""Asks a service what its own OpenAPI document allows and forbids, and checks what it answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode

NOT_SENT: list[object] = [None, [], {}, [None]]  # what is left out of a URL is no mistake in it
# What a schema cannot say: an id in NFC, two different users, an amount beyond 2^53-1 paise.
EXPECTED = ["2xx", "401", "403", "404", "409", "422", "429"]


def answers(
    app: Any,
    headers: dict[str, str],
    examples: int,
    skip: frozenset[str] = frozenset(),
    expected: Sequence[str] = EXPECTED,
) -> dict[str, Counter[int]]:
    """All of schemathesis' checks on every operation but ``skip`` ("GET /path"), with good requests
    and with bad ones; ``expected``: what a good one may be answered. Gives what was answered:
    operation -> statuses.
    """
    checks = {"positive_data_acceptance": {"expected-statuses": list(expected)}}
    config = schemathesis.Config.from_dict({"checks": checks})
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    answered: dict[str, Counter[int]] = defaultdict(Counter)
    for found, mode in product(schema.get_all_operations(), GenerationMode):
        operation = found.ok()
        name = f"{operation.method.upper()} {operation.path}"
        sends = operation.body or operation.query or operation.path_parameters
        if name in skip or (mode.is_negative and not sends):
            continue

        _ask(operation.as_strategy(generation_mode=mode), headers, examples, answered[name])
    return answered


def _ask(strategy: Any, headers: dict[str, str], examples: int, seen: Counter[int]) -> None:
    @given(case=strategy)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        assume(all(value not in NOT_SENT for value in (case.query or {}).values()))
        seen[case.call_and_validate(headers=headers).status_code] += 1

    check()
