"""The names of labels in a dataset.json, and the classes that they mean.

The class of a value follows from its name, or from the regions that hold it: with the regions WT,
TC and ET, a value in WT alone is ED, one in WT and TC is NCR/NET, and one in all three is ET.
"""

import dataclasses
import re
from collections.abc import Mapping

from brats_jax.data.modalities import CLASS_LABELS, CLASSES, WHOLE_TUMOUR
from brats_jax.data.scans.labels import SCHEMES, LabelScheme
from brats_jax.errors import BratsError

_BACKGROUND, _NCR, _ED, _ET = range(len(CLASSES))
_CAVITY = "resection cavity"

# Names in use, in lower case without spaces and signs, "tumour" spelt "tumor".
_OF_CLASS: dict[str, tuple[int, str]] = {
    name: (value, tissue)
    for value, tissue, names in (
        (_NCR, CLASSES[_NCR], (
            "ncr", "net", "netc", "ncrnet", "ncrnetc", "ncrandnet", "ncrandnetc", "ncrornet",
            "ncrornetc", "necrosis", "necrotic", "necroticcore", "necrotictumor",
            "necrotictumorcore", "nonenhancing", "nonenhancingcore", "nonenhancingtumor",
            "nonenhancingtumorcore", "necrosisandnonenhancingtumor", "necroticnonenhancingtumor",
            "necroticandnonenhancingtumor", "necroticandnonenhancingtumorcore",
            "necroticandnonenhancingcore", "necroticnonenhancingtumorcore",
            "necroticnonenhancingcore", "nonenhnecrosis", "necrosisnonenhancing",
            "necrosisnonenhancingtumor", "nonenhancingandnecrosis", "nonenhancingandnecrotic",
            "necrosisandnonenhancing", "necroticcoreandnonenhancingtumor", "necrotictissue",
            "nonenhancingtumorandnecrosis", "nonenhancingtumorandnecroticcore",
        )),
        (_NCR, "cyst", ("cyst", "cystic", "cysticcomponent", "cc")),
        (_ED, CLASSES[_ED], (
            "ed", "edema", "oedema", "peritumoraledema", "peritumoraloedema", "snfh",
            "edematoustissue", "vasogenicedema", "edemainvadedtissue",
            "surroundingnonenhancingflairhyperintensity",
            "peritumoraledematousinvadedtissue", "peritumoraledematousinfiltratedtissue",
        )),
        (_ET, CLASSES[_ET], (
            "et", "enhancing", "enhancingtumor", "enhancingtumorcore", "enhancingcore",
            "gdenhancingtumor", "enhancingtissue", "enhtumor",
        )),
        (_BACKGROUND, _CAVITY, ("rc", "resectioncavity", "cavity")),
    )
    for name in names
}  # fmt: skip
_WT = {"wt", "wholetumor", "completetumor", "flairabnormality"}
_TC = {"tc", "tumorcore"}
_ET_REGION = {name for name, (value, _) in _OF_CLASS.items() if value == _ET}
_NOTHING = {"background", "bg"}
_IGNORED = "ignore"


@dataclasses.dataclass(frozen=True)
class NamedLabels:
    """The meaning of the values of a data set's labels.

    Attributes:
      scheme: of the values.
      kind: 'classes', or 'whole_tumour' where no name tells a class.
      ignored: the value of voxels that nobody has labelled; None without one.
    """

    scheme: LabelScheme
    kind: str = CLASS_LABELS
    ignored: int | None = None


