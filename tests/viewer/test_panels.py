"""Panels are PNG files, written atomically."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from viewer_example import head_slice as head

from brats_jax.errors import BratsError
from brats_jax.viewer import panels, slices


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((24, 30), np.uint8)
    labels[8:14, 8:14] = 2
    labels[9:12, 9:12] = 3
    labels[10, 10] = 1
    return labels


def written(draw: Callable[..., Figure], path: Path, *arguments: Any) -> Path:
    """The figure as a file."""
    return slices.save(draw(path, *arguments), path)


def segmentation_rows(labels: np.ndarray) -> list[panels.SegmentationRow]:
    images = {"t1gd": head(), "flair": head()}
    dice = {"NCR/NET": 0.5, "ED": None, "ET": float("nan")}
    return [
        panels.SegmentationRow(f"Patient_{i}", 70 + i, images, labels, labels[::-1], dice)
        for i in range(2)
    ]


def reconstruction_row(prediction: np.ndarray) -> panels.ReconstructionRow:
    inputs = {"t1": head(), "t1gd": head()}
    return panels.ReconstructionRow("Patient_1", 70, inputs, head(), prediction, 0.91)


def test_writes_png_files_and_nothing_else(tmp_path, labels):
    files = [
        written(
            panels.reconstruction_drawing, tmp_path / "a" / "r.png", [reconstruction_row(head())]
        ),
        written(
            panels.segmentation_drawing, tmp_path / "a" / "s.png", segmentation_rows(labels), "Dice"
        ),
        written(
            panels.dataset_drawing,
            tmp_path / "a" / "d.png",
            panels.DatasetRow("Patient_1", 70, np.stack([head()] * 4, -1), labels),
        ),
    ]
    assert sorted((tmp_path / "a").iterdir()) == sorted(files)
    for path in files:
        picture = imread(path)
        assert picture.ndim == 3 and picture.shape[1] > 300
        assert picture[..., :3].std() > 0.1  # not blank


def test_more_rows_make_a_taller_picture(tmp_path, labels):
    rows = segmentation_rows(labels)
    heights = [
        imread(written(panels.segmentation_drawing, tmp_path / f"{n}.png", rows[:n])).shape[0]
        for n in (1, 2)
    ]
    assert heights[1] > 1.5 * heights[0]


def test_a_class_is_drawn_in_its_colour(tmp_path, labels):
    def pixels_of(name: str, drawn: np.ndarray) -> int:
        # 65 % of the colour over a slice that is all black but for two corners.
        code = slices.CLASS_COLOURS[name]
        want = 0.65 * np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return int((np.abs(drawn[..., :3] - want).max(-1) < 0.02).sum())

    image = np.zeros((24, 30), np.float32)
    image[5, 4] = image[18, 25] = 1
    for value, name in ((1, "NCR/NET"), (2, "ED"), (3, "ET")):
        mask = np.where(labels > 0, value, 0)
        row = panels.SegmentationRow("Patient_1", 1, {"t1": image}, mask, mask * 0, {})
        drawn = imread(written(panels.segmentation_drawing, tmp_path / "c.png", [row]))
        counts = {other: pixels_of(other, drawn) for other in slices.CLASS_COLOURS}
        assert counts[name] > 200
        assert sum(counts.values()) == counts[name]


def test_the_data_have_the_colours_of_the_segmentations(tmp_path):
    labels = np.zeros((24, 30), np.uint8)
    for value in (1, 2, 3):
        labels[6:12, 6 * value : 6 * value + 6] = value
    images = np.zeros((24, 30, 4), np.float32)
    images[5, 4] = images[18, 25] = 1
    row = panels.DatasetRow("Patient_1", 1, images, labels)
    drawn = imread(written(panels.dataset_drawing, tmp_path / "d.png", row))[..., :3]
    for code in slices.CLASS_COLOURS.values():
        colour = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        for shown in (colour, 0.65 * colour):  # in the legend, and over a black slice
            assert (np.abs(drawn - shown).max(-1) < 0.02).sum() > 200


def test_rows_that_cannot_be_drawn_are_refused_in_one_line(tmp_path, labels):
    path = tmp_path / "p.png"
    with pytest.raises(BratsError, match=r"p\.png: no slices"):
        written(panels.segmentation_drawing, path, [])
    with pytest.raises(BratsError, match=r"Patient_1 slice 70 .*one \[H, W\]"):
        written(panels.reconstruction_drawing, path, [reconstruction_row(head(shape=(30, 30)))])
    rows = segmentation_rows(labels)
    odd = panels.SegmentationRow("P", 1, {"t2": head()}, labels, labels, {})
    with pytest.raises(BratsError, match="different modalities"):
        written(panels.segmentation_drawing, path, [rows[0], odd])
    row = panels.DatasetRow("P", 1, np.stack([head()] * 3, -1), labels)
    with pytest.raises(BratsError, match="3 modalities given"):
        written(panels.dataset_drawing, path, row)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_picture(tmp_path, labels, monkeypatch):
    path = tmp_path / "p.png"
    written(panels.segmentation_drawing, path, segmentation_rows(labels))
    before = path.read_bytes()

    def full(self: FigureCanvasAgg, file, **_: object) -> None:
        file.write(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", full)
    with pytest.raises(OSError, match="No space left"):
        written(panels.segmentation_drawing, path, segmentation_rows(labels)[:1])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_panels_do_not_import_pyplot():
    program = "import brats_jax.viewer.panels, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    root = Path(panels.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
