"""Gated products: a function of the gate, times up; then R4 and int8.

SiLU and GELU are a table and the line between two of its entries, ReLU^2 a square.
"""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Mux, Value

from emulator.blocks.other_gates import GeGlu, ReLu2Glu
from emulator.blocks.swiglu import SwiGlu
from emulator.errors import ChipError
from emulator.rtl.arithmetic import round_shift_by, saturate, scaled
from emulator.rtl.block_rtl import BlockRtl, constant_scale, scale_port
from emulator.rtl.narrow import Parts, rotate_narrow
from emulator.rtl.pipeline import Port, bind, clip_width, delay, step
from emulator.rtl.rom import read_rom
from emulator.silicon.spec import ChipSpec
from kernels.reference import FRACTION, SILU
from kernels.tables import SILU_RANGE, SILU_STEP_BITS

ENTRY_BITS = 21  # of the table: +-8 in Q15.16
LIMIT = SILU_RANGE << FRACTION


class GateRtl(BlockRtl):
    """gate, up int32[ffn] -> x int8[ffn] and its scale.

    `shared`: gate and up come on one bus of the vector unit's width, half of its lanes each.
    """

    def __init__(
        self, block: SwiGlu | GeGlu | ReLu2Glu, spec: ChipSpec, shared: bool = False
    ) -> None:
        super().__init__(spec)
        self.block = block
        if int(spec.vector.table) < 2:
            raise ChipError("vector.table below 2 cycles: no RTL for that")
        self.parts = Parts(block.ffn, block.ffn, min(self.lanes, block.ffn))
        own = min(self.lanes // 2, block.ffn) if shared else self.lanes
        self.inputs = [Port(name, block.ffn, 32, own) for name in block.reads]
        self.outputs = [Port("x", block.ffn, 8, self.lanes), scale_port("x_scale")]

    def build(self, m: Module) -> None:
        gate, up = self.inputs
        through = self._square if isinstance(self.block, ReLu2Glu) else self._table
        valid, value, factor = through(m, gate.valid, list(gate), list(up))
        valid, product = self._times(m, valid, value, factor)
        found = rotate_narrow(m, valid, product, self.block.block, self.parts, self.spec)
        self.outputs[0].drive(m, found.valid, found.x)
        exponent = bind(m, FRACTION - found.shifts[0])
        constant = constant_scale(self.block.constant)
        ready, mantissa, e = scaled(m, found.done, found.peaks[0], exponent, constant)
        self.outputs[1].drive(m, ready, [mantissa, e])

    def _times(
        self, m: Module, valid: Value, a: list[Value], b: list[Value]
    ) -> tuple[Value, list[Value]]:
        """Multiplied, rounded to Q15.16 and clamped, a pipeline of the vector unit."""
        valid, products = step(m, valid, [x * y for x, y in zip(a, b, strict=True)])
        valid, out = step(m, valid, [saturate(round_shift_by(p, FRACTION)) for p in products])
        return delay(m, valid, out, int(self.spec.vector.pipeline) - 2)

    def _square(
        self, m: Module, valid: Value, gate: list[Value], up: list[Value]
    ) -> tuple[Value, list[Value], list[Value]]:
        positive = [clip_width(Mux(g < 0, 0, g).as_signed(), 32) for g in gate]
        after, squares = self._times(m, valid, positive, positive)
        _, up = delay(m, valid, up, int(self.spec.vector.pipeline))
        return after, squares, up

    def _table(
        self, m: Module, valid: Value, gate: list[Value], up: list[Value]
    ) -> tuple[Value, list[Value], list[Value]]:
        table, n = self.block.table if isinstance(self.block, GeGlu) else SILU, len(gate)
        read = []
        for g in gate:
            read += line_ends(m, g, table.tolist())
        valid, kept = step(m, valid, [*gate, *up, *read])
        gate, up, read = kept[:n], kept[n : 2 * n], kept[2 * n :]
        inside = [between(*ends) for ends in zip(read[::2], read[1::2], strict=True)]
        valid, kept = step(m, valid, [*gate, *up, *inside])
        valid, kept = delay(m, valid, kept, int(self.spec.vector.table) - 2)
        gate, up, inside = kept[:n], kept[n : 2 * n], kept[2 * n :]
        value = [
            clip_width(Mux(g >= LIMIT, g, Mux(g < -LIMIT, 0, s)).as_signed(), 32)
            for g, s in zip(gate, inside, strict=True)
        ]
        return valid, value, up


def line_ends(m: Module, gate: Value, table: list[int]) -> list[Value]:
    """First cycle: the two entries beside a value, and how far it lies behind the first."""
    entries = [entry & ((1 << ENTRY_BITS) - 1) for entry in table]
    pairs = [a | b << ENTRY_BITS for a, b in pairwise(entries)]
    offset = bind(m, (gate + LIMIT)[: FRACTION + 4])
    return [read_rom(m, offset[SILU_STEP_BITS:], pairs, 2 * ENTRY_BITS), offset[:SILU_STEP_BITS]]


def between(ends: Value, rest: Value) -> Value:
    """Second cycle: the line between two entries."""
    low, high = ends[:ENTRY_BITS].as_signed(), ends[ENTRY_BITS:].as_signed()
    return low + round_shift_by((high - low) * rest, SILU_STEP_BITS)
