"""Many processes, each writing one case of a store at a time."""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from brats_jax.data.source import Source
from brats_jax.data.store_writer import StorageError, write_case
from brats_jax.errors import BratsError


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_cases(
    store: Path, source: Source, normalisation: str, patients: Sequence[str], workers: int
) -> Generator[tuple[str, dict[str, Any] | str], None, None]:
    """Writes cases in parallel and yields each as it is done.

    Args:
      store: the store's folder.
      source: must pickle.
      normalisation: 'slice' or 'volume'.
      patients: which cases.
      workers: processes; 1 works in this one.

    Yields:
      (patient, sidecar), or (patient, one line on why it cannot be read).

    Raises:
      StorageError: the store cannot be written, whatever the case; or a worker died.
    """
    if workers == 1 or len(patients) < 2:
        for patient in patients:
            yield patient, _write_or_explain(store, source, normalisation, patient)
        return
    # Fresh interpreters: a fork would copy the locks of whatever threads the caller has.
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(patients)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(store, source, normalisation),
    )
    try:
        futures = {pool.submit(_work, patient): patient for patient in patients}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise StorageError(
            f"{store}: a worker process died, perhaps for want of memory: give the same command "
            f"again with fewer --workers than {workers}"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_task: tuple[Path, Source, str]


def _start_worker(store: Path, source: Source, normalisation: str) -> None:
    global _task
    _task = (store, source, normalisation)
    # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed: the queue it waits on would never tell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(patient: str) -> dict[str, Any] | str:
    return _write_or_explain(*_task, patient)


def _write_or_explain(
    store: Path, source: Source, normalisation: str, patient: str
) -> dict[str, Any] | str:
    try:
        return write_case(store, source, patient, normalisation)
    except StorageError:
        raise
    except BratsError as error:
        return str(error)
