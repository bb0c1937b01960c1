"""Initialisation of an encoder from a file of ResNet-50 weights, with torchvision's names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from brats_jax.errors import BratsError
from brats_jax.models.torch_weights import leaves, torch_name
from brats_jax.runs.folder import STAGE_OF_TASK
from brats_jax.training.transfer import STEM, modality_names, transfer_stem

State = TypeVar("State")

# Prefixes that wrappers add to torchvision's names.
PREFIXES = ("module.", "model.", "encoder.", "backbone.")
NOT_ENCODER = ("fc.", "decoder.", "head.")
_STEM_NAME = "conv1.weight"
PICKLED_SUFFIXES = (".pth", ".pt", ".bin", ".pkl", ".pickle", ".ckpt", ".tar")


def load_encoder(
    path: str | Path, params: State, stats: State, modalities: Sequence[str] | None = None
) -> tuple[State, State]:
    """Reads ResNet-50 weights with torchvision's or timm's names into a model's encoder.

    Names may have a prefix (`module.`, `model.`, `encoder.`, `backbone.`). Ignores `fc.*`,
    `num_batches_tracked`, and the `decoder.*` and `head.*` of an exported network.

    Convolutions are transposed from OIHW to HWIO. An RGB stem is adapted to C modalities by
    timm's rule (`adapt_input_conv`), which keeps the response to equal channels:

        kernel[:, :, c] = 3 / C * rgb[:, :, c % 3]     for C > 1
        kernel[:, :, 0] = red + green + blue           for C = 1

    The stem of a file that names its modalities (an exported network) is copied modality by
    modality, as in `transfer.transfer_parts`.

    Args:
      path: a .safetensors file; pickled formats are refused.
      params, stats: the model's parameters and BatchNorm statistics; not changed.
      modalities: the model's input channels by name, in order; None: as those of the file.

    Returns:
      New (params, stats): the encoder from the file, all other leaves as given.

    Raises:
      BratsError: a file that is missing, pickled or not safetensors; tensors that are missing,
        unexpected or of another shape.

    Reference: https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/_manipulate.py
    """
    tensors, file_modalities = read_safetensors(Path(path))
    if tensors and {name.split(".")[0] for name in tensors} <= {*STAGE_OF_TASK}:
        raise BratsError(
            f"{path}: weights that stand in place of a run, not those of one encoder; export the "
            "run with --format=stablehlo, and give segment_fold_K.safetensors of that"
        )
    model_stem = dict(leaves(params))[STEM]
    stem = tensors.get(_STEM_NAME)
    if stem is not None and stem.ndim == 4:  # anything else is reported below
        try:
            tensors[_STEM_NAME] = _fitted_stem(stem, model_stem, file_modalities, modalities)
        except BratsError as error:
            raise BratsError(f"{path}: {error}; or export it again") from None
    problems: list[str] = []
    expected: set[str] = set()
    new_params = _load_state(params, tensors, expected, problems)
    new_stats = _load_state(stats, tensors, expected, problems)
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    width = None if stem is None or stem.ndim != 4 else stem.shape[0]
    if expected == set(tensors) and width != model_stem.shape[3]:
        raise BratsError(
            f"{path}: width is {width} there, {model_stem.shape[3]} here; give "
            f"--config.model.width={width}, or weights of another file"
        )
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BratsError(
            f"{path}: not the weights of this ResNet-50: {', '.join(problems[:5])}{more}; "
            "use torchvision's or timm's resnet50 (width 64)"
        )
    return new_params, new_stats


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The encoder's tensors, and its input modalities if the file names them."""
    if path.suffix.lower() in PICKLED_SUFFIXES:
        raise BratsError(
            f"{path}: pickled weights can run code when they are read and are refused; convert "
            "them once to safetensors (safetensors.torch.save_file) and give that file"
        )
    if not path.is_file():
        raise BratsError(f"{path}: no such weight file; give a .safetensors file, or 'random'")
    tensors: dict[str, np.ndarray] = {}
    try:
        # The flax framework, because NumPy alone has no bfloat16.
        with safe_open(path, framework="flax") as file:
            modalities = (file.metadata() or {}).get("modalities", "")
            for full_name in file.keys():  # noqa: SIM118 (not a mapping)
                name = _without_prefix(full_name)
                if name.startswith(NOT_ENCODER) or name.endswith("num_batches_tracked"):
                    continue
                if name in tensors:
                    raise BratsError(f"{path}: two tensors are called {name}; keep one encoder")
                tensors[name] = np.asarray(file.get_tensor(full_name), np.float32)
    except (SafetensorError, OSError) as error:
        raise BratsError(
            f"{path}: not a readable safetensors file ({error}); fetch or convert it again"
        ) from None
    return tensors, [name for name in modalities.split(",") if name]


def _without_prefix(name: str) -> str:
    while True:
        for prefix in PREFIXES:
            if name.startswith(prefix):
                name = name.removeprefix(prefix)
                break
        else:
            return name


def _fitted_stem(
    stem: np.ndarray,
    model_stem: jax.Array,
    file_modalities: Sequence[str],
    modalities: Sequence[str] | None,
) -> np.ndarray:
    """The stem of a file, with the input channels of the model where it can be given these.

    Args:
      stem: kernel of the file [width, channels, h, w].
      model_stem: kernel of the model [h, w, channels, width].
      file_modalities: the channels of the file by name; empty where it does not name them.
      modalities: the channels of the model; None: those of the file.

    Raises:
      BratsError: modalities that are unknown, repeated, or not one for each channel.
    """
    if file_modalities and modalities:
        source = jnp.asarray(stem.transpose(2, 3, 1, 0))
        names = modality_names(file_modalities, "source"), modality_names(modalities, "target")
        if source.shape[:2] + source.shape[3:] != model_stem.shape[:2] + model_stem.shape[3:]:
            return stem
        return np.asarray(transfer_stem(source, model_stem, *names)).transpose(3, 2, 0, 1)
    channels = model_stem.shape[2]
    if not file_modalities and stem.shape[1] == 3 != channels:
        return _adapted_rgb_stem(stem, channels)
    return stem


def _adapted_rgb_stem(kernel_oihw: np.ndarray, channels: int) -> np.ndarray:
    """An RGB stem for another number of channels, see `load_encoder`."""
    if channels == 1:
        return kernel_oihw.sum(1, keepdims=True)
    return kernel_oihw[:, np.arange(channels) % 3] * np.float32(3 / channels)


def _load_state(
    state: State, tensors: dict[str, np.ndarray], expected: set[str], problems: list[str]
) -> State:
    """A state with the encoder's tensors; the same state where there are problems.

    Args:
      state: parameters or BatchNorm statistics.
      tensors: of the file, by torchvision's names.
      expected: gets the names that the state needs.
      problems: gets the tensors that are missing or do not fit, in words.
    """
    edited = []
    for path, old in leaves(state):
        if path[0] != "encoder":
            edited.append(old)
            continue
        name = torch_name(path)
        expected.add(name)
        new = tensors.get(name)
        if new is None:
            problems.append(f"missing {name}")
            continue
        if path[-1] == "kernel" and new.ndim == 4:
            new = new.transpose(2, 3, 1, 0)
        if new.shape != old.shape:
            problems.append(f"{name} is {tensors[name].shape}, which does not fit {old.shape}")
            continue
        edited.append(jnp.asarray(new, old.dtype))
    if problems:
        return state
    return jax.tree.unflatten(jax.tree.structure(state), edited)
