"""The load driver: posts payments with so many in flight, and records what each caller saw."""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from paytm_lab.core.errors import (
    BadInput,
    OutboxFull,
    OutcomeUnknown,
    Overloaded,
    PaytmLabError,
    StorageCorrupt,
    StorageFull,
    Unavailable,
)
from paytm_lab.core.ids import payment_id_text
from paytm_lab.core.wakeup import Wakeup
from paytm_lab.ledger.gate_round import ROUND_MAX
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result
from paytm_lab.ledger.shard_writer import helping
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.simulation.payments import Transfer

RETRY_PAUSE_S = 0.002
ASKING_SHARE = 3.0  # pause so many times as long as it took to ask how much waits
BACKLOG_CHECK_PAYMENTS = 512
Ack = Callable[[str, str], None]


class Posted:
    """What the callers saw, one place per payment that was given an id, in order of submission.

    ``ids``: 16 bytes each, the id that the caller was answered with (a repeated key: the first
    one). ``latency_ms``: from submission to the answer; nan when no answer came. ``submitted_s``:
    since the run started. ``status``: the outcome's status, UNKNOWN, or '' where nothing was
    written; ``reason`` then holds the error's code.
    """

    def __init__(self) -> None:
        self.ids: list[bytes] = []
        self.latency_ms = array("d")
        self.submitted_s = array("d")
        self.status: list[str] = []
        self.reason: list[str] = []
        self.repeats: list[int] = []
        self.seconds = 0.0
        self.retries = 0

    def __len__(self) -> int:
        return len(self.ids)

    def make_room(self, payments: int) -> None:
        """Places for so many more payments, unanswered as yet."""
        self.ids.extend([b""] * payments)
        self.status.extend([""] * payments)
        self.reason.extend([""] * payments)
        self.latency_ms.extend([float("nan")] * payments)
        self.submitted_s.extend([float("nan")] * payments)

    @property
    def answers(self) -> Counter[str]:
        """How many payments were answered with each status."""
        return Counter(status for status in self.status if status)

    @property
    def reasons(self) -> dict[str, dict[str, int]]:
        """status -> reason -> payments, of the answers that had a reason."""
        said = Counter(pair for pair in zip(self.status, self.reason, strict=True) if all(pair))
        found: dict[str, dict[str, int]] = {}
        for (status, reason), payments in said.most_common():
            found.setdefault(status, {})[reason] = payments
        return found

    @property
    def not_admitted(self) -> Counter[str]:
        """How many payments were refused before anything was written, by error code."""
        return Counter(
            reason for status, reason in zip(self.status, self.reason, strict=True) if not status
        )

    def latency_by_payment(self) -> Mapping[str, tuple[float, float]]:
        """payment id as text -> (submitted_s, latency_ms)."""
        return {
            payment_id_text(payment): (submitted, latency)
            for payment, submitted, latency in zip(
                self.ids, self.submitted_s, self.latency_ms, strict=True
            )
        }


