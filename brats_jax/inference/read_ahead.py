"""Reads the first case while JAX is imported and the model is loaded: nothing here imports JAX.

How a case is read depends on the model. Exported weights, and thus ready models, have a document
that says it before the weights are loaded. The scan that was read ahead is used if the loaded model
needs exactly this one. Errors are ignored here, because the regular reading meets them again.
"""

import contextlib
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.normalise import normalise
from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.scan import Scan, read_scan
from brats_jax.inference import model_paths
from brats_jax.runs.documents.weights import WeightsDocument
from brats_jax.runtime.document import read_document


@dataclass(frozen=True)
class Reading:
    """How a case is read and normalised.

    Attributes:
      needed: the modalities that it must have.
      normalisation: one of `NORMALISATIONS`.
      in_plane, options, resampled, leave_out: see `read_scan`.
    """

    needed: tuple[str, ...]
    normalisation: str
    in_plane: tuple[int, int] | None
    options: ReadOptions
    resampled: bool = False
    leave_out: frozenset[str] = frozenset()

    def scan(self, case: CaseFiles, remedy: str = "") -> Scan:
        """The scan; `remedy` ends the message about a missing modality."""
        return read_scan(
            case, self.needed, in_plane=self.in_plane, resampled=self.resampled,
            options=self.options, leave_out=self.leave_out, remedy=remedy,
        )  # fmt: skip

    def scan_and_images(self, case: CaseFiles, remedy: str = "") -> tuple[Scan, np.ndarray]:
        """The scan, and its normalised images float16[slices, H, W, 4]."""
        scan = self.scan(case, remedy)
        return scan, normalise(scan.images, self.normalisation)


class ReadAhead:
    """Reads a case in a thread, as a model probably needs it.

    Args:
      checkpoint: as in `predict`; a case is read only for exported weights and ready models.
      task: 'segment' or 'reconstruct'.
      case: the first one to predict.
      output: the folder to write to; a case that has files there is not read.
      options: how the files are read.
    """

    def __init__(
        self, checkpoint: str, task: str, case: CaseFiles, output: Path, options: ReadOptions
    ) -> None:
        self._case: CaseFiles | None = None
        self._reading: Reading | None = None
        pool = ThreadPoolExecutor(1, "ahead")
        self._found: Future[tuple[Scan, np.ndarray] | None] | None = pool.submit(
            self._read, checkpoint, task, case, output, options
        )
        pool.shutdown(wait=False)

    def take(self, case: CaseFiles, reading: Reading) -> tuple[Scan, np.ndarray] | None:
        """The scan and images, once; None if another case was read, in another way, or none."""
        if self._found is None:
            return None
        found, self._found = self._found.result(), None
        return found if (self._case, self._reading) == (case, reading) else None

    def _read(
        self, checkpoint: str, task: str, case: CaseFiles, output: Path, options: ReadOptions
    ) -> tuple[Scan, np.ndarray] | None:
        # The pipeline reads the case again, and its error is the one that the user gets.
        with contextlib.suppress(Exception):
            reading = reading_of_weights(checkpoint, task, options)
            if reading and not has_files(output, case.name):
                self._case, self._reading = case, reading
                return reading.scan_and_images(case)
        return None


def reading_of_weights(checkpoint: str, task: str, options: ReadOptions) -> Reading | None:
    """How exported weights need a case that lacks nothing; None for anything else.

    Raises:
      BratsError, LookupError: a document that is damaged.
    """
    if (document := document_of_weights(checkpoint)) is None:
        return None
    networks = document.tasks[task]
    record = networks.folds[0].record
    how, shape = str(record.normalisation), record.slice_shape
    in_plane = (shape[0], shape[1]) if shape and how == "slice" else None
    return Reading(inputs_of(networks.model), how, in_plane, options)


def document_of_weights(checkpoint: str) -> WeightsDocument | None:
    """The document of exported weights or of a ready model; None for a run.

    Raises:
      BratsError: it is damaged.
    """
    weights = model_paths.weights_at(checkpoint)
    return read_document(weights.config_json, WeightsDocument) if weights else None


def inputs_of(network: Mapping[str, Any]) -> tuple[str, ...]:
    """The modalities that a network reads, from its description (`tasks.Task.describe`)."""
    return tuple(network.get("from", network["inputs"]))


def has_files(output: Path, case: str) -> bool:
    """Whether the folder to write to has files of a case."""
    with contextlib.suppress(FileNotFoundError):
        return any(name.startswith(case) for name in os.listdir(output))
    return False
