"""The notification service over HTTP, on a running lab."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import pytest

from paytm_lab.core.events import Topic, unwrap
from paytm_lab.notifications.tables import WAITING
from paytm_lab.notifications.webhook import IDEMPOTENCY_KEY, SIGNATURE, signature
from paytm_lab.web.scopes import ADMIN
from paytm_lab.wiring.channels import OPERATORS
from paytm_lab.wiring.secret_files import secret_of
from paytm_lab.wiring.services import Services
from tests.mail import Mailbox, mail_server
from tests.services.client import Client
from tests.services.notification_world import NotificationWorld, notification_world
from tests.services.world import problem
from tests.unit.test_notifications_channels import HOSTILE_IDS
from tests.waiting import until


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[NotificationWorld]:
    with notification_world(profile=profile) as world:
        yield world


def test_a_payment_is_in_both_inboxes(world: NotificationWorld) -> None:
    payment = world.paid("inbox-a", "inbox-b", "1234.50")
    (mine,) = world.inbox("inbox-a")
    assert (mine["channel"], mine["template"], mine["state"]) == ("email", "paid", "sent")
    assert mine["subject"] == "You paid ₹1,234.50" and mine["about"] == payment
    (theirs,) = world.inbox("inbox-b")
    assert theirs["body"] == "You received ₹1,234.50 from inbox-a."
    assert mine["at"] <= mine["ended_at"] and mine["due_at"] is None
    said = world.call("GET", "/notifications", "nobody-told").json()
    assert said == {"user_id": "nobody-told", "notifications": [], "next_cursor": None}


def test_pages_show_all_the_newest_first(world: NotificationWorld) -> None:
    for amount in range(1, 8):
        world.paid("pages-a", "pages-b", str(amount))
    seen: list[dict[str, Any]] = []
    cursor = ""
    while True:
        path = f"/notifications?limit=3{f'&cursor={quote(cursor)}' if cursor else ''}"
        page = world.call("GET", path, "pages-a").json()
        seen += page["notifications"]
        assert len(page["notifications"]) == 3 or page["next_cursor"] is None
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert [n["subject"] for n in seen] == [f"You paid ₹{n}.00" for n in range(7, 0, -1)]
    assert [n["at"] for n in seen] == sorted((n["at"] for n in seen), reverse=True)


@pytest.mark.parametrize(
    "cursor",
    ["x", "0" * 16, "f" * 16 + ".a", "0" * 16 + ".a", "-" * 17, "7ff" + "g" * 20, "é" * 30],
)
def test_a_cursor_that_is_none(world: NotificationWorld, cursor: str) -> None:
    said = world.call("GET", "/notifications", "asha", params={"cursor": cursor})
    problem(said, 422, "bad_input")
    page = world.call("GET", "/inbox", "asha", params={"cursor": cursor})
    assert page.status_code == 422 and page.headers["content-type"].startswith("text/html")


def test_preferences_are_read_and_stored(world: NotificationWorld) -> None:
    said = world.call("GET", "/preferences", "chooser").json()
    assert said == {
        "user_id": "chooser", "paid": ["email"], "received": ["push"], "alert": ["sms"],
        "system": ["email"], "quiet_hours": None,
    }  # fmt: skip
    chosen = {
        "paid": ["sms", "push", "sms"], "received": [],
        "quiet_hours": {"starts": "22:30", "ends": "06:00", "zone": "Europe/Berlin"},
    }  # fmt: skip
    stored = world.call("PUT", "/preferences", "chooser", json=chosen)
    assert stored.status_code == 200
    again = world.call("GET", "/preferences", "chooser").json()
    assert again == stored.json()
    assert again["paid"] == ["sms", "push"] and again["received"] == []
    assert again["alert"] == ["sms"] and again["quiet_hours"]["starts"] == "22:30"
    world.call("PUT", "/preferences", "chooser", json={})
    assert world.call("GET", "/preferences", "chooser").json() == said


@pytest.mark.parametrize(
    "body",
    [
        None, [], "x", {"paid": "sms"}, {"paid": ["pigeon"]}, {"paid": ["sms"] * 4}, {"paid": [1]},
        {"more": []}, {"quiet_hours": {}}, {"quiet_hours": {"starts": "22:00"}},
        {"quiet_hours": {"starts": "22:00", "ends": "22:00"}},
        {"quiet_hours": {"starts": "24:00", "ends": "07:00"}},
        {"quiet_hours": {"starts": "22:00", "ends": "07:00", "zone": "Mars/Olympus"}},
        {"quiet_hours": {"starts": "22:00", "ends": "07:00", "zone": "../../etc/passwd"}},
        {"quiet_hours": {"starts": "22:00", "ends": "07:00", "zone": "\0"}},
        {"quiet_hours": {"starts": "22:00", "ends": "07:00", "zone": "x" * 65}},
    ],
)  # fmt: skip
def test_preferences_that_are_none(world: NotificationWorld, body: Any) -> None:
    said = world.call("PUT", "/preferences", "asha", json=body)
    assert said.status_code == 422 and said.json()["code"] in ("invalid_request", "bad_input")
    assert world.call("GET", "/preferences", "asha").json()["quiet_hours"] is None


def test_contacts_are_read_and_stored(world: NotificationWorld) -> None:
    empty = {"user_id": "reach", "email": "", "phone": "", "push_token": ""}
    assert world.call("GET", "/contacts", "reach").json() == empty
    told = {"email": "reach@example.com", "phone": "+919812345678", "push_token": "abc"}
    assert world.call("PUT", "/contacts", "reach", json=told).json() == {**empty, **told}
    assert world.call("GET", "/contacts", "reach").json() == {**empty, **told}
    for bad in ({"email": "x"}, {"phone": "12"}, {"push_token": "a b"}, {"fax": "1"}, {"email": 1}):
        assert world.call("PUT", "/contacts", "reach", json=bad).status_code == 422
    assert world.call("GET", "/contacts", "reach").json() == {**empty, **told}


@pytest.mark.parametrize("user", [u for u in HOSTILE_IDS if u.strip()])
def test_any_user_id_has_an_inbox_and_choices(world: NotificationWorld, user: str) -> None:
    assert world.call("PUT", "/preferences", user, json={"paid": ["push"]}).status_code == 200
    assert world.call("GET", "/preferences", user).json()["paid"] == ["push"]
    assert world.inbox(user) == []
    page = world.call("GET", "/inbox", user)
    assert page.status_code == 200
    asked = world.admin("GET", "/preferences", params={"user_id": user})
    assert asked.json() == world.call("GET", "/preferences", user).json()


def test_quiet_hours_keep_what_is_not_urgent(world: NotificationWorld) -> None:
    zone = "Asia/Kolkata"
    now = datetime.now(ZoneInfo(zone))
    hours = {
        "starts": f"{now - timedelta(hours=1):%H:%M}", "ends": f"{now + timedelta(hours=2):%H:%M}",
        "zone": zone,
    }  # fmt: skip
    world.call("PUT", "/preferences", "sleeper", json={"quiet_hours": hours})
    world.paid("sleeper", "waker", "8000")
    first, second = sorted(world.inbox("sleeper"), key=lambda n: n["template"])
    assert (first["template"], first["state"]) == ("paid", "waiting")
    assert first["due_at"] > first["at"] and first["ended_at"] is None
    assert (second["template"], second["state"]) == ("under_review", "sent")  # an alert passes
    assert [n["state"] for n in world.inbox("waker")] == ["sent"]
    assert "waits until" in world.call("GET", "/inbox", "sleeper").text


def test_metrics_tell_what_was_sent(world: NotificationWorld) -> None:
    world.paid("metric-a", "metric-b")
    text = world.client("GET", "/metrics").text
    sent = {line.partition(" ")[0]: float(line.partition(" ")[2]) for line in text.splitlines()
            if line.startswith("paytm_lab_notifications_")}  # fmt: skip
    assert sent['paytm_lab_notifications_sent_total{channel="email"}'] >= 1
    assert sent['paytm_lab_notifications_total{outcome="sent"}'] >= 2
    assert "metric-a" not in text


def test_ready_names_what_it_stands_on(world: NotificationWorld) -> None:
    parts = world.client("GET", "/ready").json()["parts"]
    assert set(parts) == {"event-log", "cache", "wide-store", "coordination"}
    with world.lab.fault("wide-store", "gone"):
        said = world.client("GET", "/ready")
        assert said.status_code == 503 and said.json()["parts"]["wide-store"]["state"] == "down"
        problem(world.call("GET", "/notifications", "asha"), 503, "unavailable")
        page = world.call("GET", "/inbox", "asha")
        assert page.status_code == 503 and "Service Unavailable" in page.text
    until(lambda: world.call("GET", "/notifications", "asha").status_code == 200)


# -- the lab's own provider ------------------------------------------------------------------------


def signed(world: NotificationWorld, body: bytes, key: str, secret: bytes = b"") -> dict[str, str]:
    secret = secret or secret_of(world.lab.system.folder / "notifications" / "webhook.secret")
    now_s = world.lab.system.clock.now_us() // 1_000_000
    return {SIGNATURE: signature(secret, body, now_s), IDEMPOTENCY_KEY: key}


NOTICE = (
    b'{"notification_id":"n-1","channel":"sms","user_id":"asha","to":"","text":"<b>hi",'
    b'"template":"paid","payment_id":"p"}'
)


def test_the_labs_provider(world: NotificationWorld) -> None:
    headers = signed(world, NOTICE, "n-1")
    for repeated in (False, True):
        said = world.client("POST", "/provider/sms", content=NOTICE, headers=headers)
        assert said.json() == {"notification_id": "n-1", "repeated": repeated}
    (kept,) = world.admin("GET", "/provider/messages").json()["messages"]
    assert (kept["user_id"], kept["text"]) == ("asha", "<b>hi")
    unsigned = world.client("POST", "/provider/sms", content=NOTICE)
    problem(unsigned, 401, "unauthenticated")
    forged = signed(world, NOTICE, "n-1", b"guessed")
    problem(
        world.client("POST", "/provider/sms", content=NOTICE, headers=forged),
        401,
        "unauthenticated",
    )
    problem(
        world.client("POST", "/provider/push", content=NOTICE, headers=headers), 422, "bad_input"
    )
    assert world.client("POST", "/provider/fax", content=NOTICE, headers=headers).status_code == 422
    huge = b"x" * 300_000
    said = world.client("POST", "/provider/sms", content=huge, headers=signed(world, huge, "n"))
    assert said.status_code == 413


def test_the_labs_provider_is_one_for_all_processes_that_serve(world: NotificationWorld) -> None:
    """Whichever took it, each shows it, and none takes it again."""
    other = Services(world.lab.system)
    try:
        with Client(httpx.ASGITransport(other.make("notification").app)) as client:
            other.start()
            for number, (takes, knows) in enumerate(
                [(world.client, client), (client, world.client)]
            ):
                key = f"shared-{number}"
                body = NOTICE.replace(b"n-1", key.encode())
                headers = signed(world, body, key)
                for each, repeated in ((takes, False), (knows, True)):
                    said = each("POST", "/provider/sms", content=body, headers=headers)
                    assert said.json() == {"notification_id": key, "repeated": repeated}
            for each in (world.client, client):
                said = each("GET", "/provider/messages?limit=2", world.token("root", ADMIN))
                shown = [message["notification_id"] for message in said.json()["messages"]]
                assert shown == ["shared-1", "shared-0"]
    finally:
        other.close()


# -- real providers --------------------------------------------------------------------------------


def test_email_goes_by_smtp_and_a_dead_letter_gets_another_try(tmp_path: Path) -> None:
    mailbox = Mailbox()
    mailbox.refused = {"gone@lab.invalid": "550 no such user"}
    with mail_server(mailbox) as port, notification_world(
        data=tmp_path / "lab", notification_email="smtp",
        notification_smtp_server=f"127.0.0.1:{port}", notification_smtp_tls="none",
    ) as world:  # fmt: skip
        world.call("PUT", "/contacts", "asha", json={"email": "asha@example.com"})
        world.paid("asha", "ravi")
        world.paid("gone", "ravi")
        assert [(to, letter["Subject"]) for to, letter in mailbox.letters] == [
            ("asha@example.com", "You paid ₹5.00")
        ]
        (mine,) = world.inbox("gone")
        assert mine["state"] == "failed"
        assert "could not be delivered" in world.call("GET", "/inbox", "gone").text
        (letter,) = world.admin("GET", "/dead-letters").json()["dead_letters"]
        assert (letter["user_id"], letter["error"]) == ("gone", "550 no such user")
        assert world.admin("GET", "/dead-letters?days_ago=1").json()["dead_letters"] == []
        mailbox.refused.clear()
        path = f"/dead-letters/{letter['notification_id']}/retry"
        assert world.admin("POST", path).status_code == 202
        problem(world.admin("POST", path), 404, "not_found")
        until(lambda: world.inbox("gone")[0]["state"] == "sent")
        assert [to for to, _ in mailbox.letters] == ["asha@example.com", "gone@lab.invalid"]
        assert world.admin("GET", "/dead-letters").json()["dead_letters"] == []

        def announced() -> set[str]:
            return {
                unwrap(record.value).id
                for record in world.lab.system.all_records()
                if record.topic == str(Topic.NOTIFICATION) and b"EmailSent" in record.value
            }

        until(lambda: len(announced()) == 2)


def test_of_many_who_retry_a_dead_letter_at_once_it_is_sent_once(tmp_path: Path) -> None:
    mailbox = Mailbox()
    mailbox.refused = {"gone@lab.invalid": "550 no such user"}
    with mail_server(mailbox) as port, notification_world(
        data=tmp_path / "lab", notification_email="smtp",
        notification_smtp_server=f"127.0.0.1:{port}", notification_smtp_tls="none",
    ) as world:  # fmt: skip
        world.paid("gone", "ravi")
        (letter,) = world.admin("GET", "/dead-letters").json()["dead_letters"]
        mailbox.refused.clear()
        path = f"/dead-letters/{letter['notification_id']}/retry"
        world.token("root", ADMIN)
        with ThreadPoolExecutor(12) as pool:
            said = list(pool.map(lambda _: world.admin("POST", path).status_code, range(24)))
        assert set(said) <= {202, 404} and 202 in said
        until(lambda: world.inbox("gone")[0]["state"] == "sent")
        waiting = world.lab.system.wide
        until(lambda: waiting.count(WAITING) == 0)
        assert [to for to, _ in mailbox.letters] == ["gone@lab.invalid"]


def test_a_mail_server_that_comes_back_gets_all_once(tmp_path: Path) -> None:
    mailbox = Mailbox()
    with mail_server(mailbox) as port:
        pass
    with notification_world(
        data=tmp_path / "lab", notification_email="smtp",
        notification_smtp_server=f"127.0.0.1:{port}", notification_smtp_tls="none",
    ) as world:  # fmt: skip
        for _ in range(3):
            world.paid("asha", "ravi")  # what is paid is not kept back by the mail server
        assert [n["state"] for n in world.inbox("asha")] == ["waiting"] * 3
        assert [n["state"] for n in world.inbox("ravi")] == ["sent"] * 3
        with mail_server(mailbox, port):
            until(lambda: len(mailbox.letters) == 3)
            until(lambda: [n["state"] for n in world.inbox("asha")] == ["sent"] * 3)
        assert len({letter["Message-ID"] for _, letter in mailbox.letters}) == 3


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    with notification_world(
        data=tmp_path / "lab", notification_http_secret="hunter2hunter2",
        notification_smtp_password="correct horse",
    ) as world:  # fmt: skip
        shown = repr(world.lab.settings) + str(world.lab.settings.model_dump())
        assert "hunter2" not in shown and "correct horse" not in shown


# -- system alerts ---------------------------------------------------------------------------------


def operators(world: NotificationWorld) -> list[str]:
    said = world.admin("GET", "/notifications", params={"user_id": OPERATORS})
    return [n["subject"].removeprefix("paytm_lab: ") for n in said.json()["notifications"]][::-1]


def test_a_shard_that_goes_down_and_comes_back_is_told_of_once_each(tmp_path: Path) -> None:
    with notification_world(data=tmp_path / "lab", notification_alert_users="oncall") as world:
        world.lab.system.health._interval_s = 0.2  # not ten seconds a check
        until(lambda: "shard-1" in world.lab.system.health.latest)
        with world.lab.fault("shard-1", "down"):
            until(lambda: operators(world) == ["shard-1 is down"])
        until(lambda: operators(world) == ["shard-1 is down", "shard-1 is up again"])
        assert [n["subject"] for n in world.inbox("oncall")][::-1] == [
            "paytm_lab: shard-1 is down", "paytm_lab: shard-1 is up again",
        ]  # fmt: skip
        assert "shard-1 is up again" in world.admin("GET", f"/inbox?user_id={OPERATORS}").text


def test_a_service_that_goes_down_and_comes_back_is_told_of_once_each(tmp_path: Path) -> None:
    with notification_world(data=tmp_path / "lab") as world:
        health, coordination = world.lab.system.health, world.lab.system.coordination
        health._interval_s = 0.2
        leave = coordination.register("auth", "test", "127.0.0.1:1")
        until(lambda: health.latest["auth"].state == "up" if "auth" in health.latest else False)
        leave()
        until(lambda: operators(world) == ["auth is down"])
        leave = coordination.register("auth", "test", "127.0.0.1:1")
        until(lambda: operators(world) == ["auth is down", "auth is up again"])
        leave()
