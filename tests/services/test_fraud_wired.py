"""The fraud service as it is served: made by wiring, with people who log in at the auth service."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from paytm_lab import Lab
from paytm_lab.wiring.services import Services
from tests.services.client import PASSWORD, Client
from tests.waiting import until


@pytest.fixture
def clients(services: Services) -> Iterator[dict[str, Client]]:
    """All three services, by name."""
    made = {name: services.make(name) for name in ("auth", "fraud", "shard_manager")}
    services.start()
    clients = {name: Client(httpx.ASGITransport(each.app)) for name, each in made.items()}
    yield clients
    for client in clients.values():
        client.__exit__()


def test_a_day_of_a_reviewer(clients: dict[str, Client], lab: Lab) -> None:
    auth, fraud, shards = clients["auth"], clients["fraud"], clients["shard_manager"]
    token = (lab.data / "admin.token").read_text().strip()
    body = {"user_id": "root", "password": PASSWORD, "admin_token": token}
    assert auth("POST", "/admin", json=body).status_code == 201
    root = str(auth.login("root")["access_token"])
    for user in ("asha", "binu", "clerk"):
        auth.register(user)
    paid = shards("POST", "/create_account/till/50000", root, headers={"Idempotency-Key": "t"})
    assert paid.status_code == 201, paid.text
    assert shards("POST", "/transfer/till/asha/20000", root).status_code == 201
    lab.drain()
    # Nobody reviews before they may.
    early = str(auth.login("clerk")["access_token"])
    payment = {"from_user": "asha", "to_user": "binu", "amount": "6000"}
    assert fraud("POST", "/score", early, json=payment).status_code == 403
    words = {"permissions": ["review"]}
    given = auth("PUT", "/users/clerk/permissions", root, json=words)
    assert given.status_code == 200, given.text
    clerk = str(auth.login("clerk")["access_token"])
    assert fraud("POST", "/score", clerk, json=payment).json()["scores"][0]["decision"] == "allow"
    # The limit is lowered; what was fine is reviewed.
    change = {"version": 1, "rules": {"review_score": 0.6}, "reason": "many complaints"}
    assert fraud("PUT", "/rules", clerk, json=change).status_code == 403
    assert fraud("PUT", "/rules", root, json=change).status_code == 200
    assert fraud("POST", "/score", clerk, json=payment).json()["scores"][0]["decision"] == "review"
    asha = str(auth.login("asha")["access_token"])
    made = shards("POST", "/transfer/asha/binu/6000", asha).json()["payment_id"]
    path = f"/decisions/{made}"
    until(lambda: fraud("GET", path, clerk).json()["review"] == "open")
    assert fraud("GET", path, asha).json()["decision"] == "review"
    assert shards("POST", f"/reviews/{made}/reject", clerk).status_code == 200
    until(lambda: shards("GET", "/accounts/asha", asha).json()["balance"] == "20000.00")
    assert fraud("GET", path, clerk).json()["review"] == "rejected"
    # A reviewer no more, within a second.
    assert (
        auth("PUT", "/users/clerk/permissions", root, json={"permissions": []}).status_code == 200
    )
    took_s = until(lambda: fraud("POST", "/score", clerk, json=payment).status_code == 401)
    assert took_s < 1.0
    lab.drain()
    lab.audit().require_clean()
