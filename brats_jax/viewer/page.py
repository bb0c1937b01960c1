"""The page of a segmented case: one HTML file to scroll through, without network access.

The file contains the volumes, as compressed NIfTI in base64, and NiiVue
(https://github.com/niivue/niivue), which draws them. A content security policy forbids the page to
load anything else, so that no scan can leave the machine.
"""

import base64
import gzip
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from brats_jax import about
from brats_jax.about import RESEARCH_USE_ONLY
from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES, channel_indices
from brats_jax.runtime import threads
from brats_jax.runtime.files import json_text, write_text
from brats_jax.viewer.case import CaseView
from brats_jax.viewer.overview import UNCERTAINTY_COLOUR, draw_overview
from brats_jax.viewer.slices import CLASS_COLOURS, png

_PARTS = {
    "WT": "whole tumour",
    "TC": "tumour core",
    "ET": "enhancing tumour",
    "NCR/NET": "necrotic core",
    "ED": "oedema",
}
_MARGIN = 3  # voxels around the head
_LEVEL = 6  # of compression: the highest, 9, takes three times as long for half a percent


def write_page(path: str | Path, case: CaseView, picture: str | Path | None = None) -> Path:
    """Writes a page with the modalities, the prediction, and the truth and uncertainty if given.

    An absent modality cannot be selected: its black image could be mistaken for a scan. The file
    has about 10 MB for 155 slices of 240 x 240, up to 21 MB with uncertainty: images are stored in
    8 bits, labels unchanged.

    Args:
      path: the .html file, written atomically.
      case: the case to show.
      picture: a PNG from `write_overview`, shown below the slices, in browsers without WebGL and
        in print; None to draw it.

    Returns:
      `path`.
    """
    drawn = None if picture is None else Path(picture).read_bytes()
    write_text(Path(path), page_of(case, drawn))
    return Path(path)


def page_of(case: CaseView, picture: bytes | Callable[[], bytes] | None = None) -> str:
    """The HTML of the page.

    Args:
      case: the case to show.
      picture: the overview as PNG, or what returns it; None to draw it.
    """
    volumes = {
        name: grey_bytes(case, channel)
        for name, channel in zip(case.present, channel_indices(case.present), strict=True)
    }
    # In the order of drawing, the top layer last.
    layers: dict[str, np.ndarray] = {"prediction": case.labels}
    if case.uncertainty is not None:
        layers["uncertainty"] = np.rint(case.uncertainty * 255)
    if case.truth is not None:
        layers["truth"] = case.truth
    box = head_box(case)
    shown = {**volumes, **layers}
    encoded = threads.parallel_map(
        lambda volume: encode_nifti(volume.astype(np.uint8), case.spacing_mm, box), shown.values()
    )
    embedded = dict(zip(shown, encoded, strict=True))
    columns = {
        name: case.volumes_ml(labels)
        for name, labels in (("prediction", case.labels), ("truth", case.truth))
        if labels is not None
    }
    drawn = png(draw_overview(case)) if picture is None else picture
    drawn = drawn() if callable(drawn) else drawn
    html: str = _template().render(
        case=case,
        research_use_only=RESEARCH_USE_ONLY,
        display_names=DISPLAY_NAMES,
        modalities=MODALITIES,
        absent=[DISPLAY_NAMES[name] for name in MODALITIES if name not in case.present],
        layers=list(layers),
        colours=CLASS_COLOURS,
        uncertainty_colour=UNCERTAINTY_COLOUR,
        columns=columns,
        parts=_PARTS,
        settings=_script_settings(case, box, list(layers)),
        volumes=embedded,
        picture=base64.b64encode(drawn).decode(),
        record=json_text(case.record) if case.record else "",
        version=about.__version__,
        css=_text("template", "page.css"),
        script=_text("template", "page.js"),
        niivue=_text("niivue", "niivue.umd.js"),
    )
    return html


