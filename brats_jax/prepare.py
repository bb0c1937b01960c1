"""Prepares BraTS data, or the built-in phantom, as a store for all other commands.

    python -m brats_jax.prepare --source=DIR [--source=DIR ...] [--store=STORE]
    python -m brats_jax.prepare --source=phantom --patients=12 --seed=0 [--store=STORE]
    python -m brats_jax.prepare --add --source=DIR [--source=DIR ...] [--store=STORE]
    python -m brats_jax.prepare --verify [--store=STORE]

STORE defaults to $BRATS_JAX_STORE or stores/default. After an interruption, the same command
continues. Cases without labels are for pretraining. --add adds sources to a finished store.
"""

from collections.abc import Sequence

from absl import flags

from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.data.planes import PLANES
from brats_jax.data.scans.options import MAX_CASE_GB, ReadOptions
from brats_jax.errors import BratsError
from brats_jax.runs.default_paths import default_store
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line, print_lines, print_notice

_SOURCE = flag_types.define_paths(
    "source", "Folder of BraTS files, or 'phantom'; several times for several sources."
)
_STORE = flag_types.define_path(
    "store", "Folder of the store (default: $BRATS_JAX_STORE or stores/default)."
)
_NORMALISATION = flags.DEFINE_enum(
    "normalisation",
    None,
    NORMALISATIONS,
    "slice (the default): clip and z-score each slice over all its pixels; volume: each volume "
    "over its brain; robust: each volume by the median and interquartile range of its brain.",
)
_PLANE = flags.DEFINE_enum(
    "plane",
    None,
    PLANES,
    "Of the slices: axial (the default) as in the files; coronal or sagittal slices are cut from "
    "whole volumes.",
)
_ADD = flags.DEFINE_bool(
    "add", False, "Add the sources to those of the store, which stay as they are."
)
_CHANNEL_ORDER = flags.DEFINE_list(
    "channel_order", None, "Kaggle files: order of the channels, if not flair,t1,t1ce,t2."
)
_LABELS = flags.DEFINE_string(
    "labels",
    "",
    "NIfTI cases: label scheme, if the names do not tell it: brats2021, brats2023, brats2024, ped, "
    "men, met, ssa, ucsf-pdgm, upenn-gbm or msd.",
)
_PATIENTS = flags.DEFINE_integer(
    "patients", None, "Phantom: number of patients.", lower_bound=1, upper_bound=100_000
)
_SEED = flags.DEFINE_integer(
    "seed",
    None,
    "Phantom: random seed (default 0).",
    lower_bound=0,
    upper_bound=flag_types.LARGEST_SEED,
)
_SHAPE = flags.DEFINE_list("shape", None, "Phantom: slices,height,width (default 155,240,240).")
_ORIENTATION = flags.DEFINE_string(
    "orientation", "", "Axes of NIfTI files whose headers do not decide them, e.g. LPS."
)
_MAX_CASE_GB = flag_types.define_number(
    "max_case_gb", MAX_CASE_GB, "Largest size of a case, unpacked, in GB.", least=0.001, most=1000
)
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes (default: all processors).", lower_bound=1, upper_bound=1024
)
_IGNORE_AUDIT = flags.DEFINE_bool(
    "ignore_audit", False, "Continue even if the labels contradict the channel order."
)
_SKIP_BAD_CASES = flags.DEFINE_bool(
    "skip_bad_cases", False, "Leave out cases that cannot be read, and list them at the end."
)
_REQUIRE_LABELS = flags.DEFINE_bool(
    "require_labels", False, "Refuse cases without labels or without some modality."
)
_VERIFY = flags.DEFINE_bool("verify", False, "Compare every file of the store with its checksum.")


def _store() -> str:
    return _STORE.value or default_store()


def _main() -> None:
    options = ReadOptions(
        _ORIENTATION.value, float(_MAX_CASE_GB.value), require_labels=_REQUIRE_LABELS.value
    )
    if _SOURCE.value is None and not _VERIFY.value:
        raise BratsError("--source is missing: give a folder of BraTS files, or 'phantom'")
    # Imported here, so that a misspelt flag is reported at once.
    from brats_jax.data.store.prepare import prepare
    from brats_jax.data.store.reader import verify
    from brats_jax.data.store.summary import summary_table

    if _SOURCE.value is not None:
        manifest = prepare(
            _SOURCE.value,
            _store(),
            normalisation=_NORMALISATION.value,
            plane=_PLANE.value,
            patients=_PATIENTS.value,
            seed=_SEED.value,
            shape=_sizes(_SHAPE.value),
            channel_order=_CHANNEL_ORDER.value,
            labels=_LABELS.value,
            options=options,
            workers=_WORKERS.value,
            ignore_audit=_IGNORE_AUDIT.value,
            skip_bad_cases=_SKIP_BAD_CASES.value,
            add=_ADD.value,
            say=print_notice,
        )
        print_lines(summary_table(_store(), manifest))
    if _VERIFY.value:
        print_line(f"{_store()}: all {verify(_store())} files are as they were written")


def _sizes(values: Sequence[str] | None) -> tuple[int, ...] | None:
    return None if values is None else flag_types.whole_numbers("shape", values, 3)


def run_main() -> None:
    """Runs the command."""
    cli.run(_main, folder=_store, after_stop="the same command continues from here")


if __name__ == "__main__":
    run_main()
