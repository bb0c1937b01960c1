"""All scores of a tally, each under its named convention.

The Dice of the same predictions is 0.2 or 0.9, depending on the units that are averaged and on the
value of a class that is in neither mask. A `Scores` holds one such combination by unit (slice or
patient); its mean is taken last.

| unit    | over          | metric                                    | convention                |
|---------|---------------|-------------------------------------------|---------------------------|
| slice   | all slices    | dice                                      | overlap.CONVENTIONS       |
|         |               | asd*_mm (four variants), hd95_mm          | both_present, penalised   |
|         |               | missed                                    | truth_present             |
|         |               | invented                                  | truth_empty               |
|         |               | nsd, sensitivity                          | present_only              |
|         |               | specificity, in_truth                     | none                      |
| slice   | tumour slices | dice                                      | overlap.CONVENTIONS       |
| patient | volumes       | dice, hd95_mm                             | VOLUME_CONVENTIONS        |
|         |               | asd*_mm (four variants)                   | both_present, penalised   |
|         |               | missed                                    | truth_present             |
|         |               | invented                                  | truth_empty               |
|         |               | nsd, nsd_area                             | present_only              |
|         |               | sensitivity                               | present_only, brats2023   |
|         |               | specificity                               | none                      |
|         |               | lesion_dice, lesion_hd95_mm               | brats2023                 |
| slice   | all slices,   | of predicted modalities: mse              | none                      |
|         | tumour slices | psnr                                      | target range, fixed range |
|         |               | ssim, ssim_gaussian                       | target range              |

A volume that lacks slices has no score over volumes, and its slices are NaN over all slices.

`NOTES` says each convention in words. Its rule stands beside its formula: `overlap.CONVENTIONS`
and `surface.DISTANCE_CONVENTIONS`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jax import Array

from brats_jax.evaluation.tallies import (
    IMAGE_METRICS,
    IMAGE_REGIONS,
    LESION_FIELDS,
    LESION_REGIONS,
    SCORED,
    SURFEL_FIELDS,
    SURFEL_REGIONS,
    YARDSTICK_METRICS,
    PretrainingTally,
    SegmentationTally,
    Slices,
)
from brats_jax.metrics import overlap, surface
from brats_jax.metrics.surface import SurfaceStatistics

# Conventions for volumes in which a region is missing from one or both masks.
VOLUME_CONVENTIONS: tuple[str, ...] = ("present_only", "brats2020", "brats2023")
# The metrics of volumes that are given under several conventions.
SEVERAL_VOLUME_CONVENTIONS: tuple[str, ...] = ("dice", "hd95_mm", "sensitivity")

NOTES: dict[str, str] = {
    **overlap.CONVENTION_NOTES,
    "both_present": "where both masks hold the region",
    "penalised": "where either mask holds the region; 373.13 mm where only one does",
    "truth_present": "share of those whose truth holds the region: the prediction is empty",
    "truth_empty": "share of those whose truth lacks the region: the prediction holds it",
    "brats2020": "volumes; in neither mask: Dice 1, HD95 0 mm; in one: Dice 0, HD95 373.13 mm",
    "brats2023": "volumes; in neither mask: Dice 1, HD95 0 mm; in one: Dice 0, HD95 374 mm; HD95 "
    "by area of the surface, the larger direction (DeepMind); sensitivity 1 in neither, 0 in the "
    "prediction alone",
    "target range": "range of each real slice",
    "fixed range": "range 6.01, which the paper's own MSE and PSNR together imply",
    "": "",
}

# Image metrics of a tally: (metric, convention) of a score.
_IMAGE_SCORES: dict[str, tuple[str, str]] = {
    "mse": ("mse", ""),
    "psnr": ("psnr", "target range"),
    "psnr_fixed": ("psnr", "fixed range"),
    "ssim": ("ssim", "target range"),
    "ssim_gaussian": ("ssim_gaussian", "target range"),
}

Values = Array | np.ndarray


@dataclass(frozen=True)
class Scores:
    """One metric of one region under one convention, for every unit.

    Attributes:
      unit: 'slice' or 'patient'.
      over: 'all slices', 'tumour slices' or 'volumes'.
      of: region, e.g. 'ET' or 'brain'.
      metric: e.g. 'dice', 'hd95_mm'.
      convention: a key of `NOTES`.
      values: float64[n]; NaN where the convention leaves the unit out.
      patient: int32[n], position in the tally's patients.
    """

    unit: str
    over: str
    of: str
    metric: str
    convention: str
    values: np.ndarray
    patient: np.ndarray

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """The columns that identify the score within its tally."""
        return (self.unit, self.over, self.of, self.metric, self.convention)

    def mean(self) -> float:
        """Mean over the units that count, NaN if there are none."""
        known = self.values[~np.isnan(self.values)]
        return float(known.mean()) if known.size else float("nan")

    def count(self) -> int:
        """The number of units that count."""
        return int((~np.isnan(self.values)).sum())

    def by_patient(self) -> dict[int, float]:
        """The mean of each patient's units that count; patients without any are left out."""
        known = ~np.isnan(self.values)
        patients, where = np.unique(self.patient[known], return_inverse=True)
        sums = np.bincount(where, weights=self.values[known], minlength=len(patients))
        return dict(zip(patients.tolist(), (sums / np.bincount(where)).tolist(), strict=True))


