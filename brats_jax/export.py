"""Exports a trained model for use without this package.

    python -m brats_jax.export --checkpoint=RUN[/fold_K] --output=DIR

DIR/segment.stablehlo takes the raw slices of a scan, float32[n, 240, 240, 4], and returns their
labels, uint8[n, 240, 240], on CPU or GPU; `jax.export.deserialize` loads it. Several folds become
one program that averages their probabilities. DIR/segment.json describes inputs and outputs;
DIR/segment_fold_K.safetensors holds the weights under PyTorch's names.

    python -m brats_jax.export --output=DIR --verify

compares the files of an export with the checksums in its description.
"""

import os
from pathlib import Path

from absl import flags

from brats_jax import about
from brats_jax.errors import BratsError
from brats_jax.runs.folder import STAGE_OF_TASK
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import check_folder
from brats_jax.runtime.text import plural

_CHECKPOINT = flag_types.define_path("checkpoint", "Run folder RUN, or RUN/fold_K.")
_OUTPUT = flag_types.define_path("output", "Folder to write to.")
_TASK = flags.DEFINE_enum(
    "task", "segment", tuple(STAGE_OF_TASK), "The segmentation, or the pretraining network."
)
_SLICE_SHAPE = flags.DEFINE_list(
    "slice_shape", None, "H,W of the slices (default: as in training, for BraTS 240,240)."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ("float32", "bfloat16"), "Dtype of the activations, on every device."
)
_VERIFY = flags.DEFINE_bool("verify", False, "Compare an earlier export with its checksums.")


def _main() -> None:
    if _VERIFY.value:
        _verify()
        return
    if _CHECKPOINT.value is None or _OUTPUT.value is None:
        raise BratsError("give --checkpoint=RUN[/fold_K] and --output=DIR")
    output, shape = Path(_OUTPUT.value), None
    if _SLICE_SHAPE.value is not None:
        height, width = flag_types.whole_numbers("slice_shape", _SLICE_SHAPE.value, 2)
        shape = (height, width)
    # The program is written for all platforms from here; do not wait for an accelerator.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from brats_jax.inference import stablehlo
    from brats_jax.inference.trained_run import open_run
    from brats_jax.runtime import devices

    check_folder(output, "--output")  # before the long part
    checkpoint, mesh = Path(_CHECKPOINT.value), devices.data_mesh()
    trained = open_run(checkpoint, _TASK.value, mesh, dtype=_DTYPE.value)
    for note in trained.notes:
        print_line(f"note: {note}")
    for path in stablehlo.write(trained, output, slice_shape=shape):
        size = path.stat().st_size
        print_line(f"{path}: {f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.0f} kB'}")
    print_line(about.RESEARCH_USE_ONLY)


def _verify() -> None:
    if _OUTPUT.value is None or _CHECKPOINT.value is not None:
        raise BratsError("give --output=DIR alone with --verify")
    from brats_jax.inference import stablehlo

    count = len(stablehlo.verify(Path(_OUTPUT.value)))
    print_line(f"{_OUTPUT.value}: {plural(count, 'file')} as described")


def run_main() -> None:
    """Runs the command."""
    cli.run(_main, folder=lambda: _OUTPUT.value, after_stop="the same command starts again")


if __name__ == "__main__":
    run_main()
