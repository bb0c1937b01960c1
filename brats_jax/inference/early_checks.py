"""Refuses cases and flags that fit no model before JAX is imported and the model is loaded.

Both take a minute on a slow machine. A scan with voxels of 1 x 1 x 5 mm is refused by its headers.
The check ends with the first case that may be predicted: then the model is needed anyway, and the
regular reading refuses the others.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from brats_jax.data.modalities import MODALITIES, Synthesis, canonical_name
from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.scan import check_headers
from brats_jax.errors import BratsError
from brats_jax.inference.missing import (
    missing_inputs,
    parse_left_out,
    refuse_hidden,
    remedy,
)
from brats_jax.inference.prediction_outcome import Outcome
from brats_jax.inference.read_ahead import (
    document_of_weights,
    has_files,
    inputs_of,
    reading_of_weights,
)
from brats_jax.runs.documents.weights import WeightsDocument


def refuse_left_out(
    checkpoint: str, task: str, leave_out: Sequence[str], *, synthesise: bool
) -> None:
    """Refuses modalities to leave out that exported weights or a ready model need.

    Of a run, `prediction.predict` refuses them once the model is loaded.

    Raises:
      BratsError: the model needs one of them; an unknown one, or all of them.
    """
    left_out = parse_left_out(leave_out)
    used = [name for name in MODALITIES if name not in left_out]
    inputs, takes_missing = used, False
    first: Synthesis | None = None
    # A damaged document, or weights without this task: the loading of the model refuses them.
    with contextlib.suppress(BratsError, KeyError):
        if left_out and (document := document_of_weights(checkpoint)):
            network = document.tasks[task].model
            first = _first_stage(document) if task == "segment" else None
            takes_missing = network.get("modality_dropout", 0) > 0
            inputs = [*inputs_of(network)]
    if synthesise and first is None:
        return  # of a run, or refused by the loading of the model
    by = first if synthesise else None
    missing = missing_inputs(inputs, used, takes_missing=takes_missing, synthesis=by)
    end = ""
    if task == "segment":
        offered = first if first and first.predicts_all(missing.refused, used) else None
        end = remedy(takes_missing=takes_missing, synthesis=by, offered=offered)
    refuse_hidden(missing.refused, end)


def _first_stage(document: WeightsDocument) -> Synthesis | None:
    """What the first stage of exported weights predicts; None if there is no first stage."""
    networks = document.tasks.get("reconstruct")
    if networks is None:
        return None
    model = networks.model
    return Synthesis(inputs_of(model), tuple(model.get("predicts", model["outputs"])))


def refuse_unfit(
    cases: Sequence[CaseFiles],
    checkpoint: str,
    task: str,
    output: Path,
    options: ReadOptions,
    *,
    resampled: bool = False,
    leave_out: Sequence[str] = (),
) -> Outcome:
    """Records and prints the errors of the first cases, up to one that may be predicted.

    Args:
      cases: in the order of the prediction.
      checkpoint, task: as in `predict`. The document of exported weights and ready models says the
        size of the slices; a run is not opened.
      output: the folder to write to; a case that has files there may be kept, and is not checked.
      options: how the files are read.
      resampled, leave_out: as in `read_scan`.

    Raises:
      BratsError: an unknown modality to leave out.
    """
    outcome, names = Outcome(), {canonical_name(name) for name in leave_out}
    in_plane = None
    with contextlib.suppress(Exception):  # the loading of the model raises it again
        reading = reading_of_weights(checkpoint, task, options)
        in_plane = reading.in_plane if reading else None
    for case in cases:
        if has_files(output, case.name):
            break
        try:
            check_headers(
                case, in_plane=in_plane, resampled=resampled, options=options, leave_out=names
            )
        except (BratsError, OSError) as error:
            outcome.fail(case.name, error, output)
        except Exception:  # the reading of the case raises it again
            break
        else:
            break
    return outcome
