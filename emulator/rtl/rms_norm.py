"""RMSNorm and the tied model's final norm: int8 by the maximum, the root beside it."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Const, Module, Value

from emulator.blocks.rms_norm import FinalGain, RmsNorm, root_exposed
from emulator.rtl.arithmetic import divide, round_shift_by, scaled
from emulator.rtl.block_rtl import BlockRtl, constant_scale, scale_port
from emulator.rtl.narrow import Narrowed, Parts, hadamard, narrow, to_int16
from emulator.rtl.pipeline import (
    Port,
    beat_counter,
    bind,
    clip_width,
    collect,
    delay,
    emit,
    fields,
    hold,
    join,
    later,
    step,
    tree,
)
from emulator.rtl.rom import read_rom, word_of
from emulator.rtl.root import root_of_squares
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec
from kernels.reference import Q1_14

QUOTIENT_BITS = 33


class _Norm(BlockRtl):
    """What both norms share: residual in, x and its scale out, and the root."""

    def __init__(self, hidden: int, epsilon: int, constant: np.ndarray, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.hidden, self.epsilon, self.constant = hidden, epsilon, constant
        self.parts = Parts(hidden, hidden, min(self.lanes, hidden))
        self.inputs = [Port("residual", hidden, 32, self.lanes)]
        self.outputs = [Port("x", hidden, 8, self.lanes), scale_port("x_scale")]

    def root(
        self, m: Module, valid: Value, h: list[Value], shift: Value
    ) -> tuple[Value, Value, Value]:
        """Pulse, root and half its shift, of the whole vector, whose shift stands."""
        ready, roots, zeros = root_of_squares(
            m, valid, h, [shift], self.parts, self.epsilon, self.spec
        )
        return ready, roots[0], zeros[0]

    def scale(
        self, m: Module, pulse: Value, peak: Value, root: Value, exponent: Value, zeros: Value
    ) -> None:
        """normalise((peak << 47) // root, exponent + 47 - zeros), times the constant."""
        numerator = Cat(Const(0, 47), peak)
        cycles = -(-QUOTIENT_BITS // int(self.spec.vector.levels))
        ready, quotient = divide(m, pulse, numerator, root, QUOTIENT_BITS, cycles)
        e = bind(m, exponent + 47 - zeros)
        valid, mantissa, e = scaled(m, ready, quotient, e, constant_scale(self.constant))
        self.outputs[1].drive(m, valid, [mantissa, e])


class RmsNormRtl(_Norm):
    """residual int32[hidden] -> x int8[hidden] and its scale."""

    def __init__(self, block: RmsNorm, spec: ChipSpec) -> None:
        super().__init__(block.hidden, block.epsilon, block.constant, spec)

    def build(self, m: Module) -> None:
        residual = self.inputs[0]
        found: Narrowed = narrow(
            m, residual.valid, list(residual), self.parts, self.spec, double=True
        )
        held = root_exposed(self.spec, self.hidden)
        valid, x = delay(m, found.valid, found.x, held)
        self.outputs[0].drive(m, valid, x)
        peak, shift, first = hold(
            m, found.done, [found.peaks[0], found.shifts[0], found.first_shifts[0]]
        )
        ready, root, zeros = self.root(m, found.h_valid, found.h, first)
        again = bind(m, (shift - first)[:1])
        self.scale(m, ready, peak, root, -again, zeros)


class FinalGainRtl(_Norm):
    """The same, with the rotation undone, the gain, and the rotation again."""

    def __init__(self, block: FinalGain, spec: ChipSpec) -> None:
        super().__init__(block.gain.size, block.epsilon, block.constant, spec)
        self.block = block

    def build(self, m: Module) -> None:
        residual, gains = self.inputs[0], self.block.gain.tolist()
        valid, h, done, shifts = to_int16(m, residual.valid, list(residual), self.parts, self.spec)
        rooted, root, zeros = self.root(m, valid, h, hold(m, done, shifts)[0])
        valid, turned = self._rotate(m, valid, h)
        lanes = len(turned)
        padded = [*gains, *[0] * (-len(gains) % lanes)]
        words = [word_of(padded[at : at + lanes], 16) for at in range(0, len(padded), lanes)]
        gain = self._by_beat(m, valid, words, 16 * lanes)
        pairs = zip(turned, fields(gain, [16] * lanes, True), strict=True)
        valid, gained = step(m, valid, [a * b for a, b in pairs])
        valid, gained = delay(m, valid, gained, int(self.spec.vector.pipeline) - 1)
        valid, again, done, more = to_int16(m, valid, gained, self.parts, self.spec)
        valid, turned = self._rotate(m, valid, again)
        found = narrow(m, valid, turned, self.parts, self.spec)
        self.outputs[0].drive(m, found.valid, found.x)
        exponent = bind(m, (-hold(m, done, more)[0] - found.shifts[0]).as_signed())
        peak, exponent = hold(m, found.done, [found.peaks[0], exponent])
        root, zeros = hold(m, rooted, [root, zeros])
        self.scale(m, later(m, found.done, rooted), peak, root, exponent.as_signed(), zeros)

    def _by_beat(self, m: Module, valid: Value, words: list[int], width: int) -> Value:
        return read_rom(m, beat_counter(m, valid, len(words))[0], words, width)

    def _rotate(self, m: Module, valid: Value, h: list[Value]) -> tuple[Value, list[Value]]:
        """Hadamard transform of each block; then every value becomes a sum over the blocks."""
        mixer, count = self.block.mixer.tolist(), len(self.block.mixer)
        size = self.hidden // count
        valid, turned = hadamard(m, valid, h, size, self.spec)
        if count == 1:
            return valid, turned
        width = len(turned[0])
        done, whole = collect(m, valid, turned, self.hidden)
        whole = hold(m, done, whole)
        columns = [bind(m, join([whole[j * size + k] for j in range(count)])) for k in range(size)]
        valid, lanes, beat = emit(
            m, done, [columns[i % size] for i in range(self.hidden)], self.lanes
        )
        n = len(lanes)
        rows = [word_of(mixer[i // size], 16) for i in range(self.hidden)] + [0] * (
            -self.hidden % n
        )
        words = [word_of(rows[at : at + n], 16 * count) for at in range(0, len(rows), n)]
        coefficients = fields(read_rom(m, beat, words, 16 * count * n), [16] * count * n, True)
        products = []
        for i, lane in enumerate(lanes):
            values = fields(lane, [width] * count, True)
            own = coefficients[i * count : (i + 1) * count]
            products += [a * b for a, b in zip(values, own, strict=True)]
        valid, products = step(m, valid, products)
        groups = [products[i * count : (i + 1) * count] for i in range(n)]
        stages = tree_cycles(self.spec, count)
        valid, sums = tree(m, valid, groups, lambda a, b: a + b, stages, sums=True)
        mixed = [clip_width(round_shift_by(s, Q1_14), 32) for s in sums]
        valid, mixed = step(m, valid, mixed)
        return delay(m, valid, mixed, int(self.spec.vector.pipeline) - 2)
