"""The benchmarks' own arithmetic; no figure is tested."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import before, epoch, measure, profile_step
from benchmarks.gpu import hlo, resume, roofline
from benchmarks.gpu.kernels import Kernel, least_seconds
from benchmarks.numerics import continued, gradients
from brats_jax import models, tasks


def test_spread_and_ratio_by_turn():
    assert measure.Spread.of([4, 1, 3, 2, 5]) == (2, 3, 4)
    assert measure.ratio([2, 9, 4], [1, 3, 1]) == (2.5, 3, 3.5)
    assert measure.Spread(0.001, 0.002, 0.004).show(1e3) == "2.0 (quartiles 1.0 to 4.0)"


def test_ways_take_turns():
    order = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = measure.by_turns(ways, 2)
    assert order == ["a", "b"] * 3 and [len(times) for times in seconds.values()] == [2, 2]


def test_operations_of_a_compiled_program():
    text = """\
HloModule m, entry_computation_layout={(f32[4])->f32[4]}

%fused_computation (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %c = f32[4]{0} cosine(%p)
  ROOT %s = f32[4]{0} add(%c, %c)
}

%body (q: (s32[], f32[4])) -> (s32[], f32[4]) {
  %q = (s32[], f32[4]{0}) parameter(0)
  %g = f32[4]{0} get-tuple-element(%q), index=1
  %f = f32[4]{0} fusion(%g), kind=kLoop, calls=%fused_computation
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %f)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %w = (s32[], f32[4]{0}) while(%t0), condition=%cond, body=%body
  ROOT %r = f32[4]{0} copy(%g2)
}
"""
    assert hlo.Program(text).number() == 2  # the loop's fusion, the copy


def test_kernels_of_a_gpu_program_by_hand():
    """A convolution, a product with a loop around it and a fused transposition, as XLA writes."""
    text = """
%fused_transpose (param_0: f32[3,3,4,8]) -> bf16[8,3,3,4] {
  %param_0 = f32[3,3,4,8]{3,2,1,0} parameter(0)
  %transpose.1 = f32[8,3,3,4]{3,2,1,0} transpose(%param_0), dimensions={3,0,1,2}
  ROOT %convert.1 = bf16[8,3,3,4]{3,2,1,0} convert(%transpose.1)
}

%body (p: (s32[], f32[16,8])) -> (s32[], f32[16,8]) {
  %p = (s32[], f32[16,8]{1,0}) parameter(0)
  %gte = f32[16,8]{1,0} get-tuple-element(%p), index=1
  %dot.1 = f32[16,8]{1,0} fusion(%gte), kind=kCustom, calls=%gemm, metadata={op_name="jit(f)/dot"}
  %copy.1 = s32[] copy(%gte)
  ROOT %t = (s32[], f32[16,8]{1,0}) tuple(%copy.1, %dot.1)
}

