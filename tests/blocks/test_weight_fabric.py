"""Weight fabric: every shape, code width and extreme gives the bits of the twin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Wires
from emulator.fixedpoint import scale_value
from emulator.silicon.spec import load_spec
from kernels import compiled, reference
from kernels.rom.few import FEW
from kernels.rom.pack import MAX_GROUP
from tests.support.signals import (
    ONE,
    matrix,
    scales,
    twins,
)


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
    tokens=st.integers(1, FEW + 3),
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


@pytest.mark.parametrize(("bits", "even"), [(3, False), (4, False), (6, False), (6, True)])
def test_fabric_by_a_few_tokens(bits, even, threads):
    """Every number of tokens up to where panels take over; looked-up and computed levels.

    An odd number of row tiles leaves half a vector of 512 bits empty; 40 chunks are summed in two
    parts, and their scales change within each.
    """
    rng = np.random.default_rng(bits)
    m = matrix(77, 32 * 40, bits, 32 * 5)
    if even:
        m = dataclasses.replace(m, alphabet=np.arange(-64, 64, 2, dtype=np.int8))
    x = rng.integers(-128, 128, (FEW + 1, m.columns)).astype(np.int8)
    scale = scales(rng, (FEW + 1,), 0, 30)
    whole = reference.fabric((m,), x, scale)[0]
    for tokens in range(1, FEW + 2):
        got = compiled.fabric((m,), x[:tokens], scale[:tokens])[0]
        np.testing.assert_array_equal(got, whole[:tokens])


def test_fabric_by_many_tokens(threads):
    """More tokens than a block of prefill has, and an odd number; panels cut inside a group.

    Groups of an even number of chunks, of an odd one, and of more than meet a scale at once.
    """
    rng = np.random.default_rng(0)
    for columns, group in ((96, 96), (1920, 960), (1216, 608), (2304, 1152), (1088, 64)):
        m = matrix(77, columns, 3, group)
        x = rng.integers(-128, 128, (131, columns)).astype(np.int8)
        twins("fabric", (m,), x, scales(rng, (131,), 0, 30))


@pytest.mark.parametrize("tokens", [5, FEW + 1])
@pytest.mark.parametrize("group", [32, 1 << 14])
@pytest.mark.parametrize("scale", [-128, 127])
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_the_widest_sums(bits, scale, group, tokens):
    """Sums at the edge of 32 bits: all levels 64, the widest scales, all inputs at one end."""
    m = matrix(8, 1 << 14, bits, group)
    m.group_scale[:] = scale
    m.codes[:] = 0 if bits != 4 else 0xFF
    for value in (-128, 127):
        x = np.full((tokens, m.columns), value, np.int8)
        twins("fabric", (m,), x, np.tile(np.array([[65535, 40]], np.int32), (tokens, 1)))
        twins("fabric", (m,), x[:1], np.array([[65535, 40]], np.int32))


def test_the_widest_group():
    """A whole group of the largest products stays within int32."""
    m = matrix(1, MAX_GROUP, 3, MAX_GROUP)
    x = np.full((1, MAX_GROUP), -127, np.int8)
    twins("fabric", (m,), x, np.array([[40000, 40]], np.int32))


def test_against_the_formula():
    """Levels, row scales and inputs multiplied as numbers; outputs split into heads."""
    rng = np.random.default_rng(5)
    q, k = matrix(64, 96, 3, 32, (24, 30)), matrix(32, 96, 6, 32, (24, 30))
    x, scale = rng.integers(-127, 128, (2, 96)).astype(np.int8), scales(rng, (2,), 20, 20)
    wires = Wires.carrying(2, 0, {"x": x, "x_scale": scale})
    WeightFabric("fabric_qkv", {"q": q, "k": k}, head_dim=32).run(compiled, wires)
    for wire, m in ((wires.q, q), (wires.k, k)):
        weights = reference.levels(m) * scale_value(reference.row_scales(m))[:, None]
        expected = (x * scale_value(scale)[:, None]) @ weights.T
        assert wire.shape == (2, m.rows // 32, 32)
        got = wire.reshape(2, -1) / ONE
        np.testing.assert_allclose(got, expected, rtol=2**-15, atol=1 / ONE)  # 16-bit scales


def test_cost():
    """Matrices side by side share the pass of the widest; a narrower one adds work, no time."""
    spec = load_spec()
    wide, narrow = matrix(64, 96, 6, 32), matrix(32, 96, 3, 32)
    alone = WeightFabric("fabric_o", {"delta": wide}).cost(spec, 1)
    both = WeightFabric("fabric_qkv", {"q": wide, "k": narrow}).cost(spec, 1)
    assert both.cycles == alone.cycles
    assert (alone.macs, both.macs) == (64 * 96, 96 * 96)
    assert both.rom_bits == wide.stored_bits + narrow.stored_bits
    long = WeightFabric("fabric_down", {"delta": matrix(64, 1 << 14, 6, 32)}).cost(spec, 1)
    assert long.cycles > alone.cycles
