"""Tables on missing modalities: the Dice from every subset, the drops, and what training gains."""

from collections.abc import Sequence

from brats_jax.data.modalities import REGIONS
from brats_jax.data.subsets import SUBSETS, Subset, dots, subset_words
from brats_jax.reporting import captions
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.reporting.subsets import SubsetArm, SubsetGain
from brats_jax.reporting.tables.paired_cells import (
    holm_note,
    interval_cells,
    intervals_note,
    paired_cells,
    paired_columns,
)
from brats_jax.reporting.tables.table import (
    Column,
    Table,
    make_table,
    number,
    signed,
    text,
    whole,
)

TRAINED, ZEROS = "trained for it", "zeros"
DOTS = "Dots from left to right: FLAIR, T1, T1Gd, T2; ● given, ○ missing."
FILLED = (
    f"Missing: “{TRAINED}”, the network was trained for missing modalities and is told which are "
    f"there; “{ZEROS}”, it was not, and their channels are filled with zeros that it has not seen."
)


def columns_of(arms: Sequence[SubsetArm]) -> list[Subset]:
    """The subsets of any of the arms, in the order of the literature."""
    every = {subset for one in arms for subset in one.subsets}
    return [subset for subset in SUBSETS if subset in every]


def subset_table(arms: Sequence[SubsetArm]) -> Table | None:
    """A row for each arm and region, a column for each subset, and the mean over the subsets."""
    every, rows = columns_of(arms), []
    for one in arms:
        for region in REGIONS:
            cells = [
                number(one.mean(subset, region) if subset in one.subsets else None)
                for subset in every
            ]
            mean = number(one.mean((), region), strong=True)
            filled = text(TRAINED if one.trained else ZEROS)
            rows.append([text(one.arm.label), filled, text(region), *cells, mean])
    given = "Given"
    return make_table(
        "subsets",
        "",
        "3D Dice from every subset of the modalities",
        f"{DOTS} {FILLED} Mean over patients; a region in neither mask counts 1 (BraTS 2020). Last "
        f"column: mean over the subsets. {_over(arms)}",
        [
            Column("Arm", words=True),
            Column("Missing", words=True),
            Column("Region", words=True),
            *(Column(dots(subset), given) for subset in every),
            Column("Mean"),
        ],
        rows,
    )


def drop_table(arms: Sequence[SubsetArm]) -> Table | None:
    """A row for each arm and subset: the drop from all modalities by region, with intervals."""
    rows = []
    every: list[PairedDifference] = []
    for one in arms:
        for subset in (*one.subsets[:-1], ()):
            found = [one.drop(subset, region) for region in REGIONS]
            every += found
            name = dots(subset) if subset else "mean"
            words = subset_words(subset) if subset else f"mean of the {len(one.subsets)} subsets"
            cells = [
                cell
                for result in found
                for cell in (signed(result.mean_difference, 3), *interval_cells(result, 3))
            ]
            rows.append(
                [
                    text(one.arm.label), text(TRAINED if one.trained else ZEROS), text(name),
                    text(words), whole(found[0].n), whole(found[0].trainings), *cells,
                ]
            )  # fmt: skip
    return make_table(
        "subset_drops",
        "",
        "Drop of the 3D Dice from all modalities to each subset",
        f"From all minus from the subset, paired by patient. {DOTS} {FILLED} "
        f"{intervals_note(every)}{_over(arms)}",
        [
            *(Column(name, words=True) for name in ("Arm", "Missing", "Given", "Modalities")),
            Column("n patients"),
            Column("Trainings"),
            *(Column(name, f"Drop of {of}") for of in REGIONS for name in ("mean", "low", "high")),
        ],
        rows,
        detail=len(arms) > 1,
    )


def gain_table(gains: Sequence[SubsetGain]) -> Table | None:
    """A row for each pair of arms, from all modalities and over all subsets."""
    rows = []
    for gain in gains:
        every = f"mean of the {len(gain.trained.subsets)} subsets"
        rows.append(
            [
                text(gain.trained.arm.label),
                text(gain.other.arm.label),
                text("all modalities" if gain.subset else every),
                text(gain.of),
                *paired_cells(
                    gain.result,
                    gain.adjusted,
                    gain.verdict,
                    strong=gain.verdict in ("better", "worse"),
                    digits=3,
                ),
            ]
        )
    return make_table(
        "subset_gains",
        "",
        "Trained for missing modalities minus filled with zeros",
        "3D Dice of arms that differ in settings of the segmentation, its modality dropout among "
        f"them. {intervals_note(gain.result for gain in gains)}{holm_note(len(rows))}",
        [
            Column("Trained for it", words=True),
            Column("Zeros", words=True),
            Column("Given", words=True),
            Column("Region", words=True),
            *paired_columns("trained", "zeros", "Mean", "Gain"),
        ],
        rows,
    )


def _over(arms: Sequence[SubsetArm]) -> str:
    return captions.over([one for each in arms for one in each.group])
