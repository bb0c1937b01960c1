"""Segments scans with a trained run: volumes in, segmentations out. Research use only.

    python -m brats_jax.predict --checkpoint=RUN[/fold_K] --input=CASE_OR_FOLDER --output=DIR
    python -m brats_jax.predict --checkpoint=RUN --output=DIR --t1=A --t1gd=B --t2=C --flair=D
    python -m brats_jax.predict --checkpoint=RUN --input=... --output=DIR --task=reconstruct

All complete folds of RUN vote; RUN/fold_K is one alone. Cases that are there already are kept.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging

from brats_jax.about import RESEARCH_USE_ONLY
from brats_jax.data.modalities import MODALITIES
from brats_jax.errors import BratsError
from brats_jax.runtime.cli import fail, one_line_flags
from brats_jax.runtime.files import check_folder, make_folder
from brats_jax.runtime.text import plural

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "RUN (all folds) or RUN/fold_K.")
_INPUT = flags.DEFINE_string("input", None, "A case's folder, or a folder with cases below it.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.")
_FILES = {
    name: flags.DEFINE_string(name, None, f"The {name} file of one case, instead of --input.")
    for name in MODALITIES
}
_TASK = flags.DEFINE_enum(
    "task", "segment", ("segment", "reconstruct"), "Segment, or predict FLAIR from T1 and T1Gd."
)
_ET_LABEL = flags.DEFINE_enum("et_label", "4", ("3", "4"), "ET's value: 4 until 2021, then 3.")
_TTA = flags.DEFINE_bool("tta", False, "Average over flips too: four times the work.")
_CALIBRATED = flags.DEFINE_bool(
    "calibrated", False, "Use the temperatures that brats_jax.calibrate has fitted."
)
_MIN_COMPONENT = flags.DEFINE_float(
    "min_component_mm3", 0, "Remove pieces of tumour smaller than this.", lower_bound=0
)
_MIN_ET = flags.DEFINE_float(
    "min_et_mm3", 0, "Call ET NCR/NET where a case has less than this of it.", lower_bound=0
)
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "Write maps of WT, TC and ET.")
_UNCERTAINTY = flags.DEFINE_bool("uncertainty", False, "Write a map of the entropy.")
_PICTURE = flags.DEFINE_bool("picture", False, "Draw slices of every case: CASE_seg.png.")
_PAGE = flags.DEFINE_bool("page", False, "Make a page to scroll through: CASE_seg.html.")
_RESAMPLE = flags.DEFINE_bool(
    "resample", False, "Bring voxels that are not 1 mm, or not shared, onto a grid that fits."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Predict again what is there already.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 0, "Slices at a time; 0 lets the device decide.", lower_bound=0
)


def main(arguments: Sequence[str]) -> int:
    if arguments[1:]:
        return fail(f"'{arguments[1]}' is not understood: give options as --name=value")
    # Orbax and JAX tell every checkpoint they read.
    logging.set_verbosity(logging.ERROR)
    try:
        return _run()
    except BratsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or _OUTPUT.value}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("stopped: the same command goes on with the cases that are left", file=sys.stderr)
        return 130


def _run() -> int:
    if _CHECKPOINT.value is None or _OUTPUT.value is None:
        raise BratsError("give --checkpoint=RUN and --output=DIR")
    named = {name: flag.value for name, flag in _FILES.items() if flag.value is not None}
    if (_INPUT.value is None) == (not named):
        raise BratsError("give --input=CASE_OR_FOLDER, or the files of one case: --t1= --t1gd= ...")
    of_labels = (_PROBABILITIES, _UNCERTAINTY, _PICTURE, _PAGE)
    if _TASK.value == "reconstruct" and any(flag.value for flag in of_labels):
        raise BratsError(
            "--probabilities, --uncertainty, --picture and --page are for --task=segment: leave "
            "them out"
        )
    # Imported here: a misspelt flag should not have to wait for the libraries.
    from brats_jax.inference import cases as prediction
    from brats_jax.inference import inputs
    from brats_jax.inference import model as inference
    from brats_jax.inference.outputs import OutputOptions
    from brats_jax.inference.sidecars import TABLE
    from brats_jax.runtime import devices
    from brats_jax.runtime.console import print_line

    directory = Path(_OUTPUT.value)
    check_folder(directory, "--output")  # before what takes its time
    if _INPUT.value is not None:
        cases = prediction.find_cases(Path(_INPUT.value))
    else:
        cases = [inputs.named_files(named)]
    devices.keep_freed_memory()
    devices.use_compilation_cache("auto")
    model = inference.load(
        _CHECKPOINT.value,
        task=_TASK.value,
        tta=_TTA.value,
        calibrated=_CALIBRATED.value,
        min_component_mm3=_MIN_COMPONENT.value,
        min_et_mm3=_MIN_ET.value,
        batch_size=_BATCH_SIZE.value,
    )
    if named and (missing := [f"--{name}" for name in model.inputs if name not in named]):
        raise BratsError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: the model "
            f"needs {' '.join(f'--{name}' for name in MODALITIES if name in model.inputs)}"
        )
    print_line(RESEARCH_USE_ONLY)
    folds = ", ".join(str(member.fold) for member in model.trained.members)
    print_line(
        f"{plural(len(cases), 'case')}; {model.trained.run}, fold {folds}, model "
        f"{model.trained.hash[:12]}; predictions averaged: {model.ensemble.size}; "
        f"{devices.describe()}"
    )
    for note in model.trained.notes:
        print_line(f"note: {note}")
    wanted = OutputOptions(
        et_label=int(_ET_LABEL.value),
        probabilities=_PROBABILITIES.value,
        uncertainty=_UNCERTAINTY.value,
        picture=_PICTURE.value,
        page=_PAGE.value,
        overwrite=_OVERWRITE.value,
    )
    make_folder(directory, "--output")
    outcome = prediction.predict_cases(model, cases, directory, wanted, resampled=_RESAMPLE.value)
    print_line(
        f"{len(outcome.written)} written, {len(outcome.kept)} kept, {len(outcome.failed)} failed"
    )
    if _TASK.value == "segment" and (directory / TABLE).exists():
        print_line(f"volumes: {directory / TABLE}")
    for name, problem in outcome.failed.items():
        fail(f"case {name}: {problem}")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    app.run(main, flags_parser=one_line_flags)
