"""Folders of the Medical Segmentation Decathlon (MSD) and of nnU-Net's raw data.

    MSD       DIR/dataset.json  imagesTr/CASE.nii.gz (4D)        labelsTr/CASE.nii.gz  imagesTs/
    nnU-Net   DIR/dataset.json  imagesTr/CASE_0000.nii.gz, ...   labelsTr/CASE.nii.gz  imagesTs/

Cases of imagesTr without labels, and all cases of imagesTs, are unlabelled.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from brats_jax.data.scans.case_files import CaseFiles, volume_of
from brats_jax.data.sources import dataset_json

IMAGES, TEST_IMAGES, LABELS, TEST_LABELS = "imagesTr", "imagesTs", "labelsTr", "labelsTs"
_FILE = re.compile(
    r"(?P<case>.+?)(?:_(?P<channel>\d{4}))?\.nii(?:\.gz)?", re.IGNORECASE | re.DOTALL
)
_WHOLE = re.compile(r"(?P<case>.+)\.nii(?:\.gz)?", re.IGNORECASE | re.DOTALL)
ALL_CHANNELS = -1  # of an image with all of them


@dataclasses.dataclass
class FolderCase:
    """The files of one case.

    Attributes:
      images: by channel; an image with all channels is `ALL_CHANNELS`.
      labels: the file; '' without labels.
      conflict: one line where two files claim one place; else empty.
    """

    images: dict[int, str] = dataclasses.field(default_factory=dict)
    labels: str = ""
    conflict: str = ""


@dataclasses.dataclass
class DatasetFolder:
    """A folder with imagesTr or imagesTs.

    Attributes:
      path: the folder.
      by_channel: whether there is a file for each channel, as in nnU-Net.
      cases: by name.
      left_out: files that are no NIfTI files, or of other folders (labelsTs).
    """

    path: Path
    by_channel: bool
    cases: dict[str, FolderCase]
    left_out: list[Path]

    @property
    def description(self) -> Path:
        """The path of its dataset.json, whether it is there or not."""
        return self.path / dataset_json.NAME


def dataset_folders(files: Sequence[Path]) -> list[DatasetFolder]:
    """The folders of both layouts among files."""
    of_folder: dict[Path, list[Path]] = {}
    for path in files:
        if path.parent.name in (IMAGES, TEST_IMAGES, LABELS, TEST_LABELS):
            of_folder.setdefault(path.parent.parent, []).append(path)
    found = []
    for folder, own in of_folder.items():
        images = [path for path in own if path.parent.name in (IMAGES, TEST_IMAGES)]
        # CASE_t1.nii.gz and the like are cases of BraTS, whatever their folder is called.
        named = [path for path in images if volume_of(path)]
        if (
            images
            and not named
            and (folder / dataset_json.NAME in files or any(map(_is_nifti, images)))
        ):
            found.append(_list_cases(folder, own))
    return found


def cases_to_predict(files: Sequence[Path]) -> list[CaseFiles]:
    """The images of the data sets of both layouts among files, as cases for prediction.

    Raises:
      BratsError: a dataset.json that is missing or does not name the channels.
    """
    found = []
    for folder in dataset_folders(files):
        modalities = dataset_json.read_dataset_json(folder.description).modalities
        for name, case in folder.cases.items():
            if not case.images and not case.conflict:  # labels alone
                continue
            one = CaseFiles(name, folder.path, conflict=case.conflict)
            if ALL_CHANNELS in case.images:
                one.channels = modalities
            for channel, modality in enumerate(modalities):
                path = case.images.get(ALL_CHANNELS) or case.images.get(channel)
                if modality is not None and path:
                    one.paths[modality] = path
            found.append(one)
    return found


def _list_cases(folder: Path, files: Sequence[Path]) -> DatasetFolder:
    by_channel = _is_by_channel(files)
    listed = DatasetFolder(folder, by_channel, {}, [])
    for path in files:
        match = _FILE.fullmatch(path.name)
        is_labels = path.parent.name == LABELS
        if (
            match is None
            or path.parent.name == TEST_LABELS
            or (by_channel and not is_labels and match["channel"] is None)
        ):
            listed.left_out.append(path)
            continue
        case, channel = _case_of(path), ALL_CHANNELS
        if by_channel and not is_labels:
            case, channel = match["case"], int(match["channel"])
        own = listed.cases.setdefault(case, FolderCase())
        if is_labels:
            other = own.labels = own.labels or str(path)
        else:
            other = own.images.setdefault(channel, str(path))
        first = next(iter(own.images.values()), other)
        if not is_labels and Path(first).parent != path.parent:
            own.conflict = f"{first} and {path} are of one case in two sets: move one of them away"
        elif other != str(path):
            own.conflict = (
                f"{other} and {path} are the same volume of {case}: move one of them away"
            )
    return listed


def _is_by_channel(files: Sequence[Path]) -> bool:
    """Whether most images are called as nnU-Net calls those of single channels."""
    labels = {_case_of(path) for path in files if path.parent.name == LABELS}
    images = [path for path in files if path.parent.name in (IMAGES, TEST_IMAGES)]
    nifti = [match for path in images if (match := _FILE.fullmatch(path.name))]
    numbered = [match for match in nifti if match["channel"]]
    # BRATS_0001.nii.gz with labels of this name is a case, not a channel.
    if any(f"{match['case']}_{match['channel']}" in labels for match in numbered):
        return False
    return 2 * len(numbered) > len(nifti)


def _is_nifti(path: Path) -> bool:
    return _WHOLE.fullmatch(path.name) is not None


def _case_of(path: Path) -> str:
    match = _WHOLE.fullmatch(path.name)
    return path.name if match is None else match["case"]
