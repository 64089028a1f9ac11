"""KV SRAM: k, v and q as int8 with a scale a head, written at their position alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emulator.blocks.kv_sram import KvSram
from emulator.blocks.wires import Wires
from emulator.config import from_hub_config
from emulator.silicon.spec import load_spec
from kernels import compiled, reference
from tests.support.signals import (
    CONSTANT,
    FILLS,
    fixed,
    same,
    signal,
    values_of,
)
from tests.support.tiny_model import TINY_CONFIG


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("head_dim", [48, 64])
def test_twins(fill, head_dim):
    """What is returned, what is written, and that nothing else is."""
    constants = np.stack([CONSTANT, CONSTANT + 5, CONSTANT - 7]).astype(np.int32)
    q, k, v = (signal((3, heads, head_dim), fill, heads) for heads in (6, 2, 2))
    rows, memories = np.array([4, 5, 8]), []
    for ops in (reference, compiled):
        rng = np.random.default_rng(3)
        values = [rng.integers(-128, 128, (9, 2, head_dim)).astype(np.int8) for _ in range(2)]
        scale = [rng.integers(0, 99, (9, 2, 2)).astype(np.int32) for _ in range(2)]
        memory = [values[0], scale[0], values[1], scale[1]]
        memories.append([*ops.kv_write(q, k, v, constants, rows, *memory), *memory])
    same(*memories)


def written() -> tuple[KvSram, Wires, dict[str, np.ndarray]]:
    """An SRAM of 8 positions after three tokens at position 4, the wires, and q, k, v before."""
    rng = np.random.default_rng(2)
    heads = {"q": 4, "k": 2, "v": 2}
    real = {name: rng.normal(0, 2, (3, n, 32)) for name, n in heads.items()}
    sram = KvSram.of(from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True}), 8)
    wires = Wires.carrying(3, 4, {name: fixed(array) for name, array in real.items()})
    sram.run(compiled, wires)
    return sram, wires, real


def test_what_is_stored():
    """v to half a step of int8; k rotated, so that q . k is kept but no single value."""
    sram, wires, real = written()
    v = values_of(sram.v[4:7], sram.v_scale[4:7])
    step = np.abs(real["v"]).max(axis=-1, keepdims=True) / 127
    assert (np.abs(v - real["v"]) <= 0.51 * step).all()
    k = values_of(sram.k[4:7], sram.k_scale[4:7])
    q = values_of(wires.q8, wires.q8_scale)  # holds log2(e) / sqrt(head_dim)
    expected = np.einsum("thd,thd->th", real["q"][:, ::2], real["k"]) / math.log(2) / math.sqrt(32)
    np.testing.assert_allclose(np.einsum("thd,thd->th", q[:, ::2], k), expected, atol=0.3)
    assert not np.allclose(k, real["k"], atol=0.5)


def test_other_positions_are_left_alone():
    sram, _, _ = written()
    for name, array in sram.memory.items():
        assert array[4:7].any(), name
        assert not array[:4].any(), name
        assert not array[7:].any(), name


def test_cost():
    """Two positions' worth of bits, key and value, wherever they are written."""
    sram, spec = written()[0], load_spec()
    assert sram.cost(spec, 1) == sram.cost(spec, 4000)
    assert sram.cost(spec, 1).sram_bits == 2 * sram.position_bits(spec)
    assert sram.position_bits(spec) == 2 * (8 * 32 + 24)
