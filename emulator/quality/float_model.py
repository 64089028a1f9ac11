"""The float32 reference: one forward pass in NumPy, for judging the chip.

It runs with the checkpoint's own weights (`of_checkpoint`) or with an image's weights, dequantised
(`of_image`), which separates the quantiser's error from the datapath's. `places` can round single
tap points as the chip does (`emulator.quality.tap_points`). The datapath uses nothing from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.fixedpoint import power_of_two_block
from emulator.quality.tap_points import EXACT, Exact
from kernels.reference import levels, row_scales
from kernels.rom.pack import PackedMatrix
from weights.checkpoint import BIAS, LAYER_MATRICES, Checkpoint, layer_vectors, read_tensor
from weights.fold import Fold
from weights.layer_vectors import of_layer, real
from weights.peft_adapter import LowRank
from weights.rom import RomImage
from weights.rope_table import frequencies, length
from weights.rotate import hadamard_rows, mix_rows

Float32 = NDArray[np.float32]
QUERIES = 512  # positions whose scores are held at a time


@dataclass(frozen=True, slots=True)
class FloatModel:
    """A model in float32. In the chip's basis gains are 1 and the down input is rotated."""

    config: LlamaConfig
    layers: list[dict[str, Float32]]  # q, k, .. down, attn_norm, ffn_norm, and `layer_vectors`
    embedding: Float32  # [vocabulary, hidden]
    head: Float32  # [vocabulary, hidden]
    final_gain: Float32  # [hidden]
    rotated_gain: bool  # the stream is in R1, but the final gain applies in the original basis
    down_block: int  # Hadamard block of the down projection's input; 1 for none
    places: Exact = EXACT

    @classmethod
    def of_checkpoint(cls, source: Checkpoint) -> FloatModel:
        """The original weights."""
        names = (*LAYER_MATRICES, "attn_norm", "ffn_norm", *layer_vectors(source.config))
        embedding = read_tensor(source, "embedding")
        return cls(
            config=source.config,
            layers=[
                {name: read_tensor(source, name, layer) for name in names}
                for layer in range(source.config.layers)
            ],
            embedding=embedding,
            head=embedding if source.config.tied else read_tensor(source, "head"),
            final_gain=read_tensor(source, "norm"),
            rotated_gain=False,
            down_block=1,
        )

    @classmethod
    def of_image(cls, image: RomImage) -> FloatModel:
        """The weights as the masks hold them, in the chip's rotated basis."""
        masks = image.matrices
        gain = None
        if image.config.tied:
            exponent = int(image.manifest["final_gain_exponent"])
            gain = np.ldexp(image.vectors["final_gain"].astype(np.float32), -exponent)
        return cls._in_chip_basis(
            image.config,
            [
                {name: dequantise(masks[f"layers.{i}.{name}"]) for name in LAYER_MATRICES}
                | real(of_layer(image.vectors, i))
                for i in range(image.config.layers)
            ],
            dequantise(masks["embedding"]),
            None if image.config.tied else dequantise(masks["head"]),
            gain,
        )

    @classmethod
    def folded(cls, source: Checkpoint, seed: int) -> FloatModel:
        """The original weights in the chip's basis, so that single ones can be replaced."""
        config, folder = source.config, Fold(source, seed)
        return cls._in_chip_basis(
            config,
            [folder.layer(i) | folder.layer_vectors(i) for i in range(config.layers)],
            folder.embedding(),
            None if config.tied else folder.head(),
            folder.final_gain() if config.tied else None,
        )

    @classmethod
    def _in_chip_basis(
        cls,
        config: LlamaConfig,
        layers: list[dict[str, Float32]],
        embedding: Float32,
        head: Float32 | None,
        final_gain: Float32 | None,
    ) -> FloatModel:
        """Build from folded weights; a tied model has a final gain instead of a head."""
        ones = np.ones(config.hidden, np.float32)
        return cls(
            config=config,
            layers=[{**weights, "attn_norm": ones, "ffn_norm": ones} for weights in layers],
            embedding=embedding,
            head=embedding if head is None else head,
            final_gain=ones if final_gain is None else final_gain,
            rotated_gain=config.tied,
            down_block=power_of_two_block(config.ffn),
        )

    def with_low_rank(self, added: Mapping[tuple[int, str], LowRank]) -> FloatModel:
        """The model with B A added to matrices, by layer and name, in the model's own basis."""
        layers = [dict(w) for w in self.layers]
        for (layer, name), low in added.items():
            layers[layer][name] = layers[layer][name] + low.delta
        return replace(self, layers=layers)

    def forward(self, tokens: list[int], at: list[int] | None = None) -> Float32:
        """Logits float32[T, vocabulary] of a sequence that starts at position 0.

        With `at`, only those of these positions, in that order.
        """
        r = self.embedding[tokens]  # [T, hidden]
        for number in range(len(self.layers)):
            r = self.layer(number, r)
        return self.logits(r if at is None else r[at])

    def layer(self, number: int, r: Float32) -> Float32:
        """Run a layer on the residual stream [T, hidden]."""
        c, w, wire = self.config, self.layers[number], self.places.wire
        x = wire("qkv_input", _rms_norm(r, c.rms_epsilon) * w["attn_norm"])
        q, k, v = (_heads(_matrix(w, name, x), c.head_dim) for name in ("q", "k", "v"))
        if c.head_norm:
            q = _rms_norm(q, c.rms_epsilon) * w["q_gain"]
            k = _rms_norm(k, c.rms_epsilon) * w["k_gain"]
        if number not in c.unrotated:
            cosine, sine = (self.places.rope(table) for table in rope_table(c, len(r)))
            q, k = _turn(q, cosine, sine), _turn(k, cosine, sine)
        q, k, v = wire("q", q), wire("k", k), wire("v", v)
        mixed = _attention(q, k, v, self.places.exp, c.window_of(number))
        r = r + _matrix(w, "o", wire("o_input", mixed))
        x = wire("gate_up_input", _rms_norm(r, c.rms_epsilon) * w["ffn_norm"])
        h = self.places.gate(c.activation, _matrix(w, "gate", x)) * _matrix(w, "up", x)
        return r + _matrix(w, "down", wire("down_input", hadamard_rows(h, self.down_block)))

    def logits(self, r: Float32) -> Float32:
        """Final norm and head: [T, hidden] -> [T, vocabulary]."""
        c = self.config
        x = _rms_norm(r, c.rms_epsilon)
        if self.rotated_gain:  # undo R1 (except its signs, which cancel), then apply it again
            block = power_of_two_block(c.hidden)
            x = hadamard_rows(mix_rows(x), block) * self.final_gain
            x = mix_rows(hadamard_rows(x, block))
        else:
            x = x * self.final_gain
        return np.asarray(self.places.wire("head_input", x) @ self.head.T, np.float32)


