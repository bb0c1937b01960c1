"""The person of a case, by its name. Scans of one person belong to one set of a split.

    BraTS-GLI-00006-001                        BraTS-GLI-00006      BraTS 2023 and later
    UPENN-GBM-00001_21                         UPENN-GBM-00001
    UCSF-PDGM-0429_FU003d                      UCSF-PDGM-0429
    TCGA-02-0006_1996.08.23                    TCGA-02-0006
    Brats17_TCIA_202_1, Brats18_TCIA01_201_1   TCIA_202, TCIA01_201
    RHUH-0001_2                                RHUH-0001
    sub-01_ses-02, sub-01_run-2                sub-01               BIDS, whatever entities follow
    NAME_time2, NAME-week-044, NAME_followup   NAME

Other names are of one person each. A person with one scan in the data set keeps the name of the
case, except in BraTS 2023 and later.
"""

import collections
import re
from collections.abc import Iterable, Mapping, Sequence

# Since 2023 the last number of a case is that of the visit.
_SINCE_2023 = re.compile(r"(?P<person>BraTS-[A-Za-z]+(?:-RT)?-\d+)-\d{1,3}", re.IGNORECASE)
_TIME = (
    r"(?:time|timepoint|tp|visit|session|ses|scan|exam|study|day|week|month|year|fu|followup)"
    r"[_-]?\d+[a-z]?(?:[_-]\d+)?"
)
_MOMENT = (
    r"(?:baseline|initial|follow[_-]?up|progression|recurrence"
    r"|(?:pre|post)(?:[_-]?(?:op|treatment))?)\d*"
)
_YEAR = r"(?:19|20)\d\d"
_MONTH, _DAY = r"(?:0\d|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = rf"(?:{_YEAR}[.-]?\d\d[.-]?\d\d)"
_PERSONS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"(?P<person>UPENN-GBM-\d+)_\d+",
        r"(?P<person>UCSF-PDGM-\d+)_(?:FU\d+d?(?:_nifti)?|nifti)",
        r"(?P<person>RHUH-\d+)_\d+",
        r"(?P<person>TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4})[-_].+",
        r"(?:Brats1[789]_)(?P<person>(?:TCIA\d*|CBICA|2013|TMC\d*)_[A-Z0-9]+)_\d",
        r"(?P<person>sub-[A-Z0-9]+)(?:[_-]ses|_(?!sub|case|pat|id|site)[A-Z]+)-[A-Z0-9]+(?:_.*)?",
        rf"(?P<person>.+?)[_-](?:{_TIME}|{_MOMENT}|{_DATE})",
    )
)
# A short last number, or a letter, after a name that ends with a number.
_MAYBE_VISIT = re.compile(
    r"(?P<stem>.*\d)(?:[_-](?:\d{1,2}|[A-Za-z])|(?P<letter>[A-Za-z]))", re.DOTALL
)
# 0001-000 and 0001-001. A long row of such numbers counts cases.
_MAYBE_LONG_VISIT = re.compile(r"(?P<stem>.*\d{3})[_-]\d{3}", re.DOTALL)
_MOST_VISITS = 12
# Words for a moment that are too short, too rare, or too freely joined, to decide by themselves.
_ALSO_TIME = (
    r"(?:time|time[\s_.-]?point|tp|visit|session|ses|scan|exam|day|week|month|year|fu|follow-?up"
    r"|cycle|fraction|fx|course|round|wave|run|acq|mri|examination|appointment)"
    r"[\s_.-]*\d+[a-z]?"
)
_ALSO_MOMENT = (
    r"(?:re-?scan|re-?test|test|repeat(?:ed)?|copy|initial|final|first|second|third|last|early|late"
    r"|before|after|new|old)[\s_.-]?\d*"
)
_ALSO_DATE = (
    rf"(?:{_DAY}{_MONTH}|{_MONTH}{_DAY}){_YEAR}|{_YEAR}[\s_.-]{_MONTH}(?:[\s_.-]?{_DAY})?"
    rf"|\d{{1,2}}[\s_.-]\d{{1,2}}[\s_.-]{_YEAR}|(?:\d{{1,2}}[\s_.-]?)?"
    rf"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[\s_.-]?{_YEAR}"
)
_SURE = (
    rf"[\s_.-]+(?:{_ALSO_MOMENT}|{_ALSO_DATE})"
    rf"|(?<=\d)[\s_.-]+(?:{_YEAR}|{_DAY}{_MONTH}\d\d|\d\d{_MONTH}{_DAY})"
    rf"|[\s_.-]*(?:{_TIME}|{_ALSO_TIME})(?:[_-]v\d+)?"
)
_MOMENT_LAST = re.compile(rf"(?P<stem>.+?)(?:{_SURE})", re.IGNORECASE | re.DOTALL)
_MAYBE_MOMENT = re.compile(
    r"(?P<stem>.+?)(?:"
    r"[\s_.-]+(?:(?:mr|mri|scan)[\s_.-]*)?(?:v|s|d|w|m|t|mr|mri)\d{1,4}"
    r"|[\s_.-]+\d{1,2}(?:st|nd|rd|th)"
    r"|[\s_.-]+(?:pre|post|intra)[a-z]*"
    r"|[\s_.-]*\(\d{1,3}\)"
    rf"|{_SURE})",
    re.IGNORECASE | re.DOTALL,
)
_MOMENT_FIRST = re.compile(
    rf"(?:{_ALSO_TIME}|{_MOMENT}|re-?scan)[\s_.-]+(?P<stem>.*\d.*)", re.IGNORECASE | re.DOTALL
)
# The releases number their cases alike: 2017 to 2019 those of TCIA, 2021 and 2023 all.
_RELEASES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<release>Brats1[789])_TCIA\d*_(?P<number>\d+)_\d+",
        r"(?P<release>BraTS2021|BraTS-GLI)[_-](?P<number>\d{5})(?:-\d{3})?",
    )
)


