"""Writes phantom patients as BraTS files, to try the commands that read files.

    python -m brats_jax.phantom --cases=SCANS --patients=3 --seed=100

Each is SCANS/NAME/NAME_{t1,t1ce,t2,flair,seg}.nii.gz, as in BraTS 2021. They contain no patient
data: brains, tumours and their images are computed.
"""

from pathlib import Path

from absl import flags

from brats_jax.errors import BratsError
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line

_CASES = flag_types.define_path("cases", "Folder to write them to.")
_PATIENTS = flags.DEFINE_integer(
    "patients", 3, "Number of patients.", lower_bound=1, upper_bound=100_000
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Random seed.", lower_bound=0, upper_bound=flag_types.LARGEST_SEED
)
_SHAPE = flags.DEFINE_list(
    "shape",
    ["155", "240", "240"],
    "Slices,height,width of the volumes; 155,240,240 has voxels of 1 mm.",
)


def _main() -> None:
    if _CASES.value is None:
        raise BratsError("--cases is missing: give the folder to write to")
    shape = flag_types.whole_numbers("shape", _SHAPE.value, 3)
    # Imported here, so that a misspelt flag is reported at once.
    from brats_jax.data.sources.phantom.files import write_cases

    write_cases(
        Path(_CASES.value), patients=_PATIENTS.value, seed=_SEED.value, shape=shape, say=print_line
    )


def run_main() -> None:
    """Runs the command."""
    cli.run(_main, folder=lambda: _CASES.value, after_stop="the same command continues from here")


if __name__ == "__main__":
    run_main()