def dequantise(matrix: PackedMatrix) -> Float32:
    """float32[rows, columns] of a packed matrix."""
    scale = row_scales(matrix)
    rows = np.ldexp(scale[:, :1].astype(np.float64), -scale[:, 1:])
    return (levels(matrix) * rows).astype(np.float32)


def _matrix(w: dict[str, Float32], name: str, x: Float32) -> Float32:
    """[T, columns] -> [T, rows], with the bias if there is one."""
    out: Float32 = x @ w[name].T
    return out + w[name + BIAS] if name + BIAS in w else out


def _rms_norm(r: Float32, epsilon: float) -> Float32:
    mean = np.mean(np.square(r, dtype=np.float64), axis=-1, keepdims=True)
    normed: Float32 = (r / np.sqrt(mean + epsilon)).astype(np.float32)
    return normed


def _heads(x: NDArray, head_dim: int) -> Float32:
    """[T, heads * head_dim] -> [heads, T, head_dim]"""
    return x.reshape(len(x), -1, head_dim).swapaxes(0, 1)


@lru_cache(4)
def rope_table(config: LlamaConfig, positions: int) -> tuple[Float32, Float32]:
    """Cosines and sines, each [positions, turning / 2]."""
    angles = np.outer(np.arange(positions), frequencies(config))
    tables = np.array([np.cos(angles), np.sin(angles)]) * length(config)
    return tables[0].astype(np.float32), tables[1].astype(np.float32)


def _turn(x: Float32, cosine: Float32, sine: Float32) -> Float32:
    """Value i of a head turns with value i + n; those from 2 n on stay."""
    n = cosine.shape[-1]
    a, b, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine, rest], axis=-1)


def _attention(
    q: Float32,
    k: Float32,
    v: Float32,
    exp: Callable[[Float32], Float32],
    window: int | None = None,
) -> Float32:
    """Causal attention; q [heads, T, head_dim], k and v [kv_heads, T, head_dim].

    Each token attends to the last `window` positions, its own included, or to all. It takes QUERIES
    positions of one head at a time, so that memory grows only linearly with T.
    """
    heads, positions, head_dim = q.shape
    out = np.empty((positions, heads, head_dim), np.float32)
    for start in range(0, positions, QUERIES):
        end = min(start + QUERIES, positions)
        first = max(start + 1 - (window or end), 0)
        distance = np.arange(start, end)[:, None] - np.arange(first, end)
        hidden = (distance < 0) | (distance >= (window or end))
        for head in range(heads):
            shared = head * len(k) // heads
            scores = q[head, start:end] @ k[shared, first:end].T / np.sqrt(np.float32(head_dim))
            scores[hidden] = -np.inf
            p = exp(scores - scores.max(axis=-1, keepdims=True))
            out[start:end, head] = p @ v[shared, first:end] / p.sum(axis=-1, keepdims=True)
    return out.reshape(positions, -1)
