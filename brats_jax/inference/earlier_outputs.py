"""Predictions that are in the output folder already: which stay, and which may be replaced.

A prediction of the same model with the same settings stays. A file that somebody edited, or that
this program did not write, is never replaced.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from brats_jax.data.scans import provenance
from brats_jax.errors import BratsError
from brats_jax.inference import sidecars
from brats_jax.inference.missing import MissingInputs
from brats_jax.inference.model import Model
from brats_jax.inference.output_names import (
    OPTIONAL_FILES,
    OutputOptions,
    names_by_option,
    sidecar_path,
)
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runs.sidecars import (
    LATER_S,
    SegmentationSidecar,
    Sidecar,
    SyntheticSidecar,
    missing_files,
)
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import refuse_link
from brats_jax.runtime.own_files import OwnFiles
from brats_jax.runtime.whole_files import is_whole


def reason_to_skip(
    directory: Path,
    case: str,
    model: Model,
    options: OutputOptions,
    missing: MissingInputs = MissingInputs(),  # noqa: B008, immutable
) -> str:
    """The reason why a case needs no prediction; empty if it needs one.

    A prediction of the same model with the same settings is completed if files are missing. A
    prediction that was edited since is kept.

    Args:
      directory: the output folder.
      case: the name of the case.
      model: the model in use.
      options: the files to write.
      missing: the inputs that the case lacks now.

    Raises:
      BratsError: a file of this name is not a prediction of this program, or has changed since it
        was written and `overwrite` asks to replace it.
    """
    names = names_by_option(case, model, options)
    sidecar = sidecar_path(directory, case, model)
    # A damaged description of this program has its labels beside it, which are looked at below.
    if (
        sidecar.exists()
        and not sidecars.is_ours(sidecar)
        and not (directory / names["labels"]).exists()
    ):
        raise BratsError(
            f"{sidecar} is there and was not written by this program, which writes its description "
            "there: move it away, or give another --output"
        )
    refuse_link(sidecar, "move it away, or give another --output")
    before = earlier_sidecar(sidecar, model)
    edited = changed_file(
        directory,
        case,
        model,
        [*names.values(), *(before.files if before else ())],
        to_replace=options.overwrite,
    )
    if edited and options.overwrite:
        move = "it is never replaced; move it away"
        if before is None:  # one file after the other would be named
            move = "nothing of this case is replaced; move its files away"
        raise BratsError(f"{directory / edited}: {move}, or give another --output")
    if edited:
        return f"kept, {edited}"
    if before is None or missing_files(directory, before.files):
        return ""
    own = own_files(directory, case, model)
    own.discard_ledger()  # of a command that was killed
    if options.overwrite:
        return ""
    own = own_files(directory, case, model)  # by the hashes of the sidecar alone
    if not all(own.is_as_written(name) for name in before.files):  # a damaged copy of equal size
        return ""
    differences = _differences(before, model, missing)
    if isinstance(before, SegmentationSidecar) and str(options.et_label) not in before.labels:
        differences.append(f"with another value of ET than {options.et_label}")
    unwritten = sorted({option for option, name in names.items() if name not in before.files})
    if differences:
        differences += [f"without {option}" for option in unwritten]
        return f"kept, {' and '.join(differences)}; --overwrite replaces it"
    return "" if unwritten else "kept"


def with_existing(
    directory: Path, case: str, model: Model, options: OutputOptions
) -> OutputOptions:
    """The options, and those of the files that were written for this case before.

    All of them are made again, also for another model or other settings: a page or picture of the
    earlier labels must not stay, and must not be lost either.
    """
    before = earlier_sidecar(sidecar_path(directory, case, model), model)
    if before is None:
        return options
    names = names_by_option(
        case, model, dataclasses.replace(options, **dict.fromkeys(OPTIONAL_FILES, True))
    )
    existing = {option: True for option in OPTIONAL_FILES if names.get(option) in before.files}
    return dataclasses.replace(options, **existing)


def earlier_sidecar(path: Path, model: Model) -> SegmentationSidecar | SyntheticSidecar | None:
    """The readable sidecar at `path`, or None."""
    if model.trained.segments:
        return read_if_readable(path, SegmentationSidecar)
    return read_if_readable(path, SyntheticSidecar)


def _differences(before: Sidecar, model: Model, missing: MissingInputs) -> list[str]:
    return sidecars.differences(
        before,
        model.trained.describe(),
        model.averaged,
        model.cleaning,
        **model.missing_fields(missing),
    )


def changed_file(
    directory: Path, case: str, model: Model, names: Iterable[str], *, to_replace: bool = True
) -> str:
    """The first file of a case that somebody may have changed since it was written, in words.

    A link to a file as it was written counts as changed only if it is `to_replace`.

    Raises:
      BratsError: a file that this program did not write.
    """
    own = own_files(directory, case, model)
    for name in dict.fromkeys(names):
        path = directory / Path(name).name
        if not path.exists():  # a link to nothing
            refuse_link(path, "move it away, or give another --output")
        if own.may_replace(path.name):
            continue
        if own.is_as_written(path.name) and not to_replace:  # a link
            continue
        if path.is_symlink() and own.is_as_written(path.name):
            return f"{path.name} is a link, which this program did not write"
        if not _is_predicted(path) and not own.knows(path.name):
            raise BratsError(
                f"{path} is there and no prediction of this program (a reader's labels?): give "
                "another --output"
            )
        if not is_whole(path):  # a copy that was cut short is no edit; nobody can use it
            continue
        if own.knows(path.name):
            return f"{path.name} has changed since this program wrote it"
        sidecar = sidecar_path(directory, case, model)
        if sidecar.exists():
            return (
                f"{sidecar.name} has changed since this program wrote it, so that an edit of "
                f"{path.name} could not be found"
            )
        return f"{path.name} is there without the description that was written with it"
    return ""


def own_files(directory: Path, case: str, model: Model) -> OwnFiles:
    """The files of a case that this program has written."""
    sidecar = sidecar_path(directory, case, model)
    before = earlier_sidecar(sidecar, model)
    own = OwnFiles(
        directory,
        PredictionFolder(directory).ledger_json(sidecar),
        before.sha256 if before else {},
    )
    if before is not None and not before.sha256:  # a sidecar of version 0.1.0 has sizes alone
        written = sidecar.stat().st_mtime + LATER_S
        for name, size in before.files.items():
            whole = not missing_files(directory, {name: size})
            own.adopt(name, unchanged=whole and (directory / name).stat().st_mtime <= written)
    return own


def _is_predicted(path: Path) -> bool:
    if path.suffix == ".gz":
        return provenance.is_predicted(path)
    try:
        with path.open("rb") as file:  # a comment of the PNG, the generator of the page
            return provenance.OURS.encode() in file.read(1000)
    except OSError:
        return False
