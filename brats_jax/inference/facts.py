"""The model of a case's prediction in words, for the viewer."""

from brats_jax import about
from brats_jax.data.modalities import CLASSES, display_list
from brats_jax.data.planes import AXIAL
from brats_jax.data.scans import provenance
from brats_jax.inference.missing import MissingInputs
from brats_jax.inference.postprocess import Cleaning
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runs.sidecars import Averaged


def facts_of(
    trained: TrainedRun,
    cleaning: Cleaning,
    averaged: Averaged,
    missing: MissingInputs,
) -> dict[str, str]:
    """The facts by name.

    Args:
      trained, cleaning, averaged: the model, and how it was applied.
      missing: the inputs that the case lacks.
    """
    not_there = {*missing.dropped, *missing.synthetic}
    settings, flips = trained.document.settings, averaged.flips
    planes = dict.fromkeys(plane for one in trained.runs for plane in one.planes)
    facts = {
        "model": trained.hash,
        "run": trained.title,
        "planes": ", ".join(planes) if set(planes) != {AXIAL} else "",
        "weights": trained.weights.weights_sha256 if trained.weights else "",
        "predictions averaged": f"{averaged.count}" + f" ({flips} flips)" * (flips > 1),
        "images": display_list([name for name in trained.inputs if name not in not_there]),
        "missing": display_list(missing.dropped),
        "synthetic": display_list(missing.synthetic),
        "slices beside each": f"{trained.task.context} on each side" * bool(trained.task.context),
        "normalised by": trained.normalisation,
        "loss": settings.loss,
        "predicts": _regions(trained),
        "width": str(settings.model.width or ""),
        "tumour in air": _removed(cleaning),
        "removed below": _size(cleaning, "min_component_mm3"),
        "no ET below": _size(cleaning, "min_et_mm3"),
        "version": f"{provenance.OURS} {about.__version__}",
    }
    return {name: text for name, text in facts.items() if text}


def _size(cleaning: Cleaning, name: str) -> str:
    """A size of the cleaning in words; '' where it is 0."""
    size = getattr(cleaning, name)
    return f"{size:g} mm³{' (fitted)' * (name in cleaning.fitted)}" if size else ""


def _removed(cleaning: Cleaning) -> str:
    fitted = " (fitted)" * ("clear_air" in cleaning.fitted)
    return f"removed{fitted}" if cleaning.clear_air else ""


def _regions(trained: TrainedRun) -> str:
    """The regions that the networks predict, in words; '' where they predict classes."""
    regions = trained.segments and trained.task.outputs != CLASSES
    return f"regions {', '.join(trained.task.outputs)}" if regions else ""
