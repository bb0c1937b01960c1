"""A trained run as an ONNX program, from raw slices to labels or a modality.

    normalise                  all slices
    choose                     the slices that are not blank, and one that is
    for 8 of them at a time    neighbours, networks, labels
    put back                   a blank slice has the labels of the one that was computed

The graph is written from the definition of the network, not converted from a traced program:
converters write convolutions of JAX's memory order with a transposition around each, and know
neither a batch of any size nor all operations of the normalisation.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brats_jax import about
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.data.neighbours import offsets
from brats_jax.data.normalise import normalise
from brats_jax.data.planes import axes_in_words, slices_along, to_axial
from brats_jax.errors import BratsError
from brats_jax.inference import export_files, onnx_normalise
from brats_jax.inference.ensemble import Ensemble
from brats_jax.inference.onnx_graph import ONNX_VERSION, OPSET, Body, Graph, Shape, session
from brats_jax.inference.onnx_network import NetworkWriter
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runs.export_folder import ONNX, ExportFolder
from brats_jax.runs.folder import fold_name
from brats_jax.tasks import Pretraining, Task
from brats_jax.tasks.segmentation_outputs import OWN_LABELS, ClassOutputs, RegionOutputs

_IMAGES, _PRESENT = "images", "present"
# Rounding moves probabilities and z-scores by 1e-5 or so; another network moves them by more.
_TOLERANCE = 1e-2


def program(trained: TrainedRun, slice_shape: tuple[int, int], *, details: bool = False) -> bytes:
    """The content of an ONNX file.

    Equal weights give equal bytes.

    Args:
      trained: the run; its compute type is not used, the program computes in float32.
      slice_shape: H and W of the slices.
      details: return float32[n, H, W, K], the mean of the probabilities of all networks, instead
        of labels.

    Raises:
      BratsError: a network, an input or outputs that cannot be written as ONNX.
    """
    graph = Graph()
    task = trained.task
    raw, modalities = _IMAGES, len(MODALITIES)
    given: list[tuple[str, str, Shape]] = [(raw, "float32", ("n", *slice_shape, modalities))]
    if task.takes_missing:  # hidden before the normalisation, whose brain is that of all modalities
        raw = graph.op("Where", _PRESENT, raw, graph.constant(0, "float32"))
        given.append((_PRESENT, "bool", (modalities,)))
    x = onnx_normalise.normalise(graph, raw, trained.normalisation)
    rows = graph.op("Shape", x, start=0, end=1)
    chosen, position = _slices_to_compute(graph, x, rows, task.context)
    computed = graph.op("Shape", chosen)

    body = Body(graph)
    slices = body.op("Gather", chosen, onnx_normalise.chunk_of(graph, body, computed))
    inputs = _inputs(body, task, x, slices, rows)
    found = []
    for member in trained.members:
        writer = NetworkWriter(body, f"{fold_name(member.fold)}.")
        found.append(writer.write(_module(member.network), inputs, slice_shape))
    name, dtype, shape = output_of(trained)
    if details and trained.segments:
        dtype, shape = "float32", (len(task.outputs),)
    result = _result(body, found, trained, details=details)
    every = graph.in_chunks(onnx_normalise.chunks_of(graph, computed), body, result, dtype)
    graph.name(graph.op("Gather", every, position), name)
    return graph.model(
        given,
        (name, dtype, ("n", *slice_shape, *shape)),
        producer=("brats_jax", about.__version__),
        note=about.RESEARCH_USE_ONLY,
        facts=_facts(trained),
    )


def output_of(trained: TrainedRun) -> tuple[str, str, tuple[int, ...]]:
    """Name and type of the program's output, and its shape behind [n, H, W]."""
    if trained.segments:
        return "labels", "uint8", ()
    count = len(trained.targets)
    return ",".join(trained.targets), "float32", (count,) if count > 1 else ()


def _facts(trained: TrainedRun) -> dict[str, str]:
    """Facts stored in the program, for readers who have no description of it."""
    facts = {
        "research_use_only": about.RESEARCH_USE_ONLY,
        "brats_jax": about.__version__,
        "model": trained.hash,
        "modalities": ",".join(MODALITIES),
        "used": ",".join(trained.task.stem),
        "intensities": "raw, skull-stripped, background 0, 1 mm pixels",
        "orientation": axes_in_words(trained.record.plane).partition(":")[0],
        "normalisation": trained.normalisation,
    }
    if trained.segments:
        facts["labels"] = ",".join(CLASSES)
    return facts


def _module(network: RestoredNetwork) -> nnx.Module:
    weights = jax.tree.map(np.asarray, (network.params, network.stats))
    return nnx.merge(network.graph, *weights, copy=True)


