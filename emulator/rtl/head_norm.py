"""Norm of the heads of q and k: each head's root, its inverse, and two products a value.

Heads follow each other without a gap, so roots and quotients are pipelines of their own.
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Value

from emulator.blocks.head_norm import QUOTIENT_BITS, HeadNorm
from emulator.rtl.arithmetic import EXPONENT_BITS, divide, requantised, scaled
from emulator.rtl.block_rtl import BlockRtl, constant_scale
from emulator.rtl.narrow import Parts, to_int16
from emulator.rtl.pipeline import Port, beat_counter, bind, clip_width, delay, fields, hold, step
from emulator.rtl.rom import read_rom, word_of
from emulator.rtl.root import root_delay, root_of_squares, sum_delay
from emulator.silicon.spec import ChipSpec
from kernels.reference import FRACTION

SCALED_CYCLES = 3  # of `scaled`


class HeadNormRtl(BlockRtl):
    """q_k int32[values], the heads of q and then of k -> the same, normed."""

    def __init__(self, block: HeadNorm, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block, self.q_heads = block, block.heads - block.kv_heads
        self.dim = block.q_gain.size
        values = block.heads * self.dim
        self.inputs = [Port("q_k", values, 32, self.lanes)]
        self.outputs = [Port("q_k_normed", values, 32, self.lanes)]

    def build(self, m: Module) -> None:
        q_k, spec = self.inputs[0], self.spec
        parts = Parts(q_k.values, self.dim, q_k.lanes).checked()
        valid, h, done, shifts = to_int16(m, q_k.valid, list(q_k), parts, spec)
        _, shifts = delay(m, done, shifts, 1 + sum_delay(parts, spec))
        pulse, roots, zeros = root_of_squares(m, valid, h, shifts, parts, self.block.epsilon, spec)
        ready, scales = self._inverse(m, pulse, roots, zeros, parts)
        mantissas, exponents = (hold(m, ready, some) for some in scales)
        # h waits for its head's root; its gain meets it on the way
        cycles = sum_delay(parts, spec) + root_delay(spec) + self._quotient() + SCALED_CYCLES
        valid, h = delay(m, valid, h, cycles - 1)
        gains = fields(self._gains(m, valid, q_k), [16] * q_k.lanes, True)
        valid, gained = step(m, valid, [a * b for a, b in zip(h, gains, strict=True)])
        factor = parts.of_lanes(mantissas, len(gained))
        shift = parts.of_lanes(exponents, len(gained))
        staged: list[Value] = []
        for value, mantissa, e in zip(gained, factor, shift, strict=True):
            places = clip_width((e.as_signed() - FRACTION).as_signed(), EXPONENT_BITS + 2)
            staged += [value * mantissa.as_unsigned(), places]
        valid, staged = step(m, valid, staged)
        pairs = zip(staged[::2], staged[1::2], strict=True)
        valid, out = step(m, valid, [requantised(m, product, places) for product, places in pairs])
        valid, out = delay(m, valid, out, int(spec.vector.pipeline) - 2)
        self.outputs[0].drive(m, valid, out)

    def _quotient(self) -> int:
        return -(-QUOTIENT_BITS // int(self.spec.vector.levels))

    def _inverse(
        self, m: Module, pulse: Value, roots: list[Value], zeros: list[Value], parts: Parts
    ) -> tuple[Value, tuple[list[Value], list[Value]]]:
        """2**47 // root of each part, times the constant of q or of k: mantissas, exponents."""
        cycles, mantissas, exponents = self._quotient(), [], []
        beats = -(-self.block.heads // parts.in_beat)
        ready, late = delay(m, pulse, zeros, cycles)
        beat, _, _ = beat_counter(m, ready, beats)
        q, k = (constant_scale(scale) for scale in self.block.constants)
        valid = ready
        for i, (root, zero) in enumerate(zip(roots, late, strict=True)):
            _, quotient = divide(m, pulse, Const(1 << 47, 48), root, QUOTIENT_BITS, cycles)
            of_q = beat * parts.in_beat + i < self.q_heads
            chosen = [
                Mux(of_q, q[0], k[0])[:16],
                Mux(of_q, q[1], k[1])[:EXPONENT_BITS].as_signed(),
            ]
            _, later = step(m, ready, chosen)  # `scaled` multiplies in its second cycle
            exponent = bind(m, (47 - zero).as_signed())
            valid, mantissa, e = scaled(m, ready, quotient, exponent, later)
            mantissas.append(mantissa)
            exponents.append(e)
        return valid, (mantissas, exponents)

    def _gains(self, m: Module, valid: Value, q_k: Port) -> Value:
        """The gains of a beat, from the mask."""
        both = [self.block.q_gain.tolist()] * self.q_heads
        both += [self.block.k_gain.tolist()] * self.block.kv_heads
        flat = [gain for head in both for gain in head]
        n = q_k.lanes
        flat += [0] * (q_k.beats * n - len(flat))
        words = [word_of(flat[at : at + n], 16) for at in range(0, len(flat), n)]
        return read_rom(m, beat_counter(m, valid, q_k.beats)[0], words, 16 * n)
