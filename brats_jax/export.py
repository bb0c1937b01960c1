"""Exports a trained model, for use without this package or without the run.

    python -m brats_jax.export --checkpoint=RUN[/fold_K] --output=DIR

DIR/segment.stablehlo takes the raw slices of a scan, float32[n, 240, 240, 4], and returns their
labels, uint8[n, 240, 240], on CPU or GPU; `jax.export.deserialize` loads it. Several folds become
one program that averages their probabilities. DIR/segment.json describes inputs and outputs;
DIR/segment_fold_K.safetensors holds the weights under PyTorch's names.

    python -m brats_jax.export --checkpoint=RUN[/fold_K] --output=DIR --format=onnx

writes DIR/segment.onnx, the same program for onnxruntime, and its description
DIR/segment.onnx.json.

    python -m brats_jax.export --checkpoint=RUN[/fold_K] --output=DIR --format=weights

writes a small folder that `predict`, `export` and `brats_jax.load` take in place of RUN.
`--format=hub` adds the card of the model, in the layout of a model hub.

    python -m brats_jax.export --output=DIR --verify

compares the files of an export with the checksums in its description.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from brats_jax import about
from brats_jax.errors import BratsError
from brats_jax.inference import model_paths
from brats_jax.runs.export_folder import ONNX, PROGRAMS, STABLEHLO
from brats_jax.runs.folder import STAGE_OF_TASK
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import check_folder, read_regular, unreadable
from brats_jax.runtime.text import plural

if TYPE_CHECKING:
    from brats_jax.inference.trained_run import TrainedRun

_MOST_TEXT = 2**20  # bytes of --card_text

_CHECKPOINT = flag_types.define_path(
    "checkpoint", "RUN, RUN/fold_K, exported weights, or the ready model small."
)
_OUTPUT = flag_types.define_path("output", "Folder to write to.")
_TASK = flags.DEFINE_enum(
    "task", "segment", tuple(STAGE_OF_TASK), "The segmentation, or the pretraining network."
)
_FORMAT = flags.DEFINE_enum(
    "format",
    STABLEHLO,
    (*PROGRAMS, "weights", "hub"),
    "A program, of JAX or ONNX; weights that replace the run; or weights with a card.",
)
_SLICE_SHAPE = flags.DEFINE_list(
    "slice_shape", None, "H,W of the slices (default: as in training, for BraTS 240,240)."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ("float32", "bfloat16"), "Of a program: dtype of the activations."
)
_WEIGHTS_DTYPE = flags.DEFINE_enum(
    "weights_dtype", "bfloat16", ("bfloat16", "float32"), "Of weights: dtype of the kernels."
)
_NAME = flags.DEFINE_string("name", "", "Of weights: name of the model (default: the folder's).")
_SCORES = flag_types.define_paths(
    "scores", "Of weights: RUN whose scores are stated instead of the checkpoint's; repeatable."
)
_LICENSE = flags.DEFINE_string("license", "", "Of a card: identifier of the weights' licence.")
_COMMAND = flags.DEFINE_string("command", "", "Of a card: the command that makes the model again.")
_CARD_TEXT = flag_types.define_path("card_text", "Of a card: a Markdown file to include.")
_VERIFY = flags.DEFINE_bool("verify", False, "Compare an earlier export with its checksums.")

_OF_PROGRAMS = (_SLICE_SHAPE, _DTYPE)
_OF_WEIGHTS = (_WEIGHTS_DTYPE, _NAME, _SCORES, _LICENSE, _COMMAND, _CARD_TEXT)


def _main() -> None:
    if _VERIFY.value:
        _verify()
        return
    if _CHECKPOINT.value is None or _OUTPUT.value is None:
        needed = {"--checkpoint=RUN[/fold_K]": _CHECKPOINT.value, "--output=DIR": _OUTPUT.value}
        raise BratsError(flag_types.missing_flags(needed))
    output = Path(_OUTPUT.value)
    is_program = _FORMAT.value in PROGRAMS
    _check_flags(is_program)
    shape = _slice_shape()
    text = _card_text()
    check_folder(output, "--output")
    model_paths.check_exists(_CHECKPOINT.value)
    # The program is written for all platforms from here; do not wait for an accelerator.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from brats_jax.inference.open_by_name import open_model
    from brats_jax.runtime import devices

    write_program = _program_writer() if is_program else None
    dtype = _DTYPE.value if is_program else None
    trained = open_model(_CHECKPOINT.value, _TASK.value, devices.data_mesh(), dtype=dtype)
    for note in trained.notes:
        print_line(f"note: {note}")
    if write_program is not None:
        written = write_program(trained, output, slice_shape=shape)
    else:
        written = _write_weights(trained, output, text)
    for path in written:
        size = path.stat().st_size
        print_line(f"{path}: {f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.0f} kB'}")
    print_line(about.RESEARCH_USE_ONLY)


def _check_flags(is_program: bool) -> None:
    """Refuses flags that the format has no use for."""
    for flag in _OF_WEIGHTS if is_program else _OF_PROGRAMS:
        if flag.present:
            raise BratsError(f"--{flag.name} has no effect with --format={_FORMAT.value}")
    if _FORMAT.value == ONNX and _DTYPE.value != "float32":
        raise BratsError(
            "--dtype=bfloat16 has no effect with --format=onnx, which computes in float32: "
            "leave it out, or use --format=stablehlo"
        )


def _program_writer() -> Callable[..., list[Path]]:
    """The function that writes a run as a program in the format of the flag.

    Raises:
      BratsError: a package that the format needs is missing.
    """
    if _FORMAT.value == ONNX:
        from brats_jax.inference import onnx_program

        return onnx_program.write
    from brats_jax.inference import stablehlo

    return stablehlo.write


def _write_weights(trained: "TrainedRun", output: Path, card_text: str) -> list[Path]:
    """Writes weights, with the card of the model if the format has one."""
    from brats_jax.evaluation.stated_scores import cleanings_of, scores_of
    from brats_jax.inference import weights_writer
    from brats_jax.runs.documents.weights import CardOptions

    others = [Path(path) for path in _SCORES.value or ()]
    cleanings, notes = cleanings_of(trained, others)
    for note in notes:
        print_line(f"note: {note}")
    options = weights_writer.WeightsOptions(
        dtype=_WEIGHTS_DTYPE.value,
        card=_FORMAT.value == "hub",
        name=_NAME.value,
        about=CardOptions(_LICENSE.value, _COMMAND.value, card_text),
        scores=scores_of(trained, others),
        cleanings=cleanings,
    )
    return weights_writer.write(trained, output, options)


def _slice_shape() -> tuple[int, int] | None:
    if _SLICE_SHAPE.value is None:
        return None
    height, width = flag_types.whole_numbers("slice_shape", _SLICE_SHAPE.value, 2)
    return height, width


def _card_text() -> str:
    if _CARD_TEXT.value is None:
        return ""
    path = Path(_CARD_TEXT.value)
    try:
        return read_regular(path, _MOST_TEXT).decode("utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "give a text file in UTF-8") from None


def _verify() -> None:
    if _OUTPUT.value is None or _CHECKPOINT.value is not None:
        raise BratsError("give --output=DIR alone with --verify")
    from brats_jax.inference import export_files, weights_reader
    from brats_jax.runs.documents.weights import WeightsFolder

    weights = WeightsFolder(Path(_OUTPUT.value))
    compared = weights_reader.verify(weights) if weights.exists else []
    if not compared or export_files.has_export(weights.path):
        compared += export_files.verify(weights.path)
    print_line(f"{_OUTPUT.value}: {plural(len(compared), 'file')} as described")


def run_main() -> None:
    """Runs the command."""
    cli.run(_main, folder=lambda: _OUTPUT.value, after_stop="the same command starts again")


if __name__ == "__main__":
    run_main()
