"""A Llama in bfloat16 for learning: float32 residual stream, in the chip's basis.

The weights are buffers that somebody else fills (`emulator.learning.student`), and so are their
gradients, which `backward` writes there. A matrix product of q, k and v is one, and so is that of
gate and up. The down projection's input is not turned: its matrix is turned back instead, which is
less work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor
from torch.autograd import Function

from emulator.config import LlamaConfig
from emulator.fixedpoint import power_of_two_block
from emulator.learning.gate import SwiGlu
from emulator.learning.heads import Heads
from emulator.learning.norm import Norm

BF16 = torch.bfloat16
POSITIONS = 512  # of a window, at most


@dataclass(slots=True)
class Weight:
    """A matrix [outputs, inputs] and its gradient, both bfloat16."""

    value: Tensor
    gradient: Tensor

    @classmethod
    def empty(cls, rows: int, columns: int) -> Weight:
        return cls(*(torch.zeros(rows, columns, dtype=BF16) for _ in range(2)))

    def twin(self) -> Weight:
        """The same value, with a gradient of its own."""
        return Weight(self.value, torch.zeros_like(self.gradient))

    def take(self, x: Tensor, pull: Tensor) -> None:
        """The gradient, of inputs [T, inputs] and the gradients by the outputs, [T, outputs]."""
        torch.mm(pull.T, x, out=self.gradient)


class Product(Function):
    """x W' of x [T, inputs]; the weight takes what there is to know of its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Weight) -> Tensor:
        ctx.save_for_backward(x)
        ctx.weight = weight
        return x @ weight.value.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,), (pull,) = ctx.saved_tensors, gradients
        ctx.weight.take(x, pull)
        return pull @ ctx.weight.value, None


@dataclass(slots=True)
class Layer:
    """The matrices of a layer, as many as are multiplied by at once."""

    qkv: Weight
    o: Weight
    gate_up: Weight
    down: Weight  # turned back


@dataclass(slots=True)
class Llama:
    """The model; all sequences have the same length."""

    config: LlamaConfig
    layers: list[Layer]
    embedding: Weight
    head: Weight  # the embedding's value again in a tied model, with a gradient of its own
    gain: Tensor | None  # float32[hidden], final gain of a tied model
    turn: Tensor | None  # float32[hidden, hidden], R1 without its signs; the gain applies within
    turns: Tensor = field(init=False)  # cosine and sine, float32[2, positions, head_dim / 2]

    def __post_init__(self) -> None:
        from emulator.quality.float_model import rope_table

        self.turns = torch.from_numpy(np.stack(rope_table(self.config, POSITIONS)))

    def embed(self, ids: Tensor) -> Tensor:
        """float32[B, T, hidden] of tokens [B, T]."""
        return self.embedding.value[ids].float()

    def final(self, r: Tensor) -> Tensor:
        """bfloat16[B T, hidden], the head's input, of the embedded tokens float32[B, T, hidden]."""
        sequences, _, hidden = r.shape
        r = r.reshape(-1, hidden)
        for layer in self.layers:
            x = Norm.apply(r, self.config.rms_epsilon)
            r = r + self._attention(Product.apply(x, layer.qkv), sequences, layer.o)
            x = Norm.apply(r, self.config.rms_epsilon)
            h = SwiGlu.apply(Product.apply(x, layer.gate_up), down_factor(self.config))
            r = r + Product.apply(h, layer.down)
        return self.head_input(r)

    def head_input(self, r: Tensor) -> Tensor:
        """bfloat16[T, hidden]: final norm, and a tied model's gain, of the residual stream."""
        x: Tensor = Norm.apply(r, self.config.rms_epsilon)
        if self.gain is None or self.turn is None:
            return x
        return (((x.float() @ self.turn) * self.gain) @ self.turn.T).to(BF16)

    def _attention(self, qkv: Tensor, sequences: int, o: Weight) -> Tensor:
        """[B T, hidden] of q, k and v side by side, [B T, (heads + 2 kv_heads) head_dim]."""
        c = self.config
        length = len(qkv) // sequences
        q, k, v = Heads.apply(qkv, sequences, c.heads, self.turns[:, :length])
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return Product.apply(a.transpose(1, 2).reshape(-1, c.heads * c.head_dim), o)


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """RoPE: value i of a head turns with value i + head_dim / 2; in float32, rounded once."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1).to(BF16)


def down_factor(config: LlamaConfig) -> float:
    """What is left over where a Hadamard matrix of entries +-2**-n turns the down matrix back.

    Entries of a power of two are exact in bfloat16; the rest multiplies the gate's output.
    """
    block = power_of_two_block(config.ffn)
    return float(block**-0.5 / 2.0 ** -(block.bit_length() // 2))