def scores_of(tally: SegmentationTally | PretrainingTally) -> list[Scores]:
    """All scores of a tally, in the order of the tables."""
    if isinstance(tally, PretrainingTally):
        return list(_image_scores(tally.slices, tally.values, IMAGE_METRICS))
    return list(segmentation_scores(tally))


def segmentation_scores(tally: SegmentationTally) -> Iterator[Scores]:
    """All scores of a segmentation, by region."""
    slices = tally.slices
    for r, name in enumerate(SCORED):
        yield from _in_plane(name, tally, r)
        here = slices.tumour
        for convention in overlap.CONVENTIONS:
            values = overlap.dice_under(tally.counts[here, r], convention)
            yield Scores(
                "slice", "tumour slices", name, "dice", convention, values, slices.patient[here]
            )
        in_truth = (tally.counts[:, r, [0, 2]].sum(axis=-1) > 0).astype(np.float64)
        in_truth[slices.left_out] = np.nan
        yield Scores("slice", "all slices", name, "in_truth", "", in_truth, slices.patient)
    if slices.whole.any():
        yield from _in_space(tally)


def yardstick_scores(tally: PretrainingTally) -> dict[str, list[Scores]]:
    """The scores of each yardstick of a pretraining, by its name."""
    return {
        name: list(_image_scores(tally.slices, values, YARDSTICK_METRICS))
        for name, values in tally.yardsticks.items()
    }


def _image_scores(
    slices: Slices, by_name: Mapping[str, np.ndarray], metrics: Sequence[str]
) -> Iterator[Scores]:
    # Of several modalities, also 'modality region' for each.
    others = dict.fromkeys(name.partition("/")[0] for name in by_name)
    for region in dict.fromkeys((*IMAGE_REGIONS, *others)):
        for metric in metrics:
            name, convention = _IMAGE_SCORES[metric]
            values = by_name[f"{region}/{metric}"].astype(np.float64)
            # Infinite where prediction and truth are equal, which a mean cannot include.
            values = np.where(np.isfinite(values), values, np.nan)
            kept = np.where(slices.left_out, np.nan, values)
            yield Scores("slice", "all slices", region, name, convention, kept, slices.patient)
            here = slices.tumour
            patient = slices.patient[here]
            yield Scores("slice", "tumour slices", region, name, convention, values[here], patient)


def _in_plane(name: str, tally: SegmentationTally, r: int) -> Iterator[Scores]:
    counts, edges = tally.counts[:, r], _region(tally.surface, r)
    patient, left_out = tally.slices.patient, tally.slices.left_out

    def scores(metric: str, convention: str, values: Values) -> Scores:
        kept = np.where(left_out, np.nan, _f64(values))
        return Scores("slice", "all slices", name, metric, convention, kept, patient)

    for convention in overlap.CONVENTIONS:
        yield scores("dice", convention, overlap.dice_under(counts, convention))
    for metric, distances in _distances(edges):
        yield scores(metric, "both_present", distances)
        yield scores(metric, "penalised", surface.fill_empty(distances, edges, "penalised"))
    yield from (scores(*absence) for absence in _absences(counts))
    yield scores("nsd", "present_only", surface.surface_dice(edges))
    yield scores("sensitivity", "present_only", overlap.sensitivity(counts))
    yield scores("specificity", "", overlap.specificity(counts, tally.pixels))


