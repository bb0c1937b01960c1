"""Scores runs of several planes, and their average, on the patients that none has trained on.

    python benchmarks/planes.py --runs=runs/axial,runs/coronal,runs/sagittal
    python benchmarks/planes.py --runs=runs/axial,runs/coronal,runs/sagittal --fold=0 --tta
    python benchmarks/planes.py --runs=runs/axial,runs/coronal,runs/sagittal --cleaning
    python benchmarks/planes.py --runs=runs/all_planes --planes=all --clear_air
    python benchmarks/planes.py --runs=runs/other --planes=all --against=runs/all_planes

The runs must have the same splits; of each fold that all have trained to the end, the networks of
this fold predict its test set. With --planes a run that was trained on several planes
(config.data.other_planes) predicts in each of them.

The first table has, for each run and for the mean of all, the 3D Dice and HD95 of WT, TC and ET
(BraTS 2020's convention): means over the patients of all folds, and the median of HD95. The second
has the gain in Dice of the mean of all over each run, paired by patient, with a bootstrap interval
over patients for the networks as trained.

--against names runs with the same splits that predict in the same planes, for the folds that both
have trained: the first table has their mean as well, and a third one the gain in Dice over it.

--clear_air prints all tables once more, for labels without tumour in air, which needs no fit.

--cleaning prints all tables once more, for labels without tumour in air, small components and small
ET. The sizes of a fold are those that fit the patients of all other folds best. It also prints the
sizes that fit all patients, for `predict --min_component_mm3= --min_et_mm3=`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import rows  # noqa: E402
from brats_jax.errors import BratsError  # noqa: E402
from brats_jax.evaluation import cleaning_fit, several_runs  # noqa: E402
from brats_jax.evaluation.conventions import scores_of  # noqa: E402
from brats_jax.evaluation.held_out_patients import PackedVolume, Volume  # noqa: E402
from brats_jax.evaluation.several_runs import MEAN, FoldLabels  # noqa: E402
from brats_jax.evaluation.tallies import SegmentationTally  # noqa: E402
from brats_jax.inference.postprocess import Cleaning, remove_in_air  # noqa: E402
from brats_jax.reporting.statistics import paired_difference  # noqa: E402
from brats_jax.runs.folder import RunFolder  # noqa: E402
from brats_jax.runtime import devices  # noqa: E402

REGIONS = ("WT", "TC", "ET")
# Title, metric, what stands for the patients, digits.
COLUMNS = (
    ("dice", "dice", np.mean, 3),
    ("hd95_mm", "hd95_mm", np.mean, 1),
    ("median hd95_mm", "hd95_mm", np.median, 1),
)


Values = dict[tuple[str, str], np.ndarray]  # (metric, region) -> a value for each patient


def values_of(tallies: Sequence[SegmentationTally]) -> Values:
    """By (metric, region) the values of the patients of all tallies, one after the other."""
    pooled: dict[tuple[str, str], list[float]] = {}
    for tally in tallies:
        for score in scores_of(tally):
            if score.over == "volumes" and score.convention == "brats2020":
                pooled.setdefault((score.metric, score.of), []).extend(score.values.tolist())
    return {key: np.asarray(values) for key, values in pooled.items()}


def table(found: Mapping[str, Values], planes: Sequence[str]) -> str:
    """The scores of each run and each mean of runs, over the patients, as Markdown."""
    heads = [f"{title} {region}" for title, *_ in COLUMNS for region in REGIONS]
    lines = [f"| run | plane | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for (name, values), plane in zip(found.items(), planes, strict=True):
        cells = [
            f"{over(values[metric, region]):.{digits}f}"
            for _, metric, over, digits in COLUMNS
            for region in REGIONS
        ]
        lines.append(f"| {name} | {plane} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(found: Mapping[str, Values]) -> str:
    """The Dice of the last entry minus that of each other one, as Markdown."""
    *others, last = found
    lines = [f"| Dice of '{last}' minus | WT | TC | ET | mean of the three |", "|---" * 5 + "|"]
    for name in others:
        differences = []
        for regions in (*((region,) for region in REGIONS), REGIONS):
            a, b = (
                np.mean([found[run]["dice", region] for region in regions], axis=0)
                for run in (last, name)
            )
            differences.append(paired_difference(a, b))
        cells = [rows.gain_words(difference) for difference in differences]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


class Waiting:
    """Labels of folds that wait until the sizes of their cleaning are known.

    The sizes of a fold are those that fit the patients of all other folds.
    """

    def __init__(self) -> None:
        self._folds: dict[int, FoldLabels] = {}  # without their volumes
        self._packed: dict[str, dict[int, list[PackedVolume]]] = {}
        self._tables: dict[str, dict[int, list[np.ndarray]]] = {}

    def add(self, fold: int, found: FoldLabels) -> None:
        """Keeps the labels of a fold."""
        self._folds[fold] = found._replace(truths=(), predicted={}, air=())
        for name, predicted in found.predicted.items():
            packed, tables = self._packed.setdefault(name, {}), self._tables.setdefault(name, {})
            packed[fold], tables[fold] = [], []
            for volume in map(Volume, predicted, found.truths, voxel_sizes(found), found.air):
                packed[fold].append(PackedVolume(volume))
                tables[fold].append(cleaning_fit.dice_table(volume))

    def cleaned(self) -> Iterator[tuple[int, FoldLabels]]:
        """(fold, cleaned labels) of each fold; two folds at least are needed."""
        sizes = {name: cleaning_fit.choose_nested(own) for name, own in self._tables.items()}
        for fold, found in self._folds.items():
            predicted, truths = {}, tuple[np.ndarray, ...]()
            for name, packed in self._packed.items():
                volumes = [one.unpacked() for one in packed[fold]]
                truths = tuple(volume.truth for volume in volumes)
                predicted[name] = tuple(
                    sizes[name][fold].apply(volume.prediction, volume.voxel_mm3, volume.air)
                    for volume in volumes
                )
            yield fold, found._replace(truths=truths, predicted=predicted)

    def sizes_of_all(self) -> dict[str, Cleaning]:
        """By run, and of the mean of all, the sizes that fit all patients."""
        return {
            name: cleaning_fit.choose([one for of_fold in own.values() for one in of_fold])
            for name, own in self._tables.items()
        }


def without_air(found: FoldLabels) -> FoldLabels:
    """The labels of a fold without tumour in air."""
    cleared = {
        name: tuple(map(remove_in_air, volumes, found.air))
        for name, volumes in found.predicted.items()
    }
    return found._replace(predicted=cleared)


def voxel_sizes(found: FoldLabels) -> Iterator[tuple[float, float, float]]:
    """Of each patient in mm, in the order of the labels' axes: slices, height, width."""
    for height, width, between in found.spacing_mm:
        yield between, height, width


