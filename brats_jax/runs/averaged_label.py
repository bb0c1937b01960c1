"""What predictions were averaged over, in words and as flags."""

from collections.abc import Collection

from brats_jax.data.planes import ALL_PLANES

SOME_FOLDS = "some folds"  # in place of the planes, where they differ between folds


def averaged_label(tta: bool, planes: str, before: str = "; ") -> str:
    """'; predictions averaged over flips and planes'; '' where they are not averaged.

    Args:
      tta: whether over flips.
      planes: over slices of which planes, with commas; '' for those of the store.
      before: what the words begin with.
    """
    if planes == SOME_FOLDS:
        return averaged_label(tta, "", before) + f"{before}averaged over planes in some folds"
    over = " and ".join(["flips"] * tta + ["planes"] * ("," in planes))
    words = f"{before}predictions averaged over {over}" if over else ""
    return words + (f"{before}in {planes} slices" if planes and "," not in planes else "")


def average_flags(tta: bool, planes: str, known: Collection[str]) -> str:
    """'--tta --planes=all': the flags of `predict` for this average; '' for none.

    Args:
      tta, planes: as in `averaged_label`.
      known: all planes of the training.
    """
    if {*planes.split(",")} == {*known}:
        planes = ALL_PLANES
    return " ".join(["--tta"] * tta + [f"--planes={planes}"] * bool(planes))
