"""Small evaluations from every subset of the modalities. Not tests."""

from pathlib import Path

import numpy as np
from report_examples import write_run

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.subsets import SUBSETS
from brats_jax.evaluation.subset_scores import with_subset
from brats_jax.runs.documents import EvaluatedCheckpoint
from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles
from brats_jax.runs.folder import RunFolder


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


def write_study(folder: Path, folds=(0,)) -> Path:
    """Two runs of four patients, one trained for missing modalities; returns the folder.

    The Dice of a patient is 0.9 from all four modalities and falls by 0.1 (trained) or 0.2 with
    each that is missing; in patient number p it is 0.01 p lower.
    """
    for dropout, step in ((0.5, 0.1), (0.0, 0.2)):
        run = folder / f"dropout_{dropout}"
        settings = {"segment.modality_dropout": dropout}
        write_run(run, ssl=False, folds=folds, patients=4, settings=settings)
        for fold in folds:
            document = SubsetEvaluation(
                fold=fold,
                set="test",
                split_by="patient",
                inputs=MODALITIES,
                trained_for_missing=dropout > 0,
                checkpoint=EvaluatedCheckpoint(8, 4, 0.5),
                tta=False,
                patients=("A", "B", "C", "D"),
            )
            for subset in SUBSETS:
                dice = 0.9 - step * (4 - len(subset)) - 0.01 * np.arange(4)
                tp = np.rint(dice * 1000).astype(int)  # of 1,000 voxels in either mask
                counts = np.stack([tp, 1000 - tp, 1000 - tp], axis=-1)[:, None].repeat(3, axis=1)
                document = with_subset(document, subset, counts)
            document.write(SubsetFiles(RunFolder(run).fold(fold).path).json)
    return folder
