"""The fraud service answers as it describes itself: every check of schemathesis, a real lab."""

from __future__ import annotations

from paytm_lab.web.scopes import ADMIN
from tests.services import described
from tests.services.fraud_world import FraudWorld

EXAMPLES = 15


def test_it_answers_as_it_describes() -> None:
    with FraudWorld(shards=2) as world:
        headers = world.bearer("boss", (ADMIN,))
        answered = described.answers(world.fraud_app, headers, EXAMPLES)
    assert len(answered) >= 14
    assert not [name for name, seen in answered.items() if any(s >= 500 for s in seen)]
    # Nobody guesses the id of a payment, or (more than once) the version of the rules.
    never = {name for name, seen in answered.items() if not seen[200]}
    assert never <= {"GET /decisions/{payment_id}", "PUT /rules"}