class Page:
    """The scores of the labels that were added."""

    def __init__(self) -> None:
        self._tallies: dict[str, list[SegmentationTally]] = {}

    def add(self, found: FoldLabels) -> None:
        """Scores the labels of a fold."""
        for name, tally in several_runs.tally(found, tolerance_mm=1.0).items():
            self._tallies.setdefault(name, []).append(tally)

    def values(self) -> dict[str, Values]:
        """Of each run and of the mean of all."""
        return {name: values_of(own) for name, own in self._tallies.items()}


class Scored:
    """Runs whose average is scored on the patients of some folds.

    Args:
      runs: as of the command, with commas.
      options: of the command.
    """

    def __init__(self, runs: str, options: argparse.Namespace) -> None:
        folders = [RunFolder(Path(name)) for name in runs.split(",")]
        self.runs = several_runs.open_runs(folders, devices.data_mesh(), options.planes)
        self.folds = several_runs.common_folds(self.runs)
        self.name = runs
        self.page, self.cleared, self.waiting, self.patients = Page(), Page(), Waiting(), 0
        self._options = options

    def add(self, fold: int) -> tuple[str, ...]:
        """Predicts and scores a fold; returns its patients."""
        found = several_runs.predict(self.runs, fold, tta=self._options.tta)
        self.patients += len(found.patients)
        self.page.add(found)
        if self._options.clear_air:
            self.cleared.add(without_air(found))
        if self._options.cleaning:
            self.waiting.add(fold, found)
        return found.patients

    def clean(self) -> None:
        """Scores the cleaned labels from now on."""
        self.page = Page()
        for _, found in self.waiting.cleaned():
            self.page.add(found)

    def text(self, against: "Scored | None", *, cleared: bool = False) -> str:
        """The tables, as Markdown; `cleared`: of the labels without tumour in air."""
        values = self._page(cleared).values()
        planes = [one.plane for one in self.runs] + ["all"]
        if against is None:
            return f"{table(values, planes)}\n\n{gains(values)}"
        other = {f"{MEAN}, {against.name}": against._page(cleared).values()[MEAN]}
        first = table({**values, **other}, [*planes, "all"])
        return f"{first}\n\n{gains(values)}\n\n{gains({**other, MEAN: values[MEAN]})}"

    def gains_of_clearing(self) -> str:
        """The gain in Dice of removing tumour in air, for each run and the mean, as Markdown."""
        before, after = self.page.values(), self.cleared.values()
        tables = [gains({f"{name}, with it": before[name], name: after[name]}) for name in after]
        return "\n\n".join(tables)

    def _page(self, cleared: bool) -> Page:
        return self.cleared if cleared else self.page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", required=True, help="run folders, with commas")
    parser.add_argument("--planes", default="", help="in which each run predicts: all, or names")
    parser.add_argument("--against", help="run folders, with commas, whose mean is subtracted")
    parser.add_argument("--fold", type=int, help="one fold alone")
    parser.add_argument("--tta", action="store_true", help="average over flips as well")
    parser.add_argument("--clear_air", action="store_true", help="also without tumour in air")
    parser.add_argument("--cleaning", action="store_true", help="also with small parts removed")
    options = parser.parse_args()
    devices.use_compilation_cache("auto")
    try:
        scored = Scored(options.runs, options)
        against = Scored(options.against, options) if options.against else None
        both = [scored, against] if against else [scored]
        if len({one.runs[0].splits.digest for one in both}) > 1:
            raise BratsError("--against: trained on other splits; a patient may be in its training")
        if len({tuple(one.plane for one in each.runs) for each in both}) > 1:
            raise BratsError("--against: predicts in other planes; give --planes=all, or names")
        common = sorted(set.intersection(*(set(one.folds) for one in both)))
        if not common:
            raise BratsError("--against: no complete fold in common")
        if options.fold is not None and options.fold not in common:
            raise BratsError(f"--fold={options.fold}: not trained to the end in all runs")
        wanted = common if options.fold is None else [options.fold]
        if options.cleaning and len(wanted) < 2:
            raise BratsError("--cleaning: sizes are fitted on other folds; it takes two at least")
        for fold in wanted:
            patients = [one.add(fold) for one in both]
            if patients.count(patients[0]) < len(patients):
                raise BratsError(f"--against: fold {fold} has other test patients")
    except BratsError as error:
        sys.exit(f"error: {error}")
    print(scored.text(against))
    if options.clear_air:
        print("\nWithout tumour in air:\n")
        print(scored.text(against, cleared=True), scored.gains_of_clearing(), sep="\n\n")
    if options.cleaning:
        for one in both:
            one.clean()
        print("\nCleaned, with sizes from the patients of the other folds:\n")
        print(scored.text(against), end="\n\n")
        for name, cleaning in scored.waiting.sizes_of_all().items():
            print(f"{name}, sizes from all patients: {cleaning.describe() or 'none'}")
    print(f"{scored.patients} patients; folds {', '.join(map(str, wanted))}")


if __name__ == "__main__":
    main()
