"""Times for payments that say none."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from paytm_lab.simulation.payments import Transfer


def spread(
    batches: Iterator[list[Transfer]], total: int, now_us: int, step_us: int
) -> Iterator[list[Transfer]]:
    """The same payments, asked for ``step_us`` apart, the last of ``total`` about now: posting a
    file quickly is no rush of its payers, so no velocity rule should see one.
    """
    at_us = now_us - total * step_us
    for batch in batches:
        yield [
            structs.replace(transfer, at_us=at_us + number * step_us)
            for number, transfer in enumerate(batch)
        ]
        at_us += len(batch) * step_us
