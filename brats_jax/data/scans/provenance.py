"""The maker of a NIfTI file, by the `descrip` of its header: a prediction or a phantom."""

import zlib
from pathlib import Path
from typing import Any

OURS = "brats_jax"  # part of the note of every file that this program writes
PHANTOM = f"{OURS} phantom, no patient"


def note_of(header: Any) -> str:
    """The `descrip` of a nibabel header."""
    return bytes(header["descrip"]).rstrip(b"\0").decode("latin-1")


def is_prediction(header: Any) -> bool:
    """Whether a model of this program predicted the file. The labels of a phantom are true ones."""
    note = note_of(header)
    return OURS in note and not note.startswith(PHANTOM)


def is_phantom(header: Any) -> bool:
    """Whether the file is of a phantom of this program."""
    return note_of(header).startswith(PHANTOM)


def is_predicted(path: Path) -> bool:
    """Whether a model of this program predicted the file; False if it cannot be read."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    unreadable = (
        *(OSError, EOFError, ValueError, ArithmeticError, zlib.error),
        *(ImageFileError, HeaderDataError, HeaderTypeError, WrapStructError),
    )
    try:
        return is_prediction(nibabel.load(path).header)
    except unreadable:
        return False
