"""The tap points of a forward pass, where the chip rounds, and the rounding in float32.

`FloatModel` calls its `Exact` at each tap point, which changes nothing. `AsChip`, a subclass,
rounds at chosen points as the chip does (docs/datapath.md). This measures each point's share of the
datapath's distance. Other roundings (Q15.16 signals, scales of 16 bits) are far smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from emulator.config.model import GELU, GELU_TANH, RELU2
from emulator.config.model import SILU as SILU_GATE
from emulator.fixedpoint import LOG2_E, power_of_two_block
from kernels.reference import FRACTION, INT8_MAX, Q1_14, SCORE_FRACTION, SILU, exp2_negative
from kernels.tables import SILU_RANGE, gelu_table, gelu_tanh_table
from weights.rotate import hadamard_rows

Float32 = NDArray[np.float32]

CAUSES = {
    "activations": ("qkv_input", "o_input", "gate_up_input", "down_input", "head_input"),
    "query": ("q",),
    "KV": ("k", "v"),  # what the KV SRAM holds
    "tables": ("softmax", "silu", "rope"),
}
CAUSE = {place: cause for cause, places in CAUSES.items() for place in places}
PLACES = tuple(CAUSE)  # all tap points

_ZERO_FROM = 16 << SCORE_FRACTION  # 2**-(n / 256) has become 0
_TABLE_AT = np.linspace(-SILU_RANGE, SILU_RANGE, SILU.size)
_EXP2 = exp2_negative(np.arange(_ZERO_FROM + 1)).astype(np.float32)  # 32767 * 2**-(n / 256)


class Exact:
    """Float32 at every tap point; a subclass overrides those it rounds."""

    def wire(self, place: str, x: Float32) -> Float32:
        """A signal [..., n] as it is read at a tap point other than a table."""
        return x

    def exp(self, x: Float32) -> Float32:
        """e**x for x <= 0, up to a common factor."""
        return np.exp(x)

    def silu(self, gate: Float32) -> Float32:
        one: Float32 = gate / (1 + np.exp(-gate))
        return one

    def gate(self, activation: str, gate: Float32) -> Float32:
        """The gate's function, one of `emulator.config.model.ACTIVATIONS`."""
        return self.silu(gate) if activation == SILU_GATE else _exact_gate(activation, gate)

    def rope(self, table: Float32) -> Float32:
        """A table of sines or cosines, as it is read."""
        return table


EXACT = Exact()


@dataclass(frozen=True, slots=True)
class AsChip(Exact):
    """Rounds at the tap points `places` as the chip does, and leaves the others exact."""

    places: frozenset[str]

    def wire(self, place: str, x: Float32) -> Float32:
        if place not in self.places:
            return x
        if place in ("q", "k"):  # R3, and back: the rotation itself is no error
            block = power_of_two_block(x.shape[-1])
            return hadamard_rows(int8(hadamard_rows(x, block)), block)
        return int8(x)

    def exp(self, x: Float32) -> Float32:
        if "softmax" not in self.places:
            return EXACT.exp(x)
        n = np.minimum(-x * np.float32(LOG2_E * (1 << SCORE_FRACTION)), _ZERO_FROM)
        power: Float32 = _EXP2[np.rint(n).astype(np.int32)]
        return power

    def silu(self, gate: Float32) -> Float32:
        if "silu" not in self.places:
            return EXACT.silu(gate)
        return _by_table(SILU, gate)

    def gate(self, activation: str, gate: Float32) -> Float32:
        if "silu" not in self.places or activation not in (GELU, GELU_TANH):
            return Exact.gate(self, activation, gate)
        return _by_table(gelu_table() if activation == GELU else gelu_tanh_table(), gate)

    def rope(self, table: Float32) -> Float32:
        if "rope" not in self.places:
            return table
        return np.ldexp(np.rint(np.ldexp(table, Q1_14)), -Q1_14)


def _by_table(table: NDArray[np.int32], gate: Float32) -> Float32:
    """A gate's table, linear between its entries; beyond them the gate, or 0."""
    inside = np.interp(gate, _TABLE_AT, np.ldexp(table.astype(np.float64), -FRACTION))
    beyond = np.where(gate >= SILU_RANGE, gate, np.where(gate < -SILU_RANGE, 0, inside))
    return np.asarray(beyond, np.float32)


def _exact_gate(activation: str, gate: Float32) -> Float32:
    if activation == RELU2:
        return np.square(np.maximum(gate, 0))
    if activation == GELU:
        return gate * np.interp(gate, *_normal()).astype(np.float32)
    inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    return np.asarray(0.5 * gate * (1 + np.tanh(inner)), np.float32)


@cache
def _normal() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The normal distribution at points so close that a line between them errs by 1e-8."""
    points = np.linspace(-8, 8, (1 << 15) + 1)
    return points, np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in points.tolist()])


def int8(x: Float32) -> Float32:
    """Round [..., n] to multiples of 1/127 of each vector's largest absolute value."""
    peak = np.abs(x).max(axis=-1, keepdims=True)
    step = np.where(peak > 0, peak, 1) / np.float32(INT8_MAX)
    return np.asarray(np.rint(x / step) * step, np.float32)
