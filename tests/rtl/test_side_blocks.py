"""Blocks that some models have besides: norms of heads, adapters, windows of attention."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth")

import numpy as np

from emulator.blocks.attention import Attention
from emulator.blocks.head_norm import HeadNorm
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.lora import Lora
from emulator.blocks.weight_fabric import FabricSums
from emulator.config import LlamaConfig, from_hub_config
from emulator.rtl.bench import Verdict
from emulator.silicon.cost import lora_turns
from emulator.silicon.spec import ChipSpec
from emulator.verification.vector_files import Vector
from kernels.sram_matrix import SramMatrix
from tests.blocks.test_lora import side
from tests.rtl.test_blocks import agrees, vector_of
from tests.support.described import described
from tests.support.signals import FILLS, matrix, scales, signal
from tests.support.tiny_model import TINY_CONFIG

SCALE = {"x_scale": np.array([[50000, 20]], np.int32)}
SIDES = {  # rows, rank and cells of each matrix; bits of the masks; what the chip has
    "qkv": ([(16, 4, 0), (8, 4, 0), (8, 0, 0)], 3, {}),
    "gate_up": ([(8, 2, 0), (8, 4, 3)], 6, {"vector__lanes": 8}),
    "o": ([(24, 0, 7)], 4, {"lora__cells": 3, "vector__levels": 1}),  # a repair's cells alone
}
OUTPUTS = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up"), "o": ("delta",), "down": ("delta",)}


def norm_of_heads(heads: tuple[int, int], dim: int, fill: str) -> Vector:
    rng = np.random.default_rng(dim)
    gains = [rng.integers(-32767, 32768, dim).astype(np.int16) for _ in "qk"]
    block = HeadNorm.of(heads, 1e-6, *gains, (13, 12))
    wires = {n: signal((1, h, dim), fill, h) for n, h in zip("qk", heads, strict=True)}
    return vector_of(block, wires)


@pytest.mark.parametrize(("lanes", "levels", "fill"), [(16, 4, "random"), (32, 3, "one-hot")])
def test_norm_of_heads(lanes, levels, fill):
    """Heads of several beats, and beats of several heads, the last one half full."""
    spec = described(vector__lanes=lanes, vector__levels=levels)
    agrees(norm_of_heads((3, 2), 32 if lanes == 16 else 16, fill), spec)


@pytest.mark.slow
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(("lanes", "levels"), [(16, 1), (48, 2), (4096, 4), (96, 3)])
def test_norm_of_heads_over_descriptions(fill, lanes, levels):
    agrees(norm_of_heads((4, 2), 48, fill), described(vector__lanes=lanes, vector__levels=levels))


def adapted(
    name: str, sides: list[tuple[int, int, int]], bits: int, columns: int, spec: ChipSpec,
    exponents: tuple[int, int] = (17, 40),
) -> tuple[Verdict, Verdict]:  # fmt: skip
    """A fabric's sums, and what an adapter makes of these."""
    outputs = OUTPUTS[name]
    masks = {w: matrix(r, columns, bits, 32) for w, (r, _, _) in zip(outputs, sides, strict=True)}
    x = np.random.default_rng(columns).integers(-127, 128, (1, columns)).astype(np.int8)
    sums = vector_of(FabricSums(f"sums_{name}", masks), {"x": x, **SCALE})
    of: dict[str, SramMatrix] = {
        w: side(rows, columns, rank, cells, exponents)
        for w, (rows, rank, cells) in zip(outputs, sides, strict=True)
    }
    wires = {"x": x, **SCALE, "sums": sums.arrays["out"]["sums"]}
    vector = vector_of(Lora.of(f"lora_{name}", of, 0, bits), wires)
    return agrees(sums, spec), agrees(vector, spec)


@pytest.mark.parametrize("name", SIDES)
def test_adapters(name):
    sides, bits, chip = SIDES[name]
    adapted(name, sides, bits, 96, described(**chip))


@pytest.mark.slow
@pytest.mark.parametrize("exponents", [(0, 1), (0, 127), (17, 40)])
@pytest.mark.parametrize(("lanes", "levels", "scale"), [(8, 1, 3), (16, 4, 3), (32, 2, 5)])
def test_adapters_over_descriptions(exponents, lanes, levels, scale):
    """Shifts to both sides; ranks that do not divide the multipliers; turns of B and of cells."""
    spec = described(
        fabric__lanes=lanes, vector__levels=levels, lora__scale=scale, lora__macs=320,
        lora__cells=4, vector__lanes=16,
    )  # fmt: skip
    adapted("qkv", [(40, 3, 5), (24, 6, 0), (8, 0, 2)], 4, 96, spec, exponents)


def test_rows_of_an_adapter_dealt_out():
    """Whole rows in order, as many a turn as there are multipliers for."""
    turns = lora_turns([(5, 4), (2, 0), (3, 6)], 13)
    assert turns == [[(0, 0, 3)], [(0, 3, 5)], [(2, 0, 2)], [(2, 2, 3)]]


def window_attention(
    config: LlamaConfig, context: int, window: int, spec: ChipSpec
) -> tuple[Vector, ChipSpec]:
    """A ring of `window` places, some of them overwritten."""
    rng, sram = np.random.default_rng(context), KvSram.of(config, context)
    sram.k[:] = rng.integers(-127, 128, sram.k.shape)
    sram.v[:] = rng.integers(-127, 128, sram.v.shape)
    sram.k_scale[:] = scales(rng, sram.k_scale.shape[:2], 16, 24)
    sram.v_scale[:] = scales(rng, sram.v_scale.shape[:2], 14, 26)
    q8 = rng.integers(-127, 128, (1, config.heads, config.head_dim)).astype(np.int8)
    wires = {"q8": q8, "q8_scale": scales(rng, (1, config.heads), 8, 14)}
    return vector_of(Attention.of(sram, window), wires, context - 1), spec


@pytest.mark.parametrize(
    ("context", "window"), [(7, 3), pytest.param(3, 6, marks=pytest.mark.slow),
                            pytest.param(9, 6, marks=pytest.mark.slow)],
)  # fmt: skip
def test_attention_with_a_window(context, window):
    """Behind the first turns of the ring, and before it is full."""
    config = from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True})
    spec = described(vector__lanes=16, kv_sram__bandwidth=140)
    agrees(*window_attention(config, context, window, spec))
