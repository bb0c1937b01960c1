"""Checks over all cases of a store: who is one person, copies, empty labels, exchanged labels."""

import collections
import dataclasses
import itertools
import types
from collections.abc import Callable, Mapping, Sequence

from brats_jax.data.modalities import CLASS_LABELS, CLASSES, DISPLAY_NAMES, MODALITIES
from brats_jax.data.scans.labels import BINARY
from brats_jax.data.scans.persons import person_key, similar_names
from brats_jax.data.store import channel_audit, layout, tissue_audit
from brats_jax.data.store.layout import CaseRecord
from brats_jax.runtime.text import abridged, plural

_MOST_SIGNS = 3  # in a message; the manifest has all


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


def check_set(
    records: Sequence[CaseRecord],
    source_of: Sequence[int] = (),
    known: Mapping[str, str] = types.MappingProxyType({}),
) -> SetFindings:
    """Checks the cases of a store together.

    Args:
      records: of the cases, in the order of the store.
      source_of: the source of each case; none where all are of one.
      known: the person of each case of a store to which sources are added.
    """
    notes: dict[str, list[str]] = collections.defaultdict(list)
    notices: list[str] = []
    subjects = _persons(records, source_of or [0] * len(records), known, notes, notices)
    _note_equal_labels(records, notes, notices)
    _note_empty_labels(records, notes)
    for names in similar_names([(one.patient, subjects[one.patient]) for one in records]):
        notices.append(
            f"taken for different persons: {abridged(names)}; if these are scans of one person, "
            "rename them, e.g. to NAME_time1, NAME_time2, so that no split divides them"
        )
    wrong: dict[str, tuple[str, ...]] = {}
    of_source: dict[int, list[CaseRecord]] = collections.defaultdict(list)
    for one, source in zip(records, source_of or [0] * len(records), strict=True):
        of_source[source].append(one)
    for own in of_source.values():
        wrong |= contradictions(own)
    for name, signs in wrong.items():
        notes[name].append(f"its images contradict its labels or names: {'; '.join(signs)}")
    if wrong:
        notices.append(
            f"{plural(len(wrong), 'case')} of {len(records)} may have exchanged labels or "
            f"modalities; check {abridged(list(wrong))}: {_shown(wrong)}"
        )
    schemes = collections.Counter(one.provenance.get("label_scheme", "") for one in records)
    del schemes[""]
    return SetFindings(
        [subjects[one.patient] for one in records], dict(notes), wrong, notices, dict(schemes)
    )


def contradictions(records: Sequence[CaseRecord]) -> dict[str, tuple[str, ...]]:
    """The signs of exchanged labels or modalities of each case that has some.

    Cases that are too small for the signs of `tissue_audit` are judged by ET over NCR/NET alone.
    """
    found = {}
    for one in records:
        if one.tissue is None:
            continue
        if tissue_audit.is_judged(one.tissue):
            signs = tissue_audit.contradictions(one.tissue)
        else:
            own = channel_audit.judge([one.contrast])
            signs = [channel_audit.finding(own)] if channel_audit.is_clear(one.contrast) else []
        if signs:
            found[one.patient] = tuple(signs)
    return found


def audited(records: Sequence[CaseRecord]) -> list[CaseRecord]:
    """The cases of a source whose channels are audited together.

    These are all but the few that contradict by themselves, if the others do not.
    """
    others = _others(records, contradictions(records))
    return list(records) if _is_contradicted(others) else others


def complaint(records: Sequence[CaseRecord], channel_order: Sequence[str] | None = None) -> str:
    """One line if the cases of a source, apart from a few, contradict their labels or names.

    Args:
      records: the cases.
      channel_order: the channel order of the files, if the user can choose it; else None.
    """
    if binary := _all_binary(records):
        return binary
    wrong = contradictions(records)
    of_all = _others(records, wrong)
    contradicted = _is_contradicted(of_all)
    if contradicted and (channel_order is not None or not wrong):
        audit = channel_audit.judge(one.contrast for one in of_all)
        sums = [one.tissue for one in of_all if one.tissue is not None]
        line = channel_audit.complaint(
            audit,
            channel_order,
            lambda order: _fits(of_all, channel_order or order, order),
            tissue_audit.likely_exchange(tissue_audit.pooled(sums)),
        )
        return f"{line}; see {abridged(list(wrong))}" if wrong else line
    sums = [one.tissue for one in of_all if one.tissue is not None and one.patient not in wrong]
    signs = tissue_audit.contradictions(tissue_audit.pooled(sums))
    judged = _judged(records, wrong)
    if not contradicted and 2 * len(wrong) <= judged and not signs:
        return ""
    if not wrong:
        names = [one.patient for one in of_all if one.tissue is not None]
        where = f"{plural(len(names), 'case')} together ({abridged(names)}): {'; '.join(signs)}"
    else:
        where = (
            f"{plural(len(wrong), 'case')} of {judged} ({abridged(list(wrong))}): {_shown(wrong)}"
        )
    return (
        f"the images contradict the labels or the names of the modalities in {where}; check the "
        "names of the files and the order of the labels (--labels=SCHEME names it), or continue "
        "with --ignore_audit"
    )


