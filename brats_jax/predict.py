"""Segments scans with a trained run: volumes in, segmentations out. Research use only.

    python -m brats_jax.predict --checkpoint=RUN[/fold_K] --input=CASE_OR_FOLDER --output=DIR
    python -m brats_jax.predict --checkpoint=RUN --output=DIR --t1=A --t1gd=B --t2=C --flair=D
    python -m brats_jax.predict --checkpoint=RUN --input=... --output=DIR --task=reconstruct

RUN averages over all complete folds; RUN/fold_K uses one. Exported weights, or the name of the
model that comes with the package (small), may replace RUN. --checkpoint=RUN,RUN averages over runs,
such as one for each plane. Cases that have a prediction are skipped.
"""

from pathlib import Path

from absl import flags

from brats_jax.data.modalities import ALIASES, MODALITIES
from brats_jax.data.scans.options import MAX_CASE_GB, ReadOptions
from brats_jax.errors import BratsError
from brats_jax.runs.folder import STAGE_OF_TASK
from brats_jax.runtime import cli, flag_types

LARGEST_VOLUME_MM3 = 1e7  # no head holds ten litres

_CHECKPOINT = flag_types.define_path(
    "checkpoint",
    "RUN (all folds), RUN/fold_K, exported weights, or the ready model small; several with commas.",
)
_INPUT = flag_types.define_path("input", "A case's folder, or a folder with cases below it.")
_OUTPUT = flag_types.define_path("output", "Folder to write to.")
_FILES = {
    name: flag_types.define_path(name, f"The {name} file of one case, instead of --input.")
    for name in MODALITIES
}
# Other names of the flags above, such as --t1ce for --t1gd: the suffixes of BraTS file names.
_ALIAS_FLAGS = ("t1n", "t1w", "t1ce", "t1c", "t2w", "t2f")
_ALIAS_FILES = {
    alias: (name, flag_types.define_path(alias, f"The same as --{name}."))
    for name in MODALITIES
    for alias in ALIASES[name]
    if alias in _ALIAS_FLAGS
}
_TASK = flags.DEFINE_enum(
    "task", "segment", tuple(STAGE_OF_TASK), "Segment, or predict FLAIR from T1 and T1Gd."
)
_ET_LABEL = flags.DEFINE_enum(
    "et_label", "4", ("3", "4"), "Value of ET: 4 as in BraTS up to 2021, or 3 as since 2023."
)
_PLANES = flags.DEFINE_list(
    "planes",
    [],
    "Average over slices of these planes: all that the model was trained on, or some of axial, "
    "coronal, sagittal (default: the first one of its training).",
)
_TTA = flags.DEFINE_bool("tta", False, "Also average over flips, at four times the cost.")
_CALIBRATED = flags.DEFINE_bool(
    "calibrated", False, "Use the temperatures that brats_jax.calibrate fitted."
)
_MIN_COMPONENT = flag_types.define_number(
    "min_component_mm3",
    None,
    "Remove connected components smaller than this (default: the fitted size, or 0).",
    least=0,
    most=LARGEST_VOLUME_MM3,
)
_MIN_ET = flag_types.define_number(
    "min_et_mm3",
    None,
    "Relabel ET as NCR/NET in cases with less ET than this (default: the fitted size, or 0).",
    least=0,
    most=LARGEST_VOLUME_MM3,
)
_CLEAR_AIR = flags.DEFINE_bool(
    "clear_air",
    None,
    "Remove tumour in air, where every modality is 0 (default: if the fitted cleaning does, "
    "unless both sizes are 0).",
)
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "Write maps of WT, TC and ET.")
_UNCERTAINTY = flags.DEFINE_bool(
    "uncertainty", False, "Write a map of the entropy of the probabilities, in nats."
)
_PICTURE = flags.DEFINE_bool("picture", False, "Draw slices of every case: CASE_seg.png.")
_PAGE = flags.DEFINE_bool("page", False, "Write a page of all slices: CASE_seg.html.")
_RESAMPLE = flags.DEFINE_bool(
    "resample", False, "Resample images whose voxels are not 1 mm, or differ between modalities."
)
_LEAVE_OUT = flags.DEFINE_list(
    "leave_out", [], "Modalities not to use, even where they are present: t1,t2."
)
_SYNTHESISE = flags.DEFINE_bool(
    "synthesise", False, "Predict missing modalities with the run's pretraining, where it can."
)
_LABELS = flags.DEFINE_string(
    "labels", "", "Label scheme of true labels beside the images, if the names do not tell it."
)
_ORIENTATION = flags.DEFINE_string(
    "orientation", "", "Axes of files whose headers do not decide them, e.g. LPS."
)
_MAX_CASE_GB = flag_types.define_number(
    "max_case_gb", MAX_CASE_GB, "Largest size of a case, unpacked, in GB.", least=0.001, most=1000
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Predict cases again that have been predicted.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    0,
    "Slices at a time; 0: by device.",
    lower_bound=0,
    upper_bound=flag_types.MOST_SLICES_AT_ONCE,
)


