"""Where the points of a sweep run: in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paytm_lab.core import extras
from paytm_lab.core.errors import InvalidSetting, MissingPart

LOCAL = "local"
CONNECT_S_MAX = 10.0
_WATCH_S = 0.25


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def processes(workers: int, scratch: Path) -> Iterator[Executor]:
    """Fresh Python processes. Each keeps its temporary files in a folder of its own below
    ``scratch``, opens no port, and ends by itself when this process is killed. An exception here,
    Ctrl-C too, ends them at once.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # threads run here: no fork
        initializer=_begin,
        initargs=(os.getpid(), str(scratch)),
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def require_dask(address: str) -> None:
    """MissingPart: the extra ``dask`` is not installed; InvalidSetting: no address. Asks nobody."""
    extras.need("distributed")
    from distributed.comm.addressing import get_address_host_port

    try:
        if address != LOCAL:
            get_address_host_port(address)
    except NotImplementedError:
        return  # of a kind without host and port
    except ValueError as error:
        raise _no_address(address, error) from None


def _no_address(address: str, error: ValueError) -> InvalidSetting:
    return InvalidSetting(
        f"--dask {address!r:.80} is no address ({error})",
        remedy="Write local, or for example tcp://127.0.0.1:8786.",
    )


@contextmanager
def dask(address: str, workers: int, scratch: Path) -> Iterator[Executor]:
    """The executor of the Dask cluster at ``address``, or of one made here for the purpose where
    that is ``local``, with ``workers`` processes. The workers need this package.

    MissingPart: the extra ``dask`` is not installed, or no scheduler answers.
    """
    extras.need("distributed")
    import distributed

    # These carry no types.
    make_cluster: Callable[..., Any] = distributed.LocalCluster
    connect: Callable[..., Any] = distributed.Client
    if address == LOCAL:
        with (
            make_cluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,  # one port less to fight for
                local_directory=str(scratch),
                silence_logs=logging.ERROR,
            ) as cluster,
            connect(cluster) as client,
        ):
            yield client.get_executor()
        return
    try:
        client = connect(address, timeout=CONNECT_S_MAX)
    except ValueError as error:
        raise _no_address(address, error) from None
    except OSError as error:
        raise MissingPart(
            f"no Dask scheduler answers at {address}",
            remedy="Start one with `dask scheduler` and workers with `dask worker ADDRESS`,"
            " or use --dask local.",
        ) from error
    with client:
        yield client.get_executor()


def _begin(parent: int, scratch: str) -> None:
    """In each new worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear
    Path(scratch).mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = tempfile.mkdtemp(prefix="worker-", dir=scratch)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker waits for work on a pipe that its siblings hold open, too: it would never learn
    that the parent was killed. Kernels that it started watch it in the same way.
    """
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)