def _slices_to_compute(graph: Graph, x: str, rows: str, context: int) -> tuple[str, str]:
    """The slices to compute, and the position of each slice's result among theirs.

    Slices of zeros whose neighbours are zeros have equal results: only the first one is computed.

    Returns:
      (int64[m], the numbers of the slices to compute; int64[n], for each slice a position in
      them).
    """
    largest = graph.reduced("ReduceMax", graph.op("Abs", x), 1, 2, 3, keepdims=False)
    zero, one = graph.constant(0, "int64"), graph.constant(1, "int64")
    numbers = graph.op("Range", zero, graph.op("Squeeze", rows), one)
    near = [largest]
    for offset in offsets(context):
        near.append(graph.op("Gather", largest, _neighbours(graph, numbers, rows, offset)))
    most = graph.op("Max", *near)
    filled = graph.op("Greater", most, graph.constant(0, "float32"))
    # The first blank slice; a filled one if none is blank.
    blank = graph.cast(graph.op("Not", filled), "float32")
    first = graph.op("ArgMax", blank, axis=0, keepdims=1)
    computed = graph.op("Or", filled, graph.op("Equal", numbers, first))
    chosen = graph.op("Reshape", graph.op("NonZero", computed), graph.ints(-1))
    rank = graph.op("Sub", graph.op("CumSum", graph.cast(computed, "int64"), zero), one)
    return chosen, graph.op("Where", filled, rank, graph.op("Gather", rank, first))


def _neighbours(graph: Graph, slices: str, rows: str, offset: int) -> str:
    """The neighbours of slices, int64[m]; at an end of the scan the slice at the end."""
    last = graph.op("Sub", rows, graph.ints(1))
    moved = graph.op("Add", slices, graph.ints(offset))
    return graph.op("Max", graph.op("Min", moved, last), graph.ints(0))


def _inputs(body: Body, task: Task, x: str, slices: str, rows: str) -> str:
    """The network's input float32[m, C, H, W] for slices int64[m] of x float32[n, H, W, 4]."""
    images = [body.op("Gather", x, slices)]
    for offset in offsets(task.context):
        images.append(body.op("Gather", x, _neighbours(body, slices, rows, offset)))
    if task.takes_missing:
        there = body.cast(_PRESENT, "float32")
        images.append(body.op("Expand", there, body.op("Shape", images[0])))
    every = body.op("Concat", *images, axis=-1) if len(images) > 1 else images[0]
    sources = channel_sources(task)
    places = body.ints(*(source or 0 for source in sources))
    chosen = body.op("Gather", every, places, axis=-1)
    if None in sources:
        keep = [float(source is not None) for source in sources]
        chosen = body.op("Mul", chosen, body.constant(keep, "float32"))
    return body.op("Transpose", chosen, perm=[0, 3, 1, 2])


def channel_sources(task: Task) -> list[int | None]:
    """The source of each channel of a network's input; None: the channel is 0.

    The sources are found by giving `Task.test_input` a number for each source, so that no task has
    to describe its input a second time. They are numbered over the four modalities of the slice,
    those of its neighbours, and the four flags of presence.

    Raises:
      BratsError: a channel that is none of these.
    """
    count = len(MODALITIES)
    near = 2 * task.context * count
    # Each image has a number of its own; a flag is 1.
    images = np.arange(2, 2 + count, dtype=np.float32)
    beside = np.arange(2 + count, 2 + count + near, dtype=np.float32)
    rows = 1 + count * task.takes_missing
    batch = {
        "image": jnp.asarray(np.tile(images, (rows, 1, 1, 1))),
        "neighbours": jnp.asarray(np.tile(beside, (rows, 1, 1, 1))),
    }
    if task.takes_missing:  # with all modalities, and with each alone
        batch["present"] = jnp.concatenate([jnp.ones((1, count), bool), jnp.eye(count, dtype=bool)])
    found = np.asarray(task.test_input(batch))[:, 0, 0]
    sources: list[int | None] = []
    for number, alone in zip(found[0], found[1:].T, strict=True):
        if number in (*images, *beside):
            sources.append(int(number) - 2)
        elif number == 0:
            sources.append(None)
        elif number == 1 and alone.sum() == 1:
            sources.append(count + near + int(alone.argmax()))
        else:
            raise BratsError(
                f"the input of the task {task.name} cannot be written as ONNX: "
                "use --format=stablehlo"
            )
    return sources


def _result(body: Body, found: Sequence[str], trained: TrainedRun, *, details: bool) -> str:
    """Labels or images of the outputs float32[m, K, H, W] of all networks."""
    task, several = trained.task, len(found) > 1
    if isinstance(task, Pretraining):
        places = [task.outputs.index(name) for name in task.tested]
        return _images(body, _mean(body, found), places)
    channels = trained.members[0].network.channels
    if not isinstance(channels, ClassOutputs | RegionOutputs):
        raise BratsError(
            f"outputs of the kind {type(channels).__name__} cannot be written as ONNX: "
            "use --format=stablehlo"
        )
    classes = isinstance(channels, ClassOutputs)
    edge = 0.0
    if several or details:
        found = [body.op("Softmax", y, axis=1) if classes else body.op("Sigmoid", y) for y in found]
        edge = 0.5
    mean = _mean(body, found)
    if details:
        return _images(body, mean, list(range(len(task.outputs))))
    if classes:
        return body.cast(body.op("ArgMax", mean, axis=1, keepdims=0), "uint8")
    inside = body.op("Greater", mean, body.constant(edge, "float32"))
    labels, nested = body.constant(0, "uint8"), ""
    for k, value in enumerate(OWN_LABELS):
        region = body.op("Gather", inside, body.constant(k, "int64"), axis=1)
        nested = body.op("And", nested, region) if nested else region
        labels = body.op("Where", nested, body.constant(value, "uint8"), labels)
    return labels


