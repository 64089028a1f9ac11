"""Every compiled kernel gives the bits of its NumPy twin: random, extreme and odd inputs."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.config import MAX_BLOCK
from kernels import compiled, reference
from kernels.rom.pack import LEAST_ROW_EXPONENT, MAX_GROUP
from tests.support.signals import (
    CONSTANT,
    FILLS,
    INT32,
    WIDTHS,
    matrix,
    same,
    scales,
    signal,
    twins,
)
from weights.rotate import mixer


def test_every_public_function_has_a_twin():
    """`compiled` offers functions of `reference` only, with the same parameters."""
    for name, function in inspect.getmembers(compiled, inspect.isfunction):
        if not name.startswith("_"):
            expected = inspect.signature(getattr(reference, name)).parameters
            assert list(inspect.signature(function).parameters) == list(expected), name


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize(
    ("columns", "group"), [(32, 32), (96, 32), (192, 64), (576, 64), (1536, 1536), (96, 96)]
)
def test_fabric_and_lookup_at_every_shape(bits, columns, group, threads):
    """Rows 1 .. 17 cross two tile borders; batches of 1 .. 5 tokens."""
    rng = np.random.default_rng(columns)
    for rows in range(1, 18):
        m = matrix(rows, columns, bits, group)
        tokens = 1 + rows % 5
        x = rng.integers(-127, 128, (tokens, columns)).astype(np.int8)
        twins("fabric", (m,), x, scales(rng, (tokens,), -5, 40))
        twins("lookup", m, rng.integers(0, rows, tokens))


@pytest.mark.parametrize("value", [-128, -127, 0, 127])
@pytest.mark.parametrize("exponents", [(-128, -100), (-20, 20), (100, 127)])
def test_fabric_with_extreme_inputs_and_far_exponents(value, exponents):
    """Equal inputs drive the longest sums; scales far out saturate or vanish alike."""
    m = matrix(13, 1536, 6, 64, exponents)
    x = np.full((3, 1536), value, np.int8)
    for far in (-200, -31, 0, 31, 62, 127, 500):
        scale = np.array([[65535, far], [32768, far], [0, 127]], np.int32)
        twins("fabric", (m,), x, scale)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from([3, 4, 6]),
    rows=st.integers(1, 80),
    chunks=st.integers(1, 40),
    group_chunks=st.integers(1, 5),
    tokens=st.integers(1, 11),
    value=st.sampled_from([None, -128, -127, 127]),
    threads=st.integers(1, 4),
)
def test_fabric_fuzz(bits, rows, chunks, group_chunks, tokens, value, threads):
    """Any shape, several matrices at once, all extremes, any number of threads."""
    columns = 32 * chunks * group_chunks
    rng = np.random.default_rng(rows + columns)
    x = rng.integers(-128, 128, (tokens, columns)).astype(np.int8)
    if value is not None:
        x[:] = value
    matrices = tuple(
        matrix(height, columns, width, 32 * group_chunks)
        for height, width in ((rows, bits), (81 - rows, 6), (9, 3))
    )
    before = compiled.team().threads
    compiled.team().resize(threads)
    try:
        scale = scales(rng, (tokens,), -5, 40)
        twins("fabric", matrices[: 1 + tokens % 3], x, scale)
    finally:
        compiled.team().resize(before)


def test_fabric_by_many_tokens(threads):
    """More tokens than a block of prefill has, and an odd number; panels cut inside a group."""
    rng = np.random.default_rng(0)
    for columns, group in ((96, 96), (1920, 960)):
        m = matrix(77, columns, 3, group)
        x = rng.integers(-128, 128, (131, columns)).astype(np.int8)
        twins("fabric", (m,), x, scales(rng, (131,), 0, 30))


@pytest.mark.parametrize("scale", [-128, 127])
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_the_widest_sums(bits, scale):
    """Sums at the edge of 32 bits: all levels 64, the widest scales, all inputs at one end."""
    m = matrix(8, 1 << 14, bits, 32)
    m.group_scale[:] = scale
    m.codes[:] = 0 if bits != 4 else 0xFF
    for value in (-128, 127):
        x = np.full((5, m.columns), value, np.int8)
        twins("fabric", (m,), x, np.tile(np.array([[65535, 40]], np.int32), (5, 1)))
        twins("fabric", (m,), x[:1], np.array([[65535, 40]], np.int32))


def test_lookup_with_far_exponents():
    """Row exponents from the least that an image may hold: saturated where that is needed."""
    for exponents in ((LEAST_ROW_EXPONENT, LEAST_ROW_EXPONENT), (-10, 16), (60, 127)):
        twins("lookup", matrix(17, 96, 4, 32, exponents), np.arange(17))
    m = matrix(17, 96, 4, 32, (LEAST_ROW_EXPONENT, LEAST_ROW_EXPONENT))
    exact = reference.levels(m).astype(object) * m.row_mantissa.astype(object)[:, None]
    expected = np.clip(exact << (16 - LEAST_ROW_EXPONENT), INT32.min, INT32.max)
    np.testing.assert_array_equal(compiled.lookup(m, np.arange(17)), expected.astype(np.int64))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("width", WIDTHS)
def test_norms_and_narrowing(fill, width):
    """narrow, rotate_narrow, rms_norm, gain_norm at every fill, batches 1 and 5."""
    rng = np.random.default_rng(width)
    gain = rng.integers(-32767, 32768, width).astype(np.int16)
    far = np.array([65535, -100], np.int32)
    for tokens in (1, 5):
        v = signal((tokens, width), fill, tokens)
        for constant in (CONSTANT, far):
            twins("narrow", v, constant)
            for block in (1, 32, width & -width):
                twins("rotate_narrow", v, block, constant)
            for epsilon in (0, 1, 12345678, 1 << 40):
                twins("rms_norm", v, epsilon, constant)
                twins("gain_norm", v, gain, mixer(width), epsilon, constant)


def test_narrowing_works_on_any_leading_axes():
    """[T, heads, n] is what RoPE hands over."""
    v = signal((3, 4, 64), "random")
    twins("narrow", v, CONSTANT)
    twins("rotate_narrow", v, 64, CONSTANT)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(INT32.min, INT32.max), min_size=32, max_size=32))
def test_narrowing_of_any_vector(values):
    v = np.array([values], np.int32)
    twins("narrow", v, CONSTANT)
    twins("rotate_narrow", v, 32, CONSTANT)
    twins("rms_norm", v, 2748779, CONSTANT)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_rope(fill, head_dim):
    rng = np.random.default_rng(head_dim)
    tables = rng.integers(-16384, 16385, (2, 20, head_dim // 2)).astype(np.int16)
    for start in (0, 7, 15):
        twins("rope", signal((5, 3, head_dim), fill), start, *tables)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(1, 1, 32), (4, 2, 32), (9, 3, 64)])
def test_attention_on_narrowed_signals(fill, heads, kv_heads, head_dim, threads):
    """What the datapath can really hold: q, k and v pass through the narrowing kernels first."""
    q, q_scale = reference.rotate_narrow(signal((3, heads, head_dim), fill), head_dim, CONSTANT)
    k, k_scale = reference.rotate_narrow(signal((16, kv_heads, head_dim), fill), 32, CONSTANT)
    v, v_scale = reference.narrow(signal((16, kv_heads, head_dim), fill, 1), CONSTANT)
    for start in (0, 1, 13):
        twins("attention", q, q_scale, k, k_scale, v, v_scale, start)


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 1, 32), (6, 3, 64), (8, 2, 128)])
@pytest.mark.parametrize("context", [127, 128, 129, 300])
def test_attention_over_long_contexts(heads, kv_heads, head_dim, context, threads):
    """Around the border of a block of positions; values at both ends, one head all -127."""
    rng = np.random.default_rng(context)
    q, k, v = (
        rng.choice([-127, 127, 0, 5, -1], (n, h, head_dim)).astype(np.int8)
        for n, h in ((2, heads), (context, kv_heads), (context, kv_heads))
    )
    q[:, 0], k[:, 0], v[:, 0] = -127, -127, 127
    spread = [scales(rng, (n, h), 20, 26) for n, h in ((2, heads), (context, kv_heads))]
    twins(
        "attention",
        q,
        spread[0],
        k,
        spread[1],
        v,
        scales(rng, (context, kv_heads), 14, 30),
        context - 2,
    )


@pytest.mark.parametrize("exponents", [(0, 40), (25, 32), (-20, 0), (100, 127)])
def test_attention_on_arbitrary_scales(exponents):
    """Scales of zero vectors between others, values at +-127, exponents far apart."""
    rng = np.random.default_rng(exponents[1])
    for _ in range(5):
        q, k, v = (rng.choice([-127, 127, 0, 5], (n, 2, 32)).astype(np.int8) for n in (2, 9, 9))
        q_scale, k_scale, v_scale = (scales(rng, (n, 2), *exponents) for n in (2, 9, 9))
        twins("attention", q, q_scale, k, k_scale, v, v_scale, 7)


@pytest.mark.parametrize("gate", FILLS)
@pytest.mark.parametrize("up", FILLS)
def test_swiglu_and_residual_add(gate, up):
    a, b = signal((2, 97), gate, 1), signal((2, 97), up, 2)
    twins("swiglu", a, b)
    twins("residual_add", a, b)


def test_token_by_token_over_threads(threads):
    """More tokens than chunks, and one: what a thread does for its tokens, it does for no other."""
    constants = np.stack([CONSTANT, CONSTANT + 5, CONSTANT - 7]).astype(np.int32)
    for tokens in (1, 2, 67):
        a, b = signal((tokens, 96), "random", 1), signal((tokens, 96), "random", 2)
        twins("rms_norm", a, 1 << 20, CONSTANT)
        twins("residual_add", a, b)
        twins("swiglu_narrow", a >> 10, b, 32, CONSTANT)
        q, k, v = (signal((tokens, heads, 32), "random", heads) for heads in (6, 2, 2))
        results = []
        for ops in (reference, compiled):
            sram = [np.zeros((70, 2, 32), np.int8), np.zeros((70, 2, 2), np.int32)] * 2
            memory = [part.copy() for part in sram]
            results.append([*ops.kv_write(q, k, v, constants, 3, *memory), *memory])
        same(*results)


@pytest.mark.parametrize("name", ["swiglu", "residual_add"])
def test_arrays_in_column_order(name):
    """A result in the order of memory, whatever the order of the arguments."""
    a = np.asfortranarray(signal((4, 6), "random"))
    twins(name, a, a)


@pytest.mark.parametrize("fill", ["largest", "smallest", "alternating", "random"])
def test_the_widest_hadamard_transform(fill):
    """32,768 values of up to 2**15 add up to 2**30, so that int32 holds every sum."""
    v = signal((1, MAX_BLOCK), fill)
    twins("rotate_narrow", v, MAX_BLOCK, CONSTANT)


def test_the_widest_group():
    """A whole group of the largest products stays within int32."""
    m = matrix(1, MAX_GROUP, 3, MAX_GROUP)
    x = np.full((1, MAX_GROUP), -127, np.int8)
    twins("fabric", (m,), x, np.array([[40000, 40]], np.int32))


@pytest.mark.parametrize("fill", FILLS)
def test_swiglu_narrowed(fill):
    for width, block in ((96, 32), (1536, 512)):
        gate, up = signal((3, width), "small", 1) << 10, signal((3, width), fill, 2)
        twins("swiglu_narrow", gate, up, block, CONSTANT)


@pytest.mark.parametrize("fill", FILLS)
def test_kv_write(fill):
    """What is returned, what is written, and that nothing else is."""
    constants = np.stack([CONSTANT, CONSTANT + 5, CONSTANT - 7]).astype(np.int32)
    q, k, v = (signal((3, heads, 64), fill, heads) for heads in (6, 2, 2))
    memories = []
    for ops in (reference, compiled):
        rng = np.random.default_rng(3)
        values = [rng.integers(-128, 128, (9, 2, 64)).astype(np.int8) for _ in range(2)]
        scale = [rng.integers(0, 99, (9, 2, 2)).astype(np.int32) for _ in range(2)]
        memory = [values[0], scale[0], values[1], scale[1]]
        memories.append([*ops.kv_write(q, k, v, constants, 4, *memory), *memory])
    same(*memories)


def test_swiglu_at_every_table_edge():
    """One below, on and above each of the 257 points, at an `up` of +1 and of -2**31."""
    points = (np.arange(257) - 128) << 12
    gate = (points[:, None] + [-1, 0, 1]).astype(np.int32)
    for up in (1 << 16, INT32.min):
        twins("swiglu", gate, np.full_like(gate, up))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-4, 4) | st.sampled_from([INT32.min, INT32.max]), min_size=1))
def test_top_k(values):
    """Many ties; k above the number of logits."""
    logits = np.array(values, np.int32)
    for k in (1, 2, 8, len(values)):
        twins("top_k", logits, k)
