"""Stores, runs, a grid and exported models that commit a5fd08e has made, and its results.

golden/make_compatibility.py wrote them into golden/compatibility/data.tar.xz; tests go on from them
with the program as it is now. Not tests.

Results are compared bit by bit on the processor and with the libraries that they were made with,
elsewhere to `SAME_WEIGHTS` or `TRAINED_ON`.
"""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np
import safetensors.numpy
from result_folders import EXACT, Tolerance, differences, read_folder

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).with_name("golden") / "compatibility"
DATA = FOLDER / "data.tar.xz"
CONFIG = FOLDER / "config.py"
ENVIRONMENT = FOLDER / "environment.json"

# The same as in conftest.py, so that programs are compiled once for both, but not taken from there:
# these bits belong to these flags.
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters "
    "--xla_cpu_parallel_codegen_split_count=1"
)
# On another processor, or with other libraries. With the same weights sums differ in rounding,
# which moves single pixels from one class to another. Adam's first steps, which have one size
# whatever the gradient's, make more of it: after a training has gone on, a gradient's mean and the
# scores of this hardly trained network have nothing in common but their form.
SAME_WEIGHTS = Tolerance(number=1e-4, array=1e-4, labels=0.01)
TRAINED_ON = Tolerance(
    number=0.03,
    array=0.5,
    labels=0.0,
    unchecked=("evaluation", "tally_", "summary", "opt_state/", "/bias", "/value"),
)

# Facts in the documents of a store that earlier versions did not write.
NEW_FACTS = (
    ":tissue/",
    ":tumour_sha256",
    ":image_sha256/",
    ":notices/",
    ":summary/bytes",
    ":summary/with_holes",
    ":label_schemes/",
    "/label_scheme",
)
# The intensities of phantoms, which changed after version 0.1.0; their labels and axes did not.
OF_PHANTOMS = (
    *(".images.npy:", ":contrast/", ":background", ":audit/"),
    *(f"_{name}.nii.gz:voxels" for name in ("t1", "t1ce", "t2", "flair")),
)
# Of a report: columns of tables that are not compared, and the record of its own files.
PROSE = (":notes/", "written.json:")

SETTINGS = ("--config=config.py", "--config.data.store=store")
GRID_SETTINGS = (
    *("--config=config.py", "--config.data.store=store_volume", "--config.folds=(0,)"),
    *("--losses=dice_ce", "--ssl=true"),
)
# By the folder that it writes: the flags of a prediction.
PREDICTIONS = {
    "ensemble": (
        *("--checkpoint=run", "--input=cases", "--tta", "--calibrated", "--probabilities"),
        "--uncertainty",
    ),
    "resampled": (
        *("--checkpoint=run/fold_1", "--input=coarse_cases", "--resample", "--et_label=3"),
        *("--min_component_mm3=20", "--min_et_mm3=3"),
    ),
    "reconstructed": ("--checkpoint=run", "--input=cases", "--task=reconstruct"),
}
EXPORTS = {
    "segment": ("--checkpoint=run/fold_0", "--task=segment"),
    "reconstruct": ("--checkpoint=run/fold_0", "--task=reconstruct"),
}
PHANTOM = ("--source=phantom", "--patients=6", "--shape=16,40,32", "--workers=1")
# By the store that it writes: the flags of its preparation.
STORES = {
    "store": PHANTOM,
    "store_volume": (*PHANTOM, "--normalisation=volume"),
    "store_nifti": ("--source=cases", "--normalisation=volume", "--workers=1"),
    "store_kaggle": ("--source=kaggle", "--workers=1"),
}
PHANTOM_CASES = ("--patients=1", "--seed=100", "--shape=16,40,32")

