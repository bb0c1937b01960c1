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
        "neighbouring slices": f"{trained.task.context} on each side" * bool(trained.task.context),
        "normalised by": trained.normalisation,
        "training loss": settings.loss,
        "predicts": _regions(trained),
        "network width": str(settings.model.width or ""),
        "cleaning": _cleaning_words(cleaning),
        "version": f"{provenance.OURS} {about.__version__}",
    }
    return {name: text for name, text in facts.items() if text}


def _cleaning_words(cleaning: Cleaning) -> str:
    """The steps of the cleaning, and which sizes were fitted; 'none' without any."""
    steps = {
        "clear_air": "tumour in air is removed",
        "min_component_mm3": (
            f"connected parts of the tumour below {cleaning.min_component_mm3:.10g} mm³ are removed"
        ),
        "min_et_mm3": (
            f"ET becomes NCR/NET if the case has less than {cleaning.min_et_mm3:.10g} mm³ of it"
        ),
    }
    taken = {name: words for name, words in steps.items() if getattr(cleaning, name)}
    sizes = [name for name in taken if name != "clear_air"]
    fitted = [name for name in sizes if name in cleaning.fitted]
    if len(sizes) > 1 and fitted == sizes:
        return f"{'; '.join(taken.values())} (both sizes fitted on held-out patients)"
    origin = dict.fromkeys(fitted, " (fitted on held-out patients)")
    return "; ".join(words + origin.get(name, "") for name, words in taken.items()) or "none"


def _regions(trained: TrainedRun) -> str:
    """The regions that the networks predict, in words; '' where they predict classes."""
    regions = trained.segments and trained.task.outputs != CLASSES
    return f"regions {', '.join(trained.task.outputs)}" if regions else ""
