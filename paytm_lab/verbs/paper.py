"""simulate and config: verbs that open no lab."""

from __future__ import annotations

import secrets
import shlex
from pathlib import Path

from paytm_lab.config import describe
from paytm_lab.core.errors import InvalidSetting
from paytm_lab.simulation.payments import Workload
from paytm_lab.simulation.simulate import COLUMNS_SHOWN, write_csv
from paytm_lab.simulation.simulate import simulate as simulate_shards
from paytm_lab.simulation.whole_file import require_writable
from paytm_lab.terminal import bars, note, print_json, say, table
from paytm_lab.verbs.common import Common


def simulate(
    common: Common, users: int, payments: int, zipf_s: float, shards: str, out: Path | None
) -> int:
    numbers = _numbers(shards)
    workload = Workload(users, payments, zipf_s)
    if out is not None:
        require_writable(out)
    given = common.settings().seed
    seed = secrets.randbelow(2**32) if given is None else given
    on_it = "" if out is None else f" --out {shlex.quote(str(out))}"
    note(
        f"seed {seed}; to repeat: paytm-lab simulate --users {users} --payments {payments}"
        f" --zipf-s {zipf_s:g} --shards {shards} --seed {seed}{on_it}",
        common.quiet,
    )
    with bars(common.quiet) as progress:
        rows = simulate_shards(
            workload, seed, numbers, progress=lambda done: progress.set("payments", done, payments)
        )
    if out is not None:
        write_csv(out, workload, seed, numbers[0])
        note(f"written: {out}; post it with: paytm-lab run --transfers {out}", common.quiet)
    if common.as_json:
        print_json({"seed": seed, "rows": rows})
    else:
        table(rows, COLUMNS_SHOWN)
    return 0


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise InvalidSetting(
            f"--shards {text!r:.60} is no list of numbers of shards",
            remedy="Write for example 4,5,8 (1 to 64 each).",
        )
    return [int(part) for part in parts]


def config(common: Common) -> int:
    rows = describe(common.settings())
    if common.as_json:
        print_json({row.name: {"value": row.value, "source": row.source} for row in rows})
        return 0
    for row in rows:
        value = "(drawn when needed)" if row.value is None else row.value
        say(f"{row.name:28} {value!s:32} {row.source:12} {row.variable}")
        say(f"{'':28} {row.description}")
    return 0
