"""Pictures of slices: data (Figure 4), pretraining (Figure 6), segmentations (Figures 7, 8)."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES
from brats_jax.data.planes import AXIAL
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.panel_slices import PanelSlices
from brats_jax.reporting import captions
from brats_jax.reporting.arms import Arm, EvaluatedStage, Results
from brats_jax.reporting.figures.figure import Figure, photograph
from brats_jax.reporting.read_runs import Run
from brats_jax.runs.store_facts import path_of_store
from brats_jax.runtime.text import joined, plural
from brats_jax.viewer.panels import DatasetRow, dataset_drawing
from brats_jax.viewer.slices import (
    bare_figure,
    common_windows,
    draw_slice,
    head_mask,
    name_row,
    overlay_labels,
    png,
)

SLICES = 3  # test slices shown, in a row with SSL and a row without


def dataset_figure(runs: Sequence[Run]) -> Figure | str:
    """Figure 4, drawn from the store; if the store is missing or changed, the reason."""
    stores = {
        (path := run.document.settings.data.store): (
            run.document.store,
            path_of_store(path, run.folder.path),
        )
        for run in runs
    }
    reasons = []
    for path, (described, place) in stores.items():
        try:
            if not path:
                raise BratsError("the runs do not record the path of their store")
            store = Store.open(place).as_of(described.fingerprint)
            if store.fingerprint != described.fingerprint:
                raise BratsError(f"{path} is not the store that the runs were trained on")
            if store.plane != AXIAL:
                raise BratsError(f"{path} has {store.plane} slices: axial ones alone are drawn")
            index = _richest_slice(store)
            images, labels = store.read([index])
        except (BratsError, OSError, ValueError) as error:
            reasons.append(str(error))
            continue
        patient = store.patients[store.patient_of[index]]
        row = DatasetRow(patient, int(store.slice_number[index]), images[0], labels[0])
        return photograph(
            io.BytesIO(png(dataset_drawing("figure_4", row))),
            "figure_4",
            "Figure 4",
            "A slice of the data",
            f"{patient}, slice {row.slice_number} (store: "
            f"{Path(path).name}): the slice with most tumour among "
            "the slices with most classes. Four modalities, three masks, and the masks in colour "
            "on T1. The paper's Figure 4 has other colours.",
            "Four modalities of a slice, its three tumour masks, and an overlay",
        )
    return f"Figure 4 (the data) is not drawn: {'; '.join(reasons) or 'no run has begun'}."


def pretraining_figures(results: Results) -> list[Figure] | str:
    """Figure 6 and its like: a panel of each pretraining that has one; without any the reason."""
    found: list[Figure] = []
    several = len(results.pretrainings) > 1
    for variant, group in results.pretrainings.items():
        name = captions.pretraining_name(results, variant) if several else ""
        detail = captions.start_of_ssl(results, variant)
        drawn = _pretraining_panel(group, len(found), name, detail)
        if drawn is not None:
            found.append(drawn)
    return found or (
        "Figure 6 (predicted images) is missing: no evaluated pretraining has a panel."
    )


def _pretraining_panel(
    group: Sequence[EvaluatedStage], number: int, variant: str, detail: str
) -> Figure | None:
    """The panel of the first fold that has one."""
    for one in group:
        try:
            return photograph(
                one.files.folder.reconstruction_png,
                f"figure_6_{number + 1}" if number else "figure_6",
                "" if number else "Figure 6",
                f"Predicted images of test slices{variant and f', {variant}'}",
                f"{one.run.name}, fold {one.fold}. Inputs, real and predicted image; SSIM over "
                "the whole slice, with a 7 x 7 uniform window and the range of the real slice."
                + detail,
                "Rows of test slices: inputs, real image, predicted image",
            )
        except OSError:
            continue
    return None


def segmentation_figures(results: Results) -> list[Figure] | str:
    """Figures 7 and 8 in one picture: the same slices for every loss, with and without SSL.

    If no two evaluations kept the same slices: a picture for each arm; without any: the reason.
    """
    arms = [results.main_arm(loss, ssl) for loss in results.losses for ssl in (False, True)]
    shown = _drawn_together(results, [arm for arm in arms if arm is not None])
    if shown:
        return [_together(shown)]
    singles = []
    for arm in arms:
        found = _panel(results.arms[arm]) if arm is not None else None
        if arm is not None and found is not None:
            name = f"figures_7_8_{arm.loss}_{'ssl' if arm.ssl else 'baseline'}"
            try:
                singles.append(
                    photograph(
                        found.files.folder.segmentation_png,
                        name,
                        "Figure 7" if arm.ssl else "Figure 8",
                        f"Segmentations of test slices, {arm.label}",
                        f"{found.run.name}, fold {found.fold}.",
                        "Rows of test slices: images, truth, prediction",
                    )
                )
            except OSError:
                continue
    return singles or (
        "Figures 7 and 8 (segmentations) are missing: no evaluated segmentation has a panel."
    )


def _richest_slice(store: Store) -> int:
    """The slice with most tumour among those with most classes."""
    pixels = store.pixels[:, 1:].astype(np.int64)
    return int(np.lexsort((pixels.sum(axis=1), (pixels > 0).sum(axis=1)))[-1])


def _panel(group: Sequence[EvaluatedStage]) -> EvaluatedStage | None:
    return next((one for one in group if one.files.folder.segmentation_png.exists()), None)


def _drawn_together(
    results: Results, arms: Sequence[Arm]
) -> dict[Arm, tuple[EvaluatedStage, PanelSlices]]:
    """The panel slices of each arm, in the fold and seed in which most arms have the same ones."""
    found: dict[tuple[int, int], dict[Arm, tuple[EvaluatedStage, PanelSlices]]] = {}
    for arm in arms:
        for one in results.arms[arm]:
            path = one.files.folder.segmentation_npz
            if not path.exists():
                continue
            try:
                slices = PanelSlices.load(path)
            except BratsError as error:
                results.problems.append(str(error))
                continue
            mine = found.setdefault((one.fold, one.seed), {})
            others = [s for _, s in mine.values()]
            if not others or _same(others[0], slices):
                mine[arm] = (one, slices)
    return max(found.values(), key=len, default={})


def _same(a: PanelSlices, b: PanelSlices) -> bool:
    return list(zip(a.patients, a.numbers, strict=True)) == list(
        zip(b.patients, b.numbers, strict=True)
    )


def _together(shown: dict[Arm, tuple[EvaluatedStage, PanelSlices]]) -> Figure:
    first, slices = next(iter(shown.values()))
    losses = list(dict.fromkeys(arm.loss for arm in shown))
    sides = [ssl for ssl in (True, False) if any(arm.ssl == ssl for arm in shown)]
    rows, chosen = rows_shown([model.dice for _, model in shown.values()])
    names = [n for n in ("t1", "flair") if n in slices.images] or list(slices.images)[:1]
    heads = [head_mask([x[k] for x in slices.images.values()]) for k in rows]
    windows = common_windows(heads)
    drawing, grid = bare_figure(
        len(rows) * len(sides), len(names) + 1 + len(losses), windows[0], "Dice of the slice", True
    )
    for place, (k, head, window) in enumerate(zip(rows, heads, windows, strict=True)):
        for s, ssl in enumerate(sides):
            row = grid[place * len(sides) + s]
            for axis, name in zip(row, names, strict=False):
                draw_slice(axis, slices.images[name][k], head, window)
            under = slices.images[names[-1]][k]
            draw_slice(row[len(names)], under, head, window)
            overlay_labels(row[len(names)], slices.truth[k], window)
            for axis, loss in zip(row[len(names) + 1 :], losses, strict=True):
                arm = next((a for a in shown if a.loss == loss and a.ssl == ssl), None)
                if arm is None:
                    axis.text(0.5, 0.5, "not evaluated", color="white", ha="center", va="center")
                    axis.texts[-1].set_transform(axis.transAxes)
                    continue
                model = shown[arm][1]
                draw_slice(axis, under, head, window)
                overlay_labels(axis, model.prediction[k], window)
                axis.set_xlabel("  ".join(_scores(model.dice[k])))
            name_row(row[0], slices.patients[k], slices.numbers[k])
            row[0].set_ylabel(f"{row[0].get_ylabel()}\n{'SSL' if ssl else 'baseline'}")
    titles = [*(DISPLAY_NAMES[name] for name in names), "truth"]
    titles += [next(a.loss_name for a in shown if a.loss == loss) for loss in losses]
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title)
    starts = ["with SSL" if ssl else "without SSL" for ssl in sides]
    order = "a row with SSL above one without" if len(sides) > 1 else "one row for each slice"
    out = io.BytesIO()
    drawing.savefig(out, format="png", facecolor="white")
    out.seek(0)
    return photograph(
        out,
        "figures_7_8",
        " and ".join(f"Figure {7 if ssl else 8}" for ssl in sides),
        f"Segmentations of the same test slices, {joined(starts)}",
        f"Fold {first.fold}, seed {first.seed}; {order}. {chosen} "
        f"Labels over {DISPLAY_NAMES[names[-1]]}. Below: Dice of the slice by class, – if the "
        "class is in neither mask.",
        "Test slices: images, truth, and predictions by loss, with and without pretraining",
    )


def rows_shown(dice: Sequence[np.ndarray]) -> tuple[list[int], str]:
    """The slices shown, from best to worst, and a sentence on how they were chosen.

    Args:
      dice: float[N, K] of each model by slice and class, the background first.
    """
    scores = np.stack(dice)[..., 1:]  # models, slices, classes
    # A slice without any class in either mask has no Dice: it counts as a perfect one.
    known = ~np.isnan(scores)
    total = np.where(known, scores, 0.0).sum(axis=(0, 2))
    number = known.sum(axis=(0, 2))
    means = np.where(number, total / np.maximum(number, 1), 1.0)
    order = np.argsort(-means, kind="stable").tolist()
    kept = "that the evaluation kept, which it chose by the tumour in the truth"
    if len(order) <= SLICES:
        return order, f"All {plural(len(order), 'slice')} {kept}."
    picked = [order[0], order[len(order) // 2], order[-1]]
    return picked, (
        f"Of the {len(order)} slices {kept}, from top to bottom the best, the median and the worst "
        "by the mean Dice over classes and models."
    )


def _scores(dice: np.ndarray) -> list[str]:
    return [
        f"{name.partition('/')[0]} {'–' if np.isnan(value) else f'{value:.2f}'}"
        for name, value in zip(CLASSES[1:], dice[1:], strict=True)
    ]
