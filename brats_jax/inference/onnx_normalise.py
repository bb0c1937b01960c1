"""The normalisation of `data.normalise` as an ONNX graph, in 64 bits.

It differs from NumPy only in the order of sums, before both are rounded to 16 bits.
"""

from brats_jax.data.normalise import HALF_MAX, IQR_OF_NORMAL, PERCENTILE
from brats_jax.inference.onnx_graph import Body, Graph

CHUNK = 8  # slices, bounds the memory


def normalise(graph: Graph, images: str, how: str) -> str:
    """Normalises images as `data.normalise.normalise` does.

    Args:
      graph: to write to.
      images: float32[n, H, W, 4], finite; all slices of a scan unless by 'slice'.
      how: one of `NORMALISATIONS`.

    Returns:
      float32[n, H, W, 4] with float16 precision.
    """
    return _by_slice(graph, images) if how == "slice" else _by_volume(graph, images, how)


def chunk_of(graph: Graph, body: Body, rows: str) -> str:
    """int64[CHUNK]: the rows of a loop's chunk; the last row fills up the last chunk.

    Args:
      graph: around the loop.
      body: of the loop.
      rows: int64[1] of `graph`, how many there are.
    """
    first = body.op("Mul", body.number, body.constant(CHUNK, "int64"))
    places = body.op("Add", first, body.ints(*range(CHUNK)))
    return body.op("Min", places, graph.op("Sub", rows, graph.ints(1)))


def chunks_of(graph: Graph, rows: str) -> str:
    """int64[]: the number of chunks that `rows`, int64[1], rows have."""
    whole = graph.op("Div", graph.op("Add", rows, graph.ints(CHUNK - 1)), graph.ints(CHUNK))
    return graph.op("Squeeze", whole)


def first_rows(graph: Graph, x: str, rows: str) -> str:
    """The rows of `x` without those that fill up the last chunk."""
    return graph.op("Slice", x, graph.ints(0), rows, graph.ints(0))


def _by_volume(graph: Graph, images: str, how: str) -> str:
    """The values of the brain alone, sorted out before and put back behind."""
    largest = graph.reduced("ReduceMax", graph.op("Abs", images), -1, keepdims=False)
    zero = graph.constant(0, "float32")
    brain = graph.op("Greater", largest, zero)
    # Of a scan without brain every value, all 0: no statistics of nothing.
    some = graph.op("Greater", graph.reduced("ReduceMax", largest, keepdims=False), zero)
    brain = graph.op("Or", brain, graph.op("Not", some))
    places = graph.op("Transpose", graph.op("NonZero", brain), perm=[1, 0])
    values = graph.op("Transpose", graph.op("GatherND", images, places), perm=[1, 0])
    scores = _z_scores(graph, values, robust=how == "robust")
    blank = graph.op("Expand", zero, graph.op("Shape", images))
    return graph.op("ScatterND", blank, places, graph.op("Transpose", scores, perm=[1, 0]))


def _by_slice(graph: Graph, images: str) -> str:
    rows = graph.op("Shape", images, start=0, end=1)
    body = Body(graph)
    # [CHUNK, H, W, 4] to [CHUNK, 4, H * W], and back.
    chunk = body.op("Gather", images, chunk_of(graph, body, rows))
    values = body.op("Transpose", chunk, perm=[0, 3, 1, 2])
    shape = body.op("Shape", values)
    scores = _z_scores(body, body.op("Reshape", values, body.ints(0, 0, -1)))
    chunk = body.op("Transpose", body.op("Reshape", scores, shape), perm=[0, 2, 3, 1])
    found = graph.in_chunks(chunks_of(graph, rows), body, chunk, "float32")
    return first_rows(graph, found, rows)


