"""Predicts the cases in a folder and writes the results."""

import contextlib
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from brats_jax.data.modalities import MODALITIES, REGIONS
from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.data.scans.nifti_file import slice_shape_of
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.scan import WARNING, Scan
from brats_jax.data.scans.truth import read_truth
from brats_jax.errors import BratsError
from brats_jax.inference import earlier_outputs, outputs, sidecars
from brats_jax.inference.case_pipeline import Gate, run_cases
from brats_jax.inference.ensemble import SliceLabels
from brats_jax.inference.missing import MissingInputs, required_inputs, with_notes
from brats_jax.inference.model import Model
from brats_jax.inference.output_names import PREDICTED_NAMES, OutputOptions
from brats_jax.inference.prediction_outcome import Outcome
from brats_jax.inference.read_ahead import ReadAhead, Reading
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import remove_stale
from brats_jax.runtime.item_progress import ItemProgress
from brats_jax.runtime.signals import received
from brats_jax.runtime.threads import available_cpus
from brats_jax.viewer.case import dice_words

# Threads that read cases for an accelerator. A CPU has one, which reads a case only when the one
# before it is predicted: reading is the short part there, and a case that waits takes 0.2 GB.
_MOST_READERS = 4
_WRITERS = 2


def predict_cases(
    model: Model,
    cases: Sequence[CaseFiles],
    directory: Path,
    options: OutputOptions,
    *,
    resampled: bool = False,
    labels: str = "",
    reading: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    ahead: ReadAhead | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Predicts cases and writes them into a folder; an error of one does not stop the others.

    Args:
      model: the model.
      cases: their files.
      directory: the folder to write to.
      options: the files to write.
      resampled: resample images whose grids differ from each other or from 1 mm.
      labels: label scheme of true labels beside the images; '' for that of their names.
      reading: how the files are read.
      ahead: reads the first case since the start of the command.
      outcome: gets the results; cases that it names are not predicted.
    """
    outcome = Outcome() if outcome is None else outcome
    folder = PredictionFolder(directory)
    table = sidecars.table_of(folder, changed=True)
    remove_stale(directory, PREDICTED_NAMES)
    todo = []
    for case in cases:
        if case.name in outcome.failed:
            continue
        try:
            missing = model.missing_inputs(case.paths)
            reason = earlier_outputs.reason_to_skip(directory, case.name, model, options, missing)
        except Exception as error:
            _note_failure(outcome, case.name, error, directory)
            continue
        if reason:
            outcome.kept[case.name] = reason
            print_line(f"{case.name}: {reason}")
        else:
            todo.append(case)
    progress = ItemProgress(len(todo), "case")
    steps = _Steps(model, directory, options, resampled, labels, reading, ahead, progress)
    running = run_cases(
        todo,
        steps.read,
        steps.predict,
        steps.write,
        readers=1 if jax.default_backend() == "cpu" else min(_MOST_READERS, available_cpus()),
        writers=_WRITERS,
        meanwhile=lambda: steps.compile_for(todo[0]),
    )
    try:
        with progress, contextlib.closing(running):
            for case, written in running:
                try:
                    path, summary, notes = written.result()
                except Exception as error:
                    _note_failure(outcome, case.name, error, directory)
                else:
                    outcome.written[case.name] = path
                    print_line(f"{case.name}: {summary}")
                    for note in notes:
                        print_line(f"  note: {note}")
                    if any(note.startswith(WARNING) for note in notes):
                        outcome.doubtful.append(case.name)
                progress.update()
    finally:
        steps.gate.close()  # a case has all its files or none, also when the process now ends
        if kept := sidecars.write_table(folder, table):
            print_line(kept)
    return outcome


@dataclass(frozen=True)
class _Prediction:
    """The prediction of one case.

    Attributes:
      scan: the images.
      labels: of a segmentation.
      images: of a reconstruction, the network's input, to which it is compared.
      synthetic: of a reconstruction, the predicted modalities.
    """

    scan: Scan
    labels: SliceLabels | None = None
    images: np.ndarray | None = None
    synthetic: np.ndarray | None = None


@dataclass(frozen=True)
class _Steps:
    """The three steps of a case; see `case_pipeline.run_cases`.

    Attributes: as the arguments of `predict_cases`, and
      progress: of the cases.
      gate: passed to put the files of a case into the folder, once they are made.
    """

    model: Model
    directory: Path
    options: OutputOptions
    resampled: bool
    labels: str
    reading: ReadOptions
    ahead: ReadAhead | None
    progress: ItemProgress
    gate: Gate = field(default_factory=Gate)

    def read(self, case: CaseFiles) -> tuple[Scan, np.ndarray]:
        """The scan, and its normalised images float16[slices, H, W, 4]."""
        self.progress.doing(f"reading {case.name}")
        reading, missing, remedy = reading_of(self.model, case, self.resampled, self.reading)
        found = self.ahead.take(case, reading) if self.ahead is not None else None
        scan, images = found or reading.scan_and_images(case, remedy)
        return with_notes(scan, missing, self.model.synthesiser), images

    def compile_for(self, case: CaseFiles) -> None:
        """Compiles the programs that a case will need, before the case is read.

        Only where its header gives slices of the size of the training data: other slices may be
        cropped or resampled first.
        """
        trained_on = self.model.trained.slice_shape
        left_out = self.model.leave_out
        paths = [p for m, p in case.paths.items() if m in MODALITIES and m not in left_out]
        if trained_on is None or self.resampled or not paths:
            return
        if slice_shape_of(paths[0], self.reading.max_case_gb) == trained_on:
            details = self._options_of(case.name).needs_probabilities
            self.progress.doing("preparing the networks")
            self.model.ensemble.compile_for(trained_on, details=details)

    def predict(self, case: CaseFiles, loaded: tuple[Scan, np.ndarray]) -> _Prediction:
        """Runs the ensemble."""
        scan, images = loaded
        if self.options.picture or self.options.page:
            outputs.import_drawing()
        progress = functools.partial(self.progress.part, case.name)
        progress(0.0)
        try:
            if self.model.trained.segments:
                details = self._options_of(case.name).needs_probabilities
                labels = self.model.label(scan, images, details=details, progress=progress)
                return _Prediction(scan, labels=labels)
            synthetic = self.model.ensemble.reconstruct(images, progress)
            return _Prediction(scan, images=images, synthetic=synthetic)
        finally:
            self.progress.computed()

    def write(self, prediction: _Prediction, started: float) -> tuple[Path, str, list[str]]:
        """Writes a case's files; returns the main one, a line for the terminal, and notes."""
        self.progress.doing(f"writing {prediction.scan.name}")
        if prediction.labels is not None:
            path, numbers, notes = self._write_labels(prediction.scan, prediction.labels)
        else:
            assert prediction.images is not None and prediction.synthetic is not None
            found = self.model.compare(prediction.scan, prediction.images, prediction.synthetic)
            path = outputs.write_reconstruction(self.directory, found, self.model, self.gate.passed)
            numbers = ", ".join(
                one.target + ("" if one.mse is None else f", MSE {one.mse:.3f}") for one in found
            )
            notes = self.model.notes(prediction.scan)
        seconds = time.monotonic() - started
        return path, f"{numbers}; {path} ({seconds:.1f} s)", notes

    def _write_labels(self, scan: Scan, labels: SliceLabels) -> tuple[Path, str, list[str]]:
        """(main file, volumes in words, notes)."""
        options, truth = self._options_of(scan.name), None
        found = self.model.finish(scan, labels)
        on_truth: list[str] = []
        if options.picture or options.page:
            try:
                truth = read_truth(scan, self.labels, on_truth)
            except BratsError as error:  # the prediction does not need it
                on_truth.append(f"shown without truth, because {error}")
        path = outputs.write_segmentation(
            self.directory, found, self.model, options, truth, self.gate.passed, on_truth
        )
        numbers = ", ".join(f"{name} {found.volumes[name].ml:.1f} ml" for name in REGIONS)
        if truth is not None:
            numbers += f"; {dice_words(found.labels, truth)}"
        return path, numbers, [*self.model.notes(found.scan), *on_truth]

    def _options_of(self, case: str) -> OutputOptions:
        """The files to write for a case: those asked for, and those that it has already."""
        return earlier_outputs.with_existing(self.directory, case, self.model, self.options)


def reading_of(
    model: Model, case: CaseFiles, resampled: bool, options: ReadOptions
) -> tuple[Reading, MissingInputs, str]:
    """(how the case is read, the inputs that it lacks, the end of a message about that)."""
    missing = model.missing_inputs(case.paths)
    needed, remedy = required_inputs(model, missing, case.paths)
    trained, left_out = model.trained, frozenset(model.leave_out)
    reading = Reading(needed, trained.normalisation, trained.in_plane, options, resampled, left_out)
    return reading, missing, remedy


def _note_failure(outcome: Outcome, name: str, error: Exception, directory: Path) -> None:
    if received():  # of a stop, whose exception a library has replaced: no further case
        raise error
    outcome.fail(name, error, directory)
