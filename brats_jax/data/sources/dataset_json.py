"""dataset.json of the Medical Segmentation Decathlon and of nnU-Net: names of channels and labels.

    MSD, nnU-Net 1   "modality": {"0": "FLAIR", ...}     "labels": {"0": "background", ...}
    nnU-Net 2        "channel_names": {"0": "T1", ...}   "labels": {"background": 0, "WT": [1, 2]}

The order of the channels and the meaning of the labels are taken from here and never assumed.
"""

import dataclasses
from pathlib import Path
from typing import Any

from brats_jax.data.modalities import MODALITIES, VALID_NAMES, canonical_names
from brats_jax.data.sources.label_names import NamedLabels, named_labels
from brats_jax.errors import BratsError
from brats_jax.runtime.files import read_json

NAME = "dataset.json"
_REMEDY = "fetch it again"
_MOST_CHANNELS = 1000


@dataclasses.dataclass(frozen=True)
class DatasetJson:
    """The facts of a dataset.json.

    Attributes:
      path: the file.
      channels: the name of each channel, as written.
      modalities: the modality of each channel; None for channels that are none of the four.
      document: all of it.
    """

    path: Path
    channels: tuple[str, ...]
    modalities: tuple[str | None, ...]
    document: dict[str, Any] = dataclasses.field(repr=False)

    def named_labels(self) -> NamedLabels:
        """The meaning of the labels; raises BratsError if the names do not tell it."""
        return named_labels(_labels(self.document, self.path), str(self.path))


def read_dataset_json(path: Path) -> DatasetJson:
    """Reads the file.

    Raises:
      BratsError: it is missing or cannot be read, or it names no channels, one modality twice or
        none of the four.
    """
    if not path.exists():
        raise BratsError(
            f"{path} is missing, and nothing else tells the modalities of the images and the "
            "meaning of the labels: fetch it, or write it"
        )
    document = read_json(path, _REMEDY)
    channels = _channels(document, path)
    modalities = [name if name in MODALITIES else None for name in canonical_names(channels)]
    for name in MODALITIES:
        same = [channels[k] for k, modality in enumerate(modalities) if modality == name]
        if len(same) > 1:
            raise BratsError(
                f"{path}: the channels {' and '.join(same)} are both {name}: rename the wrong one"
            )
    if not any(modalities):
        raise BratsError(
            f"{path}: none of the channels {', '.join(channels)[:200]} is a modality of BraTS; "
            f"valid names: {VALID_NAMES}"
        )
    return DatasetJson(path, tuple(channels), tuple(modalities), document)


def _channels(document: dict[str, Any], path: Path) -> list[str]:
    named = document.get("channel_names", document.get("modality"))
    if (
        not isinstance(named, dict)
        or not 0 < len(named) <= _MOST_CHANNELS
        or {*named} != {str(k) for k in range(len(named))}
        or not all(isinstance(name, str) for name in named.values())
    ):
        raise BratsError(
            f"{path} does not name the channels 0, 1, ... under 'channel_names' or 'modality', so "
            f"that nothing tells their modalities: {_REMEDY}, or add them"
        )
    return [named[str(k)] for k in range(len(named))]


def _labels(document: dict[str, Any], path: Path) -> dict[str, list[int]]:
    """The values of each name, whichever of both is the key."""
    labels = document.get("labels", {})
    if not isinstance(labels, dict):
        raise _bad_labels(path)
    found: dict[str, list[int]] = {}
    for key, value in labels.items():
        by_value = key.strip().lstrip("-").isdecimal() and isinstance(value, str)
        name, values = (value, [key]) if by_value else (key, value)
        values = values if isinstance(values, list) else [values]
        if not all(_is_whole(one) for one in values) or not values:
            raise _bad_labels(path)
        found.setdefault(name, []).extend(int(one) for one in values)
    return found


def _is_whole(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lstrip("-").isdecimal() and len(value) < 10
    return isinstance(value, int) and not isinstance(value, bool)


def _bad_labels(path: Path) -> BratsError:
    return BratsError(
        f"{path}: 'labels' holds no names with whole numbers, such as \"edema\": 1: {_REMEDY}, or "
        "give --labels=SCHEME"
    )
