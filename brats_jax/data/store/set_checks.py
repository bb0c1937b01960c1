"""Checks over all cases of a store: who is one person, copies, empty labels, exchanged labels."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

from brats_jax.data.scans.persons import similar_names
from brats_jax.data.store import layout, tissue_audit
from brats_jax.data.store.layout import CaseRecord
from brats_jax.runtime.text import plural

_NAMED = 5  # cases in one line


@dataclasses.dataclass
class SetFindings:
    """The results.

    Attributes:
      subjects: the person of each case, in the order of the cases.
      notes: lines on single cases, by case.
      contradictions: signs of exchanged labels or modalities, by case.
      notices: lines on the whole set.
      label_schemes: number of cases by label scheme.
    """

    subjects: list[str]
    notes: dict[str, list[str]]
    contradictions: dict[str, tuple[str, ...]]
    notices: list[str]
    label_schemes: dict[str, int]


def check_set(records: Sequence[CaseRecord]) -> SetFindings:
    """Checks the cases of a store together."""
    notes: dict[str, list[str]] = collections.defaultdict(list)
    notices: list[str] = []
    subjects = _join_copies(records, notes, notices)
    _note_equal_labels(records, notes, notices)
    _note_empty_labels(records, notes)
    for names in similar_names([(one.patient, subjects[one.patient]) for one in records]):
        notices.append(
            f"taken for different persons: {_listed(names)}; if these are scans of one person, "
            "rename them, e.g. to NAME_time1, NAME_time2, so that no split divides them"
        )
    wrong = contradictions(records)
    for name, signs in wrong.items():
        notes[name].append(f"its images contradict its labels or names: {'; '.join(signs)}")
    if wrong:
        notices.append(
            f"{plural(len(wrong), 'case')} of {len(records)} may have exchanged labels or "
            f"modalities; check {_listed(list(wrong))}: " + "; ".join(next(iter(wrong.values())))
        )
    schemes = collections.Counter(one.provenance.get("label_scheme", "") for one in records)
    del schemes[""]
    return SetFindings(
        [subjects[one.patient] for one in records], dict(notes), wrong, notices, dict(schemes)
    )


def contradictions(records: Sequence[CaseRecord]) -> dict[str, tuple[str, ...]]:
    """The signs of exchanged labels or modalities of each case that has some."""
    found = {
        one.patient: tuple(tissue_audit.contradictions(one.tissue))
        for one in records
        if one.tissue is not None
    }
    return {name: signs for name, signs in found.items() if signs}


def common_contradiction(records: Sequence[CaseRecord]) -> str:
    """One line if most cases, or all pooled, contradict their labels or names; else empty."""
    sums = [one.tissue for one in records if one.tissue is not None]
    judged = sum(tissue_audit.is_judged(one) for one in sums)
    wrong = contradictions(records)
    signs = tissue_audit.contradictions(tissue_audit.pooled(sums))
    if not wrong or (2 * len(wrong) <= judged and not signs):
        return ""
    return (
        f"the images contradict the labels or the names of the modalities in "
        f"{plural(len(wrong), 'case')} of {judged} ({_listed(list(wrong))}): "
        f"{'; '.join(signs or next(iter(wrong.values())))}; check the names of the files and the "
        "order of the labels (--labels=SCHEME names it), or continue with --ignore_audit"
    )


def _join_copies(
    records: Sequence[CaseRecord], notes: dict[str, list[str]], notices: list[str]
) -> dict[str, str]:
    """The person of each case; cases with equal images, and their persons, are one person."""
    joined: dict[str, str] = {}

    def person(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    for group in _equal(records, _images_hash):
        names = [one.patient for one in group]
        people = sorted({person(one.subject) for one in group})
        joined.update(dict.fromkeys(people[1:], people[0]))
        for one in group:
            others = [name for name in names if name != one.patient]
            notes[one.patient].append(
                f"its images equal those of {_listed(others)}; taken for one person"
            )
        notices.append(
            f"the images of {_listed(names)} are equal: taken for one person; remove the copies "
            "unless they are meant to count twice"
        )
    return {one.patient: person(one.subject) for one in records}


def _note_equal_labels(
    records: Sequence[CaseRecord], notes: dict[str, list[str]], notices: list[str]
) -> None:
    for group in _equal(records, lambda one: one.tumour_sha256):
        if len({_images_hash(one) for one in group}) < 2:
            continue
        names = [one.patient for one in group]
        for name in names:
            others = _listed([other for other in names if other != name])
            notes[name].append(f"its labels equal those of {others}, its images do not")
        notices.append(
            f"the labels of {_listed(names)} are equal, their images are not: one file is a copy "
            "of another case's labels; fetch the right one"
        )


def _note_empty_labels(records: Sequence[CaseRecord], notes: dict[str, list[str]]) -> None:
    with_tumour = sum(bool(one.tumour_sha256) for one in records)
    for one in records:
        # Cases of version 0.1.0 have neither field.
        if one.tissue is not None and not one.tumour_sha256 and with_tumour:
            notes[one.patient].append(
                f"its labels are empty, those of {plural(with_tumour, 'other case')} are not"
            )


def _images_hash(record: CaseRecord) -> str:
    entry = record.files.get(layout.case_files(record.patient)[0])
    return entry.sha256 if entry is not None else ""


def _equal(
    records: Sequence[CaseRecord], key: Callable[[CaseRecord], str]
) -> list[list[CaseRecord]]:
    groups: dict[str, list[CaseRecord]] = {}
    for record in records:
        if value := key(record):
            groups.setdefault(value, []).append(record)
    return [group for group in groups.values() if len(group) > 1]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
