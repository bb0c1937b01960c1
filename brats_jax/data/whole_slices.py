"""Batches of whole slices, for validation and evaluation."""

import collections
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.store.reader import Store

_READING_THREADS = 2
_BATCHES_AHEAD = 4


def whole_slice_batches(
    store: Store,
    indices: np.ndarray,
    batch_size: int,
    rows: slice | None = None,
    filled_to: int | None = None,
    facts: SliceFacts | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Reads whole slices in batches of one size, a few batches ahead.

    The last batch is filled up with the first slices again, `valid` False there: a loss over that
    batch stays one over real, differing slices.

    Args:
      store: the prepared data.
      indices: int[N] global slice indices.
      batch_size: slices in a batch.
      rows: the part of each batch to read, where several processes share it; None: all of it.
      filled_to: fills every batch up to so many slices, B; None: to `batch_size`.
      facts: data of a slice besides image and label; None: no such data.

    Yields:
      image float16[B, H, W, 4] and label uint8[B, H, W] (of `rows` only, if given), valid bool[B],
      index int64[B]; and the `facts` (of `rows`).
    """

    size = filled_to or batch_size
    facts = facts or SliceFacts(store)

    def read(start: int) -> dict[str, np.ndarray]:
        chosen = indices[start : start + batch_size]
        padded = np.concatenate([chosen, np.resize(indices, size - len(chosen))])
        own = padded if rows is None else padded[rows]
        image, label = store.read(own)
        batch = {"image": image, "label": label, **facts.of_whole(own)}
        return {**batch, "valid": np.arange(size) < len(chosen), "index": padded}

    pool = ThreadPoolExecutor(_READING_THREADS)
    ahead: collections.deque[Future[dict[str, np.ndarray]]] = collections.deque()
    try:
        for start in range(0, len(indices), batch_size):
            ahead.append(pool.submit(read, start))
            if len(ahead) > _BATCHES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
