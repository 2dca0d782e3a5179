"""The auth service over HTTP: who gets in, who does not, and what ends a session."""

from __future__ import annotations

import base64
import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from paytm_lab import Lab
from paytm_lab.ledger import queries
from paytm_lab.web import scopes
from paytm_lab.wiring.services import Services
from tests.services.client import PASSWORD, Client
from tests.waiting import until


def me(auth: Client, token: str) -> int:
    return auth("GET", "/me", token).status_code


def admin(auth: Client, lab: Lab) -> str:
    token = (lab.data / "admin.token").read_text().strip()
    body = {"user_id": "root", "password": PASSWORD, "admin_token": token}
    assert auth("POST", "/admin", json=body).status_code == 201
    return str(auth.login("root")["access_token"])


# -- registering -----------------------------------------------------------------------------------


def test_a_user_is_registered_with_an_empty_account(auth: Client, lab: Lab) -> None:
    made = auth("POST", "/register", json={"user_id": "ü🙂", "password": PASSWORD})
    assert (made.status_code, made.json()) == (
        201,
        {"user_id": "ü🙂", "permissions": [scopes.TRANSFER_OWN]},
    )
    account = lab.account("ü🙂")
    assert account is not None and account.balance_paise == 0
    assert auth("GET", "/me", auth.login("ü🙂")["access_token"]).json() == made.json()
    lab.drain()
    lab.audit().require_clean()
    shard = lab.system.router.locate("ü🙂")[1]
    stored = queries.credential(lab.system.databases[shard], "ü🙂")
    assert stored is not None and stored.password_hash.startswith("$argon2id$")


