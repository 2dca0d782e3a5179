"""Rules and lists over HTTP: who changes them, which change wins, and who knows of it when."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import Unavailable
from paytm_lab.fraud import models
from paytm_lab.fraud.tables import RULE_CHANGES
from paytm_lab.web.scopes import ADMIN
from tests.faults import processes
from tests.services.fraud_world import BOSS, CLERK, FraudWorld
from tests.services.world import AMOUNTS, item, of_model, problem
from tests.waiting import until

FIRST = {
    "certain_amount": "10000.00", "review_score": 0.7, "velocity_limit": 30,
    "velocity_window_s": 60.0,
}  # fmt: skip


@pytest.fixture
def world(profile: str) -> Iterator[FraudWorld]:
    with FraudWorld(profile=profile, shards=2) as made:
        yield made


def history(world: FraudWorld, query: str = "") -> list[dict[str, Any]]:
    said = world.fraud("GET", f"/rules/history{query}", *CLERK)
    assert said.status_code == 200, said.text
    return list(of_model(models.RulesHistory, said.json())["changes"])


# -- rules -----------------------------------------------------------------------------------------


def test_the_first_rules_are_the_settings(world: FraudWorld) -> None:
    said = of_model(models.RulesNow, world.rules())
    assert (said["version"], said["rules"], said["changed_by"]) == (1, FIRST, "system:settings")
    assert [each["version"] for each in history(world)] == [1]


def test_a_change_of_some_and_of_all(world: FraudWorld) -> None:
    said = world.change(1, review_score=0.5)
    assert said.json()["rules"] == FIRST | {"review_score": 0.5}
    assert (said.json()["version"], said.json()["changed_by"]) == (2, "boss")
    (one,) = world.score(item("a", "b", "5000"))
    assert one["decision"] == "review"
    # What was read may be sent back, with all that is to be otherwise.
    whole = world.rules()["rules"] | {"certain_amount": "20000", "velocity_window_s": 0.5}
    said = world.change(2, **whole)
    assert said.json()["rules"] == {
        "certain_amount": "20000.00", "review_score": 0.5, "velocity_limit": 30,
        "velocity_window_s": 0.5,
    }  # fmt: skip
    (one,) = world.score(item("a", "b", "5000"))
    assert (one["score"], one["decision"]) == (0.25, "allow")
    assert world.rules()["version"] == 3


def test_a_change_of_nothing_is_none(world: FraudWorld) -> None:
    said = world.change(1, **FIRST)
    assert (said.status_code, said.json()["version"]) == (200, 1)
    assert len(history(world)) == 1


def test_the_history_has_who_when_why_before_and_after(world: FraudWorld) -> None:
    for version in range(1, 8):
        body = {
            "version": version, "rules": {"velocity_limit": 100 + version},
            "reason": f"reason {version}",
        }  # fmt: skip
        said = world.fraud("PUT", "/rules", f"boss-{version}", ADMIN, json=body)
        assert said.status_code == 200, said.text
    found = history(world)
    assert [each["version"] for each in found] == [8, 7, 6, 5, 4, 3, 2, 1]
    newest = found[0]
    assert (newest["changed_by"], newest["reason"]) == ("boss-7", "reason 7")
    assert newest["before"] == FIRST | {"velocity_limit": 106}
    assert newest["rules"] == FIRST | {"velocity_limit": 107}
    assert all(new["before"] == old["rules"] for new, old in pairwise(found))
    assert [each["changed_at"] for each in found] == sorted(
        (each["changed_at"] for each in found), reverse=True
    )
    # A page at a time it is the same.
    paged: list[dict[str, Any]] = []
    query = "?limit=3"
    while query:
        page = world.fraud("GET", f"/rules/history{query}", *CLERK).json()
        paged += page["changes"]
        before = page["next_before"]
        query = f"?limit=3&before={before}" if before else ""
    assert paged == found


def test_of_many_changes_of_one_version_one_is_made(world: FraudWorld) -> None:
    async def race(version: int) -> list[httpx.Response]:
        return await asyncio.gather(
            *(
                world.ask_fraud(
                    "PUT", "/rules", f"boss-{number}", ADMIN,
                    json={
                        "version": version, "rules": {"velocity_limit": 1_000 * version + number},
                        "reason": "race",
                    },
                )
                for number in range(12)
            )
        )  # fmt: skip

    for version in range(1, 6):
        said = world.run(race(version))
        assert sorted(each.status_code for each in said) == [200] + [409] * 11
        (made,) = (each.json() for each in said if each.status_code == 200)
        assert made["version"] == version + 1
        assert world.rules()["rules"] == made["rules"]
        assert world.lab.system.scorer.settings.velocity_limit == made["rules"]["velocity_limit"]
        for each in said:
            if each.status_code == 409:
                problem(each, 409, "conflict")
    assert [each["version"] for each in history(world)] == [6, 5, 4, 3, 2, 1]


def test_an_old_version_changes_nothing(world: FraudWorld) -> None:
    assert world.change(1, velocity_limit=5).status_code == 200
    for version in (1, 3, 2**53):
        said = problem(world.change(version, velocity_limit=6), 409, "conflict")
        assert said["place"] == "version"
    assert world.rules()["rules"]["velocity_limit"] == 5


BAD_RULES: list[dict[str, Any]] = [
    {}, {"velocity_limit": 0}, {"velocity_limit": -1}, {"velocity_limit": 1.5},
    {"velocity_limit": "30"}, {"velocity_limit": True}, {"velocity_limit": None},
    {"velocity_limit": 10**400}, {"velocity_limit": 1_000_001}, {"review_score": 1.01},
    {"review_score": -0.1}, {"review_score": "0.5"}, {"review_score": None},
    {"velocity_window_s": 0}, {"velocity_window_s": -1}, {"velocity_window_s": 10**9},
    {"unknown": 1}, {"version": 3}, {"certain_paise": 5}, {"certain_amount": 10_000},
    {"certain_amount": None}, {"certain_amount": "0"},
    *({"certain_amount": amount} for amount in AMOUNTS),
]  # fmt: skip


def test_what_is_no_rule_changes_nothing(world: FraudWorld) -> None:
    for rules in BAD_RULES:
        body = {"version": 1, "rules": rules, "reason": "bad"}
        said = world.fraud("PUT", "/rules", *BOSS, json=body)
        assert said.status_code == 422, (rules, said.text)
    for number in ("NaN", "Infinity", "-Infinity", "1e400"):
        for name in ("review_score", "velocity_window_s", "velocity_limit"):
            text = f'{{"version": 1, "reason": "bad", "rules": {{"{name}": {number}}}}}'
            said = world.fraud("PUT", "/rules", *BOSS, content=text.encode())
            assert said.status_code == 422, (text, said.text)
    good = {"velocity_limit": 5}
    for body in (
        [], {}, {"rules": good, "reason": "x"}, {"version": 1, "rules": good},
        {"version": 1, "rules": good, "reason": ""}, {"version": "1", "rules": good, "reason": "x"},
        {"version": 1, "rules": good, "reason": "x" * 501}, {"version": 1, "rules": []},
        {"version": 0, "rules": good, "reason": "x"}, {"version": 1.0, "rules": good, "reason": 5},
        {"version": 1, "rules": good, "reason": "x", "changed_by": "somebody else"},
    ):  # fmt: skip
        said = world.fraud("PUT", "/rules", *BOSS, json=body)
        assert said.status_code == 422, (body, said.text)
    lone = rb'{"version": 1, "rules": {"velocity_limit": 5}, "reason": "\ud800"}'
    assert world.fraud("PUT", "/rules", *BOSS, content=lone).status_code == 422
    assert world.rules()["version"] == 1 and len(history(world)) == 1


def test_any_text_is_a_reason(world: FraudWorld) -> None:
    reason = "<script>alert('x')</script> {{7*7}} '; DROP TABLE x; -- ü🙂 \u202e"
    body = {"version": 1, "rules": {"velocity_limit": 5}, "reason": reason}
    assert world.fraud("PUT", "/rules", *BOSS, json=body).json()["reason"] == reason
    assert history(world)[0]["reason"] == reason


# -- who knows of it, and what is kept -------------------------------------------------------------


def judges_by(lab: Lab, version: int) -> bool:
    return lab.system.scorer.settings.version == version


def knows(lab: Lab, mule: str) -> bool:
    return mule in lab.system.fraud_lists.mules


def test_another_system_has_the_new_rules_within_a_second(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world, Lab(data=tmp_path / "lab") as other:
        scorer = other.system.scorer
        assert scorer.settings.velocity_limit == 30
        for version in range(1, 6):
            assert world.change(version, velocity_limit=40 + version).status_code == 200
            assert until(partial(judges_by, other, version + 1)) < 1.0
            assert scorer.settings.velocity_limit == 40 + version
        # And the other way round.
        other.system.rule_book.change(6, {"velocity_limit": 5}, "somebody", "from elsewhere")
        assert world.rules()["version"] == 7
        until(lambda: world.lab.system.scorer.settings.velocity_limit == 5, within_s=1.0)


CHILD = """
import sys, time
from pathlib import Path
from paytm_lab import Lab
from tests.waiting import until
with Lab(data=Path(sys.argv[1]), relay=False, consumers=()) as lab:
    scorer = lab.system.scorer
    print(scorer.settings.version, flush=True)
    until(lambda: scorer.settings.version > 1)
    print(time.monotonic(), scorer.settings.velocity_limit, flush=True)
