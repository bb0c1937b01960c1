"""Cases that lack modalities: who takes them, and synthetic images in place of missing ones.

A network that was trained for missing modalities takes any of its inputs. For any other, and with
`--synthesise` for both, the first stage of the run can fill in what it predicts from the others.
What is missing, and what is synthetic, stands in every output of the case.
"""

import dataclasses
import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES, canonical_name, channel_indices
from brats_jax.data.normalise import BY_VOLUME, brain_mask
from brats_jax.data.scans.scan import Scan
from brats_jax.errors import BratsError
from brats_jax.inference.ensemble import Ensemble
from brats_jax.inference.located import open_model
from brats_jax.inference.trained_run import TrainedRun, first_stage_of
from brats_jax.tasks import Pretraining

Names = tuple[str, ...]
MOST_NOTE = 79  # characters of a NIfTI header's note


@dataclass(frozen=True)
class Given:
    """What becomes of the inputs that a case lacks.

    Attributes:
      missing: those that the network does without.
      synthetic: those that another network fills in.
      refused: those that it cannot do without; a case with any is refused.
    """

    missing: Names = ()
    synthetic: Names = ()
    refused: Names = ()

    @property
    def lacks(self) -> bool:
        """Whether an input is not there."""
        return bool(self.missing or self.synthetic or self.refused)


@dataclass(frozen=True)
class Synthesiser:
    """The first stage of a run, which predicts modalities for its segmentation.

    Attributes:
      ensemble: its networks.
      inputs, targets: what they predict, and from what.
      hash: of their weights.
    """

    ensemble: Ensemble
    inputs: Names
    targets: Names
    hash: str

    @property
    def words(self) -> str:
        """'FLAIR from T1 and T1Gd'."""
        return words_of(self.inputs, self.targets)


def given_of(
    inputs: Sequence[str],
    present: Collection[str],
    *,
    takes_missing: bool,
    synthesiser: Synthesiser | None = None,
    readers: Sequence[Sequence[str]] = (),
) -> Given:
    """What becomes of the inputs that a case lacks.

    Args:
      inputs: of the segmentation.
      present: the modalities of the case.
      takes_missing: whether the network was trained for missing modalities.
      synthesiser: what fills them in, if asked for.
      readers: the inputs of each of several networks whose predictions are averaged.
    """
    lacking = [name for name in inputs if name not in present]
    synthetic: list[str] = []
    if synthesiser is not None and {*synthesiser.inputs} <= {*present}:
        synthetic = [name for name in lacking if name in synthesiser.targets]
    left = tuple(name for name in lacking if name not in synthetic)
    # A network needs at least one image.
    if takes_missing and all(set(names) - set(left) for names in (readers or (inputs,))):
        return Given(missing=left, synthetic=tuple(synthetic))
    return Given(synthetic=tuple(synthetic), refused=left)


def remedy(
    *,
    takes_missing: bool,
    synthesiser: Synthesiser | None,
    first_stage: Pretraining | None = None,
    flag: bool = True,
) -> str:
    """What else to do about a missing modality than to add it; the end of a message.

    Args:
      takes_missing, synthesiser: as of `given_of`.
      first_stage: what could fill in all that is missing, if it were asked for.
      flag: whether the user gives flags; otherwise arguments in Python.
    """
    if takes_missing:
        return "; any one of them is enough"
    if first_stage is not None and synthesiser is None:
        name = "--synthesise" if flag else "synthesise=True of brats_jax.load"
        return f"; or {name}: predicts {words_of(first_stage.inputs, first_stage.synthetic)}"
    trained = "; or give a model that was trained with config.segment.modality_dropout"
    if synthesiser is not None:
        return f"{trained} (--synthesise predicts {synthesiser.words}, nothing else)"
    return trained


def filled_by(
    first_stage: Pretraining | None, refused: Sequence[str], there: Collection[str]
) -> Pretraining | None:
    """A first stage that predicts all of `refused` from what is there; otherwise None."""
    if first_stage is None or not {*first_stage.inputs} <= {*there}:
        return None
    return first_stage if {*refused} <= {*first_stage.synthetic} else None


class Needy(Protocol):
    """A model, as far as what it needs is concerned: `inference.model.Model`."""

    @property
    def inputs(self) -> Names: ...

    @property
    def leave_out(self) -> Names: ...

    @property
    def synthesiser(self) -> Synthesiser | None: ...

    @property
    def trained(self) -> TrainedRun: ...


def needed_of(
    model: Needy, given: Given, present: Collection[str], *, flag: bool = True
) -> tuple[Names, str]:
    """(the modalities that a case must have, the end of the message about a missing one).

    Raises:
      BratsError: one that the model needs is there, but left out on purpose.
    """
    may_lack = {*given.missing, *given.synthetic}
    needed = tuple(name for name in model.inputs if name not in may_lack)
    trained = model.trained
    end = ""
    if trained.segments and given.refused:
        there = {name for name in present if name not in model.leave_out}
        end = remedy(
            takes_missing=trained.takes_missing,
            synthesiser=model.synthesiser,
            first_stage=filled_by(first_stage_of(trained), given.refused, there),
            flag=flag,
        )
    if hidden := [n for n in given.refused if n in model.leave_out and n in present]:
        raise BratsError(f"leave_out={','.join(hidden)}: the model needs {shown(hidden)}{end}")
    return needed, end


