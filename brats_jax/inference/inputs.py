"""Images as a caller has them (arrays, nibabel images, paths), and results in the same form."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brats_jax.data.modalities import canonical_name
from brats_jax.data.scans import writing
from brats_jax.data.scans.case_files import CaseFiles, group_by_case
from brats_jax.data.scans.naming import parse_volume_name, unknown_part
from brats_jax.data.scans.nifti_file import check_case_size
from brats_jax.data.scans.options import MAX_CASE_GB, ReadOptions
from brats_jax.data.scans.scan import Scan, make_scan, read_scan
from brats_jax.data.scans.volumes import Volume, check_volume, volume_from
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.dataset_folder import cases_to_predict
from brats_jax.errors import BratsError
from brats_jax.inference.output_file import OutputFile
from brats_jax.runtime.text import plural

if TYPE_CHECKING:
    from nibabel.filebasedimages import FileBasedImage

Arrays = Mapping[str, np.ndarray]
# The declared return type of nibabel.load; only NIfTI images are accepted.
NiftiImages = Mapping[str, "FileBasedImage"]
Paths = str | Path | Mapping[str, str | Path]
Images = str | Path | Mapping[str, Any]

_NIFTI = (".nii", ".nii.gz")
# 1 mm voxels whose axes run Left, Posterior, Superior, in the scanner's RAS millimetres.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class CaseInput:
    """The images of one case, and the form in which to return the result.

    Attributes:
      kind: 'array', 'image' or 'path'.
      source: the volumes by modality, or the files.
      dtype: data type of the first array.
      output: the file for the result; for paths.
      by_modality: whether the caller named the modalities.
    """

    kind: str
    source: Mapping[str, Volume] | CaseFiles
    dtype: np.dtype
    output: OutputFile | None
    by_modality: bool = True

    def to_scan(
        self,
        needed: tuple[str, ...],
        in_plane: tuple[int, int] | None,
        resampled: bool,
        options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
        leave_out: Collection[str] = (),
        remedy: str = "",
    ) -> Scan:
        """The scan on the network's grid.

        Args:
          needed: the modalities that the model needs.
          in_plane: H and W that the slices must have; None for any.
          resampled: resample images whose grids differ from each other or from 1 mm.
          options: how files and headers are read.
          leave_out: modalities that are not used.
          remedy: the end of the message about a missing one.

        Raises:
          BratsError: a modality is missing, or the images do not fit.
        """
        missing = [f"'{name}'" for name in needed if name not in self.present]
        if self.by_modality and missing:
            raise BratsError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: the "
                f"model needs {', '.join(needed)}{remedy}"
            )
        if isinstance(self.source, CaseFiles):
            return read_scan(
                self.source, needed, in_plane=in_plane, resampled=resampled, options=options,
                leave_out=leave_out, remedy=remedy,
            )  # fmt: skip
        volumes = {name: one for name, one in self.source.items() if name not in leave_out}
        return make_scan(
            "images", volumes, needed, in_plane=in_plane, resampled=resampled, options=options
        )

    @property
    def present(self) -> Collection[str]:
        """The modalities that are there."""
        return (self.source.paths if isinstance(self.source, CaseFiles) else self.source).keys()

    def return_volume(self, scan: Scan, volume: np.ndarray, *, labels: bool, note: str) -> Any:
        """The result in the caller's form: an array or an image; for paths an image, too.

        Args:
          scan: of this case.
          volume: [x, y, z] on the grid of the input.
          labels: whether the voxels are labels; otherwise they are float32 numbers.
          note: for the header of the image.
        """
        if self.kind == "array":
            return volume.astype(_label_dtype(self.dtype)) if labels else volume
        make = writing.label_image if labels else writing.number_image
        return make(scan, volume, note)


def parse_images(
    images: Images,
    affine: np.ndarray | None,
    output: str | Path | None,
    *,
    returns_volume: bool = True,
    max_case_gb: float = MAX_CASE_GB,
) -> CaseInput:
    """Recognises the form of a caller's images.

    Args:
      images: by modality arrays, nibabel images or paths; or the path of a case's folder.
      affine: of arrays; None for 1 mm voxels in LPS axes.
      output: the file to write; for paths.
      max_case_gb: the largest size of a case that is read.
      returns_volume: False where no result is returned in this form; paths then need no output.

    Raises:
      BratsError: images of several forms, or an argument that the form does not take or lacks.
    """
    if isinstance(images, str | Path):
        case = _only_case(Path(images))
        given = _of_paths(case, affine, output, returns_volume)
        return dataclasses.replace(given, by_modality=False)
    if not isinstance(images, Mapping) or not all(isinstance(name, str) for name in images):
        raise BratsError(
            f"images of type {type(images).__name__}: give a dictionary of modalities by name, "
            "e.g. {'t1': ..., ...}, or the path of a case's folder"
        )
    named: dict[str, Any] = {}
    for name, value in images.items():
        if canonical_name(name) in named:
            raise BratsError(f"'{name}' is there twice: give each modality once")
        if value is None:
            raise BratsError(f"'{name}' is None: leave out what the case lacks")
        named[canonical_name(name)] = value
    if not named:
        raise BratsError("no images: give a dictionary of modalities, e.g. {'t1': ..., ...}")
    if all(isinstance(value, str | Path) for value in named.values()):
        return _of_paths(named_files(named), affine, output, returns_volume)
    if output is not None:
        raise BratsError("output= is for paths: leave it out, the result is returned")
    if all(isinstance(value, np.ndarray) for value in named.values()):
        volumes = {name: _of_array(name, value, affine) for name, value in named.items()}
        return CaseInput("array", volumes, next(iter(named.values())).dtype, None)
    if affine is not None:
        raise BratsError("affine= is for arrays: leave it out, images have their own")
    unread = [file for value in named.values() if (file := _unread_file(value))]
    if unread:
        check_case_size(unread, max_case_gb)
    volumes = {name: _of_image(name, value) for name, value in named.items()}
    return CaseInput("image", volumes, np.dtype(np.uint8), None)


def cases_of(source: str | Mapping[str, str | Path]) -> list[CaseFiles]:
    """The cases of a folder, or the one of files by modality; errors of both functions."""
    return find_cases(Path(source)) if isinstance(source, str) else [named_files(source)]


def find_cases(folder: Path) -> list[CaseFiles]:
    """The cases in a folder and below it, by the file names of any BraTS release.

    Data sets with a dataset.json (MSD, nnU-Net) are known by their folders.

    Raises:
      BratsError: no folder, no images in it, or a dataset.json that does not name the channels.
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise BratsError(
            f"--input={folder} {problem}: give the folder of a case or of several, or the files of "
            "a case by --t1= --t1gd= --t2= --flair="
        )
    unreadable: dict[str, str] = {}
    files = folder_files(folder, unreadable)
    cases = group_by_case(files, labels=False)
    for case in cases_to_predict(files):
        other = cases.setdefault(case.name, case)
        if other is not case:
            other.conflict = (
                f"{other.folder} and {case.folder} both hold the case {case.name}: predict one of "
                "the folders at a time"
            )
    for name, problem in unreadable.items():
        cases.setdefault(name, CaseFiles(name, folder / name, conflict=problem))
    if not cases:
        raise BratsError(
            f"{folder} holds no BraTS images{_among(files, folder)}: such images are called "
            "CASE_{flair,t1,t1ce,t2}.nii.gz or CASE-{t2f,t1n,t1c,t2w}.nii.gz, or lie in imagesTr "
            "or imagesTs beside a dataset.json; name others with --t1 --t1gd --t2 --flair"
        )
    return sorted(cases.values(), key=lambda case: case.name)


