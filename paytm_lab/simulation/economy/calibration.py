"""Turning an economy's rates until its mix is the target's."""

from __future__ import annotations

from dataclasses import replace

from paytm_lab.simulation.economy.economy import Economy, Tuning
from paytm_lab.simulation.economy.measure import Measured
from paytm_lab.simulation.economy.profile import MIX

PILOT_USERS = 2_000
ROUNDS = 6


def calibrated(economy: Economy, seed: int = 0, rounds: int = ROUNDS) -> Economy:
    """The same economy with the tuning that brings out the target's mix and payments a day.

    Peer and merchant rates follow from the target. Top-ups and cash-outs depend on what wallets
    hold, so their two knobs are turned in pilot runs of up to PILOT_USERS users: a knob times
    wanted over found, a fixed-point iteration. Deterministic for a seed.
    """
    target = economy.target
    drawn = target.mix["peer"] + target.mix["merchant"]
    rate = target.payments_per_user_day / drawn
    tuning = Tuning(
        peer=rate * target.mix["peer"],
        merchant=rate * target.mix["merchant"],
        cash_out=rate * target.mix["cash_out"],
        top_up_scale=economy.tuning.top_up_scale,
    )
    pilot = replace(economy, users=min(economy.users, PILOT_USERS), merchants=None, fraud={})
    for _ in range(rounds):
        trial = replace(pilot, tuning=tuning)
        found = Measured.of(trial.generate(seed), trial.start_us, trial.days, trial.users).mix()
        share = dict(zip(MIX, found.tolist(), strict=True))
        if not share["top_up"] or not share["cash_out"]:
            break
        more_top_ups = target.mix["top_up"] / share["top_up"]
        more_cash_outs = target.mix["cash_out"] / share["cash_out"]
        tuning = tuning._replace(
            top_up_scale=min(1e4, max(1e-3, tuning.top_up_scale / more_top_ups**1.5)),
            cash_out=min(1e2, tuning.cash_out * more_cash_outs),
        )
    return replace(economy, tuning=tuning)