def _main() -> int:
    reading = ReadOptions(_ORIENTATION.value, float(_MAX_CASE_GB.value))
    files = _files_by_modality()
    if _CHECKPOINT.value is None or _OUTPUT.value is None:
        needed = {
            "--checkpoint=RUN or --checkpoint=small": _CHECKPOINT.value,
            "--input=CASE_OR_FOLDER": _INPUT.value or files or None,
            "--output=DIR": _OUTPUT.value,
        }
        raise BratsError(flag_types.missing_flags(needed))
    if _INPUT.value is not None and files:
        raise BratsError(
            f"--input and {' '.join(f'--{name}' for name in files)} are both given: give one of "
            "the two, --input=CASE_OR_FOLDER or the files of one case"
        )
    if _INPUT.value is None and not files:
        raise BratsError("give --input=CASE_OR_FOLDER, or the files of one case: --t1= --t1gd= ...")
    only_segment = (_PROBABILITIES, _UNCERTAINTY, _PICTURE, _PAGE)
    if _TASK.value == "reconstruct" and any(flag.value for flag in only_segment):
        raise BratsError(
            "--probabilities, --uncertainty, --picture and --page are for --task=segment: leave "
            "them out"
        )
    # Imported here, so that a misspelt flag is reported at once.
    from brats_jax.inference import model_paths
    from brats_jax.inference.early_checks import refuse_left_out, refuse_unfit
    from brats_jax.inference.inputs import cases_of
    from brats_jax.inference.read_ahead import ReadAhead
    from brats_jax.runtime.allocator import keep_freed_memory
    from brats_jax.runtime.console import print_line
    from brats_jax.runtime.files import check_folder

    keep_freed_memory()
    output = Path(_OUTPUT.value)
    check_folder(output, "--output")
    for name in model_paths.split(_CHECKPOINT.value):
        model_paths.check_exists(name)
    refuse_left_out(_CHECKPOINT.value, _TASK.value, _LEAVE_OUT.value, synthesise=_SYNTHESISE.value)
    source = files if _INPUT.value is None else _INPUT.value
    cases = cases_of(source)
    checked = refuse_unfit(
        cases, _CHECKPOINT.value, _TASK.value, output, reading,
        resampled=_RESAMPLE.value, leave_out=_LEAVE_OUT.value,
    )  # fmt: skip
    if len(checked.failed) == len(cases):
        print_line(checked.summary())
        return 1
    ahead = None
    if _INPUT.value is not None and not (_RESAMPLE.value or _LEAVE_OUT.value):
        # While JAX is imported, which takes one core.
        first = cases[len(checked.failed)]
        ahead = ReadAhead(_CHECKPOINT.value, _TASK.value, first, output, reading)
    from brats_jax.inference.output_names import OutputOptions
    from brats_jax.inference.prediction import predict
    from brats_jax.runtime import devices

    devices.use_compilation_cache("auto")
    outcome = predict(
        _CHECKPOINT.value,
        source,
        output,
        OutputOptions(
            et_label=int(_ET_LABEL.value),
            probabilities=_PROBABILITIES.value,
            uncertainty=_UNCERTAINTY.value,
            picture=_PICTURE.value,
            page=_PAGE.value,
            overwrite=_OVERWRITE.value,
        ),
        resampled=_RESAMPLE.value,
        labels=_LABELS.value,
        reading=reading,
        task=_TASK.value,
        cases=cases,
        ahead=ahead,
        outcome=checked,
        tta=_TTA.value,
        planes=_PLANES.value,
        calibrated=_CALIBRATED.value,
        min_component_mm3=_MIN_COMPONENT.value,
        min_et_mm3=_MIN_ET.value,
        clear_air=_CLEAR_AIR.value,
        batch_size=_BATCH_SIZE.value,
        leave_out=_LEAVE_OUT.value,
        synthesise=_SYNTHESISE.value,
    )
    return 1 if outcome.failed else 0


def _files_by_modality() -> dict[str, str]:
    """The files of one case, in the order of the modalities."""
    files: dict[str, str] = {}
    for name in MODALITIES:
        given = {name: _FILES[name].value} | {
            alias: flag.value for alias, (of, flag) in _ALIAS_FILES.items() if of == name
        }
        named = {flag: path for flag, path in given.items() if path is not None}
        if len(named) > 1:
            raise BratsError(
                f"{' and '.join(f'--{flag}' for flag in named)} are the same modality: give one"
            )
        for path in named.values():
            files[name] = path
    return files


def run_main() -> None:
    """Runs the command."""
    cli.run(
        _main,
        folder=lambda: _OUTPUT.value,
        after_stop="the same command continues with the remaining cases",
    )


if __name__ == "__main__":
    run_main()
