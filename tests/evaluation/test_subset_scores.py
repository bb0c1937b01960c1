"""The Dice of an evaluation from every subset of the modalities follows from its counts."""

import csv

import numpy as np
from subset_examples import document_of

from brats_jax.data.subsets import subsets_of
from brats_jax.evaluation.subset_scores import dice_of, table_of, with_subset
from brats_jax.runs.documents.subsets import SubsetEvaluation


def test_the_dice_of_a_patient_follows_from_its_voxels():
    document = document_of()
    assert [one.modalities for one in document.subsets] == list(subsets_of(document.inputs))
    assert document.is_complete
    assert dice_of(document, ("flair", "t1"), "WT").tolist() == [8 / 10, 8 / 20]
    assert dice_of(document, ("flair",), "ET").tolist() == [2 / 4, 2 / 14]
    empty = with_subset(document_of(subsets=()), ("t1",), np.zeros((2, 3, 3), int))
    assert (dice_of(with_only(empty), ("t1",), "ET") == 1).all()  # in neither mask


def with_only(document: SubsetEvaluation) -> SubsetEvaluation:
    """The last subset of T1 that was added, alone."""
    (*_, last) = [one for one in document.subsets if one.modalities == ("t1",)]
    return SubsetEvaluation(**{**document.__dict__, "subsets": (last,)})


def test_the_table_of_a_fold_says_what_stands_for_a_missing_modality():
    rows = list(csv.DictReader(table_of(document_of()).decode().splitlines()))
    assert len(rows) == 6 and rows[0]["missing filled with"] == "zeros"
    assert rows[-1]["patient"] == "B" and float(rows[-1]["WT dice (brats2020)"]) == 0.4
