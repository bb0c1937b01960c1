"""Names for the settings in which the runs of a report differ.

Pretext, decoder, parts that are transferred and share of unlabelled scans have short names, as in
'masked, unet, no unlabelled scans'; all others are 'segment.epochs = 7'.
"""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_jax.reporting.read_runs import Run
from brats_jax.runs.evaluated import EVALUATION_SETTINGS
from brats_jax.runs.settings import TRANSFER_PARTS
from brats_jax.runs.settings_comparison import FREE_TO_CHANGE, IF_ABSENT, flatten
from brats_jax.tasks.pretraining import DEFAULT_DECODER, DEFAULT_PRETEXT

# Runs that differ only in these axes of the experiment, or in settings that never change a
# result, belong together.
LABELS = ("data.label_fraction", "data.label_patients")
AXES = ("loss", "ssl", "seed", "folds", "pretrain.run", *LABELS)
# Settings without effect on a run that pretrains nothing.
_OF_PRETRAINING = ("pretrain.", "transfer.")
# Settings that only some runs have: with few labels, or with an encoder from a file.
_OF_SOME = ("data.selection", "encoder_init.freeze_epochs", "encoder_init.learning_rate_factor")
_TASK, _DECODER = "pretrain.task", "pretrain.decoder"
_UNLABELLED, _PARTS = "pretrain.unlabelled_fraction", "transfer.parts"
_NONE_UNLABELLED = "no unlabelled scans"
SHORT = (_TASK, _DECODER, _UNLABELLED, _PARTS)


def variants_of(runs: Sequence[Run]) -> dict[str, tuple[str, str, str]]:
    """run -> names for the settings in which it differs from other runs.

    (all but pretraining and transfer, pretraining and transfer, pretraining alone).
    """
    settings = {run.name: _settings(run) for run in runs}
    # Without pretraining, the settings of the pretraining have no effect.
    pretrained = {run.name: settings[run.name] for run in runs if run.ssl}
    shared = [n for n in _differing(settings) if not n.startswith(_OF_PRETRAINING)]
    pretraining = [n for n in _differing(pretrained) if n.startswith(_OF_PRETRAINING)]
    first = [n for n in pretraining if n.startswith("pretrain.")]
    found = {}
    for name, mine in settings.items():
        words = [
            f"{n} = {_shown(n, mine.get(n), settings)}"
            for n in shared
            if n in mine or n not in _OF_SOME
        ]
        own = name in pretrained
        found[name] = (
            ", ".join(words),
            pretraining_name(mine, pretraining) if own else "",
            pretraining_name(mine, first) if own else "",
        )
    return found


def pretraining_name(settings: Mapping[str, Any], differing: Collection[str]) -> str:
    """'masked, unet, no unlabelled scans, stem transferred'.

    Args:
      settings: of a run, by dotted name.
      differing: the settings to name. With a pretext its decoder is named, too, if it is not the
        paper's.
    """
    task = str(settings.get(_TASK) or DEFAULT_PRETEXT) if _TASK in differing else ""
    decoder = str(settings.get(_DECODER) or DEFAULT_DECODER)
    share = settings.get(_UNLABELLED, 1)
    parts = str(settings.get(_PARTS) or TRANSFER_PARTS[0])
    words = [task] if task else []
    if decoder != DEFAULT_DECODER and (task or _DECODER in differing):
        words.append(decoder if task else f"decoder {decoder}")
    if _UNLABELLED in differing and share != 1:
        words.append(f"{100 * share:.3g} % of the unlabelled scans" if share else _NONE_UNLABELLED)
    if _PARTS in differing and parts != TRANSFER_PARTS[0]:
        named = parts.replace("encoder_decoder", "encoder and decoder").replace("_", " ")
        words.append(f"{named} transferred")
    words += [f"{name} = {settings.get(name)}" for name in differing if name not in SHORT]
    # What is the usual is named only where nothing else is to be named.
    usual = {
        _DECODER: f"decoder {DEFAULT_DECODER}",
        _UNLABELLED: "all unlabelled scans",
        _PARTS: f"{TRANSFER_PARTS[0]} transferred",
    }
    return ", ".join(words or [usual[name] for name in SHORT if name in differing])


def _shown(name: str, value: Any, settings: Mapping[str, Mapping[str, Any]]) -> Any:
    """A value of a setting; of a path its last name, with a digest where another has this name."""
    if not isinstance(value, str) or os.sep not in value:
        return value
    short = Path(value).name
    others = {str(mine.get(name)) for mine in settings.values()} - {value}
    if short not in {Path(other).name for other in others}:
        return short
    return f"{short} ({hashlib.sha256(value.encode('utf-8', 'surrogateescape')).hexdigest()[:6]})"


def _differing(settings: dict[str, dict[str, Any]]) -> list[str]:
    names = sorted({name for mine in settings.values() for name in mine})

    def values(name: str) -> set[str]:
        some = name in _OF_SOME
        return {str(m.get(name)) for m in settings.values() if name in m or not some}

    return [name for name in names if len(values(name)) > 1]


def _settings(run: Run) -> dict[str, Any]:
    found = {
        name: value
        for name, value in flatten(run.config).items()
        if name not in AXES and name not in FREE_TO_CHANGE
    }
    for name, value in IF_ABSENT.items():  # earlier versions do not have these settings
        if name not in AXES and name not in FREE_TO_CHANGE:
            found.setdefault(name, value)
    if run.fraction == 1:
        found.pop("data.selection", None)  # no effect with all labels
    if not run.ssl and run.config.get("encoder_init", "random") != "random":
        # An encoder from a file is frozen and slowed down as a transferred one.
        for name in ("freeze_epochs", "learning_rate_factor"):
            found[f"encoder_init.{name}"] = found.get(f"transfer.{name}")
    if _only_float32(run):
        found.pop("train.float32_epochs", None)  # no effect: every epoch is in float32
    else:
        found.setdefault("train.float32_epochs", 0)  # earlier versions do not have the setting
    # --mode=evaluate may have changed these after the start of the run.
    for name in EVALUATION_SETTINGS:
        asked = {
            str(getattr(fold.evaluation, name))
            for fold in run.folds.values()
            if fold.evaluation is not None
        }
        if asked:
            found[f"evaluation.{name}"] = " and ".join(sorted(asked))
    found["store"] = run.document.store.fingerprint[:8]
    # As the store, by content.
    found["data.other_planes"] = " and ".join(
        f"{plane} {fingerprint[:8]}"
        for plane, fingerprint in run.document.store.other_planes.items()
    )
    if run.splits is not None:
        crossed = run.splits.cross_validates
        names = sum(run.splits.folds, ()) if crossed else run.splits.test
        digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:6]
        found["test set"] = f"{len(names)} {run.split_by}s ({digest})"
    return found


def _only_float32(run: Run) -> bool:
    dtype = run.document.settings.dtype
    return dtype == "float32" or (dtype == "auto" and "cpu" in run.document.devices)
