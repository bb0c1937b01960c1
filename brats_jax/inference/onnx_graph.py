"""Writes an ONNX graph node by node.

The names of results are numbers in the order of writing, so that equal models give equal bytes.

Reference: https://onnx.ai/onnx/intro/concepts.html
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from brats_jax.errors import BratsError

try:
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper
except ImportError:
    raise BratsError(
        "--format=onnx needs two more packages: pip install onnx onnxruntime "
        "(or install brats_jax[onnx])"
    ) from None

ONNX_VERSION = onnx.__version__
OPSET = 18  # onnxruntime 1.14 and later
IR_VERSION = 8  # of the file, as old as the opset
LARGEST = 2**31 - 1  # bytes of a protocol buffer
TYPES = {
    "bool": onnx.TensorProto.BOOL,
    "uint8": onnx.TensorProto.UINT8,
    "int64": onnx.TensorProto.INT64,
    "float32": onnx.TensorProto.FLOAT,
    "float64": onnx.TensorProto.DOUBLE,
}

Shape = Sequence[int | str]


class Graph:
    """Nodes and constants of a graph.

    Args:
      numbers: the numbers that name the results; None: they start at 0.
    """

    def __init__(self, numbers: "itertools.count[int] | None" = None) -> None:
        self._numbers = numbers or itertools.count()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    @property
    def constants(self) -> list[str]:
        """The names of the constants."""
        return list(self._constants)

    def new_name(self) -> str:
        """A name that no other result has."""
        return f"v{next(self._numbers)}"

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The result of an operator; `inputs` are names, '' for one left out."""
        return self.ops(kind, *inputs, count=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """The `count` results of an operator that has several."""
        outputs = [self.new_name() for _ in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def constant(self, value: Any, dtype: str, name: str = "") -> str:
        """The name of a constant array: `name` if given, otherwise a number."""
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        key = (dtype, array.shape, array.tobytes() if array.size <= 64 else b"")
        if not name and array.size <= 64 and key in self._known:
            return self._known[key]
        name = name or self.new_name()
        self._known.setdefault(key, name)
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        """A constant int64[n]."""
        return self.constant(values, "int64")

    def cast(self, x: str, dtype: str) -> str:
        """`x` in another type."""
        return self.op("Cast", x, to=TYPES[dtype])

    def reduced(self, kind: str, x: str, *axes: int, keepdims: bool = True) -> str:
        """`ReduceSum`, `ReduceMax` or `ReduceMin` over axes; over all where none is given."""
        over = (self.ints(*axes),) if axes else ()
        return self.op(kind, x, *over, keepdims=int(keepdims))

    def in_chunks(self, count: str, body: "Body", result: str, dtype: str) -> str:
        """Runs `body` for each of `count` chunks of rows, and joins the rows of all.

        Args:
          count: int64[], the number of chunks.
          body: the body of the loop.
          result: the body's result [size, ...] of `dtype`, of the same shape for each chunk.

        Returns:
          [count * size, ...], a result of this graph.
        """
        goes_on = body.op("Identity", body.condition)
        loop = helper.make_graph(
            body._nodes,
            "chunk",
            [
                helper.make_tensor_value_info(body.number, TYPES["int64"], []),
                helper.make_tensor_value_info(body.condition, TYPES["bool"], []),
            ],
            [
                helper.make_tensor_value_info(goes_on, TYPES["bool"], []),
                helper.make_tensor_value_info(result, TYPES[dtype], None),
            ],
            list(body._constants.values()),
        )
        stacked = self.op("Loop", count, self.constant(True, "bool"), body=loop)
        # [count, size, ...] to [count * size, ...].
        rest = self.op("Shape", stacked, start=2)
        return self.op("Reshape", stacked, self.op("Concat", self.ints(-1), rest, axis=0))

    def model(
        self,
        inputs: Sequence[tuple[str, str, Shape]],
        output: tuple[str, str, Shape],
        *,
        producer: tuple[str, str],
        note: str,
        facts: dict[str, str],
    ) -> bytes:
        """The file of the graph.

        Args:
          inputs, output: (name, type, shape), a dimension of any size being a string.
          producer: name and version of the program that wrote it.
          note: for the reader.
          facts: stored as `metadata_props`.

        Raises:
          BratsError: larger than a file of this format can be.
        """
        graph = helper.make_graph(
            self._nodes,
            "brats_jax",
            [helper.make_tensor_value_info(n, TYPES[t], shape) for n, t, shape in inputs],
            [helper.make_tensor_value_info(output[0], TYPES[output[1]], output[2])],
            list(self._constants.values()),
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=producer[0],
            producer_version=producer[1],
            doc_string=note,
        )
        helper.set_model_props(made, facts)
        size = made.ByteSize()
        if size >= LARGEST:
            raise BratsError(
                f"the program would have {size / 1e9:.1f} GB, and an ONNX file holds at most 2: "
                "export each fold alone, or use --format=stablehlo"
            )
        return made.SerializeToString(deterministic=True)

    def name(self, value: str, name: str) -> None:
        """Gives a result the name by which the model returns it."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))


class Body(Graph):
    """The body of a loop, which also reads the results of the graph around it.

    Args:
      outer: the graph around it.

    Attributes:
      number: int64[], the number of the chunk.
      condition: whether the loop goes on; it always does.
    """

    def __init__(self, outer: Graph) -> None:
        super().__init__(outer._numbers)
        self.number, self.condition = self.new_name(), self.new_name()


def session(program: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """A program, ready to run on CPU; `threads` 0 for as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
