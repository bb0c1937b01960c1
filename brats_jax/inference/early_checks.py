"""Refuses cases by their headers before JAX is imported and a model is loaded.

Both take a minute on a slow machine, and a scan with voxels of 1 x 1 x 5 mm fits no model. The
check ends with the first case that may be predicted: then the model is needed anyway, and the
regular reading refuses the others.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from brats_jax.data.modalities import canonical_name
from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.scan import check_headers
from brats_jax.errors import BratsError
from brats_jax.inference.outcome import Outcome
from brats_jax.inference.read_ahead import has_files, reading_of_weights


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
