"""Every named fault: under load one sees what it promises, and it heals as it says."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from paytm_lab import Lab
from paytm_lab.backends.embedded import faulty
from paytm_lab.core.errors import (
    BadInput,
    OutboxFull,
    OutcomeUnknown,
    ShardUnavailable,
    Unavailable,
)
from paytm_lab.core.events import unwrap
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.messaging.topics import GROUPS, PARTITIONS, dead_letter
from paytm_lab.simulation import faults
from paytm_lab.simulation.faults import CRASH_POINTS, SLOW_COMMIT_S
from tests.faults.load import IN_FLIGHT, Load, until

BROKEN = 2
WIDE_GROUPS = ("analytics", "fraud", "notifications")
SETTINGS = {"velocity_limit": 10**6, "notification_channel": "memory"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(data=tmp_path / "lab", seed=1, **SETTINGS) as lab:
        yield lab


def events(lab: Lab, topic: str = "payment_events") -> int:
    return sum(lab.system.log.end_offsets(topic))


def is_open_for_payments(lab: Lab) -> bool:
    """Whether the broken shard is asked again; it is left alone for half a second at a time."""
    try:
        return lab.transfer(str(BROKEN), "6", "1.00").status == "COMPLETED"
    except ShardUnavailable:
        return False


def require_well(lab: Lab, load: Load) -> None:
    """All is answered and consistent once the load has stopped."""
    load.stop()
    lab.drain()
    lab.audit().require_clean()
    assert all(lab.system.lag(group) == 0 for group in GROUPS)
    features = Counter(row["payment_id"] for row in lab.system.wide.scan(FEATURES))
    assert max(features.values()) == 1
    completed = {h.outcome.payment for h in load.heard if h.outcome and h.status == "COMPLETED"}
    assert completed <= features.keys()


def test_every_named_fault_is_tested_here() -> None:
    source = Path(__file__).read_text()
    for fault in faults.FAULTS:
        if fault.target == "process":
            assert fault.kind in CRASH_POINTS, "tested by its point"
        else:
            assert f'"{fault.kind}"' in source, fault.kind
        assert fault.sight
        assert fault.heals


def test_a_shard_that_is_down(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault(f"shard-{BROKEN}", "down"):
            load.phase = "during"
            until(lambda: len(load.errors("during", ShardUnavailable)) >= 50)
            until(lambda: len(load.completed("during", BROKEN, other=True)) >= 50)
            until(lambda: any(h.status == "PENDING" for h in load.of("during")))
            refused = load.errors("during", ShardUnavailable)
            assert all(BROKEN in h.shards for h in refused), "others go on"
            assert {type(h.error) for h in load.of("during", BROKEN, other=True)} == {type(None)}
            assert not load.completed("during", BROKEN)
            at_once = [h.latency_s for h in refused]
            pending = [h.outcome for h in load.of("during") if h.outcome and h.status == "PENDING"]
            assert median(at_once) < 0.05
            assert {outcome.reason for outcome in pending} == {"shard_unavailable"}
            with pytest.raises(ShardUnavailable) as refusal:
                lab.transfer(str(BROKEN), "3", "1.00")
            assert (refusal.value.exit_code, refusal.value.code) == (3, "shard_unavailable")
        load.wait_for("after", 50)
        until(lambda: load.completed("after", BROKEN))
        load.stop()
        # Recovery runs by itself: nobody asks for it here.
        until(lambda: all(lab.status(o.payment).status == "COMPLETED" for o in pending))
        require_well(lab, load)
    said = [record.message for record in caplog.records]
    assert sum("relay of shard 2 fails" in line for line in said) == 1
    assert said.count("relay of shard 2 is well again") == 1
    assert len(said) <= 8, "said once, not at every try"


def test_a_slow_shard(lab: Lab) -> None:
    writer = lab.system.writers[BROKEN]

    def batch_size(phase: str, payments: int) -> float:
        operations, batches = writer.stats.operations, writer.stats.batches
        load.wait_for(phase, payments)
        return (writer.stats.operations - operations) / (writer.stats.batches - batches)

    with Load(lab) as load:
        before = batch_size("before", 100)
        with lab.fault(f"shard-{BROKEN}", "slow"):
            during = batch_size("during", 200)
            touching = [h.latency_s for h in load.completed("during", BROKEN)]
            others = [h.latency_s for h in load.completed("during", BROKEN, other=True)]
        assert min(touching) >= SLOW_COMMIT_S
        assert median(others) < median(touching)
        assert during > before
        load.phase = "after"
        until(lambda: any(h.latency_s < SLOW_COMMIT_S for h in load.completed("after", BROKEN)))
        require_well(lab, load)


def test_a_commit_whose_answer_is_lost(lab: Lab) -> None:
    writer, switch = lab.system.writers[BROKEN], lab.system.switches[BROKEN]
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault(f"shard-{BROKEN}", "lost-commit"):
            load.phase = "during"
            until(lambda: switch.lose_commits == 0)
            load.wait_for("during", 50)
        load.wait_for("after", 30)
        require_well(lab, load)
        assert writer.stats.retries == 1
        assert all(h.status == "COMPLETED" for h in load.heard), "nobody noticed"


def test_a_commit_whose_answer_is_lost_and_the_shard_stays_away(lab: Lab) -> None:
    with Load(lab) as load:
        load.wait_for("before", 30)
        load.stop()
    lab.drain()
    with lab.fault(f"shard-{BROKEN}", "lost-commit-down"):
        # To a user of the same shard, and to another shard.
        tickets = [lab.submit(str(BROKEN), to, "1.00", key=f"lost-{to}") for to in ("6", "3")]
        until(lambda: all(ticket.answered for ticket in tickets))
        with pytest.raises(ShardUnavailable):
            lab.transfer(str(BROKEN), "6", "1.00")
    assert isinstance(tickets[0].error, OutcomeUnknown)
    assert tickets[0].error.exit_code == 4
    lab.drain()
    until(partial(is_open_for_payments, lab))
    for ticket, to in zip(tickets, ("6", "3"), strict=True):
        outcomes = [lab.transfer(str(BROKEN), to, "1.00", key=f"lost-{to}") for _ in range(2)]
        assert {outcome.status for outcome in outcomes} == {"COMPLETED"}
        if isinstance(ticket.error, OutcomeUnknown):
            assert {o.payment for o in outcomes} == {ticket.error.payment_id, ticket.payment_id}
            assert all(outcome.repeated for outcome in outcomes)
    require_well(lab, load)


@pytest.mark.parametrize("kind", CRASH_POINTS)
def test_a_process_that_dies(kind: str, tmp_path: Path) -> None:
    closed = [str(n) for n in range(101, 109)]
    with Lab(data=tmp_path / "lab", seed=1, **SETTINGS) as lab:
        lab.open_accounts(dict.fromkeys(closed, 0))
        for user in closed:
            lab.close_account(user)
        with Load(lab, more_receivers=closed) as load:
            load.wait_for("before", 50)
            with lab.fault("process", kind):
                load.phase = "during"
                until(lambda: lab.crashed_at)
            load.stop()
        assert lab.crashed_at == CRASH_POINTS[kind]
        answered = [h.outcome for h in load.heard if h.outcome is not None]
        assert len(answered) < len(load.heard), "callers in flight get no answer"
        with pytest.raises(OutcomeUnknown, match="died"):
            lab.transfer("1", "2", "1.00")
        report = lab.recover()
        assert report.still_pending == 0
        assert report.found or kind != "crash-after-leg-a"
        for outcome in answered:
            now = lab.status(outcome.payment)
            assert now.status == outcome.status or outcome.status == "PENDING"
        # Who heard nothing repeats with the same key, and it was or is made once.
        for heard in load.heard:
            if heard.outcome is None and heard.error is None:
                assert lab.system.engine.transfer(heard.request).status in ("COMPLETED", "FAILED")
        lab.drain()
        lab.audit().require_clean()
        assert lab.replay().exit_code == 0


def test_a_relay_that_stands_still(tmp_path: Path) -> None:
    with Lab(data=tmp_path, seed=1, outbox_rows_max=300, **SETTINGS) as lab, Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("relay", "stopped"):
            load.phase = "during"
            until(lambda: load.errors("during", OutboxFull))
            assert load.completed("during"), "payments went on until then"
            seen = events(lab)
            until(lambda: len(load.errors("during", OutboxFull)) >= 50)
            assert events(lab) == seen, "consumers see nothing new"
            assert max(d.outbox_rows() for d in lab.system.databases.values()) >= 300
        load.wait_for("after", 30)
        require_well(lab, load)
        newest: dict[tuple[int, str], str] = {}
        for record in lab.system.all_records():
            if record.topic == "payment_events":
                event = unwrap(record.value)
                place = (record.partition, event.source)
                assert newest.get(place, "") <= event.time, "a shard's outbox drains in order"
                newest[place] = event.time


def test_a_slow_consumer(lab: Lab) -> None:
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("consumer-analytics", "slow"):
            load.phase = "during"
            until(lambda: lab.system.lag("analytics") > 150)
            assert lab.system.lag("notifications") < lab.system.lag("analytics")
            load.wait_for("during", 100)
        load.wait_for("after", 30)
        load.stop()
        until(lambda: lab.system.lag("analytics") == 0, "it catches up")
        require_well(lab, load)


def test_a_dead_consumer(lab: Lab) -> None:
    runner = lab.system.runners["fraud"]
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("consumer-fraud", "dead"):
            load.phase = "during"
            seen = []

            def stands_still() -> bool:
                """Over 100 events it handled nothing: the step that was under way is over."""
                now = (events(lab), runner.counts.handled)
                seen.append(now)
                return any(now[0] - then >= 100 and now[1] == done for then, done in seen)

            until(stands_still)
            handled, scored = runner.counts.handled, len(list(lab.system.wide.scan(FEATURES)))
            lag, end = lab.system.lag("fraud"), events(lab)
            until(lambda: events(lab) >= end + 100)
            assert lab.system.lag("fraud") >= lag + 100, "its lag grows by every event"
            assert runner.counts.handled == handled
            assert len(list(lab.system.wide.scan(FEATURES))) == scored, "its work stands still"
        load.stop()
        until(lambda: lab.system.lag("fraud") == 0, "it goes on at its offsets")
        require_well(lab, load)
        assert lab.system.fraud.counters["repeated"] == 0


def test_a_poison_message(lab: Lab) -> None:
    readers = {group for group, topics in GROUPS.items() if "payment_events" in topics}
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("payment_events", "poison"):
            load.wait_for("during", 100)
            until(lambda: events(lab, dead_letter("payment_events")) == len(readers))
            load.wait_for("after", 30)
        require_well(lab, load)
    with Lab(data=lab.data, read_only=True) as looked_at:
        letters = looked_at.system.log.read(dead_letter("payment_events"), 0, 0, 10)
    assert {dict(letter.headers)["group"].decode() for letter in letters} == readers
    assert all(int(dict(letter.headers)["attempts"]) <= 10 for letter in letters)
    assert {letter.value for letter in letters} == {b'{"not": an event'}


def test_a_cache_that_is_gone_and_the_gate_after(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    fraud = lab.system.fraud
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("cache", "gone"):
            load.wait_for("during", 50)
            until(lambda: fraud.counters["scorer_down"] and fraud.counters["cache_failed"])
            assert all(h.error is None for h in load.of("during")), "payments are not touched"
        load.wait_for("after", 30)
        require_well(lab, load)
        scored = fraud.counters["scored"] - fraud.counters["scorer_down"]
        assert scored > 30, "and counted again"
    said = [r.message for r in caplog.records if r.message.startswith("fraud scorer")]
    assert [line.split(":")[0] for line in said] == [
        "fraud scorer fails",
        "fraud scorer is well again",
    ]


@pytest.mark.parametrize(
    ("scorer_down", "becomes"),
    [("review", "HELD"), ("allow", "COMPLETED"), ("refuse", "FAILED")],
)
def test_a_cache_that_is_gone_and_the_gate_before(
    scorer_down: str, becomes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Lab(
        data=tmp_path, seed=1, fraud_gate="before", scorer_down=scorer_down, **SETTINGS
    ) as lab:
        lab.open_accounts({"1": 10_000, "2": 10_000})
        assert lab.transfer("1", "2", "1.00").status == "COMPLETED"
        with lab.fault("cache", "gone"):
            assert [lab.transfer("1", "2", "1.00").status for _ in range(3)] == [becomes] * 3
        assert lab.system.engine.gate_unavailable >= 3
        assert lab.transfer("1", "2", "1.00").status == "COMPLETED"
        lab.drain()
        lab.audit().require_clean()
    said = [r.message for r in caplog.records if r.message.startswith("fraud gate")]
    assert [line.split(":")[0] for line in said] == ["fraud gate fails", "fraud gate is well again"]


def test_a_frozen_shard_keeps_its_own_callers_waiting_and_no_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faulty, "FROZEN_PATIENCE_S", 0.5)
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault(f"shard-{BROKEN}", "frozen"):
            load.phase = "during"
            until(lambda: load.errors("during", ShardUnavailable))
            began = {heard.key for heard in load.of("during")}
            until(lambda: len(load.completed("during", BROKEN, other=True)) >= 50)
            assert {type(h.error) for h in load.of("during", BROKEN, other=True)} == {type(None)}
            # After those that waited out their patience, others hear it at once.
            until(lambda: len(load.errors("during", ShardUnavailable)) >= IN_FLIGHT + 50)
            late = [h for h in load.errors("during", ShardUnavailable) if h.key not in began]
            assert median(h.latency_s for h in late) < 0.05
        load.wait_for("after", 50)
        until(lambda: load.completed("after", BROKEN))
        require_well(lab, load)


def test_an_event_log_that_is_gone(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("event-log", "gone"):
            load.phase = "during"
            until(lambda: max(d.outbox_rows() for d in lab.system.databases.values()) >= 50)
            load.wait_for("during", 50)
            assert all(h.error is None for h in load.of("during")), "payments go on"
            for call in (events, lambda lab: lab.system.log.append([])):
                with pytest.raises(Unavailable, match="event-log"):
                    call(lab)
        load.wait_for("after", 30)
        require_well(lab, load)
    assert len(caplog.records) <= 20, "said once, not at every try"


def test_coordination_that_is_gone(lab: Lab) -> None:
    relays = lab.system.relays.values()
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("coordination", "gone"):
            load.phase = "during"
            until(lambda: not any(relay.leads() for relay in relays))
            until(lambda: max(d.outbox_rows() for d in lab.system.databases.values()) >= 50)
            load.wait_for("during", 50)
            assert all(h.error is None for h in load.of("during")), "payments go on"
            with pytest.raises(Unavailable, match="coordination"):
                lab.system.coordination.read_document("shard_map")
        load.wait_for("after", 30)
        until(lambda: all(relay.leads() for relay in relays), "leaders are found anew")
        require_well(lab, load)


def test_a_wide_store_that_is_gone(lab: Lab) -> None:
    with Load(lab) as load:
        load.wait_for("before", 30)
        with lab.fault("wide-store", "gone"):
            load.phase = "during"
            until(lambda: all(lab.system.lag(group) >= 50 for group in WIDE_GROUPS))
            load.wait_for("during", 50)
            assert all(h.error is None for h in load.of("during")), "payments go on"
            with pytest.raises(Unavailable, match="wide-store"):
                lab.system.wide.scan(FEATURES)
        load.wait_for("after", 30)
        require_well(lab, load)
        assert lab.system.fraud.counters["repeated"] == 0, "nothing is scored twice"


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("shard-2", "explodes"),
        ("shard-9", "down"),
        ("shard-x", "slow"),
        ("consumer-nobody", "dead"),
        ("planet", "down"),
    ],
)
def test_a_fault_that_there_is_not(lab: Lab, target: str, kind: str) -> None:
    with pytest.raises(BadInput) as error, lab.fault(target, kind):
        pass
    assert error.value.exit_code == 2
    assert error.value.remedy


def test_topics_of_the_lab_are_the_known_ones(lab: Lab) -> None:
    assert all(lab.system.log.end_offsets(topic) for topic in PARTITIONS)
