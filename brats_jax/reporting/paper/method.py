"""Contradictions in the paper's description of its method, and the choice made here.

No arithmetic finds these: each was found by reading two places of the text.
"""

from collections.abc import Iterator
from typing import NamedTuple

from brats_jax.reporting.paper.findings import Finding


class Account(NamedTuple):
    """A quote and its place, the statement that contradicts it, and the choice made here."""

    where: str
    quote: str
    against: str
    here: str


ACCOUNTS = (
    Account(
        "Section 3.2",
        "a modified ResNet 50 architecture pretrained on ImageNet",
        "Section 4.4.1 says 'models are randomly initialized' of the baseline",
        "random by default; encoder_init takes ImageNet weights",
    ),
    Account(
        "Section 3.2",
        "adopts a hierarchical fusion strategy",
        "Sections 4.5 and 5 call it 'a straightforward channel-wise concatenation' and a 'simple "
        "channel-wise concatenation approach'",
        "the modalities are concatenated as input channels",
    ),
    Account(
        "Section 3.1",
        "The training objective minimizes the mean squared error (MSE)",
        "the formula below it is a sum of squared norms, without a mean",
        "the mean over pixels",
    ),
    Account(
        "Section 3.1",
        "configured to accept two input channels",
        "it slices [:, :2] for T1 and T1Gd and [:, 3:4] for FLAIR, and the Kaggle files hold "
        "FLAIR, T1, T1Gd, T2, so that the pretraining probably predicted T2 from FLAIR and T1",
        "modalities are addressed by name; configs/paper_slicing.py trains T2 from FLAIR and T1",
    ),
    Account(
        "Section 3",
        "data augmentation, and training configurations are also described",
        "no augmentation is described anywhere",
        "none under configs/paper.py; flips, quarter turns and intensities otherwise, each with a "
        "switch",
    ),
    Account(
        "Section 4.1",
        "each subject is represented by a single 2D axial slice containing visible tumour regions",
        "the same section has 155 slices for each patient and 'many slices that do not "
        "contain any tumour'",
        "all slices of a patient, or those with tumour (segment.slices, pretrain.slices)",
    ),
    Account(
        "Section 4.1",
        "Only slices with non-zero segmentation labels were retained",
        "Tables 3 to 5 have a Dice of at most 0.33 with boundaries a few pixels apart. An average "
        "over all slices, in which an absent class counts 0, gives such a Dice; slices with tumour "
        "only would give a far higher one",
        "evaluated over all slices, with the average over tumour slices beside it",
    ),
    Account(
        "Section 4.1",
        "15% of the total files are reserved as a hold-out test set",
        "each file is a slice and a patient has up to 155 of them, so slices of one patient are in "
        "training and test, and no patient is held out",
        "split by patient; data.split_by=slice splits files, and every table says so",
    ),
    Account(
        "Section 4.4.1",
        "under various focal loss configurations",
        "experiment A of Table 2, Dice + Cross-Entropy, has no focal loss",
        "the losses of Table 2",
    ),
    Account(
        "Abstract",
        "especially when training with a limited amount of labelled data",
        "no experiment of the paper varies the amount of labels",
        "data.label_fraction, and --label_fractions of the grid",
    ),
)


def check_method() -> Iterator[Finding]:
    """Yields a finding for each of `ACCOUNTS`."""
    for account in ACCOUNTS:
        sentence = (
            f"The paper says '{account.quote}' ({account.where}), but {account.against}. "
            f"Here: {account.here}."
        )
        yield Finding(
            account.where, (), account.quote, account.against, "definite", "method", sentence
        )
