"""A steady open load on a lab that is being broken: what each payer heard, and when.

The load is open: a payment is asked for when it is due, whatever became of those before it.
"""

from __future__ import annotations

import math
import random
import threading
import time
from functools import partial
from typing import Any

import pandas as pd

from paytm_lab.core.errors import BadInput, PaytmLabError, Unavailable
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result

COMPLETED, PENDING, FAILED = "completed", "pending (202)", "failed"
REFUSED, UNKNOWN = "refused (503)", "outcome unknown (504)"
NO_ANSWER, NO_SERVICE = "no answer", "no service"
WORDS = (COMPLETED, PENDING, REFUSED, UNKNOWN, FAILED, NO_ANSWER, NO_SERVICE)
COLUMNS = (
    "payment_id", "from_shard", "to_shard", "submitted_s", "answered_s", "heard", "reason",
)  # fmt: skip
ANSWERED, HEARD, REASON = map(COLUMNS.index, ("answered_s", "heard", "reason"))
JOIN_S = 60.0
RUPEES_MAX = 500


class FaultLoad:
    """Payments between random users '1'..``users``, ``offered_per_s``, from ``start`` to ``stop``.
    Times are seconds since ``start``; ``started_us`` is that moment by the lab's clock.
    """

    def __init__(self, lab: Any, offered_per_s: float, users: int) -> None:
        if not (math.isfinite(offered_per_s) and offered_per_s > 0) or users < 2:
            raise BadInput(
                f"{offered_per_s} payments a second between {users} users",
                remedy="Offer more than none, between at least two users.",
            )
        self.started_us = 0
        self._lab = lab
        self._offered_per_s = offered_per_s
        self._users = users
        self._rng = random.Random(lab.seed)
        self._started = 0.0
        self._rows: list[list[Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._offer, name="load", daemon=True)

    def start(self) -> None:
        self.started_us = self._lab.system.clock.now_us()
        self._started = time.perf_counter()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(JOIN_S)

    def now_s(self) -> float:
        return time.perf_counter() - self._started

    def wait(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _offer(self) -> None:
        number = 0
        while not self._stop.wait(max(0.0, number / self._offered_per_s - self.now_s())):
            number += 1
            sender, receiver = (str(n + 1) for n in self._rng.sample(range(self._users), 2))
            self._pay(PaymentRequest(sender, receiver, self._paise()))

    def burst(self, shard: int, payments: int) -> None:
        """So many payments at once from other shards to this one, beside the steady load."""
        router = self._lab.system.router
        there: dict[bool, list[str]] = {True: [], False: []}
        for user in map(str, range(1, self._users + 1)):
            there[router.locate(user)[1] == shard].append(user)
        if not there[True] or not there[False]:
            return
        pick = random.Random(self._lab.seed).choice
        for _ in range(payments):
            self._pay(PaymentRequest(pick(there[False]), pick(there[True]), self._paise()))

    def _paise(self) -> int:
        return self._rng.randrange(100, 100 * RUPEES_MAX)

    def _pay(self, request: PaymentRequest) -> None:
        row: list[Any] = ["", -1, -1, self.now_s(), math.nan, NO_ANSWER, ""]
        self._rows.append(row)
        try:
            system = self._serving()
        except BadInput:
            row[ANSWERED], row[HEARD] = self.now_s(), NO_SERVICE
            return
        row[1] = system.router.locate(request.from_user_id)[1]
        row[2] = system.router.locate(request.to_user_id)[1]
        try:
            row[0] = payment_id_text(system.engine.submit(request, partial(self._hear, row)))
        except PaytmLabError as error:
            self._hear(row, error)

    def _serving(self) -> Any:
        """The lab's parts; BadInput where its process has died and was not started again."""
        if self._lab.crashed_at:
            raise BadInput(f"the process died at {self._lab.crashed_at}")
        return self._lab.system

    def _hear(self, row: list[Any], result: Result) -> None:
        row[ANSWERED] = self.now_s()
        if isinstance(result, Outcome):
            row[0] = result.payment
            row[HEARD] = {"COMPLETED": COMPLETED, "PENDING": PENDING}.get(result.status, FAILED)
            row[REASON] = result.reason
        else:
            row[HEARD] = REFUSED if isinstance(result, Unavailable) else UNKNOWN
            row[REASON] = result.code

    def frame(self) -> pd.DataFrame:
        """One row a payment asked for, in order. ``heard``: one of WORDS; ``answered_s``: nan where
        no answer came (yet); shards are -1 where nobody routed it.
        """
        frame = pd.DataFrame([tuple(row) for row in tuple(self._rows)], columns=list(COLUMNS))
        frame["latency_ms"] = (frame["answered_s"] - frame["submitted_s"]) * 1e3
        return frame