"""


def test_another_process_has_the_new_rules_within_a_second(tmp_path: Path) -> None:
    # A setting that is given on purpose would change the rules.
    environment = processes.environment()
    for name in processes.ENVIRONMENT:
        environment.pop(name)
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "lab")],
            stdout=subprocess.PIPE, text=True, cwd=processes.ROOT, env=environment,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "1"
            assert world.change(1, velocity_limit=17).status_code == 200
            made_s = time.monotonic()
            seen_s, limit = child.stdout.readline().split()
        assert limit == "17"
        assert float(seen_s) - made_s < 1.0


def test_rules_outlive_the_lab_and_its_settings_count_until_somebody_changed_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "lab"
    with FraudWorld(data=data, shards=2, velocity_limit=11) as world:
        assert world.rules()["rules"]["velocity_limit"] == 11
    with FraudWorld(data=data) as world:
        # Not named, so what was set stays.
        assert (world.rules()["version"], world.rules()["rules"]["velocity_limit"]) == (1, 11)
    with FraudWorld(data=data, velocity_limit=12) as world:
        assert (world.rules()["version"], world.rules()["rules"]["velocity_limit"]) == (2, 12)
        assert world.change(2, velocity_limit=13).status_code == 200
    with FraudWorld(data=data, velocity_limit=12) as world:
        said = world.rules()
        assert (said["version"], said["rules"]["velocity_limit"]) == (3, 13)
        assert world.lab.system.scorer.settings.velocity_limit == 13
        assert [(each["version"], each["changed_by"]) for each in history(world)] == [
            (3, "boss"), (2, "system:settings"), (1, "system:settings"),
        ]  # fmt: skip
    assert "settings not used: velocity_limit=12" in caplog.text


def test_without_the_history_no_rule_is_changed(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        with world.lab.fault("wide-store", "gone"):
            problem(world.change(1, velocity_limit=5), 503, "unavailable")
            assert world.rules()["version"] == 1
        assert world.change(1, velocity_limit=5).status_code == 200


def test_without_coordination_rules_are_not_changed_and_payments_are_scored(
    tmp_path: Path,
) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        with world.lab.fault("coordination", "gone"):
            problem(world.change(1, velocity_limit=5), 503, "unavailable")
            problem(world.fraud("GET", "/rules", *BOSS), 503, "unavailable")
            assert world.score(item("a", "b", "7000"))[0]["decision"] == "review"
        assert world.rules()["version"] == 1


def test_a_change_whose_history_was_cut_off_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store goes away, or the process dies, between the document and the history."""
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        wide, coordination = world.lab.system.wide, world.lab.system.coordination
        write = coordination.write_document

        def write_and_lose(name: str, body: bytes, version: int | None) -> int:
            written = write(name, body, version)
            world.lab.system.stores.switches["wide-store"].available = False
            return written

        with monkeypatch.context() as patch:
            patch.setattr(coordination, "write_document", write_and_lose)
            body = {"version": 1, "rules": {"velocity_limit": 5}, "reason": "cut"}
            said = world.fraud("PUT", "/rules", *BOSS, json=body)
        assert said.status_code == 200
        world.lab.system.stores.switches["wide-store"].available = True
        assert [row["newest_first"] for row in wide.partition(RULE_CHANGES, ("rules",))] == [-1]
        assert [(each["version"], each["reason"]) for each in history(world)] == [
            (2, "cut"), (1, "the lab's settings"),
        ]  # fmt: skip
        assert world.change(2, velocity_limit=6).status_code == 200
        kept = [row["newest_first"] for row in wide.partition(RULE_CHANGES, ("rules",))]
        assert kept == [-3, -2, -1]
        assert [each["reason"] for each in history(world)][1] == "cut"