def _script_settings(
    case: CaseView, box: tuple[slice, slice, slice], layers: list[str]
) -> dict[str, Any]:
    """The constants of template/page.js, JSON-able.

    Args:
      case: the case to show.
      box: the part of the grid that is embedded.
      layers: names of the label maps, in the order of drawing.
    """
    region = case.region_of_interest()
    return {
        # Along x, y, z: to Left, Posterior, Superior.
        "shape": [box[axis].stop - box[axis].start for axis in (1, 2, 0)],
        "offset": [box[axis].start for axis in (1, 2, 0)],
        # From the images alone: a label in air is embedded, but is not part of the head.
        "head": [head_slices(case)[axis] for axis in (1, 2, 0)],
        # The slice with most tumour in each plane.
        "start": [int(np.argmax(region.sum(others))) for others in ((0, 2), (0, 1), (1, 2))],
        "colours": [CLASS_COLOURS.get(name, "#000000") for name in CLASSES],
        "classes": list(CLASSES),
        "uncertaintyColour": UNCERTAINTY_COLOUR,
        "modalities": list(MODALITIES),
        "present": list(case.present),
        "layers": layers,
    }


def grey_bytes(case: CaseView, modality: int) -> np.ndarray:
    """Scales a modality to 8 bits.

    White is the 99.5th percentile of the brain. Black is a tenth of the range between the 0.5th
    and the 99.5th percentile below the former, but not below 0 for a brain without negative
    values. The background is black.

    Args:
      case: the case.
      modality: index of the channel.

    Returns:
      uint8[D, H, W].
    """
    image = case.images[..., modality].astype(np.float32)
    inside = image[case.brain]
    if not inside.size or inside.min() == inside.max():
        return np.where(case.brain & (image != 0), 128, 0).astype(np.uint8)
    low, high = (float(v) for v in np.percentile(inside, (0.5, 99.5)))
    high = max(high, low + 1e-6 * max(1.0, abs(low)))
    black = low - 0.1 * (high - low)
    if low >= 0:
        black = max(black, 0.0)
    scaled = np.clip((image - black) / (high - black), 0, 1) * 255
    return np.where(case.brain, np.rint(scaled), 0).astype(np.uint8)


def head_box(case: CaseView) -> tuple[slice, slice, slice]:
    """The part of the grid [D, H, W] that is embedded: brain, labels and a margin.

    Air is more than half of a scan: without it the head is larger and the page faster. The
    uncertainty does not count, because it is above 0 in air too.
    """
    filled = case.brain | (case.labels != 0)
    if case.truth is not None:
        filled |= case.truth != 0
    slices = [
        slice(max(first - _MARGIN, 0), min(last + 1 + _MARGIN, size))
        for (first, last), size in zip(_extent(filled), filled.shape, strict=True)
    ]
    return slices[0], slices[1], slices[2]


def head_slices(case: CaseView) -> list[tuple[int, int]]:
    """The first and the last slice along D, H and W in which a modality is not 0."""
    return _extent(case.brain)


def _extent(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index along each axis where a mask is set; the whole axis if it is empty."""
    found = []
    for axis, size in enumerate(mask.shape):
        where = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        found.append((int(where[0]), int(where[-1])) if where.size else (0, size - 1))
    return found


def encode_nifti(
    volume: np.ndarray,
    spacing_mm: tuple[float, float, float],
    box: tuple[slice, slice, slice],
) -> str:
    """Encodes a part of a volume as .nii.gz in base64.

    The file has no time stamp, so that equal input gives equal text.

    Args:
      volume: uint8[D, H, W].
      spacing_mm: voxel size along H, W and D.
      box: the part; the affine places it on the grid of the whole volume.
    """
    import nibabel

    # NIfTI coordinates run to Right, Anterior, Superior: x and y have the opposite sign.
    steps = np.array(spacing_mm) * (-1, -1, 1)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = steps * [box[axis].start for axis in (1, 2, 0)]
    image = nibabel.Nifti1Image(np.moveaxis(volume[box], 0, 2), affine)
    return base64.b64encode(gzip.compress(image.to_bytes(), _LEVEL, mtime=0)).decode()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brats_jax.viewer", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html")


def _text(*parts: str) -> str:
    return resources.files("brats_jax.viewer").joinpath(*parts).read_text(encoding="utf-8")
