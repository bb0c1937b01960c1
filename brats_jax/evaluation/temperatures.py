"""Every fold of a run gets its temperature, from the store it was trained on."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.splits import count_patients, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation import calibration
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.metrics.calibration import fit_temperature
from brats_jax.runtime import devices
from brats_jax.runtime.text import plural


def fit(trained: TrainedRun, store: str | None, batch_size: int) -> Iterator[str]:
    """Calibrates each member, writes fold_K/calibration.json, and says so line by line.

    Args:
      trained: segmentations.
      store: where the store lies now; None: where the run found it.
      batch_size: slices at a time; rounded up to a multiple of the devices.

    Raises:
      BratsError: another store than it was trained on, or none.
    """
    data = Store.open(Path(store or trained.config["data"]["store"]))
    if data.fingerprint != trained.record.get("store"):
        raise BratsError(
            f"{trained.run} was trained on another store than {data.path}: give it as --store"
        )
    splits = json.loads((trained.run / "splits.json").read_text())
    for member in trained.members:
        yield _fit_fold(trained, member, data, splits, batch_size)


def _fit_fold(
    trained: TrainedRun, member: EnsembleMember, store: Store, splits: dict, batch_size: int
) -> str:
    split = fold_split(splits, store, member.fold)
    batch_size = devices.round_up(batch_size, member.network.mesh)

    def sample(name: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        title = f"fold {member.fold} {name}"
        return calibration.sample_logits(member.network, store, indices, batch_size, title)

    samples = {name: sample(name, getattr(split, name)) for name in ("validation", "test")}
    temperature = fit_temperature(*samples["validation"])
    sets = {}
    for name, (logits, labels) in samples.items():
        indices = getattr(split, name)
        counts = {"patients": count_patients(store, indices), "slices": len(indices)}
        sets[name] = {**counts, **calibration.measure(logits, labels, temperature)}
    facts = {"fold": member.fold, "split_by": splits["split_by"], "sets": sets}
    calibration.write(trained.run / f"fold_{member.fold}", member.hash, temperature, facts)
    return f"fold {member.fold}: temperature {temperature:.3f}; {describe(sets)}"


def describe(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """ECE before and after in each set, and whether it rose: the fit lowers another number."""
    parts = []
    rose = False
    for name, numbers in sets.items():
        told = []
        for where, key in (("ECE", "ece"), ("in tumour", "ece_tumour")):
            before, after = (numbers[when][key] for when in ("before", "after"))
            told.append(f"{where} {before:.4f} -> {after:.4f}")
            if after > before:
                told[-1] += " (rose)"
                rose = True
        parts.append(f"{name} ({plural(numbers['patients'], 'patient')}) {', '.join(told)}")
    if rose:
        parts.append(
            "where ECE rose: the temperature is the likeliest in validation (least NLL), which "
            "need not lower ECE"
        )
    return "; ".join(parts)
