"""What a model does with a case that lacks modalities, and what it says about it.

A network that was trained with modality dropout needs only one of its inputs. Any other network
needs them all. With `--synthesise` the first stage of the run predicts missing inputs for either
(`inference.synthesis`). Every output of the case names the missing and the synthetic modalities.
Importing this module does not import JAX.
"""

import dataclasses
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from brats_jax.data.modalities import (
    MODALITIES,
    Synthesis,
    canonical_name,
    display_joined,
    display_list,
)
from brats_jax.data.scans.scan import WARNING, Scan
from brats_jax.errors import BratsError
from brats_jax.runtime.text import joined

if TYPE_CHECKING:  # they import JAX
    from brats_jax.inference.synthesis import Synthesiser
    from brats_jax.inference.trained_run import TrainedRun

Names = tuple[str, ...]

MOST_NOTE = 79  # characters of a NIfTI header's note


@dataclass(frozen=True)
class MissingInputs:
    """The inputs of a network that a case lacks, by what is done about them.

    Attributes:
      dropped: the network predicts without them, as in training with modality dropout.
      synthetic: the first stage predicts them.
      refused: the network needs them; a case with any of these is refused.
    """

    dropped: Names = ()
    synthetic: Names = ()
    refused: Names = ()

    def __bool__(self) -> bool:
        """Whether any input is missing."""
        return bool(self.dropped or self.synthetic or self.refused)


def missing_inputs(
    inputs: Sequence[str],
    present: Collection[str],
    *,
    takes_missing: bool,
    synthesis: Synthesis | None = None,
    networks_inputs: Sequence[Sequence[str]] = (),
) -> MissingInputs:
    """The inputs that a case lacks, and what is done about them.

    Args:
      inputs: of the segmentation.
      present: the modalities of the case.
      takes_missing: whether the network was trained with modality dropout.
      synthesis: what the first stage predicts; None: it is not used.
      networks_inputs: the inputs of each network, where several are averaged.
    """
    lacking = [name for name in inputs if name not in present]
    synthetic: list[str] = []
    if synthesis is not None and synthesis.is_possible(present):
        synthetic = [name for name in lacking if name in synthesis.targets]
    left = tuple(name for name in lacking if name not in synthetic)
    # A network needs at least one image.
    if takes_missing and all(set(names) - set(left) for names in (networks_inputs or (inputs,))):
        return MissingInputs(dropped=left, synthetic=tuple(synthetic))
    return MissingInputs(synthetic=tuple(synthetic), refused=left)


def remedy(
    *,
    takes_missing: bool,
    synthesis: Synthesis | None,
    offered: Synthesis | None = None,
    flag: bool = True,
    refusing: Sequence[tuple[str, Names]] = (),
) -> str:
    """What a user can do about a missing modality, besides adding it: the end of a message.

    Args:
      takes_missing, synthesis: as in `missing_inputs`.
      offered: of a first stage that can predict all that is missing, but was not asked to.
      flag: whether the user gives flags; otherwise arguments in Python.
      refusing: of several runs, (run folder, its inputs) of those that need the modality.
    """
    if takes_missing and refusing:
        return f"; {joined([f'{run} needs one of {display_list(of)}' for run, of in refusing])}"
    if takes_missing:
        return "; any one of them is enough"
    if offered is not None and synthesis is None:
        name = "--synthesise" if flag else "synthesise=True of brats_jax.load"
        return f"; or give {name}, which predicts {offered}"
    trained = "; or give a model that was trained with config.segment.modality_dropout"
    if refusing:
        trained += f" instead of {joined([run for run, _ in refusing])}"
    if synthesis is not None:
        return f"{trained} (--synthesise predicts {synthesis}, nothing else)"
    return trained


class ReadsModalities(Protocol):
    """The part of `inference.model.Model` that decides which modalities a case must have."""

    @property
    def inputs(self) -> Names: ...

    @property
    def leave_out(self) -> Names: ...

    @property
    def synthesiser(self) -> "Synthesiser | None": ...

    @property
    def trained(self) -> "TrainedRun": ...