def test_an_id_that_is_taken_stays_with_its_owner(auth: Client, lab: Lab) -> None:
    lab.create_account("rich", 500)
    auth.register("asha")
    for user in ("asha", "rich"):
        again = auth("POST", "/register", json={"user_id": user, "password": PASSWORD + "x"})
        assert (again.status_code, again.json()["code"]) == (409, "account_exists")
    assert auth.login("asha")
    login = auth("POST", "/login", json={"user_id": "rich", "password": PASSWORD + "x"})
    assert login.status_code == 401, "an account without a credential gets none by registering"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"user_id": "system:funding", "password": PASSWORD}, "invalid_user_id"),
        ({"user_id": "a\u0000b", "password": PASSWORD}, "invalid_user_id"),
        ({"user_id": "", "password": PASSWORD}, "invalid_request"),
        ({"user_id": "x" * 65, "password": PASSWORD}, "invalid_request"),
        ({"user_id": 7, "password": PASSWORD}, "invalid_request"),
        ({"user_id": "a", "password": "short"}, "bad_input"),
        ({"user_id": "a", "password": "a" * 20}, "bad_input"),
        ({"user_id": "long-enough-id", "password": "Long-Enough-ID"}, "bad_input"),
        ({"user_id": "a", "password": "x" * 257}, "invalid_request"),
        ({"user_id": "a", "password": PASSWORD, "balance": "1000"}, "invalid_request"),
        ({"user_id": "a"}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_what_is_no_user_changes_nothing(auth: Client, lab: Lab, body: Any, code: str) -> None:
    refused = auth("POST", "/register", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert refused.headers["content-type"] == "application/problem+json"
    assert PASSWORD not in refused.text, "a refusal repeats no password"
    assert all(queries.user_ids(d) == [] for d in lab.system.databases.values())


def test_of_many_who_register_one_id_at_once_one_gets_it(auth: Client) -> None:
    def register(number: int) -> int:
        body = {"user_id": "one", "password": f"{PASSWORD} {number}"}
        return auth("POST", "/register", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(register, range(8)))
    assert sorted(codes) == [201] + [409] * 7
    assert auth.login("one", f"{PASSWORD} {codes.index(201)}")


# -- logging in ------------------------------------------------------------------------------------


def test_a_wrong_password_and_no_such_user_read_the_same(auth: Client) -> None:
    auth.register("asha")
    answers = [
        auth("POST", "/login", json={"user_id": user, "password": "not the password"})
        for user in ("asha", "nobody")
    ]
    assert [a.status_code for a in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    assert answers[0].headers["www-authenticate"] == "Bearer"


class TestThrottle:
    @pytest.fixture
    def lab_settings(self) -> dict[str, Any]:
        return {"login_attempts_max": 5, "login_window_s": 60}

    def test_who_guesses_must_wait_longer_each_time(self, auth: Client) -> None:
        auth.register("asha")
        wrong = {"user_id": "asha", "password": "not the password"}
        codes = [auth("POST", "/login", json=wrong).status_code for _ in range(4)]
        assert codes == [401, 401, 401, 429]
        refused = auth("POST", "/login", json={"user_id": "asha", "password": PASSWORD})
        assert refused.json()["code"] == "rate_limited", "the right one must wait too"
        assert int(refused.headers["retry-after"]) >= 1
        until(lambda: auth("POST", "/login", json=wrong).status_code == 401, "the wait is over")
        assert auth.register("other") is None and auth.login("other"), "others need not wait"

    def test_a_storm_of_guesses_at_once_is_bounded(self, auth: Client) -> None:
        auth.register("asha")

        def guess(number: int) -> int:
            body = {"user_id": "asha", "password": f"guess number {number}"}
            return auth("POST", "/login", json=body).status_code

        with ThreadPoolExecutor(20) as pool:
            codes = list(pool.map(guess, range(40)))
        assert set(codes) == {401, 429} and codes.count(401) <= 5


def test_nobody_logs_in_while_the_cache_is_away(auth: Client, lab: Lab) -> None:
    auth.register("asha")
    token = auth.login("asha")["access_token"]
    assert me(auth, token) == 200
    with lab.fault("cache", "gone"):
        refused = auth("POST", "/login", json={"user_id": "asha", "password": PASSWORD})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        until(lambda: "Warning" in auth("GET", "/me", token).headers, "a read goes on, warned")
        assert me(auth, token) == 200
        ready = auth("GET", "/ready")
        assert ready.status_code == 503 and ready.json()["parts"]["cache"]["state"] == "down"
        assert auth("GET", "/health").status_code == 503
        assert auth("GET", "/live").status_code == 200
    until(lambda: "Warning" not in auth("GET", "/me", token).headers)
    assert auth.login("asha")


# -- tokens ----------------------------------------------------------------------------------------


def test_tokens_that_are_not_ours_are_refused(auth: Client, services: Services) -> None:
    auth.register("asha")
    good = auth.login("asha")["access_token"]
    head, claims, signature = good.split(".")
    key = Ed25519PrivateKey.generate()
    read = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good)["kid"]

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    def signed(with_key: Any = key, algorithm: str = "EdDSA", **changed: Any) -> str:
        return jwt.encode(read | changed, with_key, algorithm, headers={"kid": kid})

    bad = {
        "tampered": f"{head}.{part(read | {'sub': 'root'})}.{signature}",
        "another key": signed(),
        "alg none": f"{part({'alg': 'none', 'kid': kid})}.{claims}.",
        "public key as a secret": signed("k" * 32, "HS256"),
        "cut": good[:-4],
        "empty parts": "..",
        "no token": "x",
        "very long": "x" * 10_000,
    }
    assert {what: me(auth, token) for what, token in bad.items()} == dict.fromkeys(bad, 401)
    assert me(auth, "") == 401
    assert auth("GET", "/me", headers={"Authorization": f"Basic {good}"}).status_code == 401
    assert me(auth, good) == 200


class TestExpiry:
    @pytest.fixture
    def lab_settings(self) -> dict[str, Any]:
        return {"access_token_s": 1}

    def test_a_token_ends_and_is_renewed(self, auth: Client) -> None:
        auth.register("asha")
        pair = auth.login("asha")
        until(lambda: me(auth, pair["access_token"]) == 401, "it expires")
        again = auth("POST", "/refresh", json={"refresh_token": pair["refresh_token"]})
        assert again.status_code == 200
        assert again.json()["session_expires_s"] == pair["session_expires_s"]
        assert me(auth, again.json()["access_token"]) == 200


def test_a_refresh_token_counts_once_and_twice_ends_the_session(auth: Client) -> None:
    auth.register("asha")
    first = auth.login("asha")
    renewed = auth("POST", "/refresh", json={"refresh_token": first["refresh_token"]}).json()
    assert renewed["refresh_token"] != first["refresh_token"]
    assert me(auth, renewed["access_token"]) == 200
    stolen = auth("POST", "/refresh", json={"refresh_token": first["refresh_token"]})
    assert stolen.status_code == 401 and "used before" in stolen.json()["detail"]
    latest = auth("POST", "/refresh", json={"refresh_token": renewed["refresh_token"]})
    assert latest.status_code == 401, "the thief's and the owner's end alike"
    until(lambda: me(auth, renewed["access_token"]) == 401)
    for junk in ("", "a.b.c", first["refresh_token"][:-1], "x" * 500, "a.9" * 100):
        assert auth("POST", "/refresh", json={"refresh_token": junk}).status_code == 401


def test_of_many_refreshes_at_once_one_counts(auth: Client) -> None:
    auth.register("asha")
    token = auth.login("asha")["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: auth("POST", "/refresh", json={"refresh_token": token}).status_code,
                range(8),
            )
        )
    assert answers.count(200) <= 1 and set(answers) <= {200, 401}


def test_a_logout_ends_this_session_and_everywhere_ends_all(auth: Client) -> None:
    auth.register("asha")
    a, b, c = (auth.login("asha") for _ in range(3))
    assert [me(auth, each["access_token"]) for each in (a, b, c)] == [200] * 3
    assert auth("POST", "/logout", a["access_token"]).status_code == 204
    within_s = until(lambda: me(auth, a["access_token"]) == 401)
    assert within_s < 1.0, "known within a second"
    assert auth("POST", "/refresh", json={"refresh_token": a["refresh_token"]}).status_code == 401
    assert me(auth, b["access_token"]) == 200
    assert auth("POST", "/logout/everywhere", b["access_token"]).json() == {"sessions": 2}
    until(lambda: [me(auth, each["access_token"]) for each in (b, c)] == [401, 401])
    assert auth.login("asha")


def test_a_new_password_ends_all_sessions(auth: Client) -> None:
    auth.register("asha")
    pair = auth.login("asha")
    new = {"old_password": PASSWORD, "new_password": "an entirely new one"}
    wrong = auth("PUT", "/password", pair["access_token"], json=new | {"old_password": "no, other"})
    assert wrong.status_code == 401 and me(auth, pair["access_token"]) == 200
    assert auth("PUT", "/password", pair["access_token"], json=new).status_code == 204
    until(lambda: me(auth, pair["access_token"]) == 401)
    assert auth.login("asha", "an entirely new one")
    old = auth("POST", "/login", json={"user_id": "asha", "password": PASSWORD})
    assert old.status_code == 401


def test_one_password_however_the_keyboard_composes_it(auth: Client) -> None:
    auth.register("asha", "passe\u0301-partout")
    assert auth.login("asha", "pass\u00e9-partout")


# -- admins and permissions ------------------------------------------------------------------------


def test_the_admin_token_makes_one_admin_once(auth: Client, lab: Lab) -> None:
    path = lab.data / "admin.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().strip()
    body = {"user_id": "root", "password": PASSWORD, "admin_token": token}
    assert auth("POST", "/admin", json=body | {"admin_token": "x" * 43}).status_code == 401
    assert auth("POST", "/admin", json=body | {"password": "short"}).status_code == 422
    made = auth("POST", "/admin", json=body)
    assert (made.status_code, made.json()["permissions"]) == (201, list(scopes.ALL))
    again = auth("POST", "/admin", json=body | {"user_id": "second"})
    assert again.status_code == 401 and not path.exists()


def test_permissions_are_given_by_admins_and_end_the_sessions(auth: Client, lab: Lab) -> None:
    root = admin(auth, lab)
    auth.register("asha")
    before = auth.login("asha")["access_token"]
    path = "/users/asha/permissions"
    wanted = {"permissions": ["review", "transfer:own"]}
    refused = auth("PUT", path, before, json=wanted)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert auth("PUT", path, root, json={"permissions": ["god"]}).status_code == 422
    assert auth("PUT", "/users/nobody/permissions", root, json=wanted).status_code == 404
    given = auth("PUT", path, root, json=wanted)
    assert given.json() == {"user_id": "asha", "permissions": ["transfer:own", "review"]}
    until(lambda: me(auth, before) == 401)
    after = auth.login("asha")["access_token"]
    assert auth("GET", "/me", after).json()["permissions"] == ["review", "transfer:own"]
    assert auth("POST", "/users/asha/logout", after).status_code == 403
    assert auth("POST", "/users/asha/logout", root).json() == {"sessions": 1}
    until(lambda: me(auth, after) == 401)


def test_a_new_key_signs_and_the_old_one_counts_on(auth: Client, lab: Lab) -> None:
    root = admin(auth, lab)
    (old,) = auth("GET", "/.well-known/jwks.json").json()["keys"]
    assert (old["kty"], old["crv"], old["alg"]) == ("OKP", "Ed25519", "EdDSA") and "d" not in old
    kid = auth("POST", "/keys/rotate", root).json()["kid"]
    both = auth("GET", "/.well-known/jwks.json").json()["keys"]
    assert [key["kid"] for key in both] == [old["kid"], kid]
    auth.register("asha")
    token = auth.login("asha")["access_token"]
    assert jwt.get_unverified_header(token)["kid"] == kid
    until(lambda: me(auth, token) == 200, "the new key is known")
    assert me(auth, root) == 200, "what the old one signed counts until it expires"
    for path in (lab.data / "auth" / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# -- what every service has ------------------------------------------------------------------------


def test_too_long_a_body_is_refused_before_it_is_read(auth: Client) -> None:
    body = {"user_id": "a", "password": "x" * 300_000}
    refused = auth("POST", "/register", json=body)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_problems_name_the_path_and_the_method(auth: Client) -> None:
    assert auth("GET", "/nowhere").json()["code"] == "not_found"
    wrong = auth("GET", "/login")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    garbage = auth(
        "POST", "/login", content=b"{not json", headers={"content-type": "application/json"}
    )
    assert (garbage.status_code, garbage.json()["code"]) == (422, "invalid_request")


def test_a_trace_goes_on_and_metrics_count_routes_not_paths(auth: Client) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    given = f"00-{trace}-00f067aa0ba902b7-01"
    answer = auth("GET", "/health", headers={"traceparent": given})
    assert answer.headers["traceparent"].startswith(f"00-{trace}-") and given not in answer.headers
    assert auth("GET", "/health", headers={"traceparent": "junk"}).headers["traceparent"]
    auth("GET", "/users/secret-name/permissions")
    text = auth("GET", "/metrics").text
    assert 'paytm_lab_requests_total{method="GET",route="/health",status="200"} 2.0' in text
    assert "secret-name" not in text


def test_logs_hold_no_secrets(auth: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        auth.register("asha")
        pair = auth.login("asha")
        me(auth, pair["access_token"])
        auth("POST", "/refresh", json={"refresh_token": pair["refresh_token"]})
        auth("POST", "/refresh", json={"refresh_token": pair["refresh_token"]})
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "POST /login 200" in said
    for secret in (PASSWORD, pair["access_token"], pair["refresh_token"], "$argon2"):
        assert secret not in said


def test_hashing_stalls_nobody_else(auth: Client) -> None:
    auth.register("asha")
    with ThreadPoolExecutor(16) as pool:
        storm = [
            pool.submit(auth, "POST", "/login", json={"user_id": f"u{n}", "password": PASSWORD})
            for n in range(64)
        ]
        started = time.perf_counter()
        assert auth("GET", "/live").status_code == 200
        took_s = time.perf_counter() - started
        assert {each.result().status_code for each in storm} <= {401, 429}
    assert took_s < 2.0