def _z_scores(graph: Graph, values: str, *, robust: bool = False) -> str:
    """Clipped, z-scored and rounded over the last axis of float32[..., m]; 0 where constant."""
    count = graph.op("Shape", values, start=-1)
    wide = graph.cast(values, "float64")
    percents = (PERCENTILE, 25, 50, 75) if robust else (PERCENTILE,)
    top, *quartiles = _percentiles(graph, values, count, percents)
    size = graph.cast(count, "float64")
    clipped = graph.op("Min", wide, top)
    mean = graph.op("Div", graph.reduced("ReduceSum", clipped, -1), size)
    centred = graph.op("Sub", clipped, mean)
    squares = graph.reduced("ReduceSum", graph.op("Mul", centred, centred), -1)
    deviation = graph.op("Sqrt", graph.op("Div", squares, size))
    zero = graph.constant(0, "float64")
    lowest = graph.cast(graph.reduced("ReduceMin", values, -1), "float64")
    varies = graph.op("And", graph.op("Greater", deviation, zero), graph.op("Less", lowest, top))
    if robust:
        low, middle, high = quartiles
        centred = graph.op("Sub", clipped, middle)
        spread = graph.op(
            "Div", graph.op("Sub", high, low), graph.constant(IQR_OF_NORMAL, "float64")
        )
        deviation = graph.op("Where", graph.op("Greater", spread, zero), spread, deviation)
    # A constant modality is divided by infinity.
    by = graph.op("Where", varies, deviation, graph.constant(float("inf"), "float64"))
    scores = graph.op("Div", centred, by)
    if robust:
        edge = (graph.constant(-HALF_MAX, "float64"), graph.constant(HALF_MAX, "float64"))
        scores = graph.op("Clip", scores, *edge)
    return graph.cast(round_to_half(graph, scores), "float32")


def _percentiles(graph: Graph, values: str, count: str, percents: tuple[float, ...]) -> list[str]:
    """np.percentile over the last axis, kept as 1, of float32[..., m]; in 64 bits.

    Args:
      graph: to write to.
      values: the numbers.
      count: int64[1], m.
      percents: 0..100.
    """
    one = graph.ints(1)
    last = graph.cast(graph.op("Sub", count, one), "float64")
    ranks = [graph.op("Mul", last, graph.constant([p / 100.0], "float64")) for p in percents]
    floors = [graph.op("Floor", rank) for rank in ranks]
    # How many values there are from the one at the rank upwards.
    above = [graph.op("Sub", count, graph.cast(floor, "int64")) for floor in floors]
    most = above[0] if len(above) == 1 else graph.op("Max", *above)
    sorted_, _ = graph.ops("TopK", values, most, count=2, axis=-1)
    found = []
    for rank, floor, number in zip(ranks, floors, above, strict=True):
        place = graph.op("Sub", number, one)
        above_it = graph.op("Max", graph.op("Sub", place, one), graph.ints(0))
        low, high = (
            graph.cast(graph.op("Gather", sorted_, at, axis=-1), "float64")
            for at in (place, above_it)
        )
        fraction = graph.op("Sub", rank, floor)
        step = graph.op("Sub", high, low)
        # Interpolates from the nearer end, as NumPy does.
        from_low = graph.op("Add", low, graph.op("Mul", step, fraction))
        rest = graph.op("Sub", graph.constant([1.0], "float64"), fraction)
        from_high = graph.op("Sub", high, graph.op("Mul", step, rest))
        nearer = graph.op("Less", fraction, graph.constant([0.5], "float64"))
        found.append(graph.op("Where", nearer, from_low, from_high))
    return found


def round_to_half(graph: Graph, x: str) -> str:
    """float64 rounded to the nearest float16, at most 65504 in size.

    Not a cast, which onnxruntime makes of float64 by way of float32: it would round twice.
    Numbers of the normal range keep 11 bits (Veltkamp's splitting),

        c = x (2^42 + 1),   c - (c - x)

    and smaller ones are multiples of 2^-24.

    Reference: Dekker 1971, https://doi.org/10.1007/BF01397083
    """
    scaled = graph.op("Mul", x, graph.constant(2.0**42 + 1, "float64"))
    normal = graph.op("Sub", scaled, graph.op("Sub", scaled, x))
    up, down = (graph.constant(2.0**e, "float64") for e in (24, -24))
    small = graph.op("Mul", graph.op("Round", graph.op("Mul", x, up)), down)
    tiny = graph.op("Less", graph.op("Abs", x), graph.constant(2.0**-14, "float64"))
    return graph.op("Where", tiny, small, normal)