def _fits(records: Sequence[CaseRecord], before: Sequence[str], order: Sequence[str]) -> bool:
    """Whether cases that were read in one order of channels would pass every check in another."""
    moved = [MODALITIES.index(before[list(order).index(name)]) for name in MODALITIES]
    read_anew = [
        dataclasses.replace(
            one,
            contrast=channel_audit.reordered(one.contrast, moved),
            tissue=one.tissue and tissue_audit.reordered(one.tissue, moved, range(len(CLASSES))),
        )
        for one in records
    ]
    sums = [one.tissue for one in read_anew if one.tissue is not None]
    wrong = tissue_audit.some_sign_is_wrong(tissue_audit.pooled(sums))
    return not wrong and not complaint(read_anew)


def _all_binary(records: Sequence[CaseRecord]) -> str:
    """One line if the labels of several cases are all 0 and 1, as in a mask; else ''."""
    with_tumour = [one for one in records if one.tumour_sha256 and one.label_kind == CLASS_LABELS]
    names = [one.patient for one in with_tumour if any(n.startswith(BINARY) for n in one.notes)]
    if len(names) < 2 or len(names) < len(with_tumour):
        return ""
    return (
        f"the labels of all {len(names)} cases with tumour are 0 and 1 alone ({abridged(names)}), "
        "as in a mask of the brain or of the whole tumour; give the labels of the classes, leave "
        "the masks out to take the cases as unlabelled, or continue with --ignore_audit"
    )


def _others(records: Sequence[CaseRecord], wrong: Mapping[str, object]) -> list[CaseRecord]:
    """The cases that do not contradict by themselves; all, if most or all do."""
    others = [one for one in records if one.patient not in wrong]
    return others if others and 2 * len(wrong) <= _judged(records, wrong) else list(records)


def _is_contradicted(records: Sequence[CaseRecord]) -> bool:
    audit = channel_audit.judge(one.contrast for one in records)
    return audit.verdict == "contradicted" and not is_undecided(records)


def is_undecided(records: Sequence[CaseRecord]) -> bool:
    """Whether every case of a source is judged by more than ET over NCR/NET, and found right.

    T1Gd of a low-grade tumour may be less bright in ET than T2 or FLAIR.
    """
    tissues = [one.tissue for one in records if one.contrast.slices]
    return all(
        one is not None and tissue_audit.is_judged(one) and not tissue_audit.contradictions(one)
        for one in tissues
    )


def _judged(records: Sequence[CaseRecord], wrong: Mapping[str, object]) -> int:
    """Number of cases with a verdict."""
    return sum(
        one.patient in wrong
        or (one.tissue is not None and tissue_audit.is_judged(one.tissue))
        or channel_audit.judge([one.contrast]).verdict == "confirmed"
        for one in records
    )


def _shown(wrong: Mapping[str, Sequence[str]]) -> str:
    """The exchange of each case in words, the most frequent first; or the signs of the first."""
    likely: dict[str, list[str]] = collections.defaultdict(list)
    for name, signs in wrong.items():
        likely[signs[0] if signs[0].endswith(tissue_audit.EXCHANGED) else ""].append(name)
    first = "; ".join(next(iter(wrong.values()))[:_MOST_SIGNS])
    if len(likely) < 2:
        return first
    groups = sorted(likely.items(), key=lambda item: -len(item[1]))
    return "; ".join(
        f"{words or 'no single exchange'} in {abridged(names)}" for words, names in groups
    )