def _in_space(tally: SegmentationTally) -> Iterator[Scores]:
    whole = np.flatnonzero(tally.slices.whole)
    counts = volume_counts(tally)[whole]
    slices_of = np.bincount(tally.slices.patient, minlength=len(tally.slices.patients))[whole]
    for r, name in enumerate(SCORED):

        def scores(metric: str, convention: str, values: Values, of: str = name) -> Scores:
            return Scores("patient", "volumes", of, metric, convention, _f64(values), whole)

        edges = SurfaceStatistics(*(np.asarray(x)[whole] for x in _region(tally.volume_surface, r)))
        for convention in VOLUME_CONVENTIONS:
            yield scores("dice", convention, overlap.dice_under(counts[:, r], convention))
            if convention != "brats2023":  # defined by area of the surface, see below
                distances = surface.fill_empty(surface.hd95(edges), edges, convention)
                yield scores("hd95_mm", convention, distances)
        for metric, plain in _distances(edges):
            if metric != "hd95_mm":
                yield scores(metric, "both_present", plain)
                yield scores(metric, "penalised", surface.fill_empty(plain, edges, "penalised"))
        yield from (scores(*absence) for absence in _absences(counts[:, r]))
        yield scores("nsd", "present_only", surface.surface_dice(edges))
        yield scores("sensitivity", "present_only", overlap.sensitivity(counts[:, r]))
        # Of a truth without the region: 0 where the prediction has it, else 1.
        without_truth = np.where(counts[:, r, 1] > 0, 0.0, 1.0)
        yield scores("sensitivity", "brats2023", overlap.sensitivity(counts[:, r], without_truth))
        voxels = slices_of * tally.pixels
        yield scores("specificity", "", overlap.specificity(counts[:, r], voxels))
        if name in SURFEL_REGIONS:
            by_area = tally.surfels[whole, SURFEL_REGIONS.index(name)]
            hd95, nsd = (by_area[:, SURFEL_FIELDS.index(f)] for f in ("hd95_mm", "nsd"))
            yield scores("hd95_mm", "brats2023", surface.fill_empty(hd95, edges, "brats2023"))
            in_one_mask = (edges.n_pred > 0) != (edges.n_gt > 0)
            yield scores("nsd_area", "present_only", np.where(in_one_mask, 0, nsd))
        if name in LESION_REGIONS:
            found = tally.lesions[whole, LESION_REGIONS.index(name)]
            for metric in ("dice", "hd95_mm"):
                values = found[:, LESION_FIELDS.index(metric)]
                yield scores(f"lesion_{metric}", "brats2023", values)


def volume_counts(tally: SegmentationTally) -> np.ndarray:
    """int64[P, R, 3] of (tp, fp, fn) in voxels, summed over each patient's slices."""
    patients = len(tally.slices.patients)
    total = np.zeros((patients, *tally.counts.shape[1:]), np.int64)
    np.add.at(total, tally.slices.patient, tally.counts)
    return total


def _distances(edges: SurfaceStatistics) -> Iterator[tuple[str, Values]]:
    """The variants of the mean distance, and HD95; NaN where a mask is empty."""
    to_truth, to_prediction = surface.directed_means(edges)
    yield "asd_mm", surface.pooled_mean(edges)
    yield "asd_pred_to_gt_mm", to_truth
    yield "asd_gt_to_pred_mm", to_prediction
    yield "asd_averaged_mm", surface.averaged_mean(edges)
    yield "hd95_mm", surface.hd95(edges)


def _absences(counts: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """(metric, convention, values) of the units that a mean distance leaves out.

    missed: 1 if the prediction is empty, else 0; NaN where the truth lacks the region.
    invented: 1 if the prediction holds the region, else 0; NaN where the truth holds it.
    """
    tp, fp, fn = np.moveaxis(np.asarray(counts), -1, 0)
    truth, predicted = tp + fn > 0, tp + fp > 0
    yield "missed", "truth_present", np.where(truth, ~predicted, np.nan)
    yield "invented", "truth_empty", np.where(truth, np.nan, predicted)


def _region(statistics: SurfaceStatistics, r: int) -> SurfaceStatistics:
    return SurfaceStatistics(*(np.asarray(x)[..., r] for x in statistics))


def _f64(values: Values) -> np.ndarray:
    return np.asarray(values, np.float64)
