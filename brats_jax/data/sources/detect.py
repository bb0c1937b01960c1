"""Finds the source for a folder."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brats_jax.data.scans.case_files import volume_of
from brats_jax.data.scans.naming import NAMINGS
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import Source, folder_files
from brats_jax.data.sources.dataset_folder import DatasetFolder, dataset_folders
from brats_jax.data.sources.kaggle import KaggleSource
from brats_jax.data.sources.lgg import LGG_FILE, LggSource
from brats_jax.data.sources.msd import MsdSource
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.data.sources.nnunet import NnUNetSource
from brats_jax.data.sources.slice_file import SLICE_FILE
from brats_jax.errors import BratsError

PHANTOM = "phantom"
# The kinds of data sets in folders, in words.
KAGGLE, LGG, NIFTI = "Kaggle slices", "LGG slices", "NIfTI volumes"
MSD, NNUNET = "a data set of the MSD", "a data set of nnU-Net"
_NEUTRAL = {"labels": ""}  # values of options that are not given, if not None


class OptionMisfit(BratsError):
    """An option that a kind of source does not take: its name, and the message."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def open_sources(
    sources: Sequence[str | os.PathLike[str] | Source], **options: Any
) -> list[Source]:
    """Opens sources; of several, each takes the options that fit it.

    Args:
      sources: folders, 'phantom' or open sources.
      options: see `open_source`.

    Raises:
      BratsError: no source; as in `open_source`; an option that fits none of them.
    """
    if not sources:
        raise BratsError("--source is missing: give a folder of BraTS files, or 'phantom'")
    found: list[Source] = []
    refused: dict[str, list[OptionMisfit]] = {}
    for source in sources:
        if not isinstance(source, str | os.PathLike):
            found.append(source)
            continue
        own = dict(options)
        while True:
            try:
                found.append(open_source(os.fspath(source), **own))
                break
            except OptionMisfit as error:
                if len(sources) == 1:
                    raise
                refused.setdefault(error.option, []).append(error)
                if error.option == "orientation":
                    reading = own.get("options", ReadOptions())
                    own["options"] = dataclasses.replace(reading, orientation="")
                else:
                    own[error.option] = _NEUTRAL.get(error.option)
    for errors in refused.values():
        if len(errors) == len(sources):
            raise errors[0]
    return found


def open_source(
    source: str,
    *,
    patients: int | None = None,
    seed: int | None = None,
    shape: Sequence[int] | None = None,
    channel_order: Sequence[str] | None = None,
    labels: str = "",
    options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
) -> Source:
    """Opens the phantom, or the data set of one kind anywhere below a folder.

    Args:
      source: 'phantom' or a folder.
      patients, seed, shape: number, random seed (default 0) and (slices, H, W) of the phantoms.
      channel_order: modalities of the channels of Kaggle files; None for the known order.
      labels: label scheme of NIfTI cases (see `scans.labels.SCHEMES`); '' for that of the names.
      options: how NIfTI files are read.

    Returns:
      The source. Its files are listed, but not read yet.

    Raises:
      BratsError: no BraTS files, files of two kinds, or an option of another source.
    """
    if source == PHANTOM:
        _refuse_labels(labels)
        _refuse_orientation(options)
        if channel_order is not None:
            raise OptionMisfit(
                "channel_order", "--channel_order is for Kaggle slice files: leave it out"
            )
        if patients is None:
            raise BratsError("--source=phantom lacks the number of patients: give --patients=N")
        # Imported here, because other sources do not need SciPy.
        from brats_jax.data.sources.phantom.source import PhantomSource

        if shape is None:
            return PhantomSource(patients, seed or 0)
        if len(shape) != 3:
            raise BratsError("--shape has three sizes: slices,height,width")
        return PhantomSource(patients, seed or 0, (shape[0], shape[1], shape[2]))
    for name, value in (("patients", patients), ("seed", seed), ("shape", shape)):
        if value is not None:
            raise OptionMisfit(name, f"--{name} is for --source=phantom: leave it out")
    root = Path(source)
    if not root.is_dir():
        raise BratsError(f"--source={source} is not a folder: give a folder, or 'phantom'")
    root = root.resolve()
    unreadable: dict[str, str] = {}
    files = folder_files(root, unreadable)
    folders = dataset_folders(files)
    found = _kinds_of(files, folders)
    if len(found) > 1:
        *first, last = [f"{words} ({path})" for words, path in found.items()]
        listed = f"{', '.join(first)} and {last}"
        raise BratsError(
            f"{source} holds {listed}: give the folder of one of them, or a --source for each"
        )
    kind = next(iter(found), "")
    if len(folders) > 1:
        raise BratsError(
            f"{source} holds {len(folders)} data sets ({folders[0].path}, {folders[1].path}"
            f"{', ...' if len(folders) > 2 else ''}): give the folder of one of them, or a "
            "--source for each"
        )
    if kind in (KAGGLE, LGG):
        _refuse_labels(labels)
        _refuse_orientation(options)
    if kind and kind != KAGGLE and channel_order is not None:
        raise OptionMisfit(
            "channel_order",
            f"--channel_order is for Kaggle slice files; {source} holds {kind}, whose modalities "
            "have names: leave it out",
        )
    if kind == KAGGLE:
        return KaggleSource(root, files, channel_order, unreadable, options.max_case_gb)
    if kind == LGG:
        return LggSource(root, files, unreadable, options)
    if kind in (MSD, NNUNET):
        opened = NnUNetSource if folders[0].by_channel else MsdSource
        return opened(root, folders[0], unreadable, labels, options)
    if kind == NIFTI:
        return NiftiSource(root, files, unreadable, labels, options)
    if unreadable:
        raise BratsError(next(iter(unreadable.values())))
    raise BratsError(
        f"{source} holds no BraTS data among its {len(files)} files: looked for "
        "volume_N_slice_M.h5 (Kaggle), TCGA_XX_XXXX_DATE_N.tif (Kaggle's LGG slices), "
        "imagesTr/CASE.nii.gz or CASE_0000.nii.gz with dataset.json (MSD, nnU-Net) and "
        + ", ".join(f"{naming.example} ({naming.releases})" for naming in NAMINGS)
    )


def _kinds_of(files: Sequence[Path], folders: Sequence[DatasetFolder]) -> dict[str, Path]:
    """The kinds of data sets among files, each with the first of its files or its folder."""
    tests: dict[str, Callable[[Path], object]] = {
        KAGGLE: lambda path: SLICE_FILE.fullmatch(path.name),
        LGG: lambda path: LGG_FILE.fullmatch(path.name),
        NIFTI: volume_of,
    }
    first = {kind: next(filter(test, files), None) for kind, test in tests.items()}
    for folder in folders:
        first.setdefault(NNUNET if folder.by_channel else MSD, folder.path)
    return {kind: path for kind, path in first.items() if path is not None}


def _refuse_labels(labels: str) -> None:
    if labels:
        raise OptionMisfit("labels", "--labels is for NIfTI volumes: leave it out")


def _refuse_orientation(options: ReadOptions) -> None:
    if options.orientation:
        raise OptionMisfit("orientation", "--orientation is for NIfTI volumes: leave it out")