def _persons(
    records: Sequence[CaseRecord],
    source_of: Sequence[int],
    known: Mapping[str, str],
    notes: dict[str, list[str]],
    notices: list[str],
) -> dict[str, str]:
    """The person of each case.

    One person are cases with an equal image, all cases of their persons, and cases of different
    sources whose names tell one person. They are called as in the first of the sources.
    """
    own = {one.patient: known.get(one.patient, one.subject) for one in records}
    first: dict[str, int] = {}
    for one, source in zip(records, source_of, strict=True):
        first.setdefault(own[one.patient], source)
    joined: dict[str, str] = {}

    def person(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    def join(group: Sequence[CaseRecord]) -> None:
        people = sorted({person(own[one.patient]) for one in group}, key=lambda p: (first[p], p))
        joined.update(dict.fromkeys(people[1:], people[0]))

    across = []
    for group in _groups(records, lambda one: {person_key(one.patient), person_key(one.subject)}):
        sources = {first[own[one.patient]] for one in group}
        if len(sources) > 1 and len({person(own[one.patient]) for one in group}) > 1:
            across.append(group)
            join(group)
    if across:
        names = [one.patient for one in across[0]]
        notices.append(
            f"by their names, {plural(len(across), 'person has', 'persons have')} cases in several "
            f"sources ({abridged(names)}): taken for one person each"
        )
    for group in _groups(records, _image_keys):
        join(group)
        _note_equal_images(group, notes, notices)
    return {one.patient: person(own[one.patient]) for one in records}


def _note_equal_images(
    group: Sequence[CaseRecord], notes: dict[str, list[str]], notices: list[str]
) -> None:
    """Notes copies of a case, and single images that two cases share though others differ."""
    copies: dict[str, list[str]] = collections.defaultdict(list)
    mixed = []
    for one, other in itertools.combinations(group, 2):
        same, differ = _compared(one, other)
        if differ and same:
            mixed.append((one.patient, other.patient, same, differ))
        elif same or _images_hash(one) == _images_hash(other):
            copies[one.patient].append(other.patient)
            copies[other.patient].append(one.patient)
    for name, others in copies.items():
        notes[name].append(f"its images equal those of {abridged(others)}; taken for one person")
    if copies:
        names = [one.patient for one in group if one.patient in copies]
        notices.append(
            f"the images of {abridged(names)} are equal: taken for one person; remove the copies "
            "unless they are meant to count twice"
        )
    for first, second, same, differ in mixed:
        shared = " and ".join(
            f"{own} of {first} and {theirs} of {second} are one image" for own, theirs in same
        )
        rest = f"their {' and '.join(differ)} {'differ' if len(differ) > 1 else 'differs'}"
        text = f"{shared}, {rest}: one of these files is wrong"
        notes[first].append(text)
        notes[second].append(text)
        notices.append(
            f"{text}; find out which, fetch that file again, and keep both cases (until then no "
            "split divides them)"
        )


def _compared(one: CaseRecord, other: CaseRecord) -> tuple[list[tuple[str, str]], list[str]]:
    """The images that are equal in two cases, and the modalities that both have and that differ."""
    ours, theirs = one.image_sha256, other.image_sha256
    same = [
        (DISPLAY_NAMES[a], DISPLAY_NAMES[b])
        for a, b in itertools.product(MODALITIES, repeat=2)
        if a in ours and ours[a] == theirs.get(b)
    ]
    both = [name for name in MODALITIES if name in ours and name in theirs]
    return same, [DISPLAY_NAMES[name] for name in both if ours[name] != theirs[name]]


def _note_equal_labels(
    records: Sequence[CaseRecord], notes: dict[str, list[str]], notices: list[str]
) -> None:
    for group in _equal(records, lambda one: one.tumour_sha256):
        if [len(copies) for copies in _groups(group, _image_keys)] == [len(group)]:
            continue
        names = [one.patient for one in group]
        for name in names:
            others = abridged([other for other in names if other != name])
            notes[name].append(f"its labels equal those of {others}, its images do not")
        notices.append(
            f"the labels of {abridged(names)} are equal, their images are not: one file is a copy "
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


def _image_keys(record: CaseRecord) -> set[str]:
    """Hashes of the images, together and each: a copy may lack some, or have other names."""
    return {*record.image_sha256.values(), _images_hash(record)} - {""}


def _equal(
    records: Sequence[CaseRecord], key: Callable[[CaseRecord], str]
) -> list[list[CaseRecord]]:
    return _groups(records, lambda one: {key(one)} - {""})


def _groups(
    records: Sequence[CaseRecord], keys: Callable[[CaseRecord], set[str]]
) -> list[list[CaseRecord]]:
    """Groups of two and more cases that share a key, also by way of others; in their order."""
    group_of: dict[str, list[int]] = {}
    merged: list[list[int]] = []
    for number, record in enumerate(records):
        own = keys(record)
        found = {id(group_of[key]): group_of[key] for key in own if key in group_of}
        group = sorted([number, *(k for members in found.values() for k in members)])
        for members in found.values():
            merged.remove(members)
        merged.append(group)
        for member in group:
            group_of.update(dict.fromkeys(keys(records[member]), group))
    return [[records[k] for k in group] for group in sorted(merged) if len(group) > 1]
