"""Loads a run, one fold of it, exported weights or a ready model as a `Model`."""

import dataclasses
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

from brats_jax.data.scans.options import MAX_CASE_GB, ReadOptions
from brats_jax.errors import BratsError
from brats_jax.inference.chosen_cleaning import check_sizes, chosen_cleaning
from brats_jax.inference.model import Model
from brats_jax.inference.several_runs import open_models
from brats_jax.inference.synthesis import open_synthesiser
from brats_jax.runs.folder import STAGE_OF_TASK
from brats_jax.runtime import devices
from brats_jax.runtime.flag_types import MOST_SLICES_AT_ONCE


def load(
    path: str | Path,
    *,
    task: str = "segment",
    tta: bool = False,
    calibrated: bool = False,
    min_component_mm3: float | None = None,
    min_et_mm3: float | None = None,
    clear_air: bool | None = None,
    batch_size: int = 0,
    max_case_gb: float = MAX_CASE_GB,
    leave_out: str | Sequence[str] = (),
    synthesise: bool = False,
    planes: str | Sequence[str] = (),
) -> Model:
    """Loads a run (all its complete folds, as an ensemble), one fold of it, or exported weights.

    Args:
      path: RUN, RUN/fold_K, the folder of exported weights, or the name of a ready model; several
        with commas between them are averaged.
      task: 'segment', or 'reconstruct' for the network of the first stage.
      tta: average over flips too.
      calibrated: use the temperatures that `python -m brats_jax.calibrate` has fitted.
      min_component_mm3, min_et_mm3: see `postprocess.Cleaning`; 0 for no cleaning, None for the
        size that `python -m brats_jax.calibrate --cleaning` has fitted, if any.
      clear_air: remove tumour in air; None: if the fitted cleaning does, unless both sizes are 0.
      batch_size: slices at a time; 0 for the default of the device.
      max_case_gb: the largest size of a case that is read, unpacked, in 10^9 bytes.
      leave_out: modalities that are not used, even if a case has them.
      synthesise: let the first stage predict what a case lacks, where it can.
      planes: average over slices of these planes, 'all' for those that the model was trained on.

    Raises:
      BratsError: no such run, no complete fold in it, or a checkpoint that cannot be used.
    """
    if task not in STAGE_OF_TASK:
        raise BratsError(f"unknown task '{task}'; valid: {', '.join(STAGE_OF_TASK)}")
    if task == "reconstruct" and (calibrated or min_component_mm3 or min_et_mm3 or clear_air):
        raise BratsError("calibration and cleaning are for labels: leave them out to reconstruct")
    check_sizes(min_component_mm3=min_component_mm3, min_et_mm3=min_et_mm3)
    if not isinstance(batch_size, Integral) or not 0 <= batch_size <= MOST_SLICES_AT_ONCE:
        raise BratsError(f"batch_size={batch_size!r}: give 0 to {MOST_SLICES_AT_ONCE:,} slices")
    ReadOptions(max_case_gb=max_case_gb)  # refuses other numbers
    if task == "reconstruct" and synthesise:
        raise BratsError("--synthesise is for labels: leave it out, --task=reconstruct predicts it")
    trained = open_models(path, task, devices.data_mesh(), calibrated=calibrated, planes=planes)
    if synthesise and trained.others:
        raise BratsError("--synthesise needs the first stage of one run: give one --checkpoint")
    synthesiser = open_synthesiser(path, trained, tta, batch_size) if synthesise else None
    cleaning, note = chosen_cleaning(
        trained, min_component_mm3, min_et_mm3, clear_air=clear_air, tta=tta
    )
    if note:
        trained = dataclasses.replace(trained, notes=(*trained.notes, note))
    return Model(
        trained,
        tta=tta,
        cleaning=cleaning,
        batch_size=batch_size,
        max_case_gb=max_case_gb,
        leave_out=leave_out,
        synthesiser=synthesiser,
    )
