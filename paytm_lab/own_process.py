"""What is done to a process that is ours alone, and never where the lab is a guest (in a notebook,
in a program of yours).
"""

from __future__ import annotations

import gc

_ours = False


def claim() -> None:
    """Say that this process runs ``paytm-lab`` and nothing else: its program does, first of all."""
    global _ours
    _ours = True


def collect_less() -> None:
    """Tell Python's cycle collector, in a process that is ours alone, to look less often: payments
    make no cycles, and looking at everything that is alive for each 700 new objects cost a tenth of
    the engine's throughput.
    """
    if _ours:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 25, 50)
