"""Exchanges modalities or labels of real cases, and counts which cases the audit names.

    python benchmarks/reliability/exchanges.py FOLDER [FOLDER ...]  # of BraTS cases
    python benchmarks/reliability/exchanges.py FOLDER --slices=16   # of excerpts

Every case is read once for each normalisation. Each pair of modalities, and each order of the three
classes, is then exchanged in one case of all, in one case of three (it and the next two), and in
all cases. The audit of the preparation judges the set. Prints a table in Markdown: how often it
named the exchanged cases and no other, named the exchange as well, named another case, refused
without a name, and noticed nothing. Exits with 1 if it accuses a case without an exchange.
"""

import argparse
import collections
import dataclasses
import functools
import itertools
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from brats_jax.data import crops  # noqa: E402
from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES  # noqa: E402
from brats_jax.data.normalise import normalise_crops  # noqa: E402
from brats_jax.data.sources.detect import open_source  # noqa: E402
from brats_jax.data.store import set_checks  # noqa: E402
from brats_jax.data.store.channel_audit import ContrastSums, contrast_sums  # noqa: E402
from brats_jax.data.store.tissue_audit import TissueSums, tissue_sums  # noqa: E402

NONE = "none"
OUTCOMES = ("named", "exchange", "other", "nameless", "unnoticed")


@dataclasses.dataclass(frozen=True)
class Audited:
    """The sums over a case that the audit compares."""

    patient: str
    contrast: ContrastSums
    tissue: TissueSums


def exchanges() -> dict[str, tuple[list[int], list[int]]]:
    """The order of modalities and classes of every exchange, by name; and `NONE`."""
    found = {NONE: ([0, 1, 2, 3], [0, 1, 2, 3])}
    for one, other in itertools.combinations(range(len(MODALITIES)), 2):
        order = list(range(len(MODALITIES)))
        order[one], order[other] = other, one
        names = [DISPLAY_NAMES[MODALITIES[k]] for k in (one, other)]
        found[" and ".join(names)] = (order, [0, 1, 2, 3])
    for classes in itertools.permutations((1, 2, 3)):
        moved = [CLASSES[k] for k in (1, 2, 3) if classes[k - 1] != k]
        if moved:
            name = f"{', '.join(moved[:-1])} and {moved[-1]}"
            name = f"{name} ({'-'.join(map(str, classes))})" if len(moved) == 3 else name
            found[name] = ([0, 1, 2, 3], [0, *classes])
    return found


def versions_of(
    place: tuple[str, str], normalisation: str, slices: int
) -> tuple[str, dict[str, Audited]]:
    """A case after every exchange that changes it.

    Args:
      place: its folder and name.
      normalisation: of `normalise.NORMALISATIONS`.
      slices: number of slices around the middle of the tumour; 0 for all.
    """
    folder, name = place
    case = open_source(folder).read(name)
    assert case.labels is not None
    images, labels = case.images, case.labels
    if slices:
        middle = int(np.median(np.flatnonzero(labels.any(axis=(1, 2)))))
        first = max(0, min(middle - slices // 2, len(labels) - slices))
        images, labels = images[first : first + slices], labels[first : first + slices]
    whole = normalise_crops(images, normalisation).widened(crops.boxes_of(labels != 0))
    label = crops.cut(labels, whole.boxes)
    found = {}
    for words, (order, classes) in exchanges().items():
        moved = np.array(classes, np.uint8)[label]
        if words != NONE and order == [0, 1, 2, 3] and np.array_equal(moved, label):
            continue
        own = dataclasses.replace(
            whole, background=whole.background[:, order], pixels=whole.pixels[:, order]
        )
        contrast = contrast_sums(own.boxed(), crops.split(moved, own.boxes))
        found[words] = Audited(name, contrast, tissue_sums(own, moved))
    return name, found


def outcome(cases: Sequence[Audited], exchanged: set[str], words: str) -> set[str]:
    """The outcomes of an audit of cases of which some are exchanged."""
    records: Any = cases
    complaint = set_checks.complaint(records)
    signs = set_checks.contradictions(records)
    named = set(signs)
    if named - exchanged:
        return {"other"}
    if named:
        right = all(signs[name][0] == f"{words.split(' (')[0]} look exchanged" for name in named)
        if named == exchanged:
            return {"named", "exchange"} if right else {"named"}
        # Some of a set of exchanged cases: the set is refused, or it is not noticed.
        return {"named"} if complaint else {"unnoticed"}
    return {"nameless"} if complaint else {"unnoticed"}


def trials_of(
    which: str, names: Sequence[str], concerned: Sequence[str]
) -> Iterator[tuple[Sequence[str], set[str]]]:
    """(cases of a set, those of them that are exchanged) of each trial.

    Args:
      which: 'one of all', 'one of three' or 'all'.
      names: all cases.
      concerned: those that the exchange changes.
    """
    if which == "all":
        yield names, set(concerned)
        return
    for name in concerned:
        at = names.index(name)
        three = [names[(at + k) % len(names)] for k in range(3)]
        yield three if which == "one of three" else names, {name}


def count(versions: dict[str, dict[str, Audited]], judge: Callable[..., set[str]]) -> int:
    """Prints the table; returns the number of cases that are accused without an exchange."""
    names = list(versions)
    right = {name: versions[name][NONE] for name in names}
    accused = [name for name in names if judge([right[name]], set(), NONE) != {"unnoticed"}]
    if judge(list(right.values()), set(), NONE) != {"unnoticed"}:
        accused.append("the whole set")
    print(f"accused without an exchange: {', '.join(accused) or 'none'} (of {len(names)})\n")
    print(
        "| exchange | set | trials | named | and the exchange | other named | no name | unnoticed |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    totals: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def row(words: str, which: str, found: collections.Counter[str]) -> None:
        values = " | ".join(str(found[key]) for key in ("trials", *OUTCOMES))
        print(f"| {words} | {which} | {values} |", flush=True)

    for words in exchanges():
        concerned = [name for name in names if words in versions[name]]
        if words == NONE or not concerned:
            continue
        for which in ("one of all", "one of three", "all"):
            found: collections.Counter[str] = collections.Counter()
            for members, exchanged in trials_of(which, names, concerned):
                cases = [
                    versions[name][words] if name in exchanged else right[name] for name in members
                ]
                found.update(judge(cases, exchanged, words))
                found["trials"] += 1
            row(words, which, found)
            totals[which].update(found)
    for which, found in totals.items():
        row("together", which, found)
    return len(accused)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", help="folders of BraTS cases")
    parser.add_argument("--slices", type=int, default=0, help="slices of an excerpt; 0 for all")
    parser.add_argument("--normalisations", default="slice,volume")
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args()
    places = [(one, name) for one in flags.folders for name in open_source(one).patients()]
    accused = 0
    for normalisation in flags.normalisations.split(","):
        read = functools.partial(versions_of, normalisation=normalisation, slices=flags.slices)
        with multiprocessing.get_context("spawn").Pool(flags.workers) as pool:
            versions = dict(pool.imap(read, places))
        print(f"\n{len(places)} cases, normalisation {normalisation}")
        accused += count(versions, outcome)
    return int(accused > 0)


if __name__ == "__main__":
    sys.exit(main())
