"""Writes phantom patients as BraTS files, to try with files what takes files.

    python -m brats_jax.phantom --cases=scans --patients=3 --seed=100

Each is SCANS/NAME/NAME_{t1,t1ce,t2,flair,seg}.nii.gz, as in BraTS 2021. Nothing of a patient is in
them: brains, tumours and their images are drawn by the program.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from brats_jax.data.sources.phantom.files import write_cases
from brats_jax.errors import BratsError
from brats_jax.runtime.cli import fail, one_line_flags, tell

_CASES = flags.DEFINE_string("cases", None, "Folder to write them to.")
_PATIENTS = flags.DEFINE_integer("patients", 3, "How many.")
_SEED = flags.DEFINE_integer("seed", 0, "Which; another seed, other patients.")
_SHAPE = flags.DEFINE_list(
    "shape",
    ["155", "240", "240"],
    "Slices,height,width of the volumes; 155,240,240 are voxels of 1 mm.",
)


def main(argv: Sequence[str]) -> None:
    try:
        if argv[1:]:
            raise BratsError(f"'{argv[1]}' is not understood: give options as --name=value")
        if _CASES.value is None:
            raise BratsError("--cases is missing: say which folder to write to")
        try:
            shape = tuple(int(size) for size in _SHAPE.value)
        except ValueError:
            raise BratsError(
                f"--shape={','.join(_SHAPE.value)} is not three whole numbers"
            ) from None
        write_cases(
            Path(_CASES.value), patients=_PATIENTS.value, seed=_SEED.value, shape=shape, say=tell
        )
    except BratsError as error:
        sys.exit(fail(str(error)))
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    app.run(main, flags_parser=one_line_flags)
