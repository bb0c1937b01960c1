"""A pool of processes that write cases of a store."""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from brats_jax.data.planes import AXIAL
from brats_jax.data.sources.base import Source
from brats_jax.data.store.layout import CaseRecord
from brats_jax.data.store.writer import StorageError, write_case
from brats_jax.errors import BratsError
from brats_jax.runtime import failures, threads
from brats_jax.runtime.signals import die_with_parent

SIGNAL_S = 1.0  # between the first and the last process that gets a cluster's signal


class CasePool:
    """Writes cases of one store in several processes, or in this one if `workers` is 1.

    Args:
      store: the store's folder.
      source: the source of the cases; must pickle.
      normalisation: one of `data.normalise.NORMALISATIONS`.
      workers: number of processes.
      plane: of the slices, one of `data.planes.PLANES`.
    """

    def __init__(
        self, store: Path, source: Source, normalisation: str, workers: int, plane: str = AXIAL
    ) -> None:
        self._task = (store, source, normalisation, plane)
        self._workers = workers
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        if workers > 1:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                workers,
                # Fresh interpreters: a fork would copy the locks of the caller's threads.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(os.getpid(), *self._task, threads.available_cpus() // workers),
            )

    def write(self, patients: Sequence[str]) -> Generator[tuple[str, CaseRecord | str], None, None]:
        """Writes cases and yields each when it is written.

        Yields:
          (patient, record), or (patient, reason) for a case that is unfit.

        Raises:
          StorageError: the store cannot be written, or a worker died.
        """
        if self._pool is None:
            for patient in patients:
                yield patient, _write_or_reason(*self._task, patient)
            return
        futures = {self._pool.submit(_work, patient): patient for patient in patients}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except concurrent.futures.process.BrokenProcessPool:
            # A cluster stops every process of a job, one after the other: ours may be next.
            time.sleep(SIGNAL_S)
            raise StorageError(
                f"{self._task[0]}: a worker process died, perhaps for lack of memory: give the "
                f"same command again with fewer --workers than {self._workers}"
            ) from None

    def close(self) -> None:
        """Waits for the cases in work and cancels the others."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


_task: tuple[Path, Source, str, str]


def _start_worker(
    parent: int, store: Path, source: Source, normalisation: str, plane: str, count: int
) -> None:
    global _task
    die_with_parent(parent)
    threads.set_limit(count)
    _task = (store, source, normalisation, plane)
    # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(patient: str) -> CaseRecord | str:
    return _write_or_reason(*_task, patient)


def _write_or_reason(
    store: Path, source: Source, normalisation: str, plane: str, patient: str
) -> CaseRecord | str:
    try:
        return write_case(store, source, patient, normalisation, plane)
    except StorageError:
        raise
    except BratsError as error:
        return str(error)
    except MemoryError:
        raise
    except Exception as error:  # of a library, on a file that nobody has tried yet
        return f"case {patient}: {failures.describe(error)}"
