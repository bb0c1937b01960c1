"""Damages checkpoints and stores, and counts what is refused, harmless, or silently changed.

    python benchmarks/reliability/flipped_bits.py  # 2,000 damages, ten minutes on two cores
    python benchmarks/reliability/flipped_bits.py --damages=200

A quarter of the damages removes, empties or truncates a file, the others flip one bit of it. After
each, everything that the program reads of the checkpoint or the store is compared with the whole
one. Then measures what the checks cost: the digests as a share of the save of a full-size training
state, and the checksums of a store in milliseconds a case. Exits with 1 if anything was silently
changed, or was refused by anything but the one line.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from benchmarks import measure  # noqa: E402
from brats_jax import models  # noqa: E402
from brats_jax.data.store.prepare import prepare  # noqa: E402
from brats_jax.data.store.reader import Store  # noqa: E402
from brats_jax.errors import BratsError  # noqa: E402
from brats_jax.runs import checkpoints, digests  # noqa: E402
from brats_jax.runs.checkpoints import CheckpointMeta, Checkpoints  # noqa: E402
from brats_jax.tasks import Segmentation  # noqa: E402


def training_state(width: int) -> dict[str, Any]:
    """Parameters, statistics and optimiser state of a segmentation."""
    _, params, stats = models.split(Segmentation(width=width).build(0))
    return {"params": params, "stats": stats, "opt_state": optax.adam(1e-4).init(params)}


def save(folder: Path, state: dict[str, Any]) -> float:
    """Saves a state as step 1; seconds."""
    with contextlib.closing(Checkpoints(folder)) as saved:
        begin = time.perf_counter()
        saved.save(1, state, CheckpointMeta({}, step=1, epoch=1))
        saved.wait()
        return time.perf_counter() - begin


def read_checkpoint(folder: Path, like: dict[str, Any]) -> list[Any]:
    """All that the program reads of a checkpoint, in a form that can be compared."""
    template = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like
    )
    state, meta = checkpoints.read(folder, template, {})
    # Without its digests: a name in them may change, and is then compared with nothing.
    return [digests.of_state(state), dataclasses.replace(meta, sha256={})]


def read_store(folder: Path) -> list[Any]:
    """All that the program reads of a store, in a form that can be compared."""
    store = Store.open(folder)
    images, labels = store.read(range(store.num_slices))
    arrays = (images, labels, store.tumour_pixels, store.pixels, store.slice_number)
    cases = [store.case(patient) for patient in store.patients]
    return [[array.tobytes() for array in arrays], cases, store.manifest]


def damage(file: Path, draw: random.Random) -> str:
    """Damages a file; the kind of the damage."""
    size = file.stat().st_size
    kind = draw.choice(("removed", "emptied", "cut")) if draw.random() < 0.25 else "flipped"
    if kind == "removed":
        file.unlink()
    elif kind == "emptied":
        file.write_bytes(b"")
    elif kind == "cut":
        os.truncate(file, draw.randrange(size))
    else:
        content = bytearray(file.read_bytes())
        bit = draw.randrange(8 * size)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
    return kind


def damage_and_read(
    whole: Path, copy: Path, read: Callable[[Path], list[Any]], count: int, draw: random.Random
) -> collections.Counter[tuple[str, str]]:
    """Damages one file at a time; (damage, outcome) of each."""
    expected = read(whole)
    shutil.copytree(whole, copy)
    files = [path for path in sorted(whole.rglob("*")) if path.is_file() and path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for number in range(count):
        # Half of them by size, where a disk's faults fall, half of them in any file.
        (file,) = draw.choices(files, sizes if number % 2 else None)
        kind = damage(copy / file.relative_to(whole), draw)
        try:
            outcome = "harmless" if read(copy) == expected else "SILENTLY CHANGED"
        except BratsError as error:
            outcome = "MORE THAN A LINE" if "\n" in str(error) else "refused"
        except Exception as error:
            outcome = f"{type(error).__name__.upper()}"
        found[kind, outcome] += 1
        if outcome.isupper():
            print(f"{outcome}: {file.relative_to(whole)}, {kind}")
        shutil.copy(file, copy / file.relative_to(whole))
    return found


def costs(folder: Path, store: Path) -> None:
    """Prints what the checks take."""
    state = training_state(64)
    noise = np.random.default_rng(0)
    state["opt_state"] = jax.tree.map(
        lambda a: jnp.asarray(noise.normal(size=a.shape), a.dtype) if a.ndim else a,
        state["opt_state"],
    )
    host, saves, sums = jax.device_get(state), [], []
    for number in range(5):
        saves.append(save(folder / str(number), state))
        begin = time.perf_counter()
        digests.of_state(host)
        sums.append(time.perf_counter() - begin)
    size = sum(a.nbytes for a in jax.tree.leaves(host)) / 1e6
    share = np.median(sums) / np.median(saves)
    print(
        f"a save of {size:.0f} MB: {np.median(saves):.2f} s in a thread, of which digests "
        f"{np.median(sums):.2f} s ({share:.0%})"
    )
    seconds = []
    for _ in range(9):
        opened = Store.open(store)
        begin = time.perf_counter()
        opened.check(np.arange(opened.num_slices))
        seconds.append((time.perf_counter() - begin) / len(opened.patients))
    print(
        f"checksums of a store: {1e3 * np.median(seconds):.1f} ms a case, once in each process "
        f"(best {1e3 * min(seconds):.1f})"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help="of real cases, to measure; default: a phantom")
    arguments = parser.parse_args(argv)
    logging.set_verbosity(logging.FATAL)
    draw = random.Random(arguments.seed)
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small = training_state(4)
        save(folder / "last", small)
        prepare("phantom", folder / "store", patients=2, shape=(16, 48, 40), workers=1)
        for name, read in (
            ("last", lambda path: read_checkpoint(path, small)),
            ("store", read_store),
        ):
            found = damage_and_read(
                folder / name, folder / "copy", read, arguments.damages // 2, draw
            )
            shutil.rmtree(folder / "copy")
            print(f"{'checkpoint' if name == 'last' else name}: {sum(found.values())} damages")
            for (kind, outcome), count in sorted(found.items()):
                print(f"    {kind:<8} {outcome:<17} {count:>5}")
                bad += count * outcome.isupper()
        measured = arguments.store
        if measured is None:
            measured = folder / "full"
            prepare("phantom", measured, patients=2, workers=1)
        costs(folder / "saves", measured)
    print(measure.where())
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