%gemm (a: f32[16,8]) -> f32[16,8] {
  %a = f32[16,8]{1,0} parameter(0)
  ROOT %d = f32[16,8]{1,0} dot(%a, %a), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

ENTRY %main (x: bf16[2,8,8,4], k: f32[3,3,4,8]) -> bf16[2,8,8,8] {
  %x = bf16[2,8,8,4]{3,2,1,0} parameter(0)
  %k = f32[3,3,4,8]{3,2,1,0} parameter(1), metadata={op_name="k"}
  %first = bf16[8,3,3,4]{3,2,1,0} fusion(%k), kind=kInput, calls=%fused_transpose
  %conv = (bf16[2,8,8,8]{3,2,1,0}, /*index=1*/u8[0]{0}) custom-call(%x, %first), window={size=3x3 pad=1_1x1_1}, custom_call_target="__cudnn$convForward", metadata={op_name="jit(f)/conv"}
  %loop = (s32[], f32[16,8]{1,0}) while(%init), condition=%cond, body=%body
  ROOT %y = bf16[2,8,8,8]{3,2,1,0} get-tuple-element(%conv), index=0
}
"""  # noqa: E501
    program = hlo.Program(text)
    weights, image, output = 3 * 3 * 4 * 8, 2 * 8 * 8 * 4, 2 * 8 * 8 * 8
    assert program.kernels("main") == [
        Kernel("transposition", (4 + 2) * weights, ""),
        Kernel("convolution", 2 * (weights + image + output), "jit(f)/conv"),
    ]
    assert program.loops() == ["body"]
    assert program.kernels("body") == [
        Kernel("matrix product", 2 * 4 * 16 * 8, "jit(f)/dot"),
        Kernel("copy", 4 + 4 * 16 * 8, ""),
    ]
    # A GPU runs kernels in graphs, which are calls.
    graph = (
        text.replace("ENTRY %main", "%graph")
        + """
ENTRY %outer (x: bf16[2,8,8,4], k: f32[3,3,4,8]) -> bf16[2,8,8,8] {
  %x0 = bf16[2,8,8,4]{3,2,1,0} parameter(0)
  %k0 = f32[3,3,4,8]{3,2,1,0} parameter(1)
  ROOT %called = bf16[2,8,8,8]{3,2,1,0} call(%x0, %k0), to_apply=%graph
}
"""
    )
    outer = hlo.Program(graph)
    assert outer.kernels("outer") == program.kernels("main") and outer.loops() == ["body"]
    assert outer.number() == program.number() == 4
    # At 1,024 bytes a second the product takes one, the copy half of one, but 0.75 at the least.
    assert least_seconds(program.kernels("body"), 1024, 0.75) == 1.75


def test_of_what_is_cut_from_only_the_parts_are_read():
    text = """
%cut (p0: f16[1000,4], p1: s32[2], p2: f16[1000,4]) -> f16[3,4] {
  %p1 = s32[2]{0} parameter(1)
  %p0 = f16[1000,4]{1,0} parameter(0)
  %flat = f16[4000]{0} bitcast(%p0)
  %some = f16[12]{0} slice(%flat), slice={[0:12]}
  %rows = f16[2,4]{1,0} gather(%p0, %p1), slice_sizes={1,4}
  %p2 = f16[1000,4]{1,0} parameter(2)
  %both = f16[3,4]{1,0} slice(%p2), slice={[0:3], [0:4]}
  %all = f16[1000,4]{1,0} negate(%p2)
  ROOT %sum = f16[3,4]{1,0} add(%both, %both)
}

ENTRY %main (a: f16[1000,4], i: s32[2], b: f16[1000,4]) -> f16[3,4] {
  %a = f16[1000,4]{1,0} parameter(0)
  %i = s32[2]{0} parameter(1)
  %b = f16[1000,4]{1,0} parameter(2)
  %lone = f16[1,4]{1,0} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={1,4}
  %sent = (f16[1,4]{1,0}, f16[2,4]{1,0}) all-gather-start(%lone), dimensions={0}
  %came = f16[2,4]{1,0} all-gather-done(%sent)
  ROOT %f = f16[3,4]{1,0} fusion(%a, %i, %b), kind=kLoop, calls=%cut
}
"""
    numbers, row, whole = 4 * 2, 2 * 4, 2 * 1000 * 4
    assert [(k.kind, k.bytes) for k in hlo.Program(text).kernels("main")] == [
        ("dynamic-slice", 2 * row + 2 * numbers),
        ("all-gather-start", row + 3 * row),
        ("gather", 3 * row + (3 + 2) * row + numbers + whole),
    ]


def test_projection_by_hand():
    # 24,422 slices: 16,606 in training, 1,037 steps of 16; 4,151.74 to validate on.
    hours = epoch.projected_hours(0.01, 0.001, 2.0, 16, 20.0, 0.002)
    # 3,663.3 slices are evaluated.
    assert hours == pytest.approx((20 + 30 * (10.37 + 4.15174 + 2) + 7.3266) / 3600)


def test_count_of_a_step_by_hand():
    """A 1x1 convolution as a product and a strided 3x3 one, forward and both gradients."""

    def loss(params, x):
        y = jnp.einsum("bhwc,cd->bhwd", x, params[0])
        y = jax.lax.conv_general_dilated(
            y, params[1], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.sum()

    params = (jnp.zeros((3, 5)), jnp.zeros((3, 3, 5, 7)))
    x = jnp.zeros((2, 8, 8, 3))
    found = list(roofline.products(jax.make_jaxpr(jax.grad(loss))(params, x).jaxpr))
    product = 2 * (2 * 8 * 8) * 3 * 5
    convolution = 2 * (2 * 4 * 4) * 7 * 9 * 5
    # Of the product the inputs need no gradient; each gradient costs what its forward pass does.
    assert sorted(map(roofline.flops, found)) == sorted([product] * 2 + [convolution] * 3)
    forward = next(e for e in found if e.primitive.name == "dot_general")
    assert roofline.moved(forward) == 4 * (2 * 64 * 3 + 15 + 2 * 64 * 5)


def test_errors_of_gradients_by_hand():
    """Two batches in the plane: gradients (3, 4) and (3, -4), bfloat16 off by (0, 1) in both."""
    plain = jnp.array([[3.0, 4.0], [3.0, -4.0]])
    off = jnp.array([0.0, 1.0])
    found = gradients.compare((g, {"half": g + off, "other": g + 2 * off}) for g in plain)
    # All have the length 5, their mean (3, 0) has 3, and each is 4 from it.
    assert found.noise == pytest.approx(4 / 5)
    once = {"error": 1 / 5, "bias": 1 / 3, "chance": 1 / 2**0.5 / 3}
    assert found.forms["half"] == pytest.approx(once)
    assert found.forms["other"] == pytest.approx({name: 2 * x for name, x in once.items()})


def test_forms_of_a_gradient_round_what_they_say(shallow):
    """Where all of the network but the head is float32 again, nothing is left of bfloat16."""
    task = tasks.Segmentation(width=4)
    _, params, stats = models.split(task.build(0))
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.normal(size=(2, 32, 32, 4)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 4, (2, 32, 32)), jnp.uint8),
        "seed": jnp.zeros(2, jnp.uint32),
    }

    def of(form):
        return np.asarray(gradients.gradient_of("segment", 4, form)(params, stats, batch))

    plain, parts = of(gradients.Form()), ("encoder", "decoder")
    np.testing.assert_array_equal(of(gradients.Form(jnp.bfloat16, parts)), plain)
    for name in ("images", "kernels", "stem"):
        assert np.abs(of(gradients.FORMS[name]) - plain).max() > 1e-3, name


def test_pairs_beside_what_other_patches_do_by_hand(capsys):
    """Two runs, twice each: the runs' own level is in neither spread."""
    dice = {
        "float32": {("1", 0): 0.5, ("1", 1): 0.52, ("2", 0): 0.7, ("2", 1): 0.74, ("3", 0): 0.1},
        "bfloat16": {("1", 0): 0.49, ("1", 1): 0.54, ("2", 0): 0.71, ("2", 1): 0.72},
    }
    done = {
        (f"float32_{seed}", t, number): dict.fromkeys(continued.JUDGED, v)
        for t, of in dice.items()
        for (seed, number), v in of.items()
    }
    # From a run of its own it is another question, and what has no pair yet does not count.
    done["bfloat16_1", "bfloat16", 0] = dict.fromkeys(continued.JUDGED, 0.9)
    continued.show(done, "float32")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [name.split()[0] for name in continued.JUDGED]
    # Pairs -0.01, 0.02, 0.01, -0.02: mean 0, sd 0.0183, two standard errors of four as much.
    # Patches: (0.01^2 + 0.01^2 + 0.02^2 + 0.02^2) / 2 degrees of freedom, square root 0.0224.
    assert rows[0][1:] == ["0.6150", "+0.0000", "(0.0183),", "4", "pairs", "0.0183,", "0.0224"]
    continued.show(done, "own")
    assert "0.5000   +0.4000 (nan), 1 pairs   nan, -" in capsys.readouterr().out


def test_arrays_that_differ_in_a_bit():
    left = {"zero": np.zeros(2, np.float32), "one": np.ones(3, np.float32)}
    assert resume.differing(left, {name: array.copy() for name, array in left.items()}) == []
    assert resume.differing(left, {**left, "zero": np.array([0, -0.0], np.float32)}) == ["zero"]
    with pytest.raises(ValueError, match="not the same networks"):
        resume.differing(left, {"one": left["one"]})


def test_operations_at_the_same_time_share_it():
    """Alone for 4, with another for 2, three at once for 3, by hand; then a gap."""
    intervals = [(0, 6, "a"), (4, 9, "b"), (6, 9, "a"), (6, 9, "c"), (20, 21, "c")]
    found = profile_step.shares(intervals)
    assert found == {"a": 4 + 1 + 1, "b": 1 + 1, "c": 1 + 1}


def test_profile_of_a_step_adds_up(capsys):
    profile_step.main(["--width=4", "--batch=2", "--patch=32", "--dispatches=2", "--top=1"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.endswith(" %")]
    kinds = {line[:34].strip(): [float(x) for x in line[34:-9].split()] for line in rows}
    recorded = float(lines[0].split(";")[1].split()[0])
    assert abs(sum(map(sum, kinds.values())) - recorded) < 0.1 + 0.01 * len(kinds) * 3
    forward, backward, rest = kinds["convolution"]
    assert forward > 0 and backward > forward > rest
    assert kinds["element by element"][2] > 0  # Adam


def test_two_checkouts_by_turns(capsys, tmp_path):
    """This one and a copy: each process has the package of the folder that it is told."""
    root, copy = Path(before.__file__).parents[1], tmp_path / "copy"
    for name in ("brats_jax", "benchmarks"):
        shutil.copytree(root / name, copy / name)
    sizes = ("--stage=pretrain", "--width=4", "--batch=2", "--patch=32", "--turns=2")
    before.main([f"--other={copy}", *sizes])
    first, *each, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("pretrain, width 4, batch 2: ") and "over 2 turns" in first
    for line, folder in zip(each, (root, copy), strict=True):
        assert str(folder / "brats_jax" / "__init__.py") in line
    with pytest.raises(SystemExit, match="is no checkout"):
        before.main([f"--other={tmp_path}", *sizes])