def open_synthesiser(
    path: str | os.PathLike[str], trained: TrainedRun, tta: bool, batch_size: int
) -> Synthesiser:
    """Opens the first stage of the run of a segmentation.

    Args:
      path: as of `located.open_model`.
      trained: the segmentation.
      tta, batch_size: as of `Ensemble`.

    Raises:
      BratsError: there is none, or it predicts nothing that the segmentation reads.
    """
    try:
        first = open_model(path, "reconstruct", trained.members[0].network.mesh)
    except BratsError as error:
        raise BratsError(f"--synthesise needs the first stage of the run: {error}") from None
    targets = tuple(name for name in first.targets if name in trained.task.inputs)
    if not targets or first.normalisation != trained.normalisation:
        what = f"{shown(first.targets)}, in units of {first.normalisation} normalisation"
        raise BratsError(
            f"--synthesise: the first stage predicts {what}, which the segmentation "
            f"({shown(trained.task.inputs)}, {trained.normalisation}) cannot use: leave it out"
        )
    ensemble = Ensemble(first.members, flips=tta, batch_size=batch_size)
    return Synthesiser(ensemble, first.task.inputs, first.targets, first.hash)


def with_notes(scan: Scan, given: Given, synthesiser: Synthesiser | None) -> Scan:
    """The scan with a note for what it lacks, and with the names of what is filled in."""
    notes = [*scan.notes, *notes_on(given, synthesiser)]
    return dataclasses.replace(scan, notes=notes, synthetic=given.synthetic)


def notes_on(given: Given, synthesiser: Synthesiser | None) -> list[str]:
    """The lines on what a case lacks."""
    notes = []
    if given.missing:
        notes.append(f"{shown(given.missing)} missing: segmented without")
    if given.synthetic and synthesiser is not None:
        notes.append(
            f"{shown(given.synthetic)} missing: SYNTHETIC, predicted from "
            f"{shown(synthesiser.inputs)} by model {synthesiser.hash[:12]}, and segmented as if it "
            "had been measured"
        )
    return notes


def warn_caller(given: Given, synthesiser: Synthesiser | None, leave_out: Collection[str]) -> None:
    """A warning of Python for what a case lacks, for the caller of the calling function.

    Not for what `leave_out` asks to do without. A returned array holds no other mark.
    """
    missing = tuple(name for name in given.missing if name not in leave_out)
    for line in notes_on(dataclasses.replace(given, missing=missing), synthesiser):
        warnings.warn(line, stacklevel=3)


def filled_in(
    scan: Scan, images: np.ndarray, synthesiser: Synthesiser, normalisation: str
) -> np.ndarray:
    """The normalised images, with the predicted ones in the channels of `scan.synthetic`.

    They are in the units of the network: both stages learn from one store. What no real image can
    have is removed: by volume, anything outside of the brain; by slice, anything in an empty slice.

    Args:
      scan: the scan.
      images: float16[slices, H, W, 4], its normalised images.
      synthesiser: what predicts the modalities.
      normalisation: of the images.
    """
    predicted = synthesiser.ensemble.reconstruct(images)
    predicted = predicted.reshape(*images.shape[:3], len(synthesiser.targets))
    brain = brain_mask(scan.images)
    inside = np.asarray(brain)
    if normalisation not in BY_VOLUME:
        inside = np.any(inside, axis=(1, 2), keepdims=True)
    filled = images.copy()
    for name in scan.synthetic:
        (channel,) = channel_indices([name])
        one = predicted[..., synthesiser.targets.index(name)]
        filled[..., channel] = np.where(inside, one, 0).astype(images.dtype)
    return filled


def parse_left_out(names: str | Sequence[str]) -> Names:
    """Modalities to leave out, also as one text with commas, in canonical spelling and order.

    Raises:
      BratsError: an unknown one, or all of them.
    """
    names = list(filter(None, names.split(","))) if isinstance(names, str) else names
    found = {canonical_name(name) for name in names}
    if found == {*MODALITIES}:
        raise BratsError(f"--leave_out={','.join(names)} leaves no modality: name three at most")
    return tuple(name for name in MODALITIES if name in found)


def header_note(use: str, program: str, model: str, given: Given) -> str:
    """The note in the header of a file of a case that lacks modalities, at most 79 characters."""
    marks = [f"synthetic {short(given.synthetic)}"] if given.synthetic else []
    marks += [f"no {short(given.missing)}"] if given.missing else []
    for length in (12, 8, 4):
        note = "; ".join([use, program, f"model {model[:length]}", *marks])
        if len(note) <= MOST_NOTE:
            break
    return note[:MOST_NOTE]


def short(names: Sequence[str]) -> str:
    """'T1, FLAIR'."""
    return ", ".join(DISPLAY_NAMES[name] for name in names)


def words_of(inputs: Sequence[str], targets: Sequence[str]) -> str:
    """'FLAIR from T1 and T1Gd'."""
    return f"{shown(targets)} from {shown(inputs)}"


def shown(names: Sequence[str]) -> str:
    """'T1, T2 and FLAIR'."""
    words = [DISPLAY_NAMES[name] for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
