"""Every block at the true widths of SmolLM2-135M and Llama 3.1 8B, on 256 vector lanes.

Masks are made up; fabrics have 64 rows of all columns. Signals are random over int32, or what lies
at its ends.
"""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth")

import numpy as np

from emulator.blocks.attention import Attention
from emulator.blocks.bias_add import BiasAdd
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.other_gates import gate_block
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.top_k import TopK
from emulator.blocks.weight_fabric import WeightFabric
from emulator.config import LlamaConfig
from emulator.config.model import GELU, RELU2
from emulator.timing.models import MODELS
from tests.rtl.test_blocks import agrees, cosine, vector_of
from tests.rtl.test_side_blocks import adapted, norm_of_heads, window_attention
from tests.support.described import described
from tests.support.signals import matrix, scales, signal

SPEC = described(vector__lanes=256, attention__macs=1 << 18)
WIDE = {"smollm2": MODELS["smollm2-135m"], "8b": MODELS["llama-3.1-8b"]}
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("config", WIDE.values(), ids=WIDE)]


def test_rms_norm(config: LlamaConfig):
    residual = signal((1, config.hidden), "random")
    agrees(vector_of(RmsNorm.of(config.hidden, 1e-5), {"residual": residual}), SPEC)


def test_final_norm(config: LlamaConfig):
    """SmolLM2's rotates by nine blocks of 64; a model like 8B, were it tied, by one of 4,096."""
    rng, n = np.random.default_rng(3), config.hidden
    count = n // (n & -n)
    angle = 2 * np.pi * np.outer(range(count), range(count)) / count
    mixer = np.round((np.cos(angle) + np.sin(angle)) / np.sqrt(count) * 16384).astype(np.int16)
    gain = rng.integers(-30000, 30000, n).astype(np.int16)
    residual = {"residual": signal((1, n), "random")}
    agrees(vector_of(FinalGain.of(gain, 14, mixer, 1e-5), residual), SPEC)


def test_residual_add(config: LlamaConfig):
    both = {n: signal((1, config.hidden), "random", i) for i, n in enumerate(("residual", "delta"))}
    agrees(vector_of(ResidualAdd(config.hidden), both), SPEC)


def heads_of(config: LlamaConfig, **names: int) -> dict[str, np.ndarray]:
    return {n: signal((1, count, config.head_dim), "random", count) for n, count in names.items()}


def test_rope(config: LlamaConfig):
    half = config.head_dim // 2
    values = (config.heads + config.kv_heads) * config.head_dim
    block = Rope(cosine(5, half), cosine(5, half)[::-1].copy(), values)
    agrees(vector_of(block, heads_of(config, q=config.heads, k=config.kv_heads), 4), SPEC)


def test_kv_sram(config: LlamaConfig):
    kv = config.kv_heads
    wires = heads_of(config, q=config.heads, k=kv, v=kv)
    agrees(vector_of(KvSram.of(config, 2), wires, 1), SPEC)


def test_attention(config: LlamaConfig):
    """Two positions of a head a cycle, three cycles a head, the last one half full."""
    rng, sram = np.random.default_rng(5), KvSram.of(config, 5)
    bits = sram.position_bits(SPEC)
    spec = described(vector__lanes=256, kv_sram__bandwidth=-(-2 * bits // (8 * config.kv_heads)))
    sram.k[:] = rng.integers(-127, 128, sram.k.shape)
    sram.v[:] = rng.integers(-127, 128, sram.v.shape)
    sram.k_scale[:] = scales(rng, sram.k_scale.shape[:2], 18, 24)
    sram.v_scale[:] = scales(rng, sram.v_scale.shape[:2], 16, 24)
    q8 = rng.integers(-127, 128, (1, config.heads, config.head_dim)).astype(np.int8)
    wires = {"q8": q8, "q8_scale": scales(rng, (1, config.heads), 8, 14)}
    agrees(vector_of(Attention.of(sram), wires, 4), spec)


@pytest.mark.parametrize("name", ["hidden", "ffn"])
def test_fabric(config: LlamaConfig, name):
    """The matrices that read the residual stream, and the down projection."""
    columns = getattr(config, name)
    rng = np.random.default_rng(columns)
    x = rng.integers(-127, 128, (1, columns)).astype(np.int8)
    block = WeightFabric("fabric_down", {"delta": matrix(64, columns, 3, 32, (20, 30))})
    agrees(vector_of(block, {"x": x, "x_scale": np.array([[50000, 22]], np.int32)}), SPEC)


def test_swiglu(config: LlamaConfig):
    gate = signal((1, config.ffn), "random", 1) >> 11
    up = signal((1, config.ffn), "random", 2)
    agrees(vector_of(SwiGlu.of(config.ffn), {"gate": gate, "up": up}), SPEC)


def test_embedding(config: LlamaConfig):
    table = matrix(8, config.hidden, 6, 32, (10, 20))
    agrees(vector_of(Embedding(table), {"tokens": np.array([6])}), SPEC)


def test_top_k(config: LlamaConfig):
    """All logits of the vocabulary, with ties."""
    logits = (signal((1, config.vocabulary), "random") >> 12).astype(np.int32)
    agrees(vector_of(TopK(config.vocabulary), {"logits": logits}), SPEC)


def test_attention_with_a_window(config: LlamaConfig):
    """Five positions of a ring of four places."""
    bits = KvSram.of(config, 5).position_bits(SPEC)
    spec = described(vector__lanes=256, kv_sram__bandwidth=-(-2 * bits // (8 * config.kv_heads)))
    agrees(*window_attention(config, 5, 4, spec))


def test_norm_of_heads(config: LlamaConfig):
    agrees(norm_of_heads((config.heads, config.kv_heads), config.head_dim, "random"), SPEC)


@pytest.mark.parametrize("name", ["hidden", "ffn"])
def test_adapter(config: LlamaConfig, name):
    """Rank 8 and single cells on 64 rows of all columns."""
    adapted("down", [(64, 8, 5)], 3, getattr(config, name), SPEC)


def test_biases(config: LlamaConfig):
    """Of q, k and v, and of gate and up."""
    heads = heads_of(config, q=config.heads, k=config.kv_heads, v=config.kv_heads)
    pair = {n: signal((1, config.ffn), "random", i) for i, n in enumerate(("gate", "up"))}
    for name, wires in (("qkv", heads), ("gate_up", pair)):
        bias = signal((sum(a.size for a in wires.values()),), "random", 9)
        agrees(vector_of(BiasAdd.of(name, bias), wires), SPEC)


@pytest.mark.parametrize("activation", [GELU, RELU2])
def test_other_gates(config: LlamaConfig, activation):
    gate = signal((1, config.ffn), "random", 1) >> 11
    up = signal((1, config.ffn), "random", 2)
    agrees(vector_of(gate_block(activation, config.ffn), {"gate": gate, "up": up}), SPEC)