# The networks of the runs have one block a stage.
_SHALLOW = (
    "import runpy, sys; from brats_jax.models import resnet; resnet.BLOCKS = (1, 1, 1, 1); "
    "runpy.run_module('brats_jax.' + sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
# Runs PROGRAM.stablehlo, with the libraries that README names, on the images in IN.npy.
_CALL = """
import sys
import numpy as np
from jax import export
program, images, output = sys.argv[1:]
called = export.deserialize(bytearray(open(program, "rb").read()))
np.save(output, np.asarray(called.call(np.load(images))))
"""


def environment(cache: Path, checkout: Path = ROOT) -> dict[str, str]:
    """The environment of a command of the program in `checkout`."""
    return {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": XLA_FLAGS,
        "XDG_CACHE_HOME": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def command_line(name: str, *flags: str) -> list[str]:
    """A command of the package, on shallow networks."""
    shallow = name in ("predict", "export", "calibrate")
    start = ["-c", _SHALLOW, name] if shallow else ["-m", f"brats_jax.{name}"]
    return [sys.executable, *start, *flags]


def run_command(folder: Path, cache: Path, name: str, *flags: str, checkout: Path = ROOT) -> str:
    """Runs a command in a folder to its successful end; returns its output."""
    done = subprocess.run(
        command_line(name, *flags),
        cwd=folder, env=environment(cache, checkout), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_images(cases: Path) -> np.ndarray:
    """float32[slices, H, W, 4] of the first case, as README feeds an exported program."""
    case = cases / "BraTS2021_00000"
    files = [
        nibabel.load(case / f"{case.name}_{name}.nii.gz") for name in ("t1", "t1ce", "t2", "flair")
    ]
    images = [nibabel.as_closest_canonical(f).get_fdata()[::-1, ::-1] for f in files]
    return np.stack(images, -1).transpose(2, 0, 1, 3).astype(np.float32)


def call_exported(program: Path, images: Path, output: Path, cache: Path) -> None:
    """Runs an exported program without this package."""
    variables = environment(cache) | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    arguments = [str(path.resolve()) for path in (program, images, output)]
    subprocess.run([sys.executable, "-I", "-c", _CALL, *arguments], env=variables, check=True)


def hash_weights(folder: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of each tensor of the .safetensors files in a folder, and its shape."""
    return {
        path.name: {
            name: f"{tensor.dtype}{tensor.shape} {hashlib.sha256(tensor.tobytes()).hexdigest()}"
            for name, tensor in sorted(safetensors.numpy.load_file(path).items())
        }
        for path in sorted(folder.glob("*.safetensors"))
    }


def unpack(folder: Path) -> None:
    """Unpacks what commit a5fd08e has left."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
    (folder / "config.py").write_bytes(CONFIG.read_bytes())


def fingerprint() -> dict[str, object]:
    """What the bits of results depend on: libraries, and the processor's instructions."""
    names = ("jax", "jaxlib", "numpy", "scipy", "nibabel", "scikit-image")
    cpu: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        cpu.setdefault(key.strip(), value.strip())
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    vectors = ("avx", "fma", "f16c", "amx", "sse4", "sve", "asimd")
    return {
        "libraries": {name: importlib.metadata.version(name) for name in names},
        "processor": " ".join(cpu.get(key, "") for key in ("vendor_id", "cpu family")),
        "instructions": sorted(flag for flag in flags if flag.startswith(vectors)),
    }


def same_bits_expected() -> bool:
    """Whether this machine is like the one on which the results were made."""
    return fingerprint() == json.loads(ENVIRONMENT.read_text())


def assert_same(
    expected: Path, actual: Path, otherwise: Tolerance | None, *, without: tuple[str, ...] = ()
) -> None:
    """Asserts that two folders, or two files, hold the same results.

    Args:
      expected, actual: the folders or files.
      otherwise: the tolerance where bits are not compared; None: only names of files are.
      without: parts of the names ('file:path/within/it') of what is not compared.
    """
    before, now = (
        {
            name: leaf
            for name, leaf in read_folder(folder).items()
            if not any(part in name for part in without)
        }
        for folder in (expected, actual)
    )
    assert before, f"{expected} holds no results"
    if otherwise is None and not same_bits_expected():
        assert files_of(before) == files_of(now)
        return
    found = differences(before, now, EXACT if same_bits_expected() else otherwise)
    assert not found, "\n".join(found[:20])


def files_of(leaves: Iterable[str]) -> set[str]:
    """The files that hold the named leaves."""
    return {name.partition(":")[0] for name in leaves}