def _among(files: Sequence[Path], folder: Path) -> str:
    """' among its 2 files, such as NAME (why it is not understood)'; the first image, if any."""
    if not files:
        return ", nor any other file"
    # Unknown names of NIfTI files first, then labels, then other files.
    shown = min(
        files,
        key=lambda file: (
            not file.name.lower().endswith(_NIFTI),
            parse_volume_name(file.name) is not None,
        ),
    )
    return (
        f" among its {plural(len(files), 'file')}, such as '{shown.relative_to(folder)}' "
        f"({unknown_part(shown.name)})"
    )


def named_files(paths: Mapping[str, str | Path]) -> CaseFiles:
    """The case of files given by modality; it takes its name from the first file."""
    for name, path in paths.items():
        if not Path(path).is_file():
            raise BratsError(f"{name}: {path} is no file: check the path")
    first = Path(next(iter(paths.values())))
    groups = list(group_by_case([first]).values())
    name = groups[0].name if groups else first.name.removesuffix(".gz").removesuffix(".nii")
    files = {modality: str(path) for modality, path in paths.items()}
    if len({Path(path).resolve() for path in files.values()}) < len(files):
        raise BratsError(f"case {name}: one file is named for two modalities: name each file once")
    return CaseFiles(name, first.parent, files)


def _of_paths(
    case: CaseFiles, affine: np.ndarray | None, output: str | Path | None, returns_volume: bool
) -> CaseInput:
    if affine is not None:
        raise BratsError("affine= is for arrays: leave it out, files have their own")
    if not returns_volume:
        return CaseInput("path", case, np.dtype(np.uint8), None)
    if output is None or not str(output).endswith(_NIFTI):
        raise BratsError("for paths say where the result goes: output=NAME.nii.gz")
    file = OutputFile(Path(output))
    file.check()
    return CaseInput("path", case, np.dtype(np.uint8), file)


def _label_dtype(dtype: np.dtype) -> np.dtype:
    """The type of a label array: integer always, because labels may index another array."""
    return dtype.newbyteorder("=") if dtype.kind in "iu" else np.dtype(np.uint8)


def _only_case(folder: Path) -> CaseFiles:
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise BratsError(f"{folder} {problem}: give a case's folder, or paths by modality")
    files = folder_files(folder)
    cases = [*group_by_case(files, labels=False).values(), *cases_to_predict(files)]
    if len(cases) != 1:
        raise BratsError(f"{folder} holds {plural(len(cases), 'case')}: give the folder of one")
    return cases[0]


def _of_array(name: str, array: np.ndarray, affine: np.ndarray | None) -> Volume:
    import nibabel

    if array.dtype == np.float16:
        array = array.astype(np.float32)
    return check_volume(name, array, _LPS if affine is None else affine, nibabel.Nifti1Header())


def _unread_file(image: Any) -> str:
    """The file of a nibabel image whose voxels are not in memory yet; '' for any other."""
    import nibabel

    if not isinstance(image, nibabel.Nifti1Pair) or not nibabel.is_proxy(image.dataobj):
        return ""
    file = str(image.get_filename())
    return file if file.endswith(_NIFTI) else ""


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
    return volume_from(image.get_filename() or name, voxels, image.affine, image.header)