def required_inputs(
    model: ReadsModalities, missing: MissingInputs, present: Collection[str], *, flag: bool = True
) -> tuple[Names, str]:
    """(the modalities that a case must have, the end of the message about a missing one).

    Args:
      model: the model.
      missing: the inputs that the case lacks.
      present: the modalities of the case, also those that are left out.
      flag: whether the user gives flags; otherwise arguments in Python.

    Raises:
      BratsError: a modality that the model needs is present, but left out by the user.
    """
    may_lack = {*missing.dropped, *missing.synthetic}
    needed = tuple(name for name in model.inputs if name not in may_lack)
    trained = model.trained
    end = ""
    if trained.segments and missing.refused:
        from brats_jax.inference.trained_run import first_stage_of

        used = {name for name in present if name not in model.leave_out}
        first = first_stage_of(trained)
        end = remedy(
            takes_missing=trained.takes_missing,
            synthesis=model.synthesiser.synthesis if model.synthesiser else None,
            offered=first if first and first.predicts_all(missing.refused, used) else None,
            flag=flag,
            refusing=_refusing(trained, missing.refused),
        )
    hidden = [name for name in missing.refused if name in model.leave_out and name in present]
    refuse_hidden(hidden, end, flag=flag)
    return needed, end


def _refusing(trained: "TrainedRun", refused: Collection[str]) -> list[tuple[str, Names]]:
    """(run folder, its inputs) of those of several runs that need the modalities; [] of one run."""
    found = []
    for one in trained.runs if trained.others else ():
        lacking = [name for name in one.task.inputs if name in refused]
        if one.task.takes_missing and len(lacking) < len(one.task.inputs):
            continue
        if lacking:
            found.append((one.place, one.task.inputs))
    return found


def refuse_hidden(hidden: Sequence[str], end: str, *, flag: bool = True) -> None:
    """Refuses to leave out modalities that a model needs.

    Args:
      hidden: these modalities, if any.
      end: of the message: what a user can do.
      flag: whether the user gives flags; otherwise arguments in Python.

    Raises:
      BratsError: there are any.
    """
    if hidden:
        raise BratsError(
            f"{'--' * flag}leave_out={','.join(hidden)}: the model needs "
            f"{display_joined(hidden)}{end}"
        )


def with_notes(scan: Scan, missing: MissingInputs, synthesiser: "Synthesiser | None") -> Scan:
    """The scan with notes on what it lacks, and with the names of its synthetic modalities."""
    notes = [*scan.notes, *notes_on(missing, synthesiser)]
    return dataclasses.replace(scan, notes=notes, synthetic=missing.synthetic)


def notes_on(missing: MissingInputs, synthesiser: "Synthesiser | None") -> list[str]:
    """The lines on what a case lacks."""
    notes = []
    if missing.dropped:
        notes.append(f"{display_joined(missing.dropped)} missing: segmented without")
    if missing.synthetic and synthesiser is not None:
        inputs = display_joined(synthesiser.synthesis.inputs)
        notes.append(
            f"{display_joined(missing.synthetic)} missing: SYNTHETIC, predicted from {inputs} by "
            f"model {synthesiser.hash[:12]}, and segmented as if it had been measured"
        )
    return notes


def warn_caller(
    missing: MissingInputs, synthesiser: "Synthesiser | None", leave_out: Collection[str]
) -> None:
    """Warns the caller of the calling function (UserWarning) of what a case lacks.

    A returned array holds no other mark of it. Modalities in `leave_out` give no warning: the
    caller asked to leave them out.
    """
    dropped = tuple(name for name in missing.dropped if name not in leave_out)
    for line in notes_on(dataclasses.replace(missing, dropped=dropped), synthesiser):
        warnings.warn(line, stacklevel=3)


def warn_of_names(notes: Sequence[str]) -> None:
    """Warns the caller of the calling method's method of names that contradict each other."""
    for note in notes:
        if note.startswith(WARNING):
            warnings.warn(note.removeprefix(WARNING), stacklevel=4)


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


def header_note(use: str, program: str, model: str, missing: MissingInputs) -> str:
    """The note in the header of a file of a case that lacks modalities, at most 79 characters."""
    marks = [f"synthetic {display_list(missing.synthetic)}"] if missing.synthetic else []
    marks += [f"no {display_list(missing.dropped)}"] if missing.dropped else []
    for length in (12, 8, 4):
        note = "; ".join([use, program, f"model {model[:length]}", *marks])
        if len(note) <= MOST_NOTE:
            break
    return note[:MOST_NOTE]
