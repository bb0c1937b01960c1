"""Who is one person, by the names of cases. Scans of one person belong to one set of a split.

    BraTS-GLI-00006-001                        BraTS-GLI-00006      BraTS 2023 and later
    UPENN-GBM-00001_21                         UPENN-GBM-00001
    UCSF-PDGM-0429_FU003d                      UCSF-PDGM-0429
    TCGA-02-0006_1996.08.23                    TCGA-02-0006
    Brats17_TCIA_202_1, Brats18_TCIA01_201_1   TCIA_202, TCIA01_201
    RHUH-0001_2                                RHUH-0001
    sub-01_ses-02                              sub-01               BIDS
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
_DATE = r"(?:(?:19|20)\d\d[.-]?\d\d[.-]?\d\d)"
_PERSONS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"(?P<person>UPENN-GBM-\d+)_\d+",
        r"(?P<person>UCSF-PDGM-\d+)_FU\d+d?",
        r"(?P<person>RHUH-\d+)_\d+",
        r"(?P<person>TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4})[-_].+",
        r"(?:Brats1[789]_)(?P<person>(?:TCIA\d*|CBICA|2013|TMC\d*)_[A-Z0-9]+)_\d",
        r"(?P<person>sub-[A-Z0-9]+)[_-]ses-[A-Z0-9]+(?:_.*)?",
        rf"(?P<person>.+?)[_-](?:{_TIME}|{_MOMENT}|{_DATE})",
    )
)
# A short last number, or a letter, after a name that ends with a number.
_MAYBE_VISIT = re.compile(
    r"(?P<stem>.*\d)(?:[_-](?:\d{1,2}|[A-Za-z])|(?P<letter>[A-Za-z]))", re.DOTALL
)
# Words for a moment that are too short, or too freely joined, to decide by themselves.
_MAYBE_MOMENT = re.compile(
    r"(?P<stem>.+?)(?:"
    r"[\s_.-]+(?:(?:mr|mri|scan)[\s_.-]*)?(?:v|s|d|w|m|t|mr|mri)\d{1,4}"
    r"|[\s_.-]+\d{1,2}(?:st|nd|rd|th)"
    r"|[\s_.-]+(?:pre|post|intra)[a-z]*"
    r"|[\s_.-]+\d{1,2}[.-]\d{1,2}[.-](?:19|20)\d\d"
    rf"|[\s_.-]*{_TIME}(?:[_-]v\d+)?"
    r")",
    re.IGNORECASE | re.DOTALL,
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
      The cases of each group, whose names differ in a short last number, a letter, or a word that
      may tell a moment.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for case, person in cases:
        if found := _MAYBE_VISIT.fullmatch(case) or _MAYBE_MOMENT.fullmatch(case):
            groups.setdefault(found["stem"].lower(), []).append((case, person))
        else:
            groups.setdefault(case.lower(), []).append((case, person))
    return [
        [case for case, _ in group]
        for group in groups.values()
        if len({person for _, person in group}) > 1
    ]
