"""Several sources as one: their cases one after the other."""

import json
from collections.abc import Sequence
from typing import Any

from brats_jax.data.sources.base import Case, Source, known_problems, notices
from brats_jax.errors import BratsError

SEVERAL = "several"  # the kind of the description of several sources


def described(descriptions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The description of sources by theirs, each with its kind; of one source its own."""
    if len(descriptions) == 1:
        return dict(descriptions[0])
    return {"kind": SEVERAL, "sources": list(descriptions)}


def descriptions_in(description: dict[str, Any]) -> list[dict[str, Any]]:
    """The description of each source in one of `described`."""
    if description.get("kind") == SEVERAL:
        return [dict(one) for one in description["sources"]]
    return [dict(description)]


def description_of(source: Source) -> dict[str, Any]:
    """Kind and description of one source, as JSON has them."""
    facts: dict[str, Any] = json.loads(json.dumps({"kind": source.name, **source.description}))
    return facts


def place_of(description: dict[str, Any]) -> str:
    """The folder of a source, or its kind."""
    return str(description.get("folder", description.get("kind")))


class JoinedSources:
    """The cases of several sources. Must pickle, as they do.

    Args:
      sources: at least one.

    Attributes:
      sources: the sources.
      descriptions: of each.
      duplicates: a line for each case whose name an earlier source has too; it is left out.

    Raises:
      BratsError: a source is given twice.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.descriptions = [description_of(source) for source in self.sources]
        self._of: dict[str, int] = {}
        self.duplicates: dict[str, str] = {}
        for number, description in enumerate(self.descriptions):
            if description in self.descriptions[:number]:
                raise BratsError(
                    f"--source={place_of(description)} is given twice: leave one of them out"
                )
            place = place_of(description)
            for name in self.sources[number].patients():
                first = self._of.setdefault(name, number)
                if first != number:
                    self.duplicates[f"{name} of {place}"] = (
                        f"the case {name} is in {place_of(self.descriptions[first])} and in "
                        f"{place}: a store has every name once; leave one of them out, or rename "
                        "its files if they are different cases"
                    )

    @property
    def description(self) -> dict[str, Any]:
        """Of all of them together."""
        return described(self.descriptions)

    @property
    def normalisations(self) -> tuple[str, ...]:
        """Those that suit all of them."""
        first, *others = (source.normalisations for source in self.sources)
        return tuple(how for how in first if all(how in other for other in others))

    def patients(self) -> list[str]:
        """All cases, source after source; of those with equal names the first."""
        return list(self._of)

    def number_of(self, patient: str) -> int:
        """The source of a case, by its number."""
        return self._of[patient]

    def source_of(self, patient: str) -> Source:
        """The source of a case."""
        return self.sources[self._of[patient]]

    def read(self, patient: str) -> Case:
        """Reads one case."""
        return self.source_of(patient).read(patient)

    def files_of(self, patient: str) -> list[str]:
        """The files of a case; none if its source has no files."""
        files_of = getattr(self.source_of(patient), "files_of", None)
        return list(files_of(patient)) if files_of is not None else []

    def problems(self) -> dict[str, str]:
        """Cases that cannot be read, and names that two sources have: one line each."""
        found = {
            name: problem
            for number, source in enumerate(self.sources)
            for name, problem in known_problems(source).items()
            if self._of.get(name, number) == number
        }
        return found | self.duplicates

    def notices_of(self, number: int) -> list[str]:
        """Lines on one source; with its folder, where there are several."""
        found = notices(self.sources[number])
        if len(self.sources) == 1:
            return found
        return [f"{place_of(self.descriptions[number])}: {line}" for line in found]

    def check_normalisation(self, normalisation: str) -> None:
        """Refuses a normalisation that does not suit a source (BratsError)."""
        for source in self.sources:
            if normalisation not in source.normalisations:
                raise BratsError(
                    f"normalisation '{normalisation}' needs intensities that compare between "
                    f"slices, but the {source.name} files were z-scored slice by slice when they "
                    f"were made: use --normalisation={source.normalisations[0]}, or the NIfTI "
                    "release"
                )

    @property
    def name(self) -> str:
        """The kind of the only source, or `SEVERAL`."""
        return str(self.description["kind"])

    def ordered(self, known: Sequence[dict[str, Any]]) -> "JoinedSources":
        """The same sources, those described by `known` first and in that order."""
        places = {json.dumps(one, sort_keys=True): k for k, one in enumerate(known)}

        def place(number: int) -> int:
            own = json.dumps(self.descriptions[number], sort_keys=True)
            return places.get(own, len(places))

        numbers = sorted(range(len(self.sources)), key=place)
        if numbers == list(range(len(self.sources))):
            return self
        return JoinedSources([self.sources[k] for k in numbers])

    def holds(self, known: Sequence[dict[str, Any]]) -> bool:
        """Whether all sources described by `known` are among these."""
        return all(one in self.descriptions for one in known)
