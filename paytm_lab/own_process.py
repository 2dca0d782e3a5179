"""What is done to a process that is ours alone, and never where the lab is a guest (in a notebook,
in a program of yours).
"""

from __future__ import annotations

import gc

_ours = False


def claim() -> None:
    """Say that this process runs ``paytm-lab`` and nothing else: its program does, first of all.

    The cycle collector looks less often from now on: payments make no cycles, and looking at
    everything that is alive for each 700 new objects cost a tenth of the engine's throughput, and
    of the time that a start takes.
    """
    global _ours
    _ours = True
    gc.set_threshold(50_000, 25, 50)


def collect_less() -> None:
    """In a process that is ours alone, let the cycle collector forget what is there now, modules
    and such: it never looks at that again.
    """
    if _ours:
        gc.collect()
        gc.freeze()
