"""Another process on the same lab: posts, and says each answer on stdout as it arrives.

    python posting_process.py FOLDER random SEED PAYMENTS
    python posting_process.py FOLDER keys KEYS ROUNDS

``keys``: the same keys in the same order as every other such process, again and again.
"""

from __future__ import annotations

import os
import random
import sys
import threading

from paytm_lab import Lab
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.ledger.operations import PaymentRequest, Result

USERS = 12
IN_FLIGHT = 64


def say(text: str) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


class Poster:
    def __init__(self, lab: Lab) -> None:
        self.engine = lab.system.engine
        self.room = threading.Semaphore(IN_FLIGHT)

    def post(self, request: PaymentRequest) -> None:
        self.room.acquire()

        def done(result: Result) -> None:
            if isinstance(result, PaytmLabError):
                say(f"error {result.code} {request.idempotency_key}")
            else:
                say(f"{result.payment} {result.status} {request.idempotency_key}")
            self.room.release()

        self.engine.submit(request, done)

    def wait(self) -> None:
        for _ in range(IN_FLIGHT):
            self.room.acquire()


def post_random(poster: Poster, seed: str, payments: str) -> None:
    rng = random.Random(int(seed))
    for _ in range(int(payments)):
        sender, receiver = rng.sample(range(USERS), 2)
        poster.post(PaymentRequest(str(sender), str(receiver), rng.randint(1, 3_000)))


def post_keys(poster: Poster, keys: str, rounds: str) -> None:
    for _ in range(int(rounds)):
        for key in range(int(keys)):
            sender, receiver = key % USERS, (key * 7 + 1) % USERS
            if sender == receiver:
                receiver = (receiver + 1) % USERS
            amount = 100 + key
            poster.post(PaymentRequest(str(sender), str(receiver), amount, "INR", f"key-{key}"))


if __name__ == "__main__":
    folder, command, *arguments = sys.argv[1:]
    with Lab(data=folder, consumers=(), recovery_interval_s=0.05, pending_age_s=0.05) as lab:
        say("ready")
        sys.stdin.readline()
        poster = Poster(lab)
        {"random": post_random, "keys": post_keys}[command](poster, *arguments)
        poster.wait()
        say("done")