class LoadDriver:
    """``in_flight``: payments that wait for their answer at a time (a closed loop). ``backlog`` is
    asked now and then, and submission pauses while it is above ``backlog_max``: events then never
    lag far behind, which bounds memory, disk and the time to drain. ``ack`` is called with (payment
    id, status) as each answer arrives, in a writer's thread. ``give_up_s``: how long a payment that
    finds no room is tried again before the run ends with that error.
    """

    def __init__(
        self,
        engine: TransferEngine,
        *,
        in_flight: int = 1024,
        ack: Ack | None = None,
        backlog: Callable[[], int] | None = None,
        backlog_max: int = 20_000,
        give_up_s: float = 60.0,
        pause: Callable[[], None] | None = None,
    ) -> None:
        self._engine = engine
        self._in_flight = in_flight
        self._ack = ack
        self._backlog = backlog
        self._backlog_max = backlog_max
        self._give_up_s = give_up_s
        self._pause = pause
        self._answered: list[None] = []
        self._wake = Wakeup()
        self._waiting = False
        self._ask_at_s = float("-inf")
        self._broken: PaytmLabError | None = None
        self._again: deque[tuple[int, PaymentRequest]] = deque()
        self.posted = Posted()

    def run(
        self, transfers: Iterable[list[Transfer]], on_progress: Callable[[int], None] | None = None
    ) -> Posted:
        """Post all, in order of submission, and wait for every answer. Raises StorageFull or
        StorageCorrupt where a shard cannot store any more; what was answered until then stands.
        """
        started = time.perf_counter()
        posted = self.posted
        for batch in transfers:
            for start in range(0, len(batch), BACKLOG_CHECK_PAYMENTS):
                part = batch[start : start + BACKLOG_CHECK_PAYMENTS]
                self._hold_back()
                self._post(part, started)
                if on_progress is not None:
                    on_progress(len(part))
        while len(self._answered) < len(posted):
            self._wait_until(lambda: bool(self._again) or len(self._answered) >= len(posted))
            self._retry(started)
        if self._broken is not None:
            raise self._broken
        posted.seconds = time.perf_counter() - started
        return posted

    def _post(self, part: list[Transfer], started: float) -> None:
        """Submit these, each as soon as fewer than ``in_flight`` payments wait for their answer."""
        posted, answered, in_flight = self.posted, self._answered, self._in_flight
        submitted_s, now_s = posted.submitted_s, time.perf_counter
        first = len(posted)
        posted.make_room(len(part))
        if self._engine.gate is not None:
            self._post_rounds([_request(transfer) for transfer in part], first, started)
            return
        for index, transfer in enumerate(part, first):
            request = _request(transfer)
            if index - len(answered) >= in_flight:
                self._wait_for_room(index)
            submitted_s[index] = now_s() - started
            self._submit(index, request, started)
            if self._again:
                self._retry(started)
            if self._broken is not None:
                raise self._broken

    def _post_rounds(self, requests: list[PaymentRequest], first: int, started: float) -> None:
        """The same before a gate: as many as there is room for are asked about together."""
        submitted_s, at = self.posted.submitted_s, 0
        while at < len(requests):
            index = first + at
            self._wait_for_room(index)
            room = self._in_flight - (index - len(self._answered))
            together = requests[at : at + min(room, ROUND_MAX)]
            now_s = time.perf_counter() - started
            submitted_s[index : index + len(together)] = array("d", [now_s] * len(together))
            at += self._submit_round(index, together, started)
            if self._again:
                self._retry(started)
            if self._broken is not None:
                raise self._broken

    def _wait_for_room(self, submitted: int) -> None:
        self._wait_until(lambda: submitted - len(self._answered) < self._in_flight)

    def _hold_back(self) -> None:
        """Pause while too much waits. Asking is work, on servers dozens of round trips, so it is
        never most of what is done here.
        """
        if self._backlog is None or time.monotonic() < self._ask_at_s:
            return
        until = time.monotonic() + self._give_up_s
        while True:
            asked_s = time.monotonic()
            waiting = self._backlog()
            pause_s = ASKING_SHARE * (time.monotonic() - asked_s)
            self._ask_at_s = time.monotonic() + pause_s
            if waiting <= self._backlog_max:
                return
            if asked_s > until:
                raise OutboxFull(
                    f"events lag {self._backlog_max} behind and do not catch up",
                    remedy="Start relay and consumers (paytm-lab relay, paytm-lab consume).",
                )
            self._breathe(max(RETRY_PAUSE_S, pause_s))

    def _breathe(self, pause_s: float = RETRY_PAUSE_S) -> None:
        if self._pause is not None:
            self._pause()
        else:
            time.sleep(pause_s)

    def _submit(self, index: int, request: PaymentRequest, started: float) -> None:
        done = partial(self._done, index, request, started)
        until = 0.0
        while True:
            try:
                if self._in_flight == 1 and self._pause is None:
                    with helping():  # this thread would only wait
                        self._engine.submit(request, done)
                else:
                    self._engine.submit(request, done)
                return
            except Overloaded as error:
                until = self._wait_a_moment(error, until)
            except (BadInput, Unavailable) as error:
                self._not_admitted(index, error)
                return

    def _submit_round(self, first: int, requests: Sequence[PaymentRequest], started: float) -> int:
        """How many of these were submitted, from the first on: as many as found room."""
        answers = [partial(self._done, n, each, started) for n, each in enumerate(requests, first)]
        begun: list[bytes | PaytmLabError] = []
        until = 0.0
        while not begun:
            try:
                if self._in_flight == 1 and self._pause is None:
                    with helping():
                        begun = self._engine.submit_many(requests, answers)
                else:
                    begun = self._engine.submit_many(requests, answers)
            except Overloaded as error:
                until = self._wait_a_moment(error, until)
        for index, said in enumerate(begun, first):
            if isinstance(said, BadInput | Unavailable):
                self._not_admitted(index, said)
            elif isinstance(said, PaytmLabError):
                raise said
        return len(begun)

    def _not_admitted(self, index: int, error: PaytmLabError) -> None:
        self.posted.reason[index] = error.code
        self._answered.append(None)

    def _wait_a_moment(self, error: Overloaded, until: float) -> float:
        """Until an answer makes room. ``until``: when to give up, 0 at first; returned for the next
        time.
        """
        until = until or time.monotonic() + self._give_up_s
        if time.monotonic() > until:
            raise error
        self.posted.retries += 1
        before = len(self._answered)
        self._wait_until(lambda: len(self._answered) > before, error.retry_after_s)
        return until

    def _retry(self, started: float) -> None:
        """Payments that a full outbox refused: nothing was written, so they are sent again."""
        if self._again:
            self._hold_back()
            self._breathe()
        for _ in range(len(self._again)):
            index, request = self._again.popleft()
            self.posted.retries += 1
            self._submit(index, request, started)

    def _done(self, index: int, request: PaymentRequest, started: float, result: Result) -> None:
        posted = self.posted
        if isinstance(result, Outcome):
            posted.latency_ms[index] = (
                time.perf_counter() - started - posted.submitted_s[index]
            ) * 1e3
            posted.ids[index] = result.payment_id
            posted.status[index] = result.status
            posted.reason[index] = result.reason
            if result.repeated:
                posted.repeats.append(index)
            if self._ack is not None:
                self._ack(result.payment, result.status)
            self._answered.append(None)
        elif isinstance(result, OutboxFull):
            self._again.append((index, request))
        elif isinstance(result, OutcomeUnknown):
            posted.status[index] = "UNKNOWN"
            self._answered.append(None)
        else:
            if isinstance(result, StorageFull | StorageCorrupt):
                self._broken = result  # what follows would only meet it too
            self._not_admitted(index, result)
        if self._waiting:
            self._waiting = False  # one call wakes; waking for each of a batch's answers costs more
            self._wake.call()

    def _wait_until(self, is_true: Callable[[], bool], timeout_s: float | None = None) -> None:
        if is_true():
            return
        until = time.monotonic() + (self._give_up_s if timeout_s is None else timeout_s)
        while not is_true():
            if self._pause is not None:
                self._pause()
            else:
                self._waiting = True
                if not is_true():
                    self._wake.wait(0.02)
            if time.monotonic() > until:
                if timeout_s is None:
                    raise OutcomeUnknown(f"no answer within {self._give_up_s:.0f} s", payment_id="")
                break
        self._waiting = False


def _request(transfer: Transfer) -> PaymentRequest:
    return PaymentRequest(
        transfer.from_user_id, transfer.to_user_id, transfer.amount_paise,
        idempotency_key=transfer.idempotency_key, at_us=transfer.at_us,
    )  # fmt: skip
