"""Embedding: a row of the table is read at once, scaled, and leaves V values a cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module

from emulator.blocks.embedding import Embedding
from emulator.blocks.plain_matrix import plain_arrays
from emulator.errors import ChipError
from emulator.rtl.arithmetic import requantised
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.pipeline import Port, bind, delay, emit, fields, step
from emulator.rtl.rom import read_rom, word_of
from emulator.silicon.spec import ChipSpec
from kernels.reference import FRACTION


class EmbeddingRtl(BlockRtl):
    """tokens: the number of a row -> residual int32[hidden]."""

    def __init__(self, block: Embedding, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block = block
        if int(spec.embedding.read) < 4:
            raise ChipError("embedding.read below 4 cycles: no RTL")
        self.inputs = [Port("tokens", 1, 32, sign=False)]
        self.outputs = [Port("residual", block.table.columns, 32, self.lanes)]

    def build(self, m: Module) -> None:
        table, tokens = self.block.table, self.inputs[0]
        plain, bits = plain_arrays(table), table.bits
        groups = table.columns // table.group
        widths = [bits * table.columns, 8 * groups, 16, 8]
        words = [
            word_of(codes, bits)
            | word_of(scales, 8) << widths[0]
            | int(mantissa) << widths[0] + widths[1]
            | (int(exponent) & 255) << widths[0] + widths[1] + 16
            for codes, scales, mantissa, exponent in zip(
                plain["codes"].tolist(),
                plain["group_scale"].tolist(),
                plain["row_mantissa"],
                plain["row_exponent"],
                strict=True,
            )
        ]
        row = read_rom(m, tokens.data, words, sum(widths))
        valid, (row,) = step(m, tokens.valid, [row])
        codes, scales, mantissa, exponent = fields(row, widths)
        places = zip(fields(codes, [bits] * table.columns), range(table.columns), strict=True)
        every = fields(scales, [8] * groups)
        pairs = [Cat(code, every[c // table.group]) for code, c in places]
        valid, lanes, _ = emit(m, valid, pairs, self.lanes)
        alphabet = [int(level) & 255 for level in plain["alphabet"]]
        levels = [read_rom(m, lane[:bits], alphabet, 8).as_signed() for lane in lanes]
        both = [*levels, *(lane[bits:].as_signed() for lane in lanes)]
        valid, both = step(m, valid, both)
        levels, group = both[: len(lanes)], both[len(lanes) :]
        sums = [level * scale for level, scale in zip(levels, group, strict=True)]
        valid, sums = step(m, valid, sums)
        shift = bind(m, exponent.as_signed() - FRACTION)
        out = [requantised(m, value * mantissa, shift) for value in sums]
        valid, out = step(m, valid, out)
        valid, out = delay(m, valid, out, int(self.spec.embedding.read) - 4)
        self.outputs[0].drive(m, valid, out)
