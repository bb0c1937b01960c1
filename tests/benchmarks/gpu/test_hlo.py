"""Kernels and bytes of compiled programs, from their text."""

import pytest

from benchmarks.gpu import hlo
from benchmarks.gpu.kernels import Kernel, Message, least_seconds, show_messages


def test_fusions_and_copies_are_the_kernels_of_a_program():
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


def test_kernels_of_a_gpu_program_have_these_kinds_and_bytes():
    """A convolution, a product inside a loop and a fused transposition, in XLA's text format."""
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
    # On a GPU a CUDA graph of kernels appears as a call.
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
    # At 1,024 bytes/s the product takes 1 s, and the copy 0.5 s, raised to the minimum of 0.75 s.
    assert least_seconds(program.kernels("body"), 1024, 0.75) == 1.75


def test_of_a_sliced_operand_only_the_slices_are_read():
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
    program = hlo.Program(text)
    assert [(m.kind, m.bytes) for m in program.messages("main")] == [("all-gather", 2 * row)]
    assert [(k.kind, k.bytes) for k in program.kernels("main")] == [
        ("dynamic-slice", 2 * row + 2 * numbers),
        ("gather", 3 * row + (3 + 2) * row + numbers + whole),
    ]


def test_messages_between_devices_have_bytes_and_kernels_beside_them():
    """A sum with a kernel between its start and its end, and a gathering with none, on 8 GPUs."""
    text = """
ENTRY %main (x: f32[4]) -> f32[8,4] {
  %x = f32[4]{0} parameter(0)
  %sum = f32[4]{0} all-reduce-start(%x), replica_groups={{0,1}}, to_apply=%add
  %c = f32[4]{0} copy(%x)
  %b = f32[4]{0} bitcast(%c)
  %done = f32[4]{0} all-reduce-done(%sum)
  ROOT %g = f32[8,4]{1,0} all-gather(%done), dimensions={0}
}
"""
    program = hlo.Program(text)
    assert program.kernels("main") == [Kernel("copy", 32, "")]
    both = [Message("all-reduce", 16, (Kernel("copy", 32, ""),)), Message("all-gather", 128)]
    assert program.messages("main") == both and program.number() == 3
    assert both[0].seconds(8) == pytest.approx(1e-5 + 2 * 7 / 8 * 16 / 360e9)
    assert both[1].seconds(8) == pytest.approx(1e-5 + 7 / 8 * 128 / 360e9)
    estimate, left = show_messages(both, 8, 1e12)
    assert estimate - left == pytest.approx(2e-6)  # that of the copy
