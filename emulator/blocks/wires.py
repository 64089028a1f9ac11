"""The signals between blocks, with shape and width, and what a block is.

T = tokens of this pass. An int32 signal is Q15.16; an int8 vector travels with its scale,
int32[..., 2] = (16-bit mantissa, exponent). docs/datapath.md is the contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.silicon.cost import Cost
from emulator.silicon.spec import ChipSpec

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


def _int8() -> Int8:
    return np.empty(0, np.int8)


def _int32() -> Int32:
    return np.empty(0, np.int32)


def _int64() -> Int64:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class Wires:
    """Every named signal of one pass through the chip."""

    tokens: Int64  # [T] token ids
    start: int  # position of the first token
    all_logits: bool  # the head runs for every token, not only for the last
    residual: Int32 = field(default_factory=_int32)  # [T, hidden] Q15.16, saturating
    x: Int8 = field(default_factory=_int8)  # [T, columns of the next matrix] fabric input
    x_scale: Int32 = field(default_factory=_int32)  # [T, 2]
    q: Int32 = field(default_factory=_int32)  # [T, heads, head_dim] Q15.16
    k: Int32 = field(default_factory=_int32)  # [T, kv_heads, head_dim] Q15.16
    v: Int32 = field(default_factory=_int32)  # [T, kv_heads, head_dim] Q15.16
    q8: Int8 = field(default_factory=_int8)  # [T, heads, head_dim] after R3
    q8_scale: Int32 = field(default_factory=_int32)  # [T, heads, 2], holds log2(e) / sqrt(head_dim)
    gate: Int32 = field(default_factory=_int32)  # [T, ffn] Q15.16
    up: Int32 = field(default_factory=_int32)  # [T, ffn] Q15.16
    delta: Int32 = field(default_factory=_int32)  # [T, hidden] Q15.16, what a sublayer adds
    logits: Int32 = field(default_factory=_int32)  # [T or 1, vocabulary] Q15.16
    top: Int64 = field(default_factory=_int64)  # [8] ids of the largest logits, largest first

    @property
    def positions(self) -> Int64:
        """int64[T]"""
        return np.arange(self.start, self.start + self.tokens.size)


class Block(Protocol):
    """One fixed-function block: two answers about the same thing."""

    @property
    def name(self) -> str: ...

    def run(self, ops: ModuleType, wires: Wires) -> None:
        """Compute: read some wires, write others. `ops` are the kernels or their twins."""

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """Cycles and work for one token that attends to `context` positions, itself included."""
