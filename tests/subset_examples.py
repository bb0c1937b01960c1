"""A small evaluation from every subset of two modalities. Not tests."""

import numpy as np

from brats_jax.evaluation.subsets import with_subset
from brats_jax.runs.documents import EvaluatedCheckpoint
from brats_jax.runs.subsets_document import SubsetEvaluation


def document_of(**changes) -> SubsetEvaluation:
    """Two patients, inputs T1 and FLAIR; the Dice of a region is 0.8 and 0.4 from both of them."""
    fields = {
        "fold": 0, "set": "test", "split_by": "patient", "inputs": ("t1", "flair"),
        "trained_for_missing": False, "checkpoint": EvaluatedCheckpoint(8, 1, 0.5),
        "tta": False, "patients": ("A", "B"),
    }  # fmt: skip
    document = SubsetEvaluation(**{**fields, **changes})
    for subset, tp in ((("flair",), 1), (("t1",), 2), (("flair", "t1"), 4)):
        one = np.array([[[tp, 1, 1]] * 3, [[tp, 6, 6]] * 3])
        document = with_subset(document, subset, one)
    return document
