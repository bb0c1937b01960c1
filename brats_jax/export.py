"""Exports a trained model for use without this package.

    python -m brats_jax.export --checkpoint=RUN[/fold_K] --output=DIR

DIR/segment.stablehlo takes the raw slices of a scan, float32[n, 240, 240, 4], and returns their
labels, uint8[n, 240, 240], on CPU or GPU; `jax.export.deserialize` is all it needs. A run with
several folds becomes one program, the mean of their probabilities. DIR/segment.json says what
goes in and comes out; DIR/segment_fold_K.safetensors holds the weights under torch's names.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging

from brats_jax import about
from brats_jax.errors import BratsError
from brats_jax.runtime.cli import fail, one_line_flags, tell
from brats_jax.runtime.files import check_folder

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Run folder RUN, or RUN/fold_K.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.")
_TASK = flags.DEFINE_enum(
    "task", "segment", ("segment", "reconstruct"), "The segmentation, or the pretext network."
)
_SLICE_SHAPE = flags.DEFINE_list(
    "slice_shape", None, "H,W of the slices (default: as in training, for BraTS 240,240)."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ("float32", "bfloat16"), "What the program computes in, on every device."
)


def _main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1:
        return fail(f"unexpected argument '{arguments[1]}'; options are given as --name=value")
    if _CHECKPOINT.value is None or _OUTPUT.value is None:
        return fail("give --checkpoint=RUN[/fold_K] and --output=DIR")
    output, shape = Path(_OUTPUT.value), None
    if (sizes := _SLICE_SHAPE.value) is not None:
        if len(sizes) != 2 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
            return fail(f"--slice_shape={','.join(sizes)}: give two numbers, e.g. 240,240")
        shape = (int(sizes[0]), int(sizes[1]))
    # The program is written for all platforms from here; no accelerator is waited for.
    os.environ["JAX_PLATFORMS"] = "cpu"
    logging.set_verbosity(logging.ERROR)
    from brats_jax.inference import stablehlo
    from brats_jax.inference.trained_run import open_run
    from brats_jax.runtime import devices

    try:
        check_folder(output, "--output")  # before what takes its time
        trained = open_run(
            Path(_CHECKPOINT.value), _TASK.value, devices.data_mesh(), dtype=_DTYPE.value
        )
        for note in trained.notes:
            tell(f"note: {note}")
        paths = stablehlo.write(trained, output, slice_shape=shape)
    except BratsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or _OUTPUT.value}: {error.strerror or error}")
    for path in paths:
        size = path.stat().st_size
        tell(f"{path}: {f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.0f} kB'}")
    tell(about.RESEARCH_USE_ONLY)
    return 0


def run_main() -> None:
    """The console entry point."""
    app.run(_main, flags_parser=one_line_flags)


if __name__ == "__main__":
    run_main()
