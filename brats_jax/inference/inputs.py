"""Images in any form a caller has them (arrays, nibabel images, paths), and back in the same."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brats_jax.data.modalities import canonical_name
from brats_jax.data.scans import provenance, writing
from brats_jax.data.scans.case_files import CaseFiles, group_by_case
from brats_jax.data.scans.scan import Scan, make_scan, read_scan
from brats_jax.data.scans.volumes import Volume, check_volume
from brats_jax.data.sources.base import folder_files
from brats_jax.errors import BratsError
from brats_jax.runtime.text import plural

if TYPE_CHECKING:
    from nibabel.filebasedimages import FileBasedImage

Arrays = Mapping[str, np.ndarray]
# What nibabel.load says that it returns; NIfTI images alone are taken.
NiftiImages = Mapping[str, "FileBasedImage"]
Paths = str | Path | Mapping[str, str | Path]
Images = str | Path | Mapping[str, Any]

# 1 mm voxels whose axes run Left, Posterior, Superior, in the scanner's RAS millimetres.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Given:
    """The images of one case as a caller gave them.

    Attributes:
      kind: 'array', 'image' or 'path'.
      source: the volumes by modality, or the files.
      dtype: of the first array, for the way back.
      output: of paths: where the result goes.
      by_modality: whether the caller named each.
    """

    kind: str
    source: Mapping[str, Volume] | CaseFiles
    dtype: np.dtype
    output: Path | None
    by_modality: bool = True

    @property
    def sidecar(self) -> Path | None:
        """What is written beside `output`: NAME.json of NAME.nii.gz."""
        return None if self.output is None else _sidecar(self.output)

    def scan(self, needed: tuple[str, ...], in_plane: tuple[int, int] | None, fit: bool) -> Scan:
        """The scan that is made of them; `fit`: resample what does not fit."""
        if self.by_modality:
            there = self.source.paths if isinstance(self.source, CaseFiles) else self.source
            if missing := [f"'{name}'" for name in needed if name not in there]:
                raise BratsError(
                    f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: the "
                    f"model needs {', '.join(needed)}"
                )
        if isinstance(self.source, CaseFiles):
            return read_scan(self.source, needed, in_plane=in_plane, resampled=fit)
        return make_scan("images", self.source, needed, in_plane=in_plane, resampled=fit)

    def give(self, scan: Scan, volume: np.ndarray, *, labels: bool, note: str) -> Any:
        """[x, y, z] in the scan's own grid as what was given: an array, an image or a path."""
        if self.kind == "array":
            return volume.astype(_index_dtype(self.dtype)) if labels else volume
        make = writing.label_image if labels else writing.number_image
        image = make(scan, volume, note)
        if self.output is None:
            return image
        writing.write_image(self.output, image)
        return self.output


def _index_dtype(dtype: np.dtype) -> np.dtype:
    """What labels are as an array, which they may be an index of: integers always."""
    return dtype.newbyteorder("=") if dtype.kind in "iu" else np.dtype(np.uint8)


def take(
    images: Images, affine: np.ndarray | None, output: str | Path | None, *, one_way: bool = False
) -> Given:
    """Recognises what was given.

    Args:
      images: by modality arrays, nibabel images or paths; or the path of a case's folder.
      affine: of arrays; None: 1 mm, LPS.
      output: where the result goes; of paths alone.
      one_way: nothing will be given back, so that paths need no output.

    Raises:
      BratsError: several kinds at once, or a kind without what it needs.
    """
    if isinstance(images, str | Path):
        case = _only_case(Path(images))
        return dataclasses.replace(_of_paths(case, affine, output, one_way), by_modality=False)
    if not isinstance(images, Mapping) or not all(isinstance(name, str) for name in images):
        raise BratsError(
            f"images of type {type(images).__name__}: give a dictionary of modalities by name, "
            "e.g. {'t1': ..., ...}, or the path of a case's folder"
        )
    named: dict[str, Any] = {}
    for name, value in images.items():
        if canonical_name(name) in named:
            raise BratsError(f"'{name}' is there twice: give each modality once")
        named[canonical_name(name)] = value
    if not named:
        raise BratsError("no images: give a dictionary of modalities, e.g. {'t1': ..., ...}")
    if all(isinstance(value, str | Path) for value in named.values()):
        return _of_paths(named_files(named), affine, output, one_way)
    if output is not None:
        raise BratsError("output= is for paths: leave it out, the result is returned")
    if all(isinstance(value, np.ndarray) for value in named.values()):
        volumes = {name: _of_array(name, value, affine) for name, value in named.items()}
        return Given("array", volumes, next(iter(named.values())).dtype, None)
    if affine is not None:
        raise BratsError("affine= is for arrays: leave it out, images have their own")
    return Given("image", {n: _of_image(n, v) for n, v in named.items()}, np.dtype(np.uint8), None)


def named_files(paths: Mapping[str, str | Path]) -> CaseFiles:
    """The case whose files are named one by one, by modality; called as its first file is."""
    for name, path in paths.items():
        if not Path(path).is_file():
            raise BratsError(f"{name}: {path} is no file: check the path")
    first = Path(next(iter(paths.values())))
    groups = list(group_by_case([first]).values())
    name = groups[0].name if groups else first.name.removesuffix(".gz").removesuffix(".nii")
    files = {modality: str(path) for modality, path in paths.items()}
    if len(set(files.values())) < len(files):
        raise BratsError(f"case {name}: one file is named for two modalities: name each file once")
    return CaseFiles(name, first.parent, files)


def _of_paths(
    case: CaseFiles, affine: np.ndarray | None, output: str | Path | None, one_way: bool
) -> Given:
    if affine is not None:
        raise BratsError("affine= is for arrays: leave it out, files have their own")
    if one_way:
        return Given("path", case, np.dtype(np.uint8), None)
    if output is None or not str(output).endswith((".nii", ".nii.gz")):
        raise BratsError("for paths say where the result goes: output=NAME.nii.gz")
    sidecar = _sidecar(Path(output))
    if sidecar.exists() and not _is_ours(sidecar):
        raise BratsError(
            f"{sidecar} is there and not of this program, which writes its description there: give "
            "another output"
        )
    return Given("path", case, np.dtype(np.uint8), Path(output))


def _sidecar(output: Path) -> Path:
    return output.with_name(output.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _is_ours(sidecar: Path) -> bool:
    try:
        return json.loads(sidecar.read_text())["program"] == provenance.OURS
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _only_case(folder: Path) -> CaseFiles:
    if not folder.is_dir():
        raise BratsError(f"{folder} is no folder: give a case's folder, or paths by modality")
    cases = group_by_case(folder_files(folder), labels=False)
    if len(cases) != 1:
        raise BratsError(f"{folder} holds {plural(len(cases), 'case')}: give the folder of one")
    return next(iter(cases.values()))


def _of_array(name: str, array: np.ndarray, affine: np.ndarray | None) -> Volume:
    import nibabel

    if array.dtype == np.float16:
        array = array.astype(np.float32)
    return check_volume(name, array, _LPS if affine is None else affine, nibabel.Nifti1Header())


def _of_image(name: str, image: Any) -> Volume:
    import nibabel

    if not isinstance(image, nibabel.Nifti1Pair):
        raise BratsError(
            f"{name} is a {type(image).__name__}: give arrays, nibabel's NIfTI images, or paths, "
            "all of one kind"
        )
    try:
        voxels = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise BratsError(f"{name} cannot be read ({error}): fetch its file again") from None
    return check_volume(image.get_filename() or name, voxels, image.affine, image.header)
