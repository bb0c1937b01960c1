"""The card of an exported model, as model hubs show it: YAML facts, then Markdown."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES
from brats_jax.data.planes import AXIAL
from brats_jax.data.subsets import subset_words
from brats_jax.inference.postprocess import Cleaning
from brats_jax.runs.averaged_label import average_flags, averaged_label
from brats_jax.runs.documents import CROSS_VALIDATION, FoldsScore
from brats_jax.runs.documents.cleaning import INVENTED_ET_ML, FittedSizes
from brats_jax.runs.documents.weights import (
    SavedNetworks,
    StatedScores,
    WeightsDocument,
    WeightsFolder,
)
from brats_jax.runtime.text import plural

_PIPELINES = {"segment": "image-segmentation", "reconstruct": "image-to-image"}
_TAGS = ("brain-tumour", "brats", "flax", "jax", "medical", "mri", "research-use-only")
_LICENSE_NAME = "research-use-only"  # where no licence is given
# Metrics in words, and the digits that are shown.
_METRICS = {
    "dice": ("3D Dice", 3),
    "hd95_mm": ("HD95 (mm)", 1),
    "missed": ("missed: share of cases with it", 2),
    "invented": ("found where there is none: share of cases without it", 2),
    "mse": ("mean squared error of z-scores", 3),
    "ssim": ("SSIM", 3),
}
_STAGES = {"segment": "", "pretrain": "", "regression": " (linear regression)"}


def card(document: WeightsDocument, folder_name: str) -> str:
    """The text of README.md.

    Args:
      document: the description of the weights.
      folder_name: names the model if the document does not.
    """
    name = document.name or folder_name
    parts = [
        _front_matter(document, name),
        f"# {name}\n\n**{document.research_use_only}**\n\n{_introduction(document)}",
        "## Use\n\n" + _usage(document),
        *(_section(document, task) for task in document.tasks),
    ]
    if document.card.text:
        parts.append(document.card.text.strip())
    parts += [
        "## How to make it again\n\n" + _reproduction(document),
        "## Files\n\n" + _files(document),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(document: WeightsDocument, name: str) -> str:
    """The YAML facts. JSON is YAML: every value is written as JSON, which needs no escapes."""
    facts: dict[str, Any] = {
        "license": document.card.license or "other",
        **({} if document.card.license else {"license_name": _LICENSE_NAME}),
        "library_name": document.library_name,
        "pipeline_tag": _PIPELINES[next(iter(document.tasks))],
        "tags": list(_TAGS),
        "metrics": sorted({row.metric for row in _rows(document)}),
    }
    results = [
        {
            "task": {"type": _PIPELINES[task]},
            "dataset": {"name": _sources(networks), "type": "private"},
            "metrics": [
                {
                    "type": row.metric,
                    "name": f"{_METRICS[row.metric][0]}, {row.of}",
                    "value": round(row.mean, 4),
                }
                for row in networks.scores.rows
                if row.mean is not None and row.stage != "regression"
            ]
            + [one for fitted in networks.cleanings for one in _cleaned_metrics(fitted)],
        }
        for task, networks in document.tasks.items()
        if networks.scores is not None and networks.scores.rows
    ]
    if results:
        facts["model-index"] = [{"name": name, "results": results}]
    lines = [f"{key}: {json.dumps(value)}" for key, value in facts.items()]
    return "\n".join(["---", *lines, "---"])


def _cleaned_metrics(fitted: FittedSizes) -> list[dict[str, Any]]:
    """The metrics of the labels as `predict` writes them; none where the fit found no cleaning."""
    if not _described(fitted):
        return []
    after, how = fitted.after, "with cleaning" + averaged_label(fitted.tta, fitted.planes, ", ")
    found = [("dice", f"3D Dice, {of}, {how}", value) for of, value in after.dice.items()]
    found += [
        ("hd95_mm", f"HD95 (mm), median, {of}, {how}", value) for of, value in after.hd95_mm.items()
    ]
    return [{"type": kind, "name": name, "value": round(value, 4)} for kind, name, value in found]


def _described(fitted: FittedSizes) -> str:
    """What the cleaning does, in words; '' for none."""
    return Cleaning(fitted.min_component_mm3, fitted.min_et_mm3, fitted.clear_air).describe()


def _rows(document: WeightsDocument) -> Iterator[FoldsScore]:
    for networks in document.tasks.values():
        yield from networks.scores.rows if networks.scores else ()


def _introduction(document: WeightsDocument) -> str:
    does = {
        "segment": "It labels glioma in MRI of the head: one label for each voxel, of "
        + ", ".join(CLASSES[1:])
        + ".",
        "reconstruct": "It predicts a modality from others, in z-scores.",
    }
    return " ".join(does[task] for task in document.tasks)


def _usage(document: WeightsDocument) -> str:
    lines = ["```python", "import brats_jax", ""]
    if "segment" in document.tasks:
        inputs = ", ".join(f'"{m}": {m}' for m in _inputs(document.tasks["segment"]))
        lines += ['model = brats_jax.load("FOLDER")  # this folder', f"labels = model.segment({{{inputs}}})"]  # fmt: skip  # noqa: E501
    if "reconstruct" in document.tasks:
        inputs = ", ".join(f'"{m}": {m}' for m in _inputs(document.tasks["reconstruct"]))
        lines += [
            'model = brats_jax.load("FOLDER", task="reconstruct")',
            f"synthetic = model.reconstruct({{{inputs}}})",
        ]
    task = "" if "segment" in document.tasks else " --task=reconstruct"
    return "\n".join(
        [
            *lines,
            "```",
            "",
            "```",
            f"python -m brats_jax.predict --checkpoint=FOLDER --input=SCANS --output=OUT{task}",
            "```",
            "",
            "Scans as BraTS prepares them: skull-stripped with air exactly 0, modalities "
            "registered to each other, 1 mm voxels.",
        ]
    )


def _inputs(networks: SavedNetworks) -> list[str]:
    return list(networks.model.get("from", networks.model["inputs"]))


def _planes(planes: Sequence[str]) -> str:
    """The planes of a training; '' for axial slices alone."""
    if len(planes) == 1:
        return "" if planes[0] == AXIAL else planes[0]
    return f"{', '.join(planes)}; predicts in {planes[0]} ones, `--planes=all` averages over all"


def _section(document: WeightsDocument, task: str) -> str:
    networks = document.tasks[task]
    record, model = networks.folds[0].record, networks.model
    title = {"segment": "Segmentation", "reconstruct": "Synthesis"}[task]
    what = ", ".join(DISPLAY_NAMES.get(m, m) for m in _inputs(networks))
    gives = ", ".join(DISPLAY_NAMES.get(m, m) for m in model.get("predicts", model["outputs"]))
    counts = [fold.patients for fold in networks.folds if fold.patients is not None]
    rows = [
        ("input", what),
        ("slices beside each", f"{model['context']} on each side" if "context" in model else ""),
        ("missing modalities", "any of the input may be missing" if "modality_dropout" in model
         else ""),
        ("output", gives),
        ("network", f"2D ResNet-50 U-Net, width {model['width']}"
         if task == "segment" else f"2D ResNet-50 encoder-decoder, width {model['width']}"),
        ("fusion of modalities", model.get("fusion", "")
         + f", {model.get('fusion_weights')} weights" * ("fusion_weights" in model)),
        ("slices", _planes(record.planes)),
        ("normalisation", str(record.normalisation)),
        ("trainings in the average", str(len(networks.folds))),
        ("data", _sources(networks)),
        ("patients trained on", _range(counts)),
        ("steps", _range([fold.steps for fold in networks.folds if fold.steps is not None])),
        ("persons in the training and validation sets", str(len(networks.seen) or "")),
        ("split by", str(record.split_by or "")),
        ("numbers in the file", f"{networks.dtype}; rounded to nearest from float32"
         if networks.dtype != "float32" else networks.dtype),
        ("temperatures", ", ".join(f"{fold.temperature:.3f}" for fold in networks.folds
                                   if fold.temperature is not None)),
        ("hash of the weights", f"`{networks.hash}`"),
    ]  # fmt: skip
    lines = [f"## {title}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows if value]
    lines += [f"\nNote: {note}." for note in networks.notes]
    lines += ["", "### Numbers", "", _scores_section(networks.scores, record.planes)]
    if networks.scores is not None and networks.scores.subsets:
        lines += ["", "### Missing modalities", "", _subsets(networks.scores)]
    for fitted in networks.cleanings:
        flags = average_flags(fitted.tta, fitted.planes, record.planes)
        title = "### Cleaning" + f" with `{flags}`" * bool(flags)
        lines += ["", title, "", _cleaning(fitted, flags, networks.cleanings[0])]
    return "\n".join(lines)


def _scores_section(scores: StatedScores | None, known: Sequence[str]) -> str:
    """The scores; `known` has the planes of the training."""
    if scores is None or not scores.rows:
        return "Not evaluated: there are no numbers on patients that it has not seen."
    count = scores.trainings
    if scores.same_weights:
        whose = f"{plural(count, 'training')} of this model"
    else:
        whose = f"{plural(count, 'other training')} with the same settings"
    if scores.other_settings:
        whose += f" but for {', '.join(scores.other_settings)}"
    of_volumes = any(row.over == "volumes" for row in scores.rows)
    flags = average_flags(scores.tta, scores.planes, known)
    lines = [
        f"Mean over {whose}, each evaluated alone on "
        f"patients that it has not seen, {scores.patients} in all; split by {scores.split_by}"
        + averaged_label(scores.tta, scores.planes)
        + f" (`{flags}`)" * bool(flags)
        + "."
        + " An empty region counts as in BraTS 2020." * of_volumes,
        "",
        "| | " + " | ".join(["mean", "SD over trainings", "cases or slices"]) + " |",
        "|---|---|---|---|",
    ]
    for row in scores.rows:
        words, digits = _METRICS[row.metric]
        sd = "" if row.sd_over_folds is None else f"{row.sd_over_folds:.{digits}f}"
        name = f"{words}, {row.of}{_STAGES[row.stage]}"
        lines.append(f"| {name} | {row.mean:.{digits}f} | {sd} | {row.count} |")
    if scores.split_by == "slice":
        lines += ["", "Slices of one patient are on both sides of this split: the numbers are too "
                  "good."]  # fmt: skip
    return "\n".join(lines)


def _subsets(scores: StatedScores) -> str:
    """The Dice from each subset of the modalities, the mean of all last."""
    dice = {(row.modalities, row.of): row.mean for row in scores.subsets}
    subsets = list(dict.fromkeys(row.modalities for row in scores.subsets))
    regions = list(dict.fromkeys(row.of for row in scores.subsets))
    lines = [
        f"3D Dice of the same trainings from each subset of the modalities, mean over "
        f"{plural(scores.subsets[0].patients, 'patient')} who have all of them. An empty region "
        "counts as in BraTS 2020.",
        "",
        f"| modalities | {' | '.join(regions)} |",
        "|---|" + "---|" * len(regions),
    ]
    for subset in subsets:
        name = subset_words(subset) if subset else f"mean of the {len(subsets) - 1} subsets"
        means = [dice[subset, of] for of in regions]
        numbers = ["" if mean is None else f"{mean:.3f}" for mean in means]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def _cleaning(fitted: FittedSizes, flags: str, first: FittedSizes) -> str:
    """The sizes that labels are cleaned with, and the scores without and with them.

    Args:
      fitted: the sizes.
      flags: of `predict`, for their average over flips and planes.
      first: the sizes that the card describes first.
    """
    way = _way_of_fit(fitted)
    if fitted is not first and way == _way_of_fit(first):
        way = "Fitted and measured in the same way"
    lines = [
        _effect(fitted, flags),
        f"{way}{averaged_label(fitted.tta, fitted.planes)}.",
        "",
        "| | without | with cleaning |",
        "|---|---|---|",
    ]
    if fitted is first:
        lines[1] += (
            " An empty region counts as in BraTS 2020. The numbers of the table before are without "
            "cleaning; there ET counts as found from one voxel on."
        )
    if fitted.scores_keep_air:
        lines[1] += (
            " The numbers below are of labels with their tumour in air: they were computed before "
            "the cleaning removed it."
        )
    before, after = fitted.before, fitted.after
    rows = [(f"3D Dice, {r}", before.dice[r], after.dice[r], 3) for r in before.dice]
    rows += [(f"HD95, median (mm), {r}", before.hd95_mm[r], after.hd95_mm[r], 1)
             for r in before.hd95_mm]  # fmt: skip
    lines += [f"| {name} | {a:.{digits}f} | {b:.{digits}f} |" for name, a, b, digits in rows]
    if before.invented_et is not None and after.invented_et is not None:
        lines.append(
            f"| predictions with more than {INVENTED_ET_ML:g} ml of ET, of {fitted.without_et} for "
            f"cases without ET | {before.invented_et} | {after.invented_et} |"
        )
    if fitted.lowers_dice:
        lines += ["", "Here the mean of these Dice is lower with the cleaning."]
    return "\n".join(lines)


def _effect(fitted: FittedSizes, flags: str) -> str:
    """What the cleaning does with these flags, and how it is switched off."""
    cleaned = _described(fitted)
    if not cleaned:
        return "None: no size gained in the fit."
    by = f"With `{flags}`" if flags else "By default"
    return f"{by} {cleaned}; `--min_component_mm3=0 --min_et_mm3=0` switches it off. " + (
        "A tumour or an ET that is smaller altogether disappears from the result; a note then "
        "says so."
        if fitted.min_component_mm3 or fitted.min_et_mm3
        else "No size gained in the fit."
    )


def _way_of_fit(fitted: FittedSizes) -> str:
    """On which patients the sizes were fitted and scored."""
    count = plural(fitted.trainings, "other training" if not fitted.same_weights else "training")
    patients = plural(fitted.measured_patients, "patient")
    if fitted.measured_on == CROSS_VALIDATION:
        how = (
            f"{patients} in a cross-validation of {count}, those of each fold cleaned with the "
            "sizes that fit the patients of the others"
        )
    else:
        how = f"{patients} of the test set, who had no part in the fit; mean over {count}"
    return (
        f"Fitted on {plural(fitted.patients, 'patient')}, each predicted by a network that was not "
        "trained on it, for the highest mean 3D Dice of WT, TC and ET. Measured on " + how
    )


def _reproduction(document: WeightsDocument) -> str:
    parts = []
    if document.card.command:
        parts.append(f"```\n{document.card.command}\n```")
    for task, networks in document.tasks.items():
        config = _with_planes(networks)
        named = ": other_planes names planes, not stores" * (config != networks.config)
        parts.append(
            f"<details><summary>Settings of the {task} training (as in configs/base.py; without "
            f"paths{named})</summary>\n\n```json\n{json.dumps(config, indent=1)}\n```\n</details>"
        )
    return "\n\n".join(parts)


def _with_planes(networks: SavedNetworks) -> dict[str, Any]:
    """The settings, with the planes of other stores in place of their paths, which are left out."""
    config, planes = networks.config, networks.folds[0].record.other_planes
    data = config.get("data", {})
    if not planes or "other_planes" not in data:
        return config
    return {**config, "data": {**data, "other_planes": ", ".join(planes)}}


def _files(document: WeightsDocument) -> str:
    folder = WeightsFolder(Path())
    lines = ["| file | SHA-256 |", "|---|---|"]
    lines.append(f"| {folder.weights.name} | `{document.weights_sha256}` |")
    lines.append(
        f"\nWritten by brats_jax {document.brats_jax}. Persons are named by hashes alone; names of "
        "public data sets can be found by trying them."
    )
    return "\n".join(lines)


def _sources(networks: SavedNetworks) -> str:
    return ", ".join(networks.sources) or "unknown"


def _range(numbers: list[int]) -> str:
    if not numbers:
        return ""
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
