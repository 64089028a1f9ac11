"""Every block of the tiny model in RTL: the twin's bits, and the cycles that `cost` counts."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth")

import numpy as np

from emulator.blocks.attention import Attention
from emulator.blocks.bias_add import BiasAdd
from emulator.blocks.block import Block
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.other_gates import gate_block
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.top_k import TopK
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Arrays, Wires
from emulator.chip import Chip
from emulator.config import from_hub_config
from emulator.config.model import GELU, RELU2
from emulator.rtl.bench import Verdict, bench_of, check
from emulator.silicon.spec import ChipSpec
from emulator.verification.vector_files import Vector
from emulator.verification.vectors import vectors
from kernels import reference
from kernels.rom.pack import PackedMatrix
from tests.support.described import described
from tests.support.signals import FILLS, matrix, scales, signal
from tests.support.tiny_model import TINY_CONFIG

NARROW = {"vector__lanes": 64, "kv_sram__bandwidth": 280, "attention__macs": 1 << 18}
TOKENS = [5, 300, 17, 5, 99]
BLOCKS = (
    "embedding", "rms_norm", "fabric_qkv", "rope", "kv_sram", "attention", "fabric_o",
    "residual_add", "fabric_gate_up", "swiglu", "fabric_down", "final_norm", "fabric_head", "top_k",
)  # fmt: skip
SLOW_SWEEP = [
    {"vector__lanes": 32, "fabric__lanes": 8, "vector__levels": 2},
    {"vector__lanes": 96, "fabric__lanes": 32, "vector__levels": 4},
    {"vector__lanes": 4096, "fabric__lanes": 16, "vector__levels": 3},
]


def vector_of(block: Block, signals: Arrays, start: int = 0) -> Vector:
    """A vector made by hand: what the twin answers to these signals."""
    wires = Wires.carrying(1, start, signals)
    vector = Vector(block.name, 0, {"start": start, "tokens": 1, **block.parameters})
    vector.arrays["in"] = {name: getattr(wires, name).copy() for name in block.reads}
    vector.arrays["rom"] = block.rom
    vector.arrays["memory"] = {n: a[: start + 1].copy() for n, a in block.memory.items()}
    block.run(reference, wires)
    vector.arrays["out"] = {name: getattr(wires, name) for name in block.writes}
    if block.writes_memory:
        after = {n: a[start : start + 1] for n, a in block.memory.items()}
        vector.arrays["memory_out"] = after
    return vector


def agrees(vector: Vector, spec: ChipSpec) -> Verdict:
    verdict = check(bench_of(vector, spec))
    assert not any(verdict.wrong.values()), verdict
    assert verdict.cycles == verdict.counted, verdict
    return verdict


@pytest.mark.parametrize("name", BLOCKS)
def test_block_of_a_running_chip(name, tiny_image):
    """At the fifth token, with several beats a vector and two rows of positions a head."""
    chip = Chip(tiny_image, ops=reference)
    (vector,) = vectors(chip, TOKENS, name, 1, 8)
    agrees(vector, described(**NARROW))


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("changed", SLOW_SWEEP, ids=lambda c: "-".join(map(str, c.values())))
def test_block_over_descriptions(name, changed, tiny_image):
    """Lanes 8, 16, 32; narrow and whole vectors; trees of 2, 3 and 4 levels a cycle."""
    chip = Chip(tiny_image, ops=reference)
    (vector,) = vectors(chip, TOKENS, name, 0, 8)
    agrees(vector, described(**{**NARROW, **changed}))


def cosine(positions: int, half: int) -> np.ndarray:
    return np.random.default_rng(half).integers(-16384, 16385, (positions, half)).astype(np.int16)


@pytest.mark.parametrize("fill", ["zeros", "alternating", "smallest"])
def test_adversarial_vectors(fill):
    """Nothing, both ends of int32 in turn, and the end that has no opposite."""
    spec = described(**NARROW)
    both = {n: signal((1, 64), fill) for n in ("residual", "delta")}
    agrees(vector_of(ResidualAdd(64), both), spec)
    qk = {"q": signal((1, 2, 32), fill), "k": signal((1, 1, 32), fill)}
    agrees(vector_of(Rope(cosine(3, 16), cosine(3, 16), 96), qk, 2), spec)
    agrees(vector_of(RmsNorm.of(64, 1e-5), {"residual": signal((1, 64), fill)}), spec)


@pytest.mark.slow
@pytest.mark.parametrize("fill", FILLS)
def test_adversarial_vectors_of_the_wide_blocks(fill):
    spec = described(**NARROW)
    gate, up = signal((1, 96), fill, 1), signal((1, 96), fill, 2)
    agrees(vector_of(SwiGlu.of(96), {"gate": gate, "up": up}), spec)
    config = from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True})
    heads = {"q": 4, "k": 2, "v": 2}
    wires = {name: signal((1, n, 32), fill, n) for name, n in heads.items()}
    agrees(vector_of(KvSram.of(config, 2), wires, 1), spec)
    gain = np.full(96, -30000, np.int16)
    mixer = np.array([[1, 1, 1], [1, -1, 0], [1, 0, -1]], np.int16) * 9459
    residual = {"residual": signal((1, 96), fill)}
    agrees(vector_of(FinalGain.of(gain, 14, mixer, 1e-5), residual), spec)


def test_heads_of_several_beats():
    """A head's peak waits for no other head's: a time model that said so counted a cycle more."""
    config = from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True})
    wires = {n: signal((1, k, 32), "random", k) for n, k in (("q", 4), ("k", 2), ("v", 2))}
    agrees(vector_of(KvSram.of(config, 2), wires, 1), described(vector__lanes=16))


def fabric(bits: int, far: int, lanes: int, rows: int = 4) -> tuple[Vector, ChipSpec]:
    """Equal inputs that drive the longest sums, with a scale far out."""
    m: PackedMatrix = matrix(rows, 96, bits, 32, (-20, 40))
    x = np.full((1, 96), -128, np.int8)
    scale = np.array([[65535, far]], np.int32)
    block = WeightFabric("fabric_down", {"delta": m})
    return vector_of(block, {"x": x, "x_scale": scale}), described(fabric__lanes=lanes)


@pytest.mark.parametrize("fabric_pass", ["qkv", "o", "gate_up"])
@pytest.mark.parametrize("fill", ["random", "smallest"])
def test_biases(fabric_pass, fill):
    """Behind each pass, in the order in which its rows drain, and over the ends of int32."""
    shapes = {"q": (1, 2, 32), "k": (1, 1, 32), "v": (1, 1, 32)}
    block = BiasAdd.of(fabric_pass, np.zeros(0, np.int32))
    wires = {n: signal(shapes.get(n, (1, 48)), fill, i) for i, n in enumerate(block.reads)}
    bias = signal((sum(a.size for a in wires.values()),), "random", 9)
    agrees(vector_of(BiasAdd.of(fabric_pass, bias), wires), described(**NARROW))


@pytest.mark.parametrize("activation", [GELU, RELU2])
@pytest.mark.parametrize("lanes", [32, 4096])
def test_other_gates(activation, lanes):
    """Gates that the table holds, its ends, and beyond them."""
    gate, up = signal((1, 64), "random", 1) >> 11, signal((1, 64), "random", 2)
    gate[0, :4] = [(8 << 16) - 1, 8 << 16, -(8 << 16), -(8 << 16) - 1]
    block = gate_block(activation, 64)
    agrees(vector_of(block, {"gate": gate, "up": up}), described(vector__lanes=lanes))


@pytest.mark.parametrize(("bits", "far", "lanes"), [(3, -60, 8), (4, 62, 16), (6, 20, 32)])
def test_fabric_at_its_ends(bits, far, lanes):
    """Left shifts that clamp twice, right shifts to nothing, and rounding at half."""
    agrees(*fabric(bits, far, lanes))


@pytest.mark.parametrize(("lanes", "levels"), [(32, 4), (100, 1), (48, 3)])
def test_top_k_with_ties(lanes, levels):
    """Few different logits: the lower id wins; lists that take turns."""
    logits = np.random.default_rng(levels).integers(-3, 3, (1, 160)).astype(np.int32)
    vector = vector_of(TopK(160), {"logits": logits})
    agrees(vector, described(vector__lanes=lanes, vector__levels=levels))


@pytest.mark.slow
@pytest.mark.parametrize("context", [1, 4, 5, 12, 13])
@pytest.mark.parametrize(("lanes", "levels", "latency"), [(4096, 4, 3), (32, 2, 1)])
def test_attention_over_positions(context, lanes, levels, latency):
    """Whole and broken rows of four positions, more than one a head, scales far apart."""
    config = from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True})
    rng, sram = np.random.default_rng(context), KvSram.of(config, 16)
    sram.k[:] = rng.integers(-127, 128, sram.k.shape)
    sram.v[:] = rng.integers(-127, 128, sram.v.shape)
    sram.k_scale[:] = scales(rng, (16, 2), 16, 24)
    sram.v_scale[:] = scales(rng, (16, 2), 14, 26)
    wires = {"q8": rng.integers(-127, 128, (1, 4, 32)).astype(np.int8)}
    wires["q8_scale"] = scales(rng, (1, 4), 8, 14)
    spec = described(
        vector__lanes=lanes, vector__levels=levels, kv_sram__latency=latency, kv_sram__bandwidth=140
    )
    agrees(vector_of(Attention.of(sram), wires, context - 1), spec)
