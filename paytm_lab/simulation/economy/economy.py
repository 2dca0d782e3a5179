"""The settings of an economy, and the loop over its days."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.simulation.economy.batch import PATTERNS, Accounts, EconomyBatch
from paytm_lab.simulation.economy.cycles import FESTIVALS, Festival, day_factors
from paytm_lab.simulation.economy.drawn import Drawn
from paytm_lab.simulation.economy.patterns import MEMBERS_OF_ONE_EACH, ROWS_OF_ONE_EACH
from paytm_lab.simulation.economy.profile import UPI_LIKE, Profile
from paytm_lab.simulation.economy.rings import plan, taking_part
from paytm_lab.simulation.economy.world import World
from paytm_lab.simulation.given import real, whole
from paytm_lab.simulation.population import F64, I64

USERS_MIN, USERS_MAX = 100, 10_000_000
DAYS_MAX = 3_660
RINGS_MAX = 1_000_000


class Tuning(NamedTuple):
    """What calibration turns until the mix comes out right. Rates are a user and day."""

    peer: float = 1.16
    merchant: float = 0.84
    cash_out: float = 0.14
    top_up_scale: float = 6.0


UNTUNED = Tuning()


@dataclass(frozen=True)
class Economy:
    """Users '1'..'N' with wallets, merchants 'merchant:1'.., and three accounts outside, for
    ``days`` days from ``start_us`` (microseconds since 1970 UTC, a midnight).

    ``merchants``: None is one for 20 users. ``target``: the profile to look like; ``calibrated``
    finds the ``tuning`` for it. ``activity_sigma``: how unequal users' activity is (of a log-normal
    law with mean 1). ``employed_share`` of the users have a salary; ``joining_share`` come later
    than the first day. ``fraud``: rings by pattern; None makes as many of each as bring about
    ``fraud_share`` of the payments, at least one. ``threshold_rupees``: what must be reported, and
    what structuring stays below.

    Raises InvalidSetting for values that make no economy.
    """

    users: int = 10_000
    days: int = 30
    merchants: int | None = None
    target: Profile = UPI_LIKE
    start_us: int = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
    mean_contacts: float = 8.0
    activity_sigma: float = 0.7
    employed_share: float = 0.4
    joining_share: float = 0.05
    festivals: tuple[Festival, ...] = FESTIVALS
    fraud: Mapping[str, int] | None = None
    fraud_share: float = 0.003
    threshold_rupees: float = 50_000.0
    tuning: Tuning = UNTUNED

    def __post_init__(self) -> None:
        users = whole("users", self.users, USERS_MIN, USERS_MAX)
        if self.merchants is None:
            object.__setattr__(self, "merchants", max(10, users // 20))
        for name, low, high in _WHOLE:
            whole(name, getattr(self, name), low, high)
        for name, lowest, highest in _REAL:
            real(name, getattr(self, name), lowest, highest)
        for name, value in self.tuning._asdict().items():
            real(f"tuning.{name}", value, 1e-6, 1e4)
        for name, count in (self.fraud or {}).items():
            if name not in PATTERNS[1:]:
                raise InvalidSetting(
                    f"{name!r:.40} is not a fraud pattern",
                    remedy=f"Use some of {', '.join(PATTERNS[1:])}.",
                )
            whole(f"fraud[{name}]", count, 0, RINGS_MAX)

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self.users, self.merchants or 0)

    @property
    def threshold_paise(self) -> int:
        return round(self.threshold_rupees * 100)

    @cached_property
    def day_factors(self) -> F64:
        """Payments by day relative to a usual one, shape (days,)."""
        return day_factors(self.target, self.start_us, self.days, self.festivals)

    @property
    def payments_expected(self) -> float:
        """Roughly: top-ups, salaries and fraud are estimates."""
        ordinary = self.users * float(self.day_factors.sum())
        drawn = ordinary * (self.tuning.peer + self.tuning.merchant + self.tuning.cash_out)
        return drawn / (1 - self.target.mix["top_up"]) * (1 - self.joining_share / 2)

    def rings(self) -> dict[str, int]:
        """How many rings of each pattern there are."""
        if self.fraud is not None:
            return {name: self.fraud.get(name, 0) for name in PATTERNS[1:]}
        by_share = round(self.payments_expected * self.fraud_share / ROWS_OF_ONE_EACH)
        most = int(0.5 * (1 - self.joining_share) * self.users / MEMBERS_OF_ONE_EACH)
        count = max(1, min(by_share, most)) if self.fraud_share else 0
        return dict.fromkeys(PATTERNS[1:], count)

    def world(self, seed: int) -> World:
        """Its people under this seed, before any ring is cast."""
        return World.draw(self, self._seed(seed))

    def require_room(self, seed: int) -> None:
        """InvalidSetting where this seed's people are too few for the rings: what ``drawn`` would
        say, at a small part of its price.
        """
        taking_part(self, World.joining(self, self._seed(seed)))

    def drawn(self, seed: int) -> Drawn:
        """All that this seed draws beforehand. Whoever needs more than one of the three below asks
        it, and the people are drawn once.
        """
        seed = self._seed(seed)
        world = World.draw(self, seed)
        return Drawn(self, seed, world, plan(self, world, seed))

    def day_weights(self, seed: int) -> F64:
        """See ``Drawn.day_weights``."""
        return self.drawn(seed).day_weights()

    def generate(
        self, seed: int, progress: Callable[[int, int], object] | None = None
    ) -> Iterator[EconomyBatch]:
        """See ``Drawn.generate``."""
        yield from self.drawn(seed).generate(progress)

    def opening_paise(self, seed: int) -> I64:
        """See ``Drawn.opening_paise``."""
        return self.drawn(seed).opening_paise()

    def digest(self, seed: int) -> str:
        """16 hex digits that stand for this economy under this seed."""
        text = msgspec.json.encode([asdict(self), self._seed(seed)])
        return blake2b(text, digest_size=8).hexdigest()

    def _seed(self, seed: int) -> int:
        return whole("seed", seed, 0, 2**63 - 1)


_WHOLE = (
    ("days", 1, DAYS_MAX),
    ("merchants", 10, USERS_MAX),
    ("start_us", 0, 10**16),
)
_REAL = (
    ("mean_contacts", 1, 1_000),
    ("activity_sigma", 0, 3),
    ("employed_share", 0, 1),
    ("joining_share", 0, 0.9),
    ("fraud_share", 0, 0.2),
    ("threshold_rupees", 100, 1e9),
)
