"""The table that a preparation prints at its end."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

from brats_jax.data.modalities import (
    CLASS_LABELS,
    CLASSES,
    DISPLAY_NAMES,
    MODALITIES,
    WHOLE_TUMOUR,
    display_list,
)
from brats_jax.data.planes import AXIAL
from brats_jax.data.sources.joined import descriptions_in
from brats_jax.data.store import channel_audit
from brats_jax.data.store.layout import MANIFEST, Manifest, StoreSummary
from brats_jax.runtime.text import escaped_line, plural

_MAX_NOTES = 5  # of the hundreds that a whole release may have


def summary_table(store: str | os.PathLike[str], manifest: Manifest) -> str:
    """Patients, slices, classes, audit and normalisation of a store, as text."""
    summary = manifest.summary
    how = {
        "slice": "z-score, per slice and modality, over all pixels",
        "volume": "z-score, per volume and modality, over the brain; background 0",
        "robust": "median and interquartile range, per volume and modality, over the brain; "
        "background 0",
    }[manifest.normalisation]
    height, width = manifest.slice_shape
    people = summary.subjects
    same = (
        ""
        if people == summary.patients
        else f" ({plural(people, 'person', 'people')}, scanned more than once)"
    )
    rows = [
        ("store", f"{os.fspath(store)} ({summary.bytes / 1e9:.2f} GB)"),
        *_sources(manifest),
        ("patients", f"{summary.patients:,}{same}"),
        *[(name, text) for name, text in kinds_of_patients(manifest).items()],
        (
            "slices",
            f"{summary.slices:,} of {height} x {width}, "
            + f"{manifest.plane}, " * (manifest.plane != AXIAL)
            + f"{summary.tumour_slices:,} with tumour"
            + (" by labels" if manifest.label_kinds else ""),
        ),
        *_holes(summary),
        ("modalities", display_list(manifest.modalities)),
        (
            "normalisation",
            f"{manifest.normalisation}: clip at the {manifest.percentile}th percentile, {how}",
        ),
        ("channel audit", channel_audit.describe(manifest.audit)),
    ]
    for scheme, count in manifest.label_schemes.items():
        rows.append(("labels", f"{scheme} in {plural(count, 'case')}"))
    if manifest.contradictions:
        rows.append(("CONTRADICTED", f"by the images of {', '.join(manifest.contradictions)}"))
    if manifest.read_as:
        first, axes = next(iter(manifest.read_as.items()))
        settled = ", ".join(f"{name} as {codes}" for name, codes in axes.items())
        cases = plural(len(manifest.read_as), "case")
        rows.append(
            ("orientation", f"settled for {cases} (notes in {MANIFEST}): {first}: {settled}")
        )
    lines = [f"{name:<14} {value}" for name, value in rows]
    lines.append("")
    tumour = sum(summary.pixels_per_class[1:])
    labelled = summary.slices if summary.labelled_slices is None else summary.labelled_slices
    if labelled != summary.slices:
        lines.append(f"in the {plural(labelled, 'slice')} of patients with labels:")
    lines.append(f"{'class':<14} {'slices':>10} {'of all':>8} {'pixels':>15} {'of tumour':>10}")
    for index, name in enumerate(CLASSES):
        slices, pixels = summary.slices_per_class[index], summary.pixels_per_class[index]
        share = f"{pixels / tumour:.1%}" if index and tumour else ""
        lines.append(
            f"{name:<14} {slices:>10,} {slices / max(1, labelled):>8.1%} {pixels:>15,} {share:>10}"
        )
    if notes := manifest.notes:
        lines += ["", f"notes on {plural(len(notes), 'case')} (all of them in {MANIFEST}):"]
        lines += _notes(notes)
    if manifest.skipped:
        lines += ["", f"left out {plural(len(manifest.skipped), 'bad case')}:"]
        lines += [f"  {name}: {reason}" for name, reason in manifest.skipped.items()]
    return "\n".join(map(escaped_line, lines))


def _notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """First each sentence of several cases, once with their number; then the cases with others."""
    cases = collections.Counter(note for own in notes.values() for note in dict.fromkeys(own))
    shared = [f"{plural(count, 'case')}: {note}" for note, count in cases.items() if count > 1]
    others = {name: [note for note in own if cases[note] == 1] for name, own in notes.items()}
    single = [f"{name}: {'; '.join(own)}" for name, own in others.items() if own]
    return [f"  {line}" for line in (*shared[:_MAX_NOTES], *single[:_MAX_NOTES])]


def count_kinds(manifest: Manifest) -> dict[str, int]:
    """Patients and persons with class labels, without, and without some modality.

    Returns:
      'labelled', 'labelled_persons', 'unlabelled', ... and 'whole_tumour', of the unlabelled those
      with a mask; empty where all patients have class labels and all modalities.
    """
    if not manifest.label_kinds and not manifest.present:
        return {}
    kinds = manifest.label_kinds or (CLASS_LABELS,) * len(manifest.patients)
    present = manifest.present or (MODALITIES,) * len(manifest.patients)
    rows = list(zip(kinds, present, manifest.subjects, strict=True))
    found: dict[str, int] = {}
    for name, chosen in (
        ("labelled", [person for kind, _, person in rows if kind == CLASS_LABELS]),
        ("unlabelled", [person for kind, _, person in rows if kind != CLASS_LABELS]),
        ("partial", [person for _, own, person in rows if own != MODALITIES]),
    ):
        found |= {name: len(chosen), f"{name}_persons": len(set(chosen))}
    return {**found, "whole_tumour": kinds.count(WHOLE_TUMOUR)}


def kinds_of_patients(manifest: Manifest) -> dict[str, str]:
    """The same in words, by 'labelled', 'unlabelled' and 'partial'."""
    counts = count_kinds(manifest)
    found = {
        name: f"{counts[name]:,}"
        + (
            ""
            if counts[name] == counts[f"{name}_persons"]
            else f" ({plural(counts[f'{name}_persons'], 'person')})"
        )
        for name in ("labelled", "unlabelled", "partial")
        if counts
    }
    if counts.get("whole_tumour"):
        masks = counts["whole_tumour"]
        found["unlabelled"] += f", {masks:,} of them with a mask of the whole tumour"
    lacking = collections.Counter(
        tuple(name for name in MODALITIES if name not in own) for own in manifest.present
    )
    del lacking[()]
    if lacking:
        each = "; ".join(
            f"{count:,} without {' and '.join(DISPLAY_NAMES[n] for n in names)}"
            for names, count in lacking.most_common()
        )
        found["partial"] += f": {each}"
    return found


def _sources(manifest: Manifest) -> list[tuple[str, str]]:
    """A row for each source; with its number of patients if there are several."""
    rows = []
    descriptions = descriptions_in(manifest.source)
    of = manifest.source_of or (0,) * len(manifest.patients)
    for number, source in enumerate(descriptions):
        kind = source.pop("kind")
        details = ", ".join(f"{name} {_plain(value)}" for name, value in source.items())
        count = plural(of.count(number), "patient") + " of " if len(descriptions) > 1 else ""
        rows.append(("source", f"{count}{kind}: {details}"))
    return rows


def _holes(summary: StoreSummary) -> list[tuple[str, str]]:
    """A row on volumes that lack slices, if there are any."""
    if not summary.with_holes:
        return []
    return [
        (
            "not whole",
            f"{summary.with_holes} of {plural(summary.patients, 'volume')}: slices are missing; "
            "left out of scores of volumes and of scores over all slices",
        )
    ]


def _plain(value: Any) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
