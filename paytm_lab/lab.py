"""The one facade: notebooks, the command line, reports and tests all use a lab through it.

with Lab(profile="embedded", shards=4, seed=7) as lab:
    run = lab.run(Workload(users=10_000, payments=50_000))
    lab.audit().require_clean()
"""

from __future__ import annotations

import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from paytm_lab import wiring
from paytm_lab.analytics.rollups import Totals, read_rollups
from paytm_lab.config import Settings
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import AccountExists, BadInput, PaytmLabError, Unavailable
from paytm_lab.core.ids import parse_payment_id, payment_id_text
from paytm_lab.core.money import parse_rupees
from paytm_lab.core.words import plural
from paytm_lab.fraud.lists import FROZEN
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.ledger import as_of, closing, queries
from paytm_lab.ledger.audit import AuditReport, audit
from paytm_lab.ledger.batch import outcome_of
from paytm_lab.ledger.operations import Outcome, PaymentRequest, SetAccountState
from paytm_lab.ledger.queries import AccountView, ReviewRow
from paytm_lab.ledger.recovery import RecoveryReport
from paytm_lab.ledger.ticket import Ticket
from paytm_lab.messaging.log_contents import event_counts
from paytm_lab.reporting.results import RunResult
from paytm_lab.simulation import faults, last_run
from paytm_lab.simulation.driver import Ack, LoadDriver, Posted
from paytm_lab.simulation.payments import Workload
from paytm_lab.simulation.sources import PaymentSource
from paytm_lab.simulation.spread import spread
from paytm_lab.simulation.stepping import Moved, Stepper

if TYPE_CHECKING:
    from paytm_lab.ledger.replay import ReplayReport
    from paytm_lab.ports.shard_database import PaymentRow
    from paytm_lab.reporting.charts import Charts
    from paytm_lab.reporting.trace import Trace

OnProgress = Callable[[str, int, int | None], None]
ACCOUNTS_IN_FLIGHT = 2048