def _mean(body: Body, found: Sequence[str]) -> str:
    return body.op("Mean", *found) if len(found) > 1 else found[0]


def _images(body: Body, y: str, places: Sequence[int]) -> str:
    """Channels of float32[m, K, H, W]: [m, H, W] of one, [m, H, W, K] of several."""
    if len(places) == 1:
        return body.op("Gather", y, body.constant(places[0], "int64"), axis=1)
    return body.op("Transpose", body.op("Gather", y, body.ints(*places), axis=1), perm=[0, 2, 3, 1])


def check(trained: TrainedRun, slice_shape: tuple[int, int]) -> None:
    """Compares the program with the networks, on a few slices of random numbers.

    Networks that take missing modalities are also given cases without the first of their inputs,
    and with the first alone.

    Raises:
      BratsError: their probabilities or images differ by more than rounding.
    """
    images, task = _test_slices(slice_shape), trained.task
    running = session(program(trained, slice_shape, details=True))
    ensemble = Ensemble(trained.members, flips=False)
    given: list[tuple[str, ...]] = [MODALITIES]
    if task.takes_missing:
        first, *others = task.inputs
        given += [tuple(others), (first,)]
    for present in given:
        there = np.isin(MODALITIES, present)
        feed = {_IMAGES: images}
        if task.takes_missing:
            feed[_PRESENT] = there
        (found,) = running.run(None, feed)
        # Hidden before the normalisation, whose brain is that of all modalities.
        expected = _expected(trained, ensemble, np.where(there, images, np.float32(0)), present)
        if trained.segments:
            channels = trained.members[0].network.channels
            found = np.asarray(channels.class_probabilities(jnp.asarray(found)))
        difference = float(np.abs(found - expected).max())
        if not difference < _TOLERANCE * max(1.0, float(np.abs(expected).max())):
            which = "" if present == MODALITIES else f" where a case has {', '.join(present)} alone"
            raise BratsError(
                f"the ONNX program differs from the network by {difference:.2g}{which}: not "
                "written; use --format=stablehlo, and report it"
            )


def _expected(
    trained: TrainedRun, ensemble: Ensemble, images: np.ndarray, present: tuple[str, ...]
) -> np.ndarray:
    """Probabilities or images of the networks, for slices of their plane."""
    plane = trained.record.plane
    # The ensemble takes axial slices of any model, the program those of its plane.
    x = to_axial(normalise(images, trained.normalisation), plane)
    if not trained.segments:
        return slices_along(ensemble.reconstruct(x), plane)
    probabilities = ensemble.segment(x, present=present, details=True).probabilities
    assert probabilities is not None
    return slices_along(probabilities, plane)


def _test_slices(slice_shape: tuple[int, int]) -> np.ndarray:
    """Three slices float32[3, H, W, 4]: noise of two sizes in a box, and a blank one."""
    rng = np.random.default_rng(0)
    height, width = slice_shape
    images = np.zeros((3, height, width, len(MODALITIES)), np.float32)
    box = images[1:, height // 8 : -(height // 8) or None, width // 8 : -(width // 8) or None]
    coarse = rng.gamma(2.0, 200.0, (2, height, width, len(MODALITIES)))[:, ::8, ::8]
    coarse = coarse.repeat(8, 1).repeat(8, 2)[:, : box.shape[1], : box.shape[2]]
    box[...] = coarse + rng.gamma(2.0, 20.0, box.shape)
    return images


def write(
    trained: TrainedRun, output: Path, *, slice_shape: tuple[int, int] | None = None
) -> list[Path]:
    """Exports a run, or one fold of it, as ONNX into a folder; returns the written files.

    Args:
      trained: the run.
      output, slice_shape: see `export_files.write`, which also says what is refused.

    Raises:
      BratsError: as in `program`, `check` and `export_files.write`.
    """

    def make(shape: tuple[int, int]) -> export_files.Program:
        content = program(trained, shape)
        check(trained, shape)
        versions = {"onnx": ONNX_VERSION, "onnx_opset": str(OPSET)}
        return export_files.Program(content, ("onnx",), "float32", versions)

    return export_files.write(trained, ExportFolder(output, ONNX), make, slice_shape=slice_shape)
