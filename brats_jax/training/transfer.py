"""Initialisation of a network from a pretrained one: pure edits of parameter pytrees.

`transfer_parts` copies one of `TRANSFER_PARTS`. The default, the encoder, is the paper's partial
transfer from the pretraining network to the segmentation network. The two encoders differ in one
leaf, the kernel of the stem:

    pretraining   encoder.conv1.kernel  [7, 7, 2, 64]   t1, t1gd
    segmentation  encoder.conv1.kernel  [7, 7, 4, 64]   t1, t1gd, t2, flair

    kernel[:, :, 0:2] = pretrained kernel          (t1 and t1gd)
    kernel[:, :, 2:4] stay randomly initialised    (t2 and flair)

With a context of slices, the channels are those of modality and offset (`data.neighbours`): a
pretraining without context fills the channels of the slice itself, one with context also those of
its neighbours.

With a fusion other than `early` a stem, an encoder or a bias belongs to one modality: those of the
modalities that both networks read are copied, and a shared encoder is copied as a whole.

All other leaves of the encoder have equal shapes and are copied, BatchNorm statistics included.
The decoder and the head stay randomly initialised. `transfer_mask` marks what was copied.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax.data.neighbours import AT, canonical_channel, is_presence
from brats_jax.errors import BratsError
from brats_jax.models.torch_weights import LeafPath, leaves
from brats_jax.runs.settings import TRANSFER_PARTS

State = TypeVar("State")

STEM: LeafPath = ("encoder", "conv1", "kernel")  # [7, 7, modalities, width]
# The convolution of a stem and its BatchNorm, where no stage is above them in the path.
STEM_LAYERS, STAGES = ("conv1", "bn1"), ("layer1", "layer2", "layer3", "layer4")
# Parts of an encoder of which each modality has its own: encoder.stems.t1.conv1.kernel.
BY_MODALITY = ("stems", "own", "identity")
STATISTICS = ("mean", "var")  # leaves of a BatchNorm that are not parameters


def is_in_part(parts: str, path: LeafPath) -> bool:
    """Whether a leaf belongs to one of `TRANSFER_PARTS`.

    encoder                 the five stages and the stem, with BatchNorm statistics
    encoder_decoder         these and the decoder; never the head, which predicts images
    stem                    the first convolution and its BatchNorm, or those of each modality
    all_but_stem            the encoder without them
    batch_norm_statistics   means and variances of the encoder, no parameter
    """
    if parts == "encoder_decoder":
        return path[0] in ("encoder", "decoder")
    if path[0] != "encoder":
        return False
    if parts == "batch_norm_statistics":
        return path[-1] in STATISTICS
    if parts in ("stem", "all_but_stem"):
        return _is_stem(path) == (parts == "stem")
    return True


def _is_stem(path: LeafPath) -> bool:
    return path[-2] in STEM_LAYERS and not any(part in STAGES for part in path)


def _modality_of(path: LeafPath) -> str | None:
    """The modality that a leaf belongs to; None: to all."""
    return path[2] if path[0] == "encoder" and path[1] in BY_MODALITY else None


def _channels_of(path: LeafPath, names: Sequence[str]) -> list[str]:
    """The input channels of one stem's kernel.

    The only stem of a network has all channels. The stem of one modality has those of this
    modality. The stem of a shared encoder reads one modality at a time: its channels are named by
    the offsets of the slices alone ('', '@-1', '@+1').

    Args:
      path: of the kernel.
      names: the input channels of the network.
    """
    if path == STEM:
        return list(names)
    images = [name for name in names if not is_presence(name)]
    if (modality := _modality_of(path)) is not None:
        return [name for name in images if name.split(AT)[0] == modality]
    first = images[0].split(AT)[0]
    return [name.removeprefix(first) for name in images if name.split(AT)[0] == first]


def transfer_parts(
    source: State,
    target: State,
    source_modalities: Sequence[str],
    target_modalities: Sequence[str],
    parts: str = TRANSFER_PARTS[0],
) -> State:
    """Copies a part of `source` into `target`; the stem modality by modality.

    The stem's kernel [7, 7, C, width] has one slice [:, :, c] per input channel: a modality, of
    the slice itself or of a neighbour (t1@-1). Each source slice goes to the target channel of the
    *same name*, wherever that is. Channels that the source does not have keep the target's values.

    Args:
      source: parameters or BatchNorm statistics of the pretrained model (or a pytree of both).
      target: the same kind of pytree of the model to initialise; not changed.
      source_modalities, target_modalities: input channels of the two by name, in order. If
        they have none in common, the target's stem stays and the other leaves are copied.
      parts: one of `TRANSFER_PARTS`, see `is_in_part`.

    Returns:
      A new pytree like `target`. Copied leaves have their own memory, on the default device:
      `source` and the result may both be donated.

    Raises:
      BratsError: an unknown or repeated modality; a number of modalities other than the stem's
        channels; parts that differ in a leaf or its shape (another width, another decoder).
    """
    source_names = modality_names(source_modalities, "source")
    target_names = modality_names(target_modalities, "target")
    wanted = {
        path: leaf
        for path, leaf in leaves(source)
        if is_in_part(parts, path) and _modality_of(path) in (None, *target_names)
    }
    edited = []
    for path, old in leaves(target):
        if not is_in_part(parts, path) or _modality_of(path) not in (None, *source_names):
            edited.append(old)
            continue
        if path not in wanted:
            raise BratsError(f"transfer: the source has no {_dotted(path)}; {_same(path)}")
        new = wanted.pop(path)
        if _is_stem(path) and path[-1] == "kernel":
            theirs, ours = (_channels_of(path, names) for names in (source_names, target_names))
            edited.append(transfer_stem(new, old, theirs, ours))
            continue
        if new.shape != old.shape:
            raise BratsError(_shape_message(path, new.shape, old.shape))
        # By NumPy, because JAX compiles a program for every shape that it copies.
        edited.append(jnp.asarray(np.array(new), old.dtype))
    if wanted:
        path = next(iter(wanted))
        raise BratsError(f"transfer: the target has no {_dotted(path)}; {_same(path)}")
    return jax.tree.unflatten(jax.tree.structure(target), edited)


def transfer_mask(
    target: State,
    source_modalities: Sequence[str],
    target_modalities: Sequence[str],
    parts: str = TRANSFER_PARTS[0],
) -> State:
    """Marks the values of `target` that `transfer_parts` replaces.

    Args:
      target: parameters, or their shapes.
      source_modalities, target_modalities, parts: as in `transfer_parts`.

    Returns:
      A pytree like `target` of bool arrays that broadcast to its leaves: True or False; for a
      stem's kernel [1, 1, C, 1], True for the channels that the source has.
    """
    source_names = modality_names(source_modalities, "source")
    target_names = modality_names(target_modalities, "target")
    marks = []
    for path, _ in leaves(target):
        mark = np.array(is_in_part(parts, path) and _modality_of(path) in (None, *source_names))
        if _is_stem(path) and path[-1] == "kernel":
            theirs, ours = (_channels_of(path, names) for names in (source_names, target_names))
            shared = np.array([name in theirs for name in ours])
            mark = mark & shared[None, None, :, None]
        marks.append(mark)
    return jax.tree.unflatten(jax.tree.structure(target), marks)


def with_stem_of(source: State, target: State) -> State:
    """`target` with the stem's kernel of `source`; both are networks with the same inputs."""
    stem = dict(leaves(source))[STEM]
    edited = [stem if path == STEM else leaf for path, leaf in leaves(target)]
    return jax.tree.unflatten(jax.tree.structure(target), edited)