def subject_of(case: str) -> str:
    """The person of a case: 'BraTS-GLI-00006-001' -> 'BraTS-GLI-00006', others unchanged."""
    for pattern in (_SINCE_2023, *_PERSONS):
        if found := pattern.fullmatch(case):
            return found["person"]
    return case


def person_key(case: str) -> str:
    """Equal for cases of one person in different data sets: without case and separators.

    E.g. TCGA_CS_4941_19960909 and TCGA-CS-4941 are 'tcga-cs-4941'.
    """
    return re.sub(r"[\s_.-]+", "-", subject_of(case)).lower()


def subjects_of(cases: Iterable[str]) -> Mapping[str, str]:
    """The person of each case of a data set; a person with one case is called like the case."""
    names = list(cases)
    count = collections.Counter(subject_of(name).lower() for name in names)
    first: dict[str, str] = {}
    found = {}
    for name in names:
        person = subject_of(name)
        alone = count[person.lower()] == 1 and not _SINCE_2023.fullmatch(name)
        found[name] = name if alone else first.setdefault(person.lower(), person)
    return found


def similar_names(cases: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Groups of cases that may be scans of one person, but are taken for several.

    Args:
      cases: (case, person).

    Returns:
      The cases of each group, whose names differ in a short last number, a letter, a word or date
      that may tell a moment, or in the release alone.
    """
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for case, person in cases:
        groups.setdefault(_kind_and_stem(case), []).append((case, person))
        for number, release in enumerate(_RELEASES):
            if found := release.fullmatch(case):
                groups.setdefault((f"release {number}", found["number"]), []).append((case, person))
    similar = []
    for (kind, _), group in groups.items():
        names = [case for case, _ in group]
        long_row = kind == "long" and len(group) > _MOST_VISITS
        one_release = kind.startswith("release") and not _are_of_releases(names)
        several = len({person for _, person in group}) > 1
        if several and not (long_row or one_release or names in similar):
            similar.append(names)
    return similar


def _kind_and_stem(case: str) -> tuple[str, str]:
    """(kind, stem): the part of a case's name that other scans of its person may share."""
    name, before, pattern = case, "", _MAYBE_MOMENT
    while name != before:
        before = name
        person = subject_of(name)
        found = pattern.fullmatch(person) or _MOMENT_FIRST.fullmatch(person)
        name = found["stem"] if found else person
        if name != before:
            pattern = _MOMENT_LAST  # a second short word, such as W02, is part of the name
    if name == case and (found := _MAYBE_VISIT.fullmatch(case)):
        name = found["stem"]
    elif name == case and (found := _MAYBE_LONG_VISIT.fullmatch(case)):
        return "long", found["stem"].lower()
    alike = re.sub(r"(?<!\d)0+(?=\d)", "", name)  # sub-1 and sub-01
    return "", re.sub(r"[\s_.-]+", "-", alike).lower()


def _are_of_releases(names: Sequence[str]) -> bool:
    """Whether cases of one number are of several releases."""
    found = (pattern.fullmatch(name) for name in names for pattern in _RELEASES)
    return len({match["release"].lower() for match in found if match}) > 1
