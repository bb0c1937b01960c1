"""Graphs in ONNX, run by onnxruntime."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from processes import ROOT

from brats_jax.errors import BratsError
from brats_jax.inference import onnx_graph
from brats_jax.inference.onnx_graph import Body, Graph, session


def finished(graph, result, dtype="float32"):
    graph.name(result, "y")
    return graph.model(
        [("x", "float32", ("n",))], ("y", dtype, ("m",)), producer=("me", "1"), note="a note",
        facts={"modalities": "t1,t2"},
    )  # fmt: skip


def test_chunks_are_joined_in_order():
    graph = Graph()
    body = Body(graph)
    # Two numbers of x at a time, times the number of the chunk.
    start = body.op("Mul", body.number, body.constant(2, "int64"))
    rows = body.op("Gather", "x", body.op("Add", start, body.ints(0, 1)))
    result = body.op("Mul", rows, body.cast(body.number, "float32"))
    count = graph.constant(3, "int64")
    program = finished(graph, graph.in_chunks(count, body, result, "float32"))
    x = np.arange(6, dtype=np.float32)
    (found,) = session(program, threads=1).run(None, {"x": x})
    np.testing.assert_array_equal(found, [0, 0, 2, 3, 8, 10])


def test_the_file_states_its_facts_and_small_constants_are_written_once():
    graph = Graph()
    twice = [graph.constant(2.0, "float32") for _ in range(2)]
    assert twice[0] == twice[1] != graph.constant(2.0, "float64")
    running = session(finished(graph, graph.op("Mul", "x", twice[0])), threads=1)
    meta = running.get_modelmeta()
    assert meta.custom_metadata_map == {"modalities": "t1,t2"} and meta.producer_name == "me"
    assert running.get_inputs()[0].shape == ["n"]


def test_a_program_that_is_too_large_for_a_file_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_graph, "LARGEST", 10)
    with pytest.raises(BratsError, match="an ONNX file holds at most 2: export each fold alone"):
        finished(Graph(), "x")


def test_a_missing_package_is_one_line():
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from brats_jax.errors import BratsError\n"
        "try:\n  import brats_jax.inference.onnx_graph\n"
        "except BratsError as error: print(error)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert printed.startswith("--format=onnx needs two more packages: pip install onnx onnxruntime")
