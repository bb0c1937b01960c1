"""Where the paper's account of its method contradicts itself, and what is done here.

No arithmetic finds these: each is two places of the text, read side by side.
"""

from collections.abc import Iterator
from typing import NamedTuple

from brats_jax.reporting.paper.findings import Finding


class Account(NamedTuple):
    """A quote, where it stands, what the rest of the paper says to it, and what is done here."""

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
        "Section 3",
        "data augmentation, and training configurations are also described",
        "no augmentation is described anywhere",
        "none under configs/paper.py; flips, quarter turns and intensities otherwise, each with a "
        "switch",
    ),
    Account(
        "Section 4.1",
        "each subject is represented by a single 2D axial slice containing visible tumour regions",
        "the same section speaks of 155 slices for each patient and of 'many slices that do not "
        "contain any tumour'",
        "all slices of a patient, or those with tumour (segment.slices, pretrain.slices)",
    ),
    Account(
        "Section 4.1",
        "Only slices with non-zero segmentation labels were retained",
        "Tables 3 to 5 have a Dice of 0.33 at most beside boundaries a few pixels apart, as an "
        "average over all slices gives in which an absent class counts 0; over slices with tumour "
        "alone such boundaries would give far more",
        "evaluated over all slices, and the average over tumour slices beside it",
    ),
    Account(
        "Section 4.1",
        "15% of the total files are reserved as a hold-out test set",
        "each file is a slice, of which a patient has up to 155: slices of one patient are then in "
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
