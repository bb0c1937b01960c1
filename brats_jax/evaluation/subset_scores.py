"""The scores of an evaluation from every subset of the modalities, from its counts."""

import csv
import dataclasses
import io

import numpy as np

from brats_jax.data.modalities import REGIONS
from brats_jax.data.subsets import Subset, subset_name, subsets_of
from brats_jax.metrics import overlap
from brats_jax.runs.documents.subsets import SubsetCounts, SubsetEvaluation
from brats_jax.runtime.text import csv_cell

CONVENTION = "brats2020"
ZEROS = "not trained for missing modalities: zeros in their place"
TRAINED = "trained for missing modalities"


def with_subset(document: SubsetEvaluation, subset: Subset, counts: np.ndarray) -> SubsetEvaluation:
    """The document with another subset: int64[P, 3, 3] counts of each patient and region."""
    by_region = {
        region: tuple(tuple(int(n) for n in one) for one in counts[:, r])
        for r, region in enumerate(REGIONS)
    }
    one = SubsetCounts(subset, by_region)
    order = subsets_of(document.inputs)
    subsets = sorted([*document.subsets, one], key=lambda each: order.index(each.modalities))
    return dataclasses.replace(document, subsets=tuple(subsets))


def dice_of(document: SubsetEvaluation, subset: Subset, region: str) -> np.ndarray:
    """float64[P]: the 3D Dice of each patient; 1 of a region in neither mask (BraTS 2020)."""
    (one,) = [each for each in document.subsets if each.modalities == subset]
    return overlap.dice_under(np.array(one.counts[region]), CONVENTION)


def table_of(document: SubsetEvaluation) -> bytes:
    """subsets.csv of a fold: a row for each subset and patient, with the 3D Dice of each region."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    dice = [f"{region} dice ({CONVENTION})" for region in REGIONS]
    writer.writerow(["modalities", "missing filled with", "patient", *dice])
    filled = "zeros, and the network is told" if document.trained_for_missing else "zeros"
    for one in document.subsets:
        values = [dice_of(document, one.modalities, region) for region in REGIONS]
        for p, patient in enumerate(document.patients):
            cells = [f"{of_region[p]:.6g}" for of_region in values]
            writer.writerow([subset_name(one.modalities), filled, csv_cell(patient), *cells])
    return text.getvalue().encode("utf-8", "backslashreplace")
