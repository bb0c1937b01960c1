"""References in the paper's text to tables that do not hold the results named."""

from collections.abc import Iterator
from typing import NamedTuple

from brats_jax.reporting.paper.findings import Finding, Kind, Reading
from brats_jax.reporting.paper.printed_numbers import Number
from brats_jax.reporting.paper.printed_tables import FOREGROUND, LOSSES, TABLES

Need = dict[str, str | bool | int | None]

ANY_FOLD = 0


class Reference(NamedTuple):
    """A sentence that names tables of the body, and the results it refers to.

    `needs` maps the name of a result to values of Number's fields; each result must be in one
    of the tables.
    """

    where: str
    quote: str
    tables: tuple[str, ...]
    needs: dict[str, Need]


REFERENCES = (
    Reference(
        "Section 4.3.2",
        "As shown in Table 1, the model demonstrated strong and consistent performance across "
        "all folds",
        ("1",),
        {"the folds": {"metric": "ssim", "fold": ANY_FOLD}},
    ),
    Reference(
        "Section 4.4.4",
        "Tables 3-6 summarize the average Dice scores and the ASD results across each tumour class",
        ("3", "4", "5", "6"),
        {
            f"{metric} under {name}": {"metric": metric, "loss": loss, "fold": None}
            for metric in ("dice", "asd_mm")
            for loss, name in LOSSES.items()
        },
    ),
    Reference(
        "Section 4.4.4",
        "As shown in Table 3, in the Focal Loss only scenario, [...] resulting in a higher Mean "
        "Dice score",
        ("3",),
        {"a mean over the classes": {"of": FOREGROUND, "loss": "focal", "fold": None}},
    ),
    Reference(
        "Section 4.4.4",
        "With Dice + CE, SSL provided the highest increase [...] (see Table 4, Appendix)",
        ("4",),
        {"results under Dice + CE": {"metric": "dice", "loss": "dice_ce"}},
    ),
    Reference(
        "Section 4.4.4",
        "Tables 3-5 show that SSL generally reduced ASD across all folds",
        ("3", "4", "5"),
        {"the folds": {"metric": "asd_mm", "fold": ANY_FOLD}},
    ),
    Reference(
        "Section 4.4.4",
        "Table 4 reveals a vital exception (see Table 4, Appendix). In Fold 4 of the SSL "
        "pipeline, the ASD for Class 1 spiked significantly to 37.610 mm",
        ("4",),
        {
            "that fold": {
                "metric": "asd_mm",
                "of": "NCR/NET",
                "loss": "dice_ce",
                "ssl": True,
                "fold": 4,
            }
        },
    ),
    Reference(
        "Section 4.5",
        "lower Dice scores and higher ASD values reported for these classes in tables 6-9",
        ("6", "7", "8", "9"),
        {"any Dice": {"metric": "dice"}, "any ASD": {"metric": "asd_mm"}},
    ),
)

_NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5}


def check_references(reading: Reading) -> Iterator[Finding]:
    """Yields a finding for each reference whose tables lack a result it refers to.

    It is 'ambiguous' if the appendix tables of the same numbers have the result: the appendix
    counts from Table 1 again.
    """
    for reference in REFERENCES:
        absent = [name for name in reference.tables if name not in TABLES]
        present = tuple(name for name in reference.tables if name in TABLES)
        lacking = {k: n for k, n in reference.needs.items() if not _holds(reading, present, n)}
        if not absent and not lacking:
            continue
        appendix = tuple(f"A{name}" for name in reference.tables)
        in_appendix = all(name in TABLES for name in appendix) and all(
            _holds(reading, appendix, need) for need in lacking.values()
        )
        kind: Kind = "ambiguous" if in_appendix else "definite"
        parts = [f"there is no Table {' or '.join(absent)}"] if absent else []
        if lacking:
            places = [
                table.title
                for name, table in TABLES.items()
                if name != "text" and any(_holds(reading, (name,), n) for n in lacking.values())
            ]
            named = f"Table {present[0]} does" if len(present) == 1 else "those tables do"
            results = ", ".join(lacking)
            parts.append(f"{named} not hold {results} (see {', '.join(places)})")
        expected = " and ".join(parts)
        if in_appendix:
            expected += "; two tables have this number, and the one in the appendix may be meant"
        sentence = f"The paper says '{reference.quote}' ({reference.where}), but {expected}."
        yield Finding(reference.where, (), reference.quote, expected, kind, "reference", sentence)


def check_captions(reading: Reading) -> Iterator[Finding]:
    """Compares 'across four tumour classes' in captions with the classes of Table 6."""
    tumour = list(dict.fromkeys(n.of for n in reading.numbers if n.table == "6"))
    tumour.remove(FOREGROUND)
    wrong = []
    for table in TABLES.values():
        word = table.caption.partition(" tumour classes")[0].rpartition(" ")[2]
        if " tumour classes" in table.caption and _NUMBER_WORDS[word] != len(tumour):
            wrong.append(table.title)
    if wrong:
        expected = f"{len(tumour)} tumour classes ({', '.join(tumour)}); class 0 is the background"
        quote = "across four tumour classes"
        sentence = f"The captions of {', '.join(wrong)} say '{quote}', but there are {expected}."
        yield Finding("Captions", (), quote, expected, "definite", "caption", sentence)


def _holds(reading: Reading, tables: tuple[str, ...], need: Need) -> bool:
    """Whether one of the tables has a number with the fields of `need`."""

    def meets(number: Number) -> bool:
        have = number._asdict()
        return all(
            have[field] is not None
            if (field, wanted) == ("fold", ANY_FOLD)
            else have[field] == wanted
            for field, wanted in need.items()
        )

    return any(n.table in tables and meets(n) for n in reading.numbers)
