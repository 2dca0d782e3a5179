"""trace: one payment followed through the lab; without an id, one of the last run's."""

from __future__ import annotations

from paytm_lab.core.errors import BadInput
from paytm_lab.core.ids import payment_id_text
from paytm_lab.lab import Lab
from paytm_lab.ledger.crossings import crossings_after, crossings_among
from paytm_lab.simulation import last_run
from paytm_lab.terminal import note, print_json, say
from paytm_lab.verbs.common import Common, opened

LOOKED_AT_MAX = 5_000
TOGETHER = 500


def trace(common: Common, payment_id: str | None) -> int:
    with opened(common, existing=True, read_only=True) as lab:
        if payment_id is None:
            payment_id = _chosen(lab)
            note(f"a cross-shard payment of the last run: {payment_id}", common.quiet)
        found = lab.trace(payment_id)
    if common.as_json:
        print_json(found.to_dict())
    else:
        say(str(found))
    return 0


def crossing_of_last_run(lab: Lab) -> str | None:
    """A cross-shard payment of the last run in the lab's folder; None where it made none."""
    ids, marks = last_run.load_ids(lab.data)
    databases = lab.system.databases
    of_the_run = set(ids)
    # Of what was posted again the rows are older than the run.
    parts = (ids[at : at + TOGETHER] for at in range(0, min(len(ids), LOOKED_AT_MAX), TOGETHER))
    for found in crossings_after(databases, marks):
        if found in of_the_run:
            return payment_id_text(found)
    for part in parts if len(databases) > 1 else ():
        for found in crossings_among(databases, part):
            return payment_id_text(found)
    return None


def _chosen(lab: Lab) -> str:
    try:
        found = crossing_of_last_run(lab)
    except BadInput as error:
        raise BadInput(
            "no run was made in this lab, so that there is no payment of it to follow",
            place=str(lab.data),
            remedy="Name a payment's id, or make a run: paytm-lab run.",
        ) from error
    if found is None:
        raise BadInput(
            "the last run made no cross-shard payment",
            place=str(lab.data),
            remedy="Name a payment's id, or run with --cross-shard-share 0.5 and 2 shards or more.",
        )
    return found
