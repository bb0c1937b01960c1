"""Words of every caption: test set, patients, slices, split, folds and seeds."""

from collections.abc import Iterable, Sequence

from brats_jax.reporting.arms import EvaluatedStage, Key, Results
from brats_jax.runs.averaged_label import averaged_label
from brats_jax.runtime.text import joined

ALL, TUMOUR = "all slices", "tumour slices"
SLICES_KEY: Key = ("slice", "all slices", "ED", "in_truth", "")


def test_set(measured: Iterable[EvaluatedStage]) -> str:
    """'55 patients, 8,525 slices, split by patient'; '' without any evaluation.

    In a cross-validation the test sets of the folds are counted together.
    """
    group = list(measured)
    if not group:
        return ""
    patients, slices = _over_folds(group)
    crossed = any(one.cross_validates for one in group)
    once = " (cross-validation: each tested once)" if crossed else ""
    chosen = {one.evaluation.slices for one in group}
    kind = " (with tumour in some runs, all in others)"
    if len(chosen) == 1:
        kind = "" if chosen == {"all"} else " with tumour"
    split = joined(sorted({one.evaluation.split_by for one in group}))
    leak = "" if split == "patient" else ", the same patients in training and test"
    return (
        f"{_range(patients)} {'patient' if patients == {1} else 'patients'}{once}, "
        f"{_range(slices)} slices{kind}, split by {split}{leak}{_averaged(group)}"
    )


def _averaged(group: Sequence[EvaluatedStage]) -> str:
    """', predictions averaged over flips'; '' where none are."""
    labels = {
        averaged_label(
            one.evaluation.tta,
            one.evaluation.planes if one.stage == "segment" else "",
            ", ",
        )
        for one in group
    }
    some = " in some runs" * (len(labels) > 1)
    return "".join(label + some for label in sorted(labels) if label)


def least_patients(measured: Iterable[EvaluatedStage]) -> int | None:
    """The least number of test patients of a training, or of all folds of a cross-validation."""
    group = list(measured)
    return min(_over_folds(group)[0]) if group else None


def _over_folds(group: Sequence[EvaluatedStage]) -> tuple[set[int], set[int]]:
    """Numbers of patients and of slices of the trainings; over the folds of cross-validations."""
    of_runs: dict[object, dict[int, tuple[int, int]]] = {}
    for number, one in enumerate(group):
        name = (one.run.name, one.stage) if one.cross_validates else number
        counts = one.evaluation.patients, count_slices(one)
        of_runs.setdefault(name, {})[one.fold] = counts
    patients, slices = set(), set()
    for folds in of_runs.values():
        patients.add(sum(count for count, _ in folds.values()))
        slices.add(sum(count for _, count in folds.values()))
    return patients, slices


def all_slices(measured: Iterable[EvaluatedStage]) -> bool:
    """Whether every slice of the test patients was evaluated; the paper's average needs that."""
    group = list(measured)
    return bool(group) and all(one.evaluation.slices == "all" for one in group)


def trained(group: Sequence[EvaluatedStage]) -> str:
    """The slices that the pretraining trained on."""
    return TUMOUR if {one.run.pretraining_slices for one in group} == {"tumour"} else ALL


def slices_of_pretraining(group: Sequence[EvaluatedStage]) -> tuple[str, str]:
    """(the slices beside the paper's numbers, the others or ''): first those trained on."""
    if not all_slices(group):
        return TUMOUR, ""
    first = trained(group)
    return first, ALL if first == TUMOUR else TUMOUR


def over(measured: Iterable[EvaluatedStage], whose: str = "Ours") -> str:
    """'Ours: test set of 55 patients, 8,525 slices, split by patient; mean over 5 folds.'"""
    group = list(measured)
    tested = test_set(group)
    return f"{whose}: test set of {tested}; {repeats(group)}." if group else ""


def repeats(group: Sequence[EvaluatedStage]) -> str:
    """'mean over folds 0 to 4 and 2 seeds', 'fold 0 alone'.

    Where not every fold has every seed, the number of trainings follows.
    """
    folds = sorted({one.fold for one in group})
    seeds = {one.seed for one in group}
    many = f" and {len(seeds)} seeds" if len(seeds) > 1 else ""
    done, every = len({(one.fold, one.seed) for one in group}), len(folds) * len(seeds)
    if done < every:
        many += f" ({done} of {every} trainings)"
    elif _arms_differ(group):
        many += " (not in every arm)"
    if len(folds) == 1:
        return f"fold {folds[0]}{many if many else ' alone'}"
    return f"mean over {fold_names(folds)}{many}"


def _arms_differ(group: Sequence[EvaluatedStage]) -> bool:
    """Whether the arms of a group have other folds or seeds than each other."""
    runs: dict[object, set[tuple[int, int]]] = {}
    for one in group:
        run = getattr(one, "run", None)
        if run is not None:
            runs.setdefault((run.loss, run.ssl, run.fraction, run.label_patients), set()).add(
                (one.fold, one.seed)
            )
    return len({frozenset(own) for own in runs.values()}) > 1


def trainings(group: Sequence[EvaluatedStage]) -> str:
    """'5', or '3 of 5' where the runs were asked for more folds than are evaluated."""
    done = {(one.fold, one.seed) for one in group}
    asked = {(fold, one.seed) for one in group for fold in one.run.requested_folds}
    every = len(done | asked)
    return f"{len(done)}" if len(done) == every else f"{len(done)} of {every}"


def pretraining_name(results: Results, variant: str) -> str:
    """The settings of one of several pretrainings, or its runs where it has no such settings."""
    return variant or joined(sorted({one.run.name for one in results.pretrainings[variant]}))


def start_of_ssl(results: Results, variant: str) -> str:
    """' The SSL runs started from another pretraining: decoder unet.'

    A reader would else take the pretraining shown, `variant`, for theirs. '' if there is one only.
    """
    if len(results.pretrainings) < 2 or not results.segmented_from:
        return ""
    others = sorted(results.segmented_from - {variant})
    if not others:
        return " The SSL runs started from this pretraining."
    runs = "Some SSL runs" if variant in results.segmented_from else "The SSL runs"
    named = [pretraining_name(results, x) for x in others if x or x in results.pretrainings]
    kind = "another pretraining" if len(others) == 1 else "other pretrainings"
    return f" {runs} started from {kind}{f': {joined(named)}' if named else ''}."


def fold_names(folds: Sequence[int]) -> str:
    """'folds 0 to 4', 'folds 0 and 2', as the run folders number them."""
    names = [str(f) for f in sorted(folds)]
    if len(names) == 1:
        return f"fold {names[0]}"
    if len(names) > 2 and int(names[-1]) - int(names[0]) == len(names) - 1:
        return f"folds {names[0]} to {names[-1]}"
    return f"folds {joined(names)}"


def these_only(trainings: int) -> str:
    """'for these 2 trainings only'; the trainings are those of each arm."""
    return "for this training only" if trainings == 1 else f"for these {trainings:,} trainings only"


def count_slices(one: EvaluatedStage) -> int:
    """Number of slices evaluated; 0 where the evaluation does not record it."""
    if SLICES_KEY in one.rows:
        return one.rows[SLICES_KEY][1]
    return max((count for key, (_, count) in one.rows.items() if key[0] == "slice"), default=0)


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
