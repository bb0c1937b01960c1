"""Batches of training patches, loaded by Grain; the only module that imports it."""

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator

import grain
import numpy as np
from absl import flags

from brats_jax.data.patches import Patches, PatchPlan, cut
from brats_jax.data.store.reader import Store
from brats_jax.runtime import signals

Batch = dict[str, np.ndarray]
# Gives the positions of patches that are cut on the device (`device_store.DeviceStore.positions`).
PositionsOf = Callable[[Patches], Batch]


class _PatchBatches:
    """Grain source: element k is the batch of step first + k."""

    def __init__(
        self,
        store: Store,
        plan: PatchPlan,
        patch_size: int,
        batch_size: int,
        steps: int,
        positions_of: PositionsOf | None,
        rows: slice,
        first: int,
    ) -> None:
        self._first = first
        self._rows = rows
        self._positions_of = positions_of
        self._store = store
        self._plan = plan
        self._patch_size = patch_size
        self._batch_size = batch_size
        self._steps = steps

    def __len__(self) -> int:
        return self._steps - self._first

    def __getitem__(self, index: int) -> Batch:
        step = self._first + index
        begin, end = self._rows.start, self._rows.stop
        patches = self._plan.examples(step * self._batch_size + begin, end - begin)
        if self._positions_of is not None:
            return self._positions_of(patches)
        return cut(self._store, patches, self._patch_size)


def _iterate(
    make_source: Callable[[int], _PatchBatches],
    workers: int,
    threads: int,
    prefetch: int,
    first: int,
) -> grain.DatasetIterator:
    dataset: grain.IterDataset = grain.MapDataset.source(make_source(first)).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    )
    if workers:
        # Grain reads absl flags in its worker processes; outside absl.app (in a test or a
        # notebook) they are not parsed.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=max(1, prefetch // workers)
            ),
            worker_init_fn=_exit_with_parent,
        )
    return iter(dataset)


def _exit_with_parent(worker: int, workers: int) -> None:
    """Ends this loader process when its parent ends, even by SIGKILL; else it would wait forever.

    Not `signals.die_with_parent`: the kernel would end the worker with the thread that started it,
    and Grain starts workers in threads of its own. Ignores the signals that a cluster or a terminal
    sends to every process of a job: the parent needs its batches until it has saved.
    """
    signals.ignore_signals()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class TrainingBatches(Iterator[Batch]):
    """The batches of a training run in order, prefetched, with a position for checkpoints.

    An element is the batch of one step: image float16[B, P, P, 4], label uint8[B, P, P],
    seed uint32[B], and as in `patches.cut` present bool[B, 4], neighbours and more; or the result
    of `positions_of`.

    Args:
      store, plan, patch_size, batch_size: the data, the patches and their sizes.
      steps: length of the run.
      workers: worker processes; 0 reads in `threads` threads of this process.
      threads: reading threads (per process).
      prefetch: batches read ahead.
      positions_of: called instead of cutting, for patches that are cut on the device.
      rows: the part of each batch to read, where several processes share it.
    """

    def __init__(
        self,
        store: Store,
        plan: PatchPlan,
        *,
        patch_size: int,
        batch_size: int,
        steps: int,
        workers: int = 0,
        threads: int = 2,
        prefetch: int = 8,
        positions_of: PositionsOf | None = None,
        rows: slice | None = None,
    ) -> None:
        self._workers = workers
        self._make = functools.partial(
            _iterate,
            functools.partial(
                _PatchBatches,
                *(store, plan, patch_size, batch_size, steps, positions_of),
                rows or slice(0, batch_size),
            ),
            workers,
            threads,
            prefetch,
        )
        self._iterator = self._make(0)
        self._offset = 0

    def __next__(self) -> Batch:
        batch = next(self._iterator)
        if not self._workers:
            return batch
        # Workers send batches in shared memory, which is freed with the array. An array that lives
        # until this process ends, as where the devices use the memory of the host, would leave it.
        return {name: np.array(values) for name, values in batch.items()}

    def get_state(self) -> dict:
        """The position after the last returned batch, JSON-able; not of batches read ahead."""
        return {
            "workers": self._workers,
            "offset": self._offset,
            "grain": self._iterator.get_state(),
        }

    def set_state(self, state: dict, step: int) -> None:
        """Continues at a position that `get_state` returned after `step` batches of the same plan.

        Grain's state fits a loader with the same number of workers only. For another number the
        loader starts at `step`, because a batch is a function of its step alone.
        """
        self._iterator.close()
        if state["workers"] == self._workers:
            self._offset = state["offset"]
            self._iterator = self._make(self._offset)
            self._iterator.set_state(state["grain"])
        else:
            self._offset = step
            self._iterator = self._make(step)

    def close(self) -> None:
        """Ends the reading threads and worker processes."""
        self._iterator.close()
