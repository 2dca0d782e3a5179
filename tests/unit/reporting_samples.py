"""Frames of a made-up run, large enough that every chart has something to draw."""

from __future__ import annotations

import numpy as np
import pandas as pd

from paytm_lab.reporting import frames

PAYMENTS = 4_000


def payments(seed: int = 7, n: int = PAYMENTS) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    from_shard, to_shard = rng.integers(0, 4, n), rng.integers(0, 4, n)
    failed = rng.random(n) < 0.03
    return frames.payments_frame(
        {
            "payment_id": [f"p{i}" for i in range(n)],
            "from_user_id": [str(i) for i in rng.integers(1, 500, n)],
            "to_user_id": [str(i) for i in rng.integers(1, 500, n)],
            "from_shard": from_shard,
            "to_shard": to_shard,
            "amount_paise": rng.integers(100, 1_200_000, n),
            "status": np.where(failed, "FAILED", "COMPLETED"),
            "reason": np.where(failed, "insufficient_funds", ""),
            "latency_ms": rng.lognormal(2, 0.5, n) * np.where(from_shard == to_shard, 1, 2),
            "submitted_s": np.sort(rng.random(n) * 3),
            "at_us": 1_767_225_600_000_000 + rng.integers(0, 86_400_000_000, n),
        }
    )


def shards() -> pd.DataFrame:
    return frames.shards_frame(
        {
            "shard": i,
            "accounts": 100 + i,
            "balance_paise": 10_000_000 + i,
            "payments": 990 + i,
            "entries": 3_000 + 7 * i,
        }
        for i in (2, 0, 3, 1)
    )


def features(n: int = PAYMENTS) -> pd.DataFrame:
    return frames.features_frame(
        {
            "payment_id": f"p{i}",
            "user_id": str(i % 50),
            "amount": i * 300,
            "score": min(1.0, i * 300 / 1_000_000),
            "decision": "block" if i % 97 == 0 else "review" if i * 300 >= 700_000 else "allow",
            "rule": "velocity" if i % 97 == 0 else "amount",
        }
        for i in range(n)
    )


def verdict(state: str = "passed") -> pd.DataFrame:
    return frames.verdict_frame(
        [
            ("balances_equal_entries", "passed", "every balance is the sum of its entries"),
            ("in_transit_matches_pending", state, "0 paise in transit"),
        ]
    )


def events() -> pd.DataFrame:
    return frames.events_frame(
        {"PaymentInitiated": 4_000, "PaymentCompleted": 3_900, "PaymentFailed": 100, "EmailSent": 9}
    )


def drift(off_paise: int = 0) -> pd.DataFrame:
    ledger = {str(i): 1_000 * i for i in range(1, 3_000)}
    return frames.drift_frame(ledger, {**ledger, "17": ledger["17"] + off_paise})


def naive() -> pd.DataFrame:
    return frames.naive_frame(
        [
            {
                "path": "wrong",
                "accepted": 40,
                "refused": 0,
                "affordable": 10,
                "lost_paise": 300_000,
            },
            {"path": "right", "accepted": 10, "refused": 30, "affordable": 10, "lost_paise": 0},
        ]
    )


def steps() -> pd.DataFrame:
    return frames.steps_frame(
        [
            {"actor": "client", "to": "source shard", "label": "pay 250.00", "at_us": 1_000},
            {"actor": "source shard", "to": "", "label": "leg (a): debit", "at_us": 3_500},
            {"actor": "source shard", "to": "destination shard", "label": "(b)", "at_us": 6_000},
            {"actor": "outbox relay", "to": "log", "label": "<b>%{x}</b>", "at_us": 9_000},
        ]
    )


def backlog() -> pd.DataFrame:
    return pd.DataFrame(
        {"at_s": [0.0, 0.1, 0.2], "outboxes": [0, 9, 0], "consumer fraud": [0, 4, 0]}
    )


def routing() -> pd.DataFrame:
    names = ("modulo", "slot_map")
    return pd.DataFrame(
        {
            "strategy": names,
            "shards": 4,
            "users_max_over_mean": (1.0, 1.0),
            "sent_max_over_mean": (1.1, 1.1),
            "legs_max_over_mean": (1.05, 1.06),
            "moved_users_share": (0.8, 0.2),
        }
    )
