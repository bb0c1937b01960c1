"""Prepares BraTS data, or the built-in phantom, once for everything else.

    python -m brats_jax.prepare --source=DIR --store=DIR
    python -m brats_jax.prepare --source=phantom --patients=12 --seed=0 --store=DIR
    python -m brats_jax.prepare --store=DIR --verify

Given again after an interruption, the same command goes on where it stopped.
"""

import sys
from collections.abc import Sequence

from absl import app, flags

from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.data.store import reader as layout
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.summary import summary_table
from brats_jax.errors import BratsError
from brats_jax.runtime.cli import fail, one_line_flags, tell

__all__ = ["main", "prepare"]

_SOURCE = flags.DEFINE_string("source", None, "Folder of BraTS files, or 'phantom'.")
_STORE = flags.DEFINE_string("store", None, "Folder to write the store to.")
_NORMALISATION = flags.DEFINE_enum(
    "normalisation",
    "slice",
    NORMALISATIONS,
    "Clip and z-score each slice over all its pixels, or each volume over its brain.",
)
_CHANNEL_ORDER = flags.DEFINE_list(
    "channel_order", None, "Kaggle files: modalities of the channels, if not flair,t1,t1ce,t2."
)
_PATIENTS = flags.DEFINE_integer("patients", None, "Phantom: how many patients.")
_SEED = flags.DEFINE_integer("seed", None, "Phantom: which patients (default 0).")
_SHAPE = flags.DEFINE_list("shape", None, "Phantom: slices,height,width (default 155,240,240).")
_WORKERS = flags.DEFINE_integer("workers", None, "Processes (default: all processors).")
_IGNORE_AUDIT = flags.DEFINE_bool(
    "ignore_audit", False, "Go on although the labels contradict the channel order."
)
_SKIP_BAD_CASES = flags.DEFINE_bool(
    "skip_bad_cases", False, "Leave out cases that cannot be read, and name them in the end."
)
_VERIFY = flags.DEFINE_bool("verify", False, "Compare every file of the store with its checksum.")


def main(argv: Sequence[str]) -> None:
    try:
        if argv[1:]:
            raise BratsError(f"'{argv[1]}' is not understood: give options as --name=value")
        _run()
    except BratsError as error:
        sys.exit(fail(str(error)))
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    if _STORE.value is None:
        raise BratsError("--store is missing: say which folder to write to")
    if _SOURCE.value is not None:
        manifest = prepare(
            _SOURCE.value,
            _STORE.value,
            normalisation=_NORMALISATION.value,
            patients=_PATIENTS.value,
            seed=_SEED.value,
            shape=_sizes(_SHAPE.value),
            channel_order=_CHANNEL_ORDER.value,
            workers=_WORKERS.value,
            ignore_audit=_IGNORE_AUDIT.value,
            skip_bad_cases=_SKIP_BAD_CASES.value,
            say=_say,
        )
        tell(summary_table(_STORE.value, manifest))
    elif not _VERIFY.value:
        raise BratsError("--source is missing: give a folder of BraTS files, or 'phantom'")
    if _VERIFY.value:
        count = layout.verify(_STORE.value)
        tell(f"{_STORE.value}: all {count} files are as they were written")


def _sizes(values: Sequence[str] | None) -> tuple[int, ...] | None:
    if values is None:
        return None
    try:
        return tuple(int(value) for value in values)
    except ValueError:
        raise BratsError(f"--shape={','.join(values)} is not three whole numbers") from None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=one_line_flags)
