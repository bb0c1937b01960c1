"""Writes tiny BraTS data sets in every format that the program reads. No tests."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from nibabel import orientations
from PIL import Image

MODALITIES = ("t1", "t1gd", "t2", "flair")
NAMING = {
    "2020": ("_", {"t1": "t1", "t1gd": "t1ce", "t2": "t2", "flair": "flair", "seg": "seg"}),
    "2021": ("_", {"t1": "t1", "t1gd": "t1ce", "t2": "t2", "flair": "flair", "seg": "seg"}),
    "2023": ("-", {"t1": "t1n", "t1gd": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}),
    "odd case": ("-", {"t1": "T1n", "t1gd": "t1C", "t2": "t2W", "flair": "T2F", "seg": "Seg"}),
}
# As in the releases: LPS voxels of 1 mm.
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def make_case(seed: int = 0, shape: tuple[int, int, int] = (24, 20, 8)) -> dict[str, np.ndarray]:
    """Volumes [x, y, z] of a head with a tumour: int16 modalities, 'seg' uint8 in 0..3.

    Without symmetry, so that every flip is detected; the first and last slices are blank; only
    T1Gd is brighter in ET than in NCR.
    """
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = (x / 0.8) ** 2 + ((y - 0.1) / 0.7) ** 2 + (z / 0.8) ** 2 < 1
    radius = np.sqrt((x - 0.25) ** 2 + (y + 0.1) ** 2 + (z - 0.1) ** 2)
    seg = np.zeros(shape, dtype=np.uint8)
    for value, size in ((2, 0.5), (3, 0.35), (1, 0.2)):
        seg[(radius < size) & head] = value
    volumes = {"seg": seg}
    gains = {"t1": (0, -60, -30, -20), "t1gd": (0, -60, -20, 240)}
    gains |= {"t2": (0, 250, 150, 60), "flair": (0, 90, 200, 80)}
    for name in MODALITIES:
        values = 300 + 40 * rng.standard_normal(shape) + np.array(gains[name])[seg]
        volumes[name] = np.where(head, values, 0).astype(np.int16)
    return volumes


def in_axes(voxels: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """Stores an LPS volume in other axes, e.g. 'RAS' or 'SAL': (voxels, affine)."""
    to = orientations.ornt_transform(
        orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(codes)
    )
    moved = orientations.apply_orientation(voxels, to)
    return moved, AFFINE @ orientations.inv_ornt_aff(to, voxels.shape)


def write_volume(
    path: Path, voxels: np.ndarray, codes: str = "LPS", affine: np.ndarray | None = None
) -> Path:
    """Writes LPS voxels in the axes `codes`; `affine` overrides what the header says."""
    moved, own = in_axes(voxels, codes)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(moved, own if affine is None else affine), path)
    return path


def write_nifti_case(
    root: Path,
    case: str,
    volumes: Mapping[str, np.ndarray],
    naming: str = "2021",
    suffix: str = ".nii.gz",
    codes: str = "LPS",
    et: int | None = None,
) -> dict[str, Path]:
    """Writes a case folder as a release names it; ET is 4 before 2023 unless said otherwise."""
    separator, names = NAMING[naming]
    et = et or (4 if naming in ("2020", "2021") else 3)
    paths = {}
    for name, voxels in volumes.items():
        if name == "seg":
            voxels = np.where(voxels == 3, et, voxels).astype(voxels.dtype)
        path = root / case / f"{case}{separator}{names[name]}{suffix}"
        paths[name] = write_volume(path, voxels, codes)
    return paths


def z_scored(plane: np.ndarray) -> np.ndarray:
    """The z-scores of a slice as in the Kaggle files: all pixels, ddof 0, zeros if constant."""
    plane = plane.astype(np.float64)
    return (plane - plane.mean()) / plane.std() if plane.std() > 0 else np.zeros_like(plane)


def write_kaggle(
    root: Path,
    volume: int,
    volumes: Mapping[str, np.ndarray],
    order: Sequence[str] = ("flair", "t1", "t1gd", "t2"),
    compression: str | None = None,
    slices: Sequence[int] | None = None,
) -> list[Path]:
    """Writes the slices of a volume as in the Kaggle data set."""
    folder = root / "BraTS2020_training_data" / "content" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(volumes["seg"].shape[2]) if slices is None else slices:
        seg = volumes["seg"][:, :, number]
        image = np.stack([z_scored(volumes[name][:, :, number]) for name in order], axis=-1)
        mask = np.stack([seg == value for value in (1, 2, 3)], axis=-1).astype(np.uint8)
        paths.append(folder / f"volume_{volume}_slice_{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            file.create_dataset("image", data=image, compression=compression)
            file.create_dataset("mask", data=mask, compression=compression)
    return paths


def write_kaggle_tables(root: Path, cases: Mapping[int, Mapping[str, np.ndarray]]) -> Path:
    """Writes the metadata tables of Kaggle volumes; returns the one with the pixel counts."""
    rows = []
    for volume, volumes in cases.items():
        for number in range(volumes["seg"].shape[2]):
            counts = [int((volumes["seg"][:, :, number] == value).sum()) for value in (1, 2, 3)]
            size = volumes["seg"][:, :, number].size
            rows.append(
                {
                    "slice_path": f"/elsewhere/data/volume_{volume}_slice_{number}.h5",
                    "target": int(any(counts)),
                    "volume": volume,
                    "slice": number,
                    **{f"label{i}_pxl_cnt": count for i, count in enumerate(counts)},
                    "background_ratio": 1 - sum(counts) / size,
                }
            )
    _write_csv(root / "BraTS20 Training Metadata.csv", rows)
    inner = root / "BraTS2020_training_data" / "content" / "data"
    short = ("slice_path", "target", "volume", "slice")
    _write_csv(inner / "meta_data.csv", [{name: row[name] for name in short} for row in rows])
    _write_csv(
        inner / "name_mapping.csv",
        [
            {"Grade": "HGG", "BraTS_2020_subject_ID": f"BraTS20_Training_{volume:03d}"}
            for volume in cases
        ],
    )
    return root / "BraTS20 Training Metadata.csv"


def lgg_slices(seed: int = 0, slices: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Slices of a head with skull and a tumour that is bright in FLAIR, without symmetry.

    Returns:
      uint8[slices, 256, 256, 3], T1, FLAIR, T1Gd with noise in air, and bool[slices, 256, 256].
    """
    rng = np.random.default_rng(seed)
    row, column = np.meshgrid(*[np.arange(256)] * 2, indexing="ij")
    head = ((row - 120) / 100) ** 2 + ((column - 130) / 80) ** 2 < 1
    mask = np.zeros((slices, 256, 256), bool)
    mask[1:, 60:90, 150:180] = True
    noise = rng.normal(0, 6, (slices, 256, 256, 3))
    images = np.where(head[..., None], 90 + 4 * noise, np.abs(noise))
    images[mask] += [-30, 90, 10]
    return images.clip(0, 255).astype(np.uint8), mask


