"""A page to scroll through a segmented case: one file, no network.

The volumes lie in it as compressed NIfTI in base64 and are shown by NiiVue
(https://github.com/niivue/niivue), which lies in it too. A content security policy forbids the
page to load anything else, so that no scan can leave the machine.
"""

import base64
import gzip
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np

from brats_jax import about
from brats_jax.about import RESEARCH_USE_ONLY
from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES, channel_indices
from brats_jax.runtime.files import json_text, write_text
from brats_jax.viewer.case import CaseView
from brats_jax.viewer.overview import UNCERTAINTY_COLOUR, draw_overview
from brats_jax.viewer.slices import CLASS_COLOURS, png

_MARGIN = 3  # voxels around the head


def write_page(path: str | Path, case: CaseView, picture: str | Path | None = None) -> Path:
    """Writes a page with slices of all modalities, prediction, and truth and uncertainty if any.

    A modality that is absent cannot be chosen: a black image might be taken for a scan.
    About 10 MB for 155 slices of 240 x 240, up to 20 with uncertainty: images are kept in 8 bits,
    labels as they are.

    Args:
      path: the .html file to write, whole or not at all.
      case: what to show.
      picture: a PNG, as `write_overview` writes it, to be shown below, where the browser has no
        WebGL, and in print; None: it is drawn.

    Returns:
      `path`.
    """
    path = Path(path)
    volumes = {
        name: grey_bytes(case, channel)
        for name, channel in zip(case.present, channel_indices(case.present), strict=True)
    }
    # In the order in which they are laid over each other.
    layers: dict[str, np.ndarray] = {"prediction": case.labels}
    if case.uncertainty is not None:
        layers["uncertainty"] = np.rint(case.uncertainty * 255)
    if case.truth is not None:
        layers["truth"] = case.truth
    box = head_box(case)
    embedded = {
        name: encode_nifti(volume.astype(np.uint8), case.spacing_mm, box)
        for name, volume in {**volumes, **layers}.items()
    }
    columns = {
        name: case.volumes_ml(labels)
        for name, labels in (("prediction", case.labels), ("truth", case.truth))
        if labels is not None
    }
    seen = case.to_look_at()
    settings = {
        # Along x, y, z: to Left, Posterior, Superior.
        "shape": [box[axis].stop - box[axis].start for axis in (1, 2, 0)],
        "offset": [box[axis].start for axis in (1, 2, 0)],
        # Of the images alone: what was predicted in air is embedded, and no head.
        "head": [head_slices(case)[axis] for axis in (1, 2, 0)],
        # In each plane the slice with most tumour.
        "start": [int(np.argmax(seen.sum(others))) for others in ((0, 2), (0, 1), (1, 2))],
        "colours": [CLASS_COLOURS.get(name, "#000000") for name in CLASSES],
        "classes": list(CLASSES),
        "uncertaintyColour": UNCERTAINTY_COLOUR,
        "modalities": list(MODALITIES),
        "present": list(case.present),
        "layers": list(layers),
    }
    drawn = png(draw_overview(case)) if picture is None else Path(picture).read_bytes()
    html = _template().render(
        case=case,
        research_use_only=RESEARCH_USE_ONLY,
        display_names=DISPLAY_NAMES,
        modalities=MODALITIES,
        absent=[DISPLAY_NAMES[name] for name in MODALITIES if name not in case.present],
        layers=list(layers),
        colours=CLASS_COLOURS,
        uncertainty_colour=UNCERTAINTY_COLOUR,
        columns=columns,
        rows=list(next(iter(columns.values()))),
        settings=settings,
        volumes=embedded,
        picture=base64.b64encode(drawn).decode(),
        record=json_text(case.record) if case.record else "",
        version=about.__version__,
        css=_text("template", "page.css"),
        script=_text("template", "page.js"),
        niivue=_text("niivue", "niivue.umd.js"),
    )
    write_text(path, html)
    return path


def grey_bytes(case: CaseView, modality: int) -> np.ndarray:
    """uint8[D, H, W]: a modality between the 0.5th and 99.5th percentile of its brain.

    Black lies a tenth of that range below, or at 0 where the brain begins just above it; the
    background is black.
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
    """The part of the grid [D, H, W] that is embedded: brain and labels, and a margin around.

    The air around a head is more than half of a scan: without it the page shows a larger head
    and is quicker. No network is quite certain of air, so that uncertainty has no say in it.
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
    """The first and last place along each axis where a mask is set; of an empty one, all."""
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
    """Base64 of a .nii.gz with a part of uint8[D, H, W], placed where it lies in the LPS grid.

    The same input gives the same text.
    """
    import nibabel

    # NIfTI's world runs to Right, Anterior, Superior, so x and y count backwards there.
    steps = np.array(spacing_mm) * (-1, -1, 1)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = steps * [box[axis].start for axis in (1, 2, 0)]
    image = nibabel.Nifti1Image(np.moveaxis(volume[box], 0, 2), affine)
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode()


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