def test_a_session_that_may_have_ended_changes_no_rule(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        world.rules()
        with world.lab.fault("cache", "gone"):
            until(lambda: not world.checker.is_fresh())
            problem(world.change(1, velocity_limit=5), 503, "unavailable")
            said = world.fraud("GET", "/rules", *BOSS)
            assert (said.status_code, said.json()["version"]) == (200, 1)
            assert "warning" in said.headers


# -- lists -----------------------------------------------------------------------------------------


def put(world: FraudWorld, which: str, user: str, on: bool, reason: str = "x") -> httpx.Response:
    body = {"listed": on, "reason": reason}
    return world.fraud("PUT", f"/lists/{which}/users/{user}", *BOSS, json=body)


@pytest.mark.parametrize("which", ["frozen", "mule"])
def test_a_list_is_changed_and_has_a_trail(world: FraudWorld, which: str) -> None:
    rule = {"frozen": "frozen_user", "mule": "known_mule"}[which]
    for on, reason in ((True, "seen"), (False, "mistaken"), (True, "seen again")):
        said = put(world, which, "u-1", on, reason)
        assert said.status_code == 200, said.text
        assert of_model(models.Listed, said.json())["listed"] is on
        assert (world.score(item("u-1", "b", "1"))[0]["rule"] == rule) is on
    changes = world.fraud("GET", f"/lists/{which}/users/u-1", *CLERK).json()["changes"]
    assert [(c["reason"], c["was"], c["listed"], c["changed_by"]) for c in changes] == [
        ("seen again", False, True, "boss"), ("mistaken", True, False, "boss"),
        ("seen", False, True, "boss"),
    ]  # fmt: skip
    of_day = world.fraud("GET", f"/lists/{which}/changes", *CLERK).json()
    assert of_model(models.ListChanges, of_day)["changes"] == changes
    day = changes[0]["changed_at"][:10]
    assert world.fraud("GET", f"/lists/{which}/changes?day={day}", *CLERK).json() == of_day
    empty = world.fraud("GET", f"/lists/{which}/changes?day=2020-02-29", *CLERK).json()
    assert empty["changes"] == []


def test_a_list_comes_a_page_at_a_time(world: FraudWorld) -> None:
    users = ["ü🙂", "%2F", "a/b", *(f"m-{number:02}" for number in range(20))]
    for user in users:
        escaped = user.replace("%", "%25").replace("/", "%2F")
        assert put(world, "mule", escaped, True).json()["user_id"] == user
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = world.fraud("GET", "/lists/mule", *CLERK, params={"after": after, "limit": 7}).json()
        of_model(models.ListPage, page)
        assert page["count"] == len(users) and len(page["users"]) <= 7
        seen += page["users"]
        after = page["next_after"]
    assert seen == sorted(users)


def test_what_is_no_list_no_user_or_no_reason(world: FraudWorld) -> None:
    body = {"listed": True, "reason": "x"}
    for path in (
        "/lists/friends/users/a", "/lists/mule/users/system:funding", "/lists/mule/users/%00",
        f"/lists/mule/users/{'x' * 65}",
    ):  # fmt: skip
        assert world.fraud("PUT", path, *BOSS, json=body).status_code == 422
    bad: list[Any] = [
        {}, [], {"listed": True}, {"listed": 1, "reason": "x"}, {"listed": "yes", "reason": "x"},
        {"listed": True, "reason": ""}, {"listed": True, "reason": 5}, body | {"more": 1},
    ]  # fmt: skip
    for each in bad:
        said = world.fraud("PUT", "/lists/mule/users/a", *BOSS, json=each)
        assert said.status_code == 422, each
    for query in (
        "day=today",
        "day=2026-1-1",
        "day=2026-02-30",
        "day=20260101",
        "day=86400",
        "limit=0",
        "days=2026-01-01",
    ):
        assert world.fraud("GET", f"/lists/mule/changes?{query}", *CLERK).status_code == 422
    assert world.fraud("GET", "/lists/mule?limit=1001", *CLERK).status_code == 422
    assert world.fraud("GET", "/lists/mule", *CLERK).json()["users"] == []


def test_another_system_knows_of_a_mule_within_a_second(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world, Lab(data=tmp_path / "lab") as other:
        for number in range(4):
            assert put(world, "mule", f"mule-{number}", True).status_code == 200
            assert until(partial(knows, other, f"mule-{number}")) < 1.0
        assert put(world, "mule", "mule-0", False).status_code == 200
        assert until(lambda: not knows(other, "mule-0")) < 1.0


def test_a_list_is_changed_whether_or_not_others_hear_of_it_at_once(tmp_path: Path) -> None:
    with (
        FraudWorld(data=tmp_path / "lab", shards=2) as world,
        world.lab.fault("coordination", "gone"),
    ):
        assert put(world, "mule", "m", True).json()["listed"] is True
    with FraudWorld(data=tmp_path / "lab") as world:
        assert world.fraud("GET", "/lists/mule", *CLERK).json()["users"] == ["m"]
        with world.lab.fault("wide-store", "gone"):
            problem(put(world, "mule", "n", True), 503, "unavailable")
        with suppress(Unavailable):
            world.lab.system.fraud_lists.load()
        assert world.fraud("GET", "/lists/mule", *CLERK).json()["users"] == ["m"]


def test_who_freezes_an_account_is_in_the_trail_of_the_list(world: FraudWorld) -> None:
    user = world.user()
    for act in ("freeze", "unfreeze"):
        assert world.call("POST", f"/accounts/{user}/{act}", *CLERK).status_code == 200
    said = world.fraud("GET", f"/lists/frozen/users/{user}", *CLERK).json()
    assert said["listed"] is False
    assert [(c["changed_by"], c["reason"], c["listed"]) for c in said["changes"]] == [
        ("clerk", "the account is active", False), ("clerk", "the account is frozen", True),
    ]  # fmt: skip
