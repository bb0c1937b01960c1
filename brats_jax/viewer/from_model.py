"""What a model has found, as something to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from brats_jax import about
from brats_jax.data.modalities import DISPLAY_NAMES, NUM_CLASSES
from brats_jax.data.scans.volumes import voxel_sizes_mm
from brats_jax.viewer.case import CaseView

if TYPE_CHECKING:  # to look at arrays takes no JAX
    from brats_jax.inference.model import Model
    from brats_jax.inference.results import Segmented


def case_view(
    model: Model,
    found: Segmented,
    truth: np.ndarray | None = None,
    record: Mapping[str, Any] | None = None,
) -> CaseView:
    """A segmented scan on the network's grid, with what is to be known of it.

    Args:
      model: what segmented it.
      found: what it found; its entropy, if there, becomes the uncertainty, entropy / ln 4.
      truth: uint8[slices, H, W], labels by a reader (see `data.truth.read_truth`), or None.
      record: all that is known of it, JSON-able; None: what `model` says of the case.
    """
    scan, uncertainty = found.scan, None
    if found.entropy is not None:
        uncertainty = np.clip(found.entropy / math.log(NUM_CLASSES), 0, 1)
    return CaseView(
        name=scan.name,
        images=scan.images,
        labels=found.labels,
        truth=truth,
        uncertainty=uncertainty,
        spacing_mm=voxel_sizes_mm(scan.grid.affine),
        facts=_facts(model, found),
        record=model.describe_case(scan) if record is None else record,
    )


def _facts(model: Model, found: Segmented) -> dict[str, str]:
    trained, cleaning = model.trained, model.cleaning
    folds = [str(member.fold) for member in trained.members]
    flips = len(model.ensemble.flips)
    facts = {
        "model": trained.hash,
        "run": f"{trained.run.absolute().name}, fold{'s' * (len(folds) > 1)} {', '.join(folds)}",
        "predictions averaged": f"{model.ensemble.size}" + (f" ({flips} flips)" * (flips > 1)),
        "images": ", ".join(DISPLAY_NAMES[name] for name in model.inputs),
        "normalised by": trained.normalisation,
        "loss": str(trained.config.get("loss", "")),
        "width": str(trained.config.get("model", {}).get("width", "")),
        "removed below": f"{cleaning.min_component_mm3:g} mm³" * bool(cleaning.min_component_mm3),
        "no ET below": f"{cleaning.min_et_mm3:g} mm³" * bool(cleaning.min_et_mm3),
        "version": f"brats_jax {about.__version__}",
        "note": "; ".join(model.notes(found.scan)),
    }
    return {name: text for name, text in facts.items() if text}