def named_labels(names: Mapping[str, list[int]], where: str) -> NamedLabels:
    """The meaning of values by their names.

    Args:
      names: the values of each name; several for a region.
      where: the file, for messages.

    Raises:
      BratsError: an unknown name, or values that the names do not tell apart.
    """
    names = dict(names)
    ignored = names.pop(_IGNORED, None)
    of_value: dict[int, list[str]] = {}
    for name, values in names.items():
        is_nothing = _bare(name) in _NOTHING
        if values == [0] and (is_nothing or _role(name) == "?"):
            continue
        if is_nothing or 0 in values:
            raise BratsError(
                f"{where}: '{name}' is {_shown(values)}, but the background is 0 and nothing else: "
                "repair it, or give --labels=SCHEME"
            )
        for value in values:
            if not 1 <= value <= 255:
                raise BratsError(
                    f"{where}: '{name}' is {value}; labels are 1 to 255: repair it, or give "
                    "--labels=SCHEME"
                )
            of_value.setdefault(value, []).append(name)
    if not of_value:
        raise BratsError(
            f"{where} names no label but the background: add them, or give --labels=SCHEME"
        )
    listed = [name for name, values in names.items() if values != [0]]
    unknown = [name for name in listed if _role(name) == "?"]
    if unknown:
        raise BratsError(
            f"{where}: '{unknown[0]}' ({_shown(names[unknown[0]])}) is no name of a class or "
            "region: call it NCR, ED, ET, resection cavity, whole tumor or tumor core if it is "
            "one, or give --labels=SCHEME"
        )
    roles = {_role(name) for found in of_value.values() for name in found}
    if roles == {"WT"}:
        whole = {value: (_NCR, "whole tumour") for value in sorted(of_value)}
        scheme = LabelScheme("whole_tumour", where, whole)
        return NamedLabels(scheme, WHOLE_TUMOUR, _only(ignored, where))
    tissues = {
        value: _tissue(value, of_value[value], names, roles, where) for value in sorted(of_value)
    }
    known = (one for one in SCHEMES.values() if _classes(one.tissues) == _classes(tissues))
    scheme = next(known, LabelScheme("dataset.json", where, tissues))
    return NamedLabels(scheme, CLASS_LABELS, _only(ignored, where))


def _tissue(
    value: int, named: list[str], names: Mapping[str, list[int]], roles: set[str], where: str
) -> tuple[int, str]:
    """The class and tissue of one value."""
    own = {_OF_CLASS[_bare(name)] for name in named if _role(name) in ("class", "ET")}
    regions = {_role(name) for name in named if _role(name) != "class"}
    alone = [name for name in named if _role(name) in ("WT", "TC") and len(names[name]) == 1]
    if len(own) == 1 and not alone:
        found = next(iter(own))
        if (found[0] == _ED and "TC" in regions) or (found[0] == _BACKGROUND and regions):
            raise BratsError(f"{where}: label {value} is both {_quoted(named)}: name it once")
        return found
    if not own and regions == {"WT", "TC"} and "ET" in roles:
        return _NCR, CLASSES[_NCR]
    if not own and regions == {"TC"} and "WT" not in roles and "ET" in roles and not alone:
        return _NCR, CLASSES[_NCR]
    if not own and regions == {"WT"} and "TC" in roles and not alone:
        return _ED, CLASSES[_ED]
    raise BratsError(
        f"{where}: label {value} ({_quoted(named)}) may be several classes: name it NCR, ED or ET, "
        "or give --labels=SCHEME"
    )


def _role(name: str) -> str:
    """'WT', 'TC', 'ET' (a region and a class), 'class', or '?' for an unknown name."""
    bare = _bare(name)
    for role, known in (("WT", _WT), ("TC", _TC), ("ET", _ET_REGION), ("class", set(_OF_CLASS))):
        if bare in known:
            return role
    return "?"


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("tumour", "tumor")


def _only(values: list[int] | None, where: str) -> int | None:
    if values is not None and len(values) != 1:
        raise BratsError(f"{where}: '{_IGNORED}' is {_shown(values)}; it is one value")
    return None if values is None else values[0]


def _classes(tissues: Mapping[int, tuple[int, str]]) -> dict[int, int]:
    return {value: label for value, (label, _) in tissues.items()}


def _shown(values: list[int]) -> str:
    return ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")


def _quoted(names: list[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
