"""Prediction from files to files, as the predict command does it."""

import contextlib
import functools
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_jax.about import RESEARCH_USE_ONLY
from brats_jax.data.folds import fold_titles
from brats_jax.data.modalities import MODALITIES, display_list
from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.data.scans.labels import scheme_named
from brats_jax.data.scans.options import ReadOptions
from brats_jax.errors import BratsError
from brats_jax.inference import cases as case_list
from brats_jax.inference import inputs
from brats_jax.inference.loading import load
from brats_jax.inference.missing import required_inputs
from brats_jax.inference.model import Model
from brats_jax.inference.output_names import OutputOptions
from brats_jax.inference.prediction_outcome import Outcome
from brats_jax.inference.read_ahead import ReadAhead
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runtime import devices, threads
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import check_folder, make_folder
from brats_jax.runtime.text import joined, plural


def predict(
    checkpoint: str | Path,
    source: str | Mapping[str, str],
    output: Path,
    options: OutputOptions,
    *,
    resampled: bool = False,
    labels: str = "",
    reading: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    task: str = "segment",
    cases: Sequence[CaseFiles] | None = None,
    ahead: ReadAhead | None = None,
    outcome: Outcome | None = None,
    **model_options: Any,
) -> Outcome:
    """Predicts cases, writes the results and prints a summary.

    Args:
      checkpoint: RUN, RUN/fold_K, exported weights, or the name of a ready model; several with
        commas between them.
      source: a case's folder, or a folder with cases; or modality -> file of one case.
      output: folder to write to.
      options: which files to write.
      resampled: resamples images whose voxels are not 1 mm, or differ between modalities.
      labels: label scheme of true labels beside the images; '' for that of their names.
      reading: how the files of the cases are read.
      task: 'segment' or 'reconstruct'.
      cases: of `source`, where they are known; None: searches them.
      ahead: reads the first case since the start of the command.
      outcome: of `early_checks.refuse_unfit`; None: nothing was checked.
      model_options: see `brats_jax.inference.load`.

    Raises:
      BratsError: no usable checkpoint or case; a modality is missing; `output` is a file.
    """
    scheme_named(labels)
    check_folder(output, "--output")  # before the long part
    if cases is None:
        cases = inputs.cases_of(source)
    model = threads.interruptible(functools.partial(load, checkpoint, task=task, **model_options))
    # What no case can be predicted without is refused once.
    required_inputs(model, model.missing_inputs(MODALITIES), MODALITIES)
    if not isinstance(source, str):
        _refuse_missing_files(model, source)
    _print_model(model, len(cases))
    is_new = not output.exists()
    make_folder(output, "--output")
    try:
        outcome = case_list.predict_cases(
            model, cases, output, options, resampled=resampled, labels=labels, reading=reading,
            ahead=ahead, outcome=outcome,
        )  # fmt: skip
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it holds files
                output.rmdir()
    print_line(outcome.summary())
    for line in _further_files(output, options, [*outcome.written, *outcome.kept]):
        print_line(line)
    table = PredictionFolder(output).volumes_csv
    if task == "segment" and table.exists():
        print_line(f"volumes: {table}")
    return outcome


def _refuse_missing_files(model: Model, files: Mapping[str, str]) -> None:
    """Refuses files of one case without a modality that the model needs (BratsError)."""
    missing = model.missing_inputs(files)
    _, remedy = required_inputs(model, missing, files)
    flags = [f"--{name}" for name in missing.refused]
    if flags:
        needed = " ".join(f"--{name}" for name in MODALITIES if name in model.inputs)
        raise BratsError(
            f"{' and '.join(flags)} {'is' if len(flags) == 1 else 'are'} missing: the model needs "
            f"{needed}{remedy}"
        )


def _print_model(model: Model, cases: int) -> None:
    """Prints the research notice, the model and the settings of a prediction."""
    averaged = model.averaged.planes
    planes = f" ({joined(averaged)} slices)" if averaged else ""
    print_line(RESEARCH_USE_ONLY)
    print_line(
        f"{plural(cases, 'case')}; {_runs_and_folds(model.trained)}, model "
        f"{model.trained.hash[:12]}; predictions averaged: {model.ensemble.size}{planes}; "
        f"{devices.describe()}"
    )
    if model.synthesiser is not None:
        print_line(f"what is missing is predicted where possible: {model.synthesiser.synthesis}")
    if model.leave_out:
        print_line(f"left out: {display_list(model.leave_out)}")
    if cleaned := model.cleaning.describe():
        print_line(cleaned)
    for note in model.trained.notes:
        print_line(f"note: {note}")


def _further_files(output: Path, options: OutputOptions, cases: Sequence[str]) -> list[str]:
    """Where the files that were asked for beside the labels are: paths, or patterns of several."""
    folder = PredictionFolder(output)
    files = {
        "picture": folder.picture,
        "page": folder.page,
        "probabilities": lambda case: folder.probability(case, "*"),
        "uncertainty": folder.entropy,
    }
    units = {"uncertainty": " (entropy in nats)"}
    case, pattern = (cases[0], glob.escape(cases[0])) if len(cases) == 1 else ("*", "*")
    return [
        f"{name}{units.get(name, '')}: {path_of(case)}"
        for name, path_of in files.items()
        if cases and getattr(options, name) and any(folder.path.glob(path_of(pattern).name))
    ]


def _runs_and_folds(trained: TrainedRun) -> str:
    """The folders and the folds of all runs of a model; of a ready model its name."""
    return "; ".join(
        f"{one.place}, {fold_titles([member.fold for member in one.members])}"
        for one in trained.runs
    )