def modality_names(modalities: Sequence[str], which: str) -> list[str]:
    """The canonical names of input channels; refuses one that is named twice (BratsError).

    Args:
      modalities: input channels by name, in order.
      which: 'source' or 'target', for the message.
    """
    if isinstance(modalities, str):
        modalities = [modalities]
    names = [canonical_channel(name) for name in modalities]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BratsError(f"transfer: {which} modality '{twice[0]}' is named twice; name it once")
    return names


def transfer_stem(
    source: jax.Array, target: jax.Array, source_names: list[str], target_names: list[str]
) -> jax.Array:
    """Copies the channels that two stems share, by name.

    Args:
      source, target: kernels float[h, w, C, width]; C may differ.
      source_names, target_names: their input channels, in order.

    Returns:
      A copy of `target` with the channels of `source`.

    Raises:
      BratsError: a number of names other than C; kernels of another size or width.
    """
    for kernel, names, which in (
        (source, source_names, "source"),
        (target, target_names, "target"),
    ):
        if kernel.shape[2] != len(names):
            raise BratsError(
                f"transfer: the {which} stem has {kernel.shape[2]} channels, but its modalities "
                f"are {', '.join(names)}; name one per channel"
            )
    if source.shape[:2] + source.shape[3:] != target.shape[:2] + target.shape[3:]:
        raise BratsError(_shape_message(STEM, source.shape, target.shape))
    shared = [name for name in source_names if name in target_names]
    take = np.array([source_names.index(name) for name in shared], int)
    put = np.array([target_names.index(name) for name in shared], int)
    stem = np.array(target)
    stem[:, :, put] = np.asarray(source)[:, :, take]
    return jnp.asarray(stem, stem.dtype)


def _shape_message(path: LeafPath, source: tuple[int, ...], target: tuple[int, ...]) -> str:
    return (
        f"transfer: {_dotted(path)} is {list(source)} in the source and {list(target)} in the "
        "target; use the same width for both"
    )


def _same(path: LeafPath) -> str:
    return f"use the same {path[0]}" + " and config.model.fusion" * (path[0] == "encoder")


def _dotted(path: LeafPath) -> str:
    return ".".join(path)