class Lab:
    """A lab on ``data`` (all its state; None: a temporary folder, gone when the lab closes). With
    ``profile="servers"`` the folder stands for a namespace on the servers (``settings.namespace``).

    ``seed``: of everything random (None: drawn; see ``lab.seed``). ``deterministic``: no threads, a
    simulated clock; ``step`` moves one part at a time and the same seed repeats every event. More
    settings by name (``fraud_gate="before"``): see ``paytm-lab config``. ``relay`` and
    ``consumers`` (None: all) say which workers run beside the writers. ``fault_points``: what to
    call at named points of the protocol, from the opening on (see simulation/faults.py).
    ``read_only``: no writers, no workers, no recovery; what lies in ``data`` can be looked at,
    audited, traced and replayed.
    """

    def __init__(
        self,
        profile: str = "embedded",
        shards: int | None = None,
        seed: int | None = None,
        data: str | Path | None = None,
        *,
        deterministic: bool = False,
        relay: bool = True,
        consumers: tuple[str, ...] | None = None,
        read_only: bool = False,
        fault_points: Mapping[str, Callable[[], None]] | None = None,
        **settings: Any,
    ) -> None:
        self._temporary = None if data else tempfile.mkdtemp(prefix="paytm_lab-")
        folder = Path(data or self._temporary or "")
        given = {"profile": profile, "data_dir": folder, "seed": seed, **settings}
        try:
            self.settings = Settings(shards=shards, **given)
            if deterministic and self.settings.profile == "servers":
                raise BadInput("servers cannot be stepped by a seed", remedy="Use embedded.")
            stored = wiring.stored_shards(self.settings)
            if stored is None and read_only:
                raise BadInput(
                    f"there is no lab in {folder}", remedy="Make one with paytm-lab run."
                )
            if shards is None and stored is not None:  # an existing lab keeps its number
                self.settings = Settings(shards=stored, **given)
        except BaseException:
            if self._temporary is not None:
                shutil.rmtree(self._temporary)
            raise
        self.seed = secrets.randbelow(2**32) if self.settings.seed is None else self.settings.seed
        self.profile = self.settings.profile
        self.data = folder
        self.deterministic = deterministic
        self.read_only = read_only
        self.recovered: RecoveryReport | None = None
        self.crashed_at = ""
        self._relay = relay
        self._consumers = consumers
        self._fault_points = dict(fault_points or {})
        self._rng = random.Random(self.seed)
        self._system: wiring.System | None = None
        self._stepper: Stepper | None = None

    # -- opening and closing ----------------------------------------------------------------------

    def open(self) -> Self:
        """Open the lab: recovery comes first, before anything else is accepted."""
        if self._system is not None:
            return self
        clock = self._stepper.clock if self._stepper is not None else None
        system = wiring.build(self.settings, self._rng if self.deterministic else None, clock)
        system.on_crash = self._note_crash
        system.fault_points.update(self._fault_points)
        self._system = system
        if self.read_only:
            return self
        if strange := set(self._consumers or ()) - system.runners.keys():
            self.close()
            raise BadInput(
                f"this lab has no consumer {', '.join(sorted(strange))}",
                remedy=f"It has {', '.join(system.runners)}; fraud only with a fraud gate.",
            )
        try:
            if self.deterministic:
                self._stepper = self._make_stepper(system)
                system.engine.set_drive(self._stepper.drive)
                self.recovered = system.recovery.run(age_us=0)
            else:
                system.start_writers()
                self.recovered = system.recovery.run(age_us=0)
                system.start_workers(self._relay, self._consumers)
            system.reviews.resume_rejections()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Finish what waits and release everything; a temporary folder is removed."""
        system, self._system = self._system, None
        silent = system.close() if system is not None else ()
        if self._temporary is not None and Path(self._temporary).exists():
            shutil.rmtree(self._temporary, ignore_errors=True)
            if self.settings.source("namespace") == "default":  # one that somebody named is theirs
                wiring.remove(self.settings, silent)

    def crash(self) -> None:
        """Lose everything in memory, as ``kill -9`` would. ``recover`` opens the lab again."""
        system, self._system = self.system, None
        system.kill()
        system.close()

    def recover(self) -> RecoveryReport:
        """Open the lab again after a crash, or look for PENDING payments now; what was done."""
        if self._system is not None and self.crashed_at:
            self.crash()
        self.crashed_at = ""
        if self._system is not None:
            return self.live.recovery.run(age_us=0)
        self.open()
        if self.recovered is None:
            raise BadInput("the lab was not recovered")
        return self.recovered

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def system(self) -> wiring.System:
        """The parts. BadInput when the lab is not open."""
        if self._system is None:
            raise BadInput(
                "the lab is not open", remedy="Use `with Lab(...) as lab:` or lab.open()."
            )
        return self._system

    @property
    def live(self) -> wiring.System:
        """The parts, to change something with. BadInput in a read-only lab: nobody would post."""
        if self.read_only:
            raise BadInput("this lab is read-only", remedy="Open it without read_only=True.")
        return self.system

    @cached_property
    def charts(self) -> Charts:
        """The charts of this profile: ``lab.charts.shard_balance(run)``."""
        from paytm_lab.reporting.charts import Charts  # with Plotly, which takes long to import

        rules = self._system.scorer.settings if self._system is not None else self.settings
        return Charts(self.profile, rules.review_score)

    def _note_crash(self, point: str) -> None:
        self.crashed_at = point
        if self._stepper is not None:
            self._stepper.crashed_at = point

    def _make_stepper(self, system: wiring.System) -> Stepper:
        if not isinstance(system.clock, SimulatedClock):
            raise BadInput("only a simulated clock can be stepped")
        # On an older folder time goes on after what is stored there, not before it.
        behind_us = max(map(closing.last_stamp, system.databases.values())) - system.clock.now_us()
        if behind_us >= 0:
            system.clock.advance((behind_us + 1_000) / 1e6)
        actors = system.actors(self._relay, self._consumers)
        return Stepper(actors, system.clock, self._rng, system.writer_actors())

    # -- payments ---------------------------------------------------------------------------------

    def create_account(self, user_id: str, opening_rupees: str | int = 0, key: str = "") -> Outcome:
        """A new account. Repeating it with the same key and balance answers the same."""
        paise = parse_rupees(str(opening_rupees))
        outcome = self.live.engine.create_account(user_id, paise, key=key)
        self.system.routes.publish(self.system.router, [user_id])
        return outcome

    def transfer(
        self,
        from_user: str,
        to_user: str,
        amount_rupees: str | int,
        key: str = "",
        hold: bool = False,
    ) -> Outcome:
        """Pay and wait. Refusals are outcomes (status FAILED with a reason), not errors."""
        return self.live.engine.transfer(_request(from_user, to_user, amount_rupees, key, hold))

    def submit(
        self,
        from_user: str,
        to_user: str,
        amount_rupees: str | int,
        key: str = "",
        hold: bool = False,
    ) -> Ticket:
        """Pay without waiting; in a deterministic lab nothing happens until ``step``."""
        ticket = Ticket("")
        request = _request(from_user, to_user, amount_rupees, key, hold)
        payment_id = self.live.engine.submit(request, ticket._answer)
        ticket.payment_id = payment_id_text(payment_id)
        return ticket

    def capture(self, payment_id: str, amount_rupees: str | int | None = None) -> Outcome:
        """Post a hold, all or a part of it."""
        amount = None if amount_rupees is None else parse_rupees(str(amount_rupees))
        return self.live.holds.capture(parse_payment_id(payment_id), amount)

    def release(self, payment_id: str) -> Outcome:
        """Let a hold go."""
        return self.live.holds.release(parse_payment_id(payment_id))

    def expire_holds(self) -> int:
        """Cancel the holds that are past their time; how many."""
        return self.live.holds.expire()

    def freeze(self, user_id: str, credits_too: bool = False) -> Outcome:
        """Refuse the user's debits and captures (and credits); refunds and releases still apply."""
        return self._set_state(user_id, "frozen_all" if credits_too else "frozen")

    def unfreeze(self, user_id: str) -> Outcome:
        return self._set_state(user_id, "active")

    def close_account(self, user_id: str) -> Outcome:
        """Close for good, or the reason why not: balance, holds, pending payments must be zero."""
        return self._set_state(user_id, "closed")

    def _set_state(self, user_id: str, state: str) -> Outcome:
        engine = self.live.engine
        writer = engine.writers[engine.router.locate(user_id)[1]]
        writer.require_up()
        outcome = engine.wait(lambda done: writer.put(SetAccountState(user_id, state), done))
        lists = self.system.fraud_lists
        change = lists.add if outcome.status in ("frozen", "frozen_all") else lists.remove
        change(FROZEN, [user_id])
        return outcome

    def reviews(self, state: str | None = "open") -> list[ReviewRow]:
        return self.system.reviews.list(state)

    def approve(self, payment_id: str, by: str = "lab") -> Outcome:
        return self.live.reviews.approve(parse_payment_id(payment_id), by)

    def reject(self, payment_id: str, by: str = "lab") -> Outcome:
        """Undo a reviewed payment: release its hold, or refund it by a new payment."""
        return self.live.reviews.reject(parse_payment_id(payment_id), by)

    deploy_model = wiring.deploy_model
    promote_model, withdraw_model = wiring.promote_model, wiring.withdraw_model

    # -- reading ----------------------------------------------------------------------------------

    def account(self, user_id: str) -> AccountView | None:
        """The user's account now; None where there is none."""
        shard = self.system.router.locate(user_id)[1]
        return queries.account(self.system.databases[shard], user_id)

    def status(self, payment_id: str) -> Outcome:
        """Where a payment stands; a PENDING one is looked up at its destination too."""
        raw = parse_payment_id(payment_id)
        rows = queries.payment_on_all_sides(
            self.system.databases.values(), self.system.engine.source_of(raw), raw
        )
        if not rows:
            raise BadInput(f"payment {payment_id} is not known", remedy="Check the payment id.")
        outcome = outcome_of(rows[0])
        if outcome.status == "PENDING" and len(rows) > 1 and rows[1].status == "COMPLETED":
            outcome.status = "COMPLETED"
        return outcome

    def close_stamp(self) -> int:
        """Close the time now: balances and statements as of it never change. Microseconds."""
        system = self.system
        now_us = system.clock.now_us()
        return closing.close_stamp(system.databases, now_us, self._push).stamp_us

    def _push(self, _: Sequence[PaymentRow]) -> None:
        """Help payments that keep a stamp from closing, whoever started them."""
        if self._stepper is None:
            self.system.recovery.run(age_us=0)
            return
        for _step in range(8):
            self.step()

    def balances(self, as_of_us: int | None = None) -> dict[str, int]:
        """Every user's balance in paise, as of a closed time (None: now)."""
        system = self.system
        if as_of_us is not None:
            return as_of.balances_as_of(system.databases, as_of_us)
        found = map(queries.balances, system.databases.values())
        return {user: paise for each in found for user, paise in each.items()}

    def statement(
        self, user_id: str, as_of_us: int | None = None, after: str = "", rows_max: int = 100
    ) -> as_of.Statement:
        """The user's entries with a running balance, a page at a time."""
        shard = self.system.router.locate(user_id)[1]
        return as_of.statement(
            self.system.databases[shard], user_id, as_of_us, after=after, rows_max=rows_max
        )

    def trace(self, payment_id: str) -> Trace:
        """The real sequence of one payment, with times; draws itself in a notebook."""
        from paytm_lab.reporting.trace import trace

        raw = parse_payment_id(payment_id)
        system = self.system
        source = system.engine.source_of(raw)
        seen_ms = last_run.latency_of(self.data, payment_id.lower())
        return trace(raw, source, system.databases, system.log, system.wide, self.profile, seen_ms)

    # -- runs -------------------------------------------------------------------------------------

    def run(
        self,
        what: Workload | PaymentSource,
        *,
        in_flight: int = 1024,
        ack: Ack | None = None,
        drain: bool = True,
        progress: OnProgress | None = None,
        command: str = "",
    ) -> RunResult:
        """Open the accounts, post every payment, and wait until all consumers are done.

        A file's payments have idempotency keys, so running it again posts nothing.
        """
        system = self.live
        if isinstance(what, Workload):
            openings: Mapping[str, int] = what.openings(self.seed)
            batches = what.rows(self.seed, system.router.map)
            total = what.payments
        else:
            openings, batches, total = what.openings(), what.rows(), what.accepted
            if "time" not in what.columns:
                rules = system.scorer.settings
                step_us = round(rules.velocity_window_s * 1e6 / rules.velocity_limit) + 1
                batches = spread(batches, total, system.clock.now_us(), step_us)
        self.open_accounts(openings, progress)
        if drain:
            # The accounts' own events are no part of what the run is timed for.
            self.drain(progress)
        marks = queries.payment_marks(system.databases.values())
        started = time.perf_counter()
        posted = self._post(batches, total, in_flight, ack, progress)
        if drain:
            self.drain(progress)
        drained_s = time.perf_counter() - started
        figures = {
            "profile": self.profile,
            "seed": self.seed,
            "command": command,
            "users": len(openings),
            "submitted": len(posted),
            "answers": posted.answers,
            "reasons": posted.reasons,
            "not_admitted": posted.not_admitted,
            "repeated": len(posted.repeats),
            "posting_s": posted.seconds,
            "drained_s": drained_s,
        }
        if self._temporary is None:
            last_run.save(self.data, figures, marks, posted)
        return self._result(figures, marks, posted.latency_by_payment)

    def last_run(self) -> RunResult:
        """The last run in this lab's folder, by whichever process; BadInput if there is none."""
        found = last_run.load(self.data)
        return self._result(found.figures, found.marks, lambda: found.latency_by_payment)

    def _result(
        self,
        figures: Mapping[str, Any],
        marks: Mapping[int, int],
        seen: Callable[[], Mapping[str, tuple[float, float]]],
    ) -> RunResult:
        return RunResult(
            **figures,
            read_payments=partial(self._payments, marks, seen),
            read_shards=self._shards,
            read_features=self._features,
            read_events=self.event_counts,
        )

    def _post(
        self,
        batches: Any,
        total: int,
        in_flight: int,
        ack: Ack | None,
        progress: OnProgress | None,
    ) -> Posted:
        system = self.system
        driver = LoadDriver(
            system.engine,
            in_flight=min(in_flight, 64) if self.deterministic else in_flight,
            ack=ack,
            backlog=system.backlog if self._relay and self._consumers is None else None,
            pause=self._pause if self._stepper is not None else None,
        )
        say = None if progress is None else lambda n: progress("posting payments", n, total)
        return driver.run(batches, say)

    def _pause(self) -> None:
        if self.step() is None and isinstance(self.system.clock, SimulatedClock):
            self.system.clock.advance(0.05)

    def open_accounts(
        self, openings: Mapping[str, int], progress: OnProgress | None = None
    ) -> None:
        """Accounts with these opening balances (paise); one that exists keeps its own balance."""
        engine = self.live.engine
        left = list(openings.items())
        for start in range(0, len(left), ACCOUNTS_IN_FLIGHT):
            part = left[start : start + ACCOUNTS_IN_FLIGHT]
            results = engine.wait_all(
                [partial(engine.submit_account, *opening, key="opening") for opening in part]
            )
            for result in results:
                if isinstance(result, PaytmLabError) and not isinstance(result, AccountExists):
                    raise result
            self.system.routes.publish(self.system.router, [user_id for user_id, _ in part])
            if progress is not None:
                progress("opening accounts", len(part), len(left))

    def _payments(
        self, marks: Mapping[int, int], seen: Callable[[], Mapping[str, tuple[float, float]]]
    ) -> Mapping[str, Any]:
        columns = queries.payment_columns(self.system.databases.values(), marks)
        nan = float("nan")
        seen_by = seen()  # made when looked at: of a long run it is far larger than the run itself
        times = [seen_by.get(payment, (nan, nan)) for payment in columns["payment_id"]]
        return {
            **columns,
            "at_us": columns["occurred_at_us"],
            "submitted_s": [submitted for submitted, _ in times],
            "latency_ms": [latency for _, latency in times],
        }

    def _shards(self) -> list[dict[str, Any]]:
        rows = []
        for database in self.system.databases.values():
            total = queries.totals(database)
            rows.append(
                {
                    "shard": total.shard,
                    "accounts": total.accounts,
                    "balance_paise": total.balance_paise,
                    "payments": sum(total.payments.values()),
                    "entries": total.entries,
                }
            )
        return rows

    def _features(self) -> list[dict[str, Any]]:
        return [{**row, "amount_paise": row["amount"]} for row in self.system.wide.scan(FEATURES)]

    def event_counts(self) -> dict[str, int]:
        """Records in the log by event type; an event that was delivered twice counts twice."""
        return event_counts(self.system.log)

    def rollups(self) -> Totals:
        """What analytics counted of the events it has handled: each once, all runs of this lab."""
        return read_rollups(self.system.wide)

    def drain(self, progress: OnProgress | None = None) -> None:
        """Wait until nothing is in flight, every outbox is empty and every consumer is done."""
        if self.crashed_at:
            raise Unavailable(
                f"the process died at {self.crashed_at}", remedy="Call lab.recover(), then go on."
            )
        if self._stepper is not None:
            self._stepper.drive(self.system.is_drained)
            return
        if self.read_only:
            if not self.system.is_drained():
                raise Unavailable(f"a read-only lab drains nothing: {self.system.waiting()}")
            return
        say = None if progress is None else lambda n: progress("draining events", n, None)
        self.system.drain(on_progress=say)

    # -- verdicts ---------------------------------------------------------------------------------

    def audit(self, mode: str = "quiescent") -> AuditReport:
        """The named checks and the money verdict. ``live`` audits under load, without draining."""
        system = self.system
        return audit(
            system.databases,
            system.log,
            mode=mode,
            clock=system.clock,
            drain=self.drain if mode == "quiescent" else None,
            help=None if self.read_only else self._push,
        )

    def replay(self) -> ReplayReport:
        """Rebuild every balance from payment_events and compare it with the ledger's."""
        from paytm_lab.ledger.replay import replay

        return replay(self.system.log, self.system.databases)

    def state_hash(self) -> str:
        """One hash of all events and balances: equal for equal seeds when deterministic."""
        digest = blake2b(digest_size=16)
        for event in self.system.all_records():
            digest.update(f"{event.topic}/{event.partition}/{event.offset}:".encode())
            digest.update(event.value)
        for user, paise in sorted(self.balances().items()):
            digest.update(f"{user}={paise};".encode())
        return digest.hexdigest()

    # -- faults and stepping ----------------------------------------------------------------------

    @contextmanager
    def fault(self, target: str, kind: str) -> Iterator[faults.FaultKind]:
        """Break something by name (see ``paytm-lab fault``); it heals when the block ends."""
        fault = faults.find(target, kind)
        heal = wiring.set_fault(self.live, fault, target)
        try:
            yield fault
        finally:
            heal()

    def step(self) -> Moved | None:
        """Move a deterministic lab by one step of one part; None when nothing waits, or it died."""
        stepper, _ = self._stepper, self.system
        if stepper is None:
            raise BadInput(
                "this lab has threads and moves by itself", remedy="Use Lab(deterministic=True)."
            )
        return None if self.crashed_at else stepper.step()

    def __repr__(self) -> str:
        open_ = self._system is not None
        shards = len(self.system.databases) if open_ else self.settings.shards
        how = ["open" if open_ else "closed", *(["read-only"] if self.read_only else [])]
        words = [self.profile, str(self.data), f"{shards} {plural(shards, 'shard')}", *how]
        return f"<Lab {', '.join(words)}>"

    def _repr_html_(self) -> str:
        if self._system is None:
            return f"<p>A closed lab ({self.profile}, seed {self.seed}).</p>"
        rows = "".join(
            f"<tr><td>{row['shard']}</td><td>{row['accounts']}</td><td>{row['payments']}</td>"
            f"<td>{row['entries']}</td></tr>"
            for row in self._shards()
        )
        shards = len(self.system.databases)
        return (
            f"<p>A lab: profile {self.profile}, {shards} {plural(shards, 'shard')},"
            f" seed {self.seed}</p>"
            "<table><tr><th>shard</th><th>accounts</th><th>payments</th><th>entries</th></tr>"
            f"{rows}</table>"
        )


def _request(
    from_user: str, to_user: str, amount_rupees: str | int, key: str, hold: bool
) -> PaymentRequest:
    amount = parse_rupees(str(amount_rupees))
    return PaymentRequest(from_user, to_user, amount, idempotency_key=key, hold=hold)
