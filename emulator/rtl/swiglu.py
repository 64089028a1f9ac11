"""SwiGLU: SiLU by a table and the line between two entries, times up; then R4 and int8."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Mux, Value

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


class SwiGluRtl(BlockRtl):
    """gate, up int32[ffn] -> x int8[ffn] and its scale."""

    def __init__(self, block: SwiGlu, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block = block
        if int(spec.vector.table) < 2:
            raise ChipError("vector.table below 2 cycles: no RTL for that")
        self.parts = Parts(block.ffn, block.ffn, min(self.lanes, block.ffn))
        self.inputs = [Port(name, block.ffn, 32, self.lanes) for name in block.reads]
        self.outputs = [Port("x", block.ffn, 8, self.lanes), scale_port("x_scale")]

    def build(self, m: Module) -> None:
        gate, up = self.inputs
        valid, product = self._product(m, gate.valid, list(gate), list(up))
        found = rotate_narrow(m, valid, product, self.block.block, self.parts, self.spec)
        self.outputs[0].drive(m, found.valid, found.x)
        exponent = bind(m, FRACTION - found.shifts[0])
        constant = constant_scale(self.block.constant)
        ready, mantissa, e = scaled(m, found.done, found.peaks[0], exponent, constant)
        self.outputs[1].drive(m, ready, [mantissa, e])

    def _product(
        self, m: Module, valid: Value, gate: list[Value], up: list[Value]
    ) -> tuple[Value, list[Value]]:
        limit, n = SILU_RANGE << FRACTION, len(gate)
        table = [int(entry) & ((1 << ENTRY_BITS) - 1) for entry in SILU]
        pairs = [a | b << ENTRY_BITS for a, b in pairwise(table)]
        read = []
        for g in gate:
            offset = bind(m, (g + limit)[: FRACTION + 4])
            entries = read_rom(m, offset[SILU_STEP_BITS:], pairs, 2 * ENTRY_BITS)
            read += [entries, offset[:SILU_STEP_BITS]]
        valid, kept = step(m, valid, [*gate, *up, *read])
        gate, up, read = kept[:n], kept[n : 2 * n], kept[2 * n :]
        inside = []
        for entries, rest in zip(read[::2], read[1::2], strict=True):
            low, high = entries[:ENTRY_BITS].as_signed(), entries[ENTRY_BITS:].as_signed()
            inside.append(low + round_shift_by((high - low) * rest, SILU_STEP_BITS))
        valid, kept = step(m, valid, [*gate, *up, *inside])
        valid, kept = delay(m, valid, kept, int(self.spec.vector.table) - 2)
        gate, up, inside = kept[:n], kept[n : 2 * n], kept[2 * n :]
        silu = [
            clip_width(Mux(g >= limit, g, Mux(g < -limit, 0, s)).as_signed(), 32)
            for g, s in zip(gate, inside, strict=True)
        ]
        valid, products = step(m, valid, [a * b for a, b in zip(silu, up, strict=True)])
        valid, out = step(m, valid, [saturate(round_shift_by(p, FRACTION)) for p in products])
        return delay(m, valid, out, int(self.spec.vector.pipeline) - 2)