def write_lgg(
    root: Path, case: str, images: np.ndarray | None = None, mask: np.ndarray | None = None
) -> dict[str, Path]:
    """Writes a case of Kaggle's LGG set; returns the files by name, N.tif and N_mask.tif."""
    drawn = lgg_slices()
    images, mask = drawn[0] if images is None else images, drawn[1] if mask is None else mask
    (root / case).mkdir(parents=True, exist_ok=True)
    paths = {}
    for k, (image, own) in enumerate(zip(images, mask, strict=True), 1):
        for name, pixels in ((f"{k}.tif", image), (f"{k}_mask.tif", own.astype(np.uint8) * 255)):
            paths[name] = root / case / f"{case}_{name}"
            Image.fromarray(pixels).save(paths[name])
    return paths


# The class of each label of `make_case`, as MSD and nnU-Net's recipes of BraTS store it.
TO_MSD = np.array([0, 2, 1, 3], np.uint8)
MSD_JSON = {
    "name": "BRATS",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {
        "0": "background",
        "1": "edema",
        "2": "non-enhancing tumor",
        "3": "enhancing tumour",
    },
}
NNUNET_JSON = {
    "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "ET": [3]},
    "file_ending": ".nii.gz",
}


def write_dataset_json(root: Path, document: Mapping[str, object]) -> Path:
    """Writes the dataset.json of MSD or nnU-Net."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(document))
    return root / "dataset.json"


def write_msd_case(
    root: Path, case: str, volumes: Mapping[str, np.ndarray], part: str = "Tr", codes: str = "RAS"
) -> None:
    """Writes a case of MSD: FLAIR, T1, T1Gd and T2 in one file, and labels in part Tr."""
    moved = [in_axes(volumes[name], codes) for name in ("flair", "t1", "t1gd", "t2")]
    folder = root / f"images{part}"
    folder.mkdir(parents=True, exist_ok=True)
    stacked = np.stack([voxels for voxels, _ in moved], axis=-1)
    nib.save(nib.Nifti1Image(stacked, moved[0][1]), folder / f"{case}.nii.gz")
    # What macOS puts beside every file in the archive.
    (folder / f"._{case}.nii.gz").write_bytes(b"litter")
    if part == "Tr":
        write_volume(root / "labelsTr" / f"{case}.nii.gz", TO_MSD[volumes["seg"]], codes)


def write_nnunet_case(
    root: Path, case: str, volumes: Mapping[str, np.ndarray], part: str = "Tr"
) -> None:
    """Writes the images of a case of nnU-Net that are in `volumes`, and labels in part Tr."""
    for channel, name in enumerate(MODALITIES):
        if name in volumes:
            write_volume(root / f"images{part}" / f"{case}_{channel:04d}.nii.gz", volumes[name])
    if part == "Tr":
        write_volume(root / "labelsTr" / f"{case}.nii.gz", TO_MSD[volumes["seg"]])


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
