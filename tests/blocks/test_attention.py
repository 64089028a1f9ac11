"""Attention: causal softmax over the KV SRAM, at the border of every block of positions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emulator.blocks.attention import Attention
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.wires import Wires
from emulator.config import from_hub_config
from emulator.silicon.spec import load_spec
from kernels import compiled, reference
from tests.support.signals import (
    CONSTANT,
    FILLS,
    fixed,
    scales,
    signal,
    twins,
    values_of,
)
from tests.support.tiny_model import TINY_CONFIG


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(1, 1, 32), (4, 2, 32), (9, 3, 64)])
def test_attention_on_narrowed_signals(fill, heads, kv_heads, head_dim, threads):
    """What the datapath can really hold: q, k and v pass through the narrowing kernels first."""
    q, q_scale = reference.rotate_narrow(signal((3, heads, head_dim), fill), head_dim, CONSTANT)
    k, k_scale = reference.rotate_narrow(signal((16, kv_heads, head_dim), fill), 32, CONSTANT)
    v, v_scale = reference.narrow(signal((16, kv_heads, head_dim), fill, 1), CONSTANT)
    for start in (0, 1, 13):
        twins("attention", q, q_scale, k, k_scale, v, v_scale, *(2 * [np.arange(start, start + 3)]))


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
        *(2 * [np.array([context - 2, context - 1])]),
    )


@pytest.mark.parametrize("exponents", [(0, 40), (25, 32), (-20, 0), (100, 127)])
def test_attention_on_arbitrary_scales(exponents):
    """Scales of zero vectors between others, values at +-127, exponents far apart."""
    rng = np.random.default_rng(exponents[1])
    for _ in range(5):
        q, k, v = (rng.choice([-127, 127, 0, 5], (n, 2, 32)).astype(np.int8) for n in (2, 9, 9))
        q_scale, k_scale, v_scale = (scales(rng, (n, 2), *exponents) for n in (2, 9, 9))
        twins("attention", q, q_scale, k, k_scale, v, v_scale, *(2 * [np.array([7, 8])]))


@pytest.mark.parametrize("head_dim", [16, 48, 64])
@pytest.mark.parametrize("window", [1, 5, 128, 129, 300])
def test_windows_and_heads_that_no_vector_fits(window, head_dim, threads):
    """Around a window's edge, in passes of three; heads that the kernel fills up with zeros."""
    rng = np.random.default_rng(window)
    q = rng.integers(-127, 128, (3, 6, head_dim)).astype(np.int8)
    k, v = (rng.integers(-127, 128, (300, 3, head_dim)).astype(np.int8) for _ in range(2))
    spread = [scales(rng, shape, 20, 26) for shape in ((3, 6), (300, 3), (300, 3))]
    for start in (0, 3, 126, 128, 297):
        held, places = (k, spread[1], v, spread[2]), np.arange(start, start + 3)
        twins("attention", q, spread[0], *held, places, places, window)


def test_a_window_forgets_what_lies_before_it():
    """The same answer on an SRAM that holds something else there, and another within it."""
    rng = np.random.default_rng(4)
    q, k, v = (rng.integers(-127, 128, (n, 2, 32)).astype(np.int8) for n in (1, 9, 9))
    spread = [np.full((n, 2, 2), (40000, 22), np.int32) for n in (1, 9, 9)]
    answers = []
    for change in (slice(0, 0), slice(0, 4), slice(4, 5)):
        other = v.copy()
        other[change] = 99
        held = k, spread[1], other, spread[2]
        answers.append(compiled.attention(q, spread[0], *held, *(2 * [np.array([8])]), 5))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert (answers[0] != answers[2]).any()


@pytest.mark.parametrize("head_dim", [48, 64])
@pytest.mark.parametrize("window", [5, 1000])
def test_tokens_of_several_sequences(head_dim, window, threads):
    """Each attends to its own sequence's rows: as alone on an SRAM that holds no other."""
    rng = np.random.default_rng(window)
    q = rng.integers(-127, 128, (4, 6, head_dim)).astype(np.int8)
    k, v = (rng.integers(-127, 128, (300, 3, head_dim)).astype(np.int8) for _ in range(2))
    spread = [scales(rng, shape, 20, 26) for shape in ((4, 6), (300, 3), (300, 3))]
    positions, rows = np.array([3, 4, 0, 130]), np.array([103, 104, 0, 290])
    held = k, spread[1], v, spread[2]
    twins("attention", q, spread[0], *held, positions, rows, window)
    together = compiled.attention(q, spread[0], *held, positions, rows, window)
    for t, (position, row) in enumerate(zip(positions, rows, strict=True)):
        own = [array[row - position : row + 1] for array in held]
        here = [np.array([position])] * 2
        alone = compiled.attention(q[t : t + 1], spread[0][t : t + 1], *own, *here, window)
        np.testing.assert_array_equal(alone[0], together[t])


def blocks(context: int) -> tuple[KvSram, Attention]:
    config = from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True})
    sram = KvSram.of(config, context)
    return sram, Attention.of(sram)


def test_against_the_formula():
    """softmax(q . k / sqrt(head_dim)) v of five tokens in a row, in floats on the same int8."""
    rng, (sram, attention) = np.random.default_rng(2), blocks(8)
    shapes = {"q": 4, "k": 2, "v": 2}
    signals = {name: fixed(rng.normal(0, 2, (5, n, 32))) for name, n in shapes.items()}
    wires = Wires.carrying(5, 0, signals)
    sram.run(compiled, wires)
    attention.run(compiled, wires)
    q = values_of(wires.q8, wires.q8_scale) * math.log(2)  # to powers of e
    k, v = values_of(sram.k[:5], sram.k_scale[:5]), values_of(sram.v[:5], sram.v_scale[:5])
    scores = np.einsum("thd,shd->hts", q, np.repeat(k, 2, axis=1))
    scores[:, ~np.tri(5, dtype=bool)] = -np.inf  # no token sees a later one
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    expected = np.einsum("hts,shd->thd", p, np.repeat(v, 2, axis=1)).reshape(5, -1)
    step = np.abs(expected).max(axis=-1, keepdims=True) / 127
    assert (np.abs(values_of(wires.x, wires.x_scale) - expected) <= 0.5 * step + 0.02).all()


def test_cost():
    """Reads every position's key and value, so work is proportional to the context."""
    spec, (_, attention) = load_spec(), blocks(8)
    one, many = attention.cost(spec, 1), attention.cost(spec, 1000)
    assert (many.macs, many.sram_bits) == (1000 * one.macs, 1000 * one.sram_bits)
    assert one.macs == 2 * 4 * 32
    cycles = [attention.cost(spec, context).cycles for context in range(1, 6000, 500)]
    assert cycles == sorted(cycles)
    assert cycles[-1] > cycles[0]


def test_cost_of_a_window():
    """Beyond the window nothing grows; within it, it is that of a layer without one."""
    spec, (sram, everywhere) = load_spec(), blocks(8)
    window = Attention.of(sram, 100)
    assert window.cost(spec, 5000) == window.cost(spec, 100) == everywhere.cost(spec, 100)
    assert window.cost(spec, 99) == everywhere.cost(spec, 99)
