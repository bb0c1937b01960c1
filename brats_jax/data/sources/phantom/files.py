"""Phantoms as NIfTI files, in folders as in BraTS 2021, for commands that read cases."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans import provenance
from brats_jax.data.scans.labels import ET_UNTIL_2021, with_et_as
from brats_jax.data.scans.naming import SEG, UNTIL_2021
from brats_jax.data.scans.writing import compressed
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.errors import BratsError
from brats_jax.runtime import failures, threads
from brats_jax.runtime.files import atomic_open, refuse_link


def write_cases(
    folder: Path,
    *,
    patients: int,
    seed: int = 0,
    shape: Sequence[int] = (155, 240, 240),
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Writes phantom patients as FOLDER/NAME/NAME_{t1,t1ce,t2,flair,seg}.nii.gz.

    NAME is Phantom-SEED-NUMBER, so that patients of different seeds have different names.

    Args:
      folder: the output folder; existing files are kept.
      patients, seed, shape: see `source.PhantomSource`; 155, 240, 240 gives voxels of 1 mm.
      say: called with a line for each case.

    Returns:
      The folders of the cases.

    Raises:
      BratsError: an invalid number or shape, or a file that cannot be written.
    """
    source = PhantomSource(patients, seed, tuple(shape))  # type: ignore[arg-type]
    written = []
    for patient in source.patients():
        name = f"Phantom-{seed}-{patient.rsplit('_')[-1]}"
        paths = {
            what: folder / name / f"{name}_{suffix}.nii.gz"
            for what, suffix in {**UNTIL_2021.suffixes, SEG: SEG}.items()
        }
        if not all(path.exists() for path in paths.values()):
            _write(source.read(patient), paths)
            say(f"{folder / name}: written")
        else:
            say(f"{folder / name}: there already, kept")
        written.append(folder / name)
    return written


def _write(case: Case, paths: dict[str, Path]) -> None:
    volumes = {what: case.images[..., m] for m, what in enumerate(MODALITIES)}
    assert case.labels is not None
    volumes[SEG] = with_et_as(case.labels, ET_UNTIL_2021)

    contents = dict(
        zip(volumes, threads.parallel_map(lambda w: _bytes(volumes[w], case), volumes), strict=True)
    )
    for what, data in contents.items():
        if not paths[what].exists():
            refuse_link(paths[what], "move it away, or choose another --cases")
        if paths[what].exists() and paths[what].read_bytes() != data:
            raise BratsError(
                f"{paths[what]} is there and is not what this command writes: kept; move it away, "
                "or choose another --cases"
            )

    def write(what: str) -> None:
        try:
            with atomic_open(paths[what], "wb") as file:
                file.write(contents[what])
        except OSError as error:
            remedy = failures.remedy(error) or "; free some space, or choose another folder"
            raise BratsError(
                f"{paths[what]} cannot be written ({error.strerror or error}){remedy}"
            ) from None

    threads.parallel_map(write, [what for what in volumes if not paths[what].exists()])


def _bytes(volume: np.ndarray, case: Case) -> bytes:
    return compressed(_image(volume, case.affine))


def _image(volume: np.ndarray, affine: Any) -> Any:
    import nibabel

    # Intensities are whole numbers below 2^15, as those of a scanner.
    voxels = np.moveaxis(volume, 0, 2).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.array(affine))
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = provenance.PHANTOM.encode()
    return image
