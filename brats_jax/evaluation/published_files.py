"""The files of an evaluation for people: tables and pictures, which may have been edited."""

import errno
import os
from pathlib import Path

from brats_jax.runs.folder import STAGES, FoldFolder
from brats_jax.runtime.console import print_line
from brats_jax.runtime.own_files import OwnFiles


def publish(fold: FoldFolder, path: Path, data: bytes | None) -> None:
    """Writes a file of an evaluation, or removes it where `data` is None.

    A file that was edited since it was written is kept, and named in one line; one that was cut
    short is no edit.

    Raises:
      OSError: it cannot be written; there is a folder in its place.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    own = OwnFiles(fold.path, fold.ledger_json)
    if not own.has_ledger:  # of version 0.1.0
        for other in _files(fold):
            if other.is_file():
                own.adopt(other.relative_to(fold.path).as_posix())
    name = path.relative_to(fold.path).as_posix()
    if data:
        own.adopt_equal({name: data})
    if not own.may_replace(name) and not (data and own.is_cut(name, data)):
        print_line(line_on_edit(path, own))
    elif data is not None:
        own.write({name: data})
    elif path.exists():
        own.remove([name])
        own.begin({})


def line_on_edit(path: Path, own: OwnFiles | None = None) -> str:
    """The line on a table or a picture that was edited, or of which the ledger tells nothing."""
    why = f"{path} has changed since this program wrote it"
    if own is not None and own.damage:
        why = f"{own.damage}, so that an edit of {path} could not be found"
    elif path.is_symlink():
        why = f"{path} is a link, which this program did not write"
    elif own is not None and not own.knows(path.relative_to(own.folder).as_posix()):
        why = f"{path} is not listed in {own.path} as written by this program"
    return f"{why}: kept; move it away, and evaluate again for a new one"


def _files(fold: FoldFolder) -> list[Path]:
    tables = [make(stage) for stage in STAGES for make in (fold.slices_csv, fold.patients_csv)]
    return [*tables, fold.reconstruction_png, fold.segmentation_png]
