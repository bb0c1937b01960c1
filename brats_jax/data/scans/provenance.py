"""What the `descrip` of a NIfTI header says of who made the file: a prediction, or a phantom."""

from pathlib import Path
from typing import Any

OURS = "brats_jax"  # stands in the note of whatever this program writes
PHANTOM = f"{OURS} phantom, no patient"


def note_of(header: Any) -> str:
    """The `descrip` of nibabel's header."""
    return bytes(header["descrip"]).rstrip(b"\0").decode("latin-1")


def is_prediction(header: Any) -> bool:
    """Whether a trained model of this program made the file: of a phantom the truth is a truth."""
    note = note_of(header)
    return OURS in note and not note.startswith(PHANTOM)


def is_predicted(path: Path) -> bool:
    """The same of a file; of one that cannot be read, no."""
    import nibabel

    try:
        return is_prediction(nibabel.load(path).header)
    except Exception:  # whatever it is, it is not one of ours
        return False
