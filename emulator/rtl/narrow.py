"""Maxima, narrowing to int8, and the Hadamard transform: what the vector unit does to a vector.

A *part* is what has a maximum of its own: the whole vector, or a head. A part of several beats is
delayed until its maximum is known; a line of registers here, a RAM with a moving address in
silicon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from emulator.errors import ChipError
from emulator.rtl.arithmetic import excess, reciprocal, round_shift, round_shift_by
from emulator.rtl.pipeline import (
    Layer,
    Op,
    beat_counter,
    bind,
    clip_width,
    collect,
    delay,
    emit,
    hold,
    larger,
    spread,
    step,
    tree,
)
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec
from kernels.reference import INT8_MAX, RECIPROCAL_BITS

RECIPROCAL_WIDTH = 30


@dataclass(frozen=True)
class Parts:
    """How a vector of `values` lies in beats of `lanes`, and its parts of `over` values."""

    values: int
    over: int
    lanes: int

    @property
    def in_beat(self) -> int:
        """Parts that one beat holds."""
        return max(self.lanes // self.over, 1)

    @property
    def beats(self) -> int:
        """Beats that one part fills."""
        return -(-self.over // self.lanes)

    def checked(self) -> Parts:
        """Raises ChipError where a part neither fills beats nor fits one."""
        whole = self.over == self.values
        if not whole and self.lanes % self.over and self.over % self.lanes:
            raise ChipError(f"{self.lanes} vector lanes cut heads of {self.over}: no RTL for that")
        return self

    def of_lanes(self, per_part: Sequence[Value], lanes: int) -> list[Value]:
        """Of each lane of a beat, its part's value."""
        size = min(self.over, self.lanes)
        return [per_part[min(i // size, len(per_part) - 1)] for i in range(lanes)]


def magnitude(m: Module, value: Value, width: int) -> Value:
    """|value|, and a last bit that says whether it is not negative."""
    negative = value < 0
    size = bind(m, Mux(negative, -value, value)[:width])
    return Cat(~negative, size)


def maximum(
    m: Module, valid: Value, keys: Sequence[Value], parts: Parts, spec: ChipSpec
) -> tuple[Value, list[Value]]:
    """The largest of each part: compare tree, then a register that goes on over its beats."""
    n = parts.in_beat
    size = -(-len(keys) // n)
    groups = [list(keys[g * size : (g + 1) * size]) for g in range(n)]
    inputs = min(parts.over, spec.vector.lanes.value)
    valid, found = tree(m, valid, groups, larger, tree_cycles(spec, inputs))
    return running(m, valid, found, parts.beats)


def running(
    m: Module, valid: Value, found: Sequence[Value], beats: int, op: Op = larger
) -> tuple[Value, list[Value]]:
    """The register behind a tree: over so many beats, then a pulse of valid with the result."""
    if beats == 1:
        return step(m, valid, found)
    _, first, last = beat_counter(m, valid, beats)
    kept = [Signal(value.shape()) for value in found]
    done = Signal()
    m.d.sync += done.eq(valid & last)
    with m.If(valid):
        m.d.sync += [r.eq(Mux(first, v, op(v, r))) for r, v in zip(kept, found, strict=True)]
    return done, list(kept)


def maximum_delay(parts: Parts, spec: ChipSpec) -> int:
    """From a part's first beat to its maximum."""
    inputs = min(parts.over, spec.vector.lanes.value)
    return parts.beats - 1 + tree_cycles(spec, inputs) + 1


@dataclass(frozen=True)
class Narrowed:
    """A vector as int8, and what its scales are made of."""

    valid: Value
    x: list[Value]  # int8 lanes
    done: Value  # pulse: the maxima of a beat's parts (of a part's beats) are known
    peaks: list[Value]  # of each part, 16 bits, at the pulse
    shifts: list[Value]  # places that the values were shifted, at the pulse
    first_shifts: list[Value]  # `double`: of these, those of the first of two roundings
    h: list[Value]  # `double`: 16-bit mantissas after the first rounding
    h_valid: Value


def narrow(
    m: Module,
    valid: Value,
    lanes: Sequence[Value],
    parts: Parts,
    spec: ChipSpec,
    double: bool = False,
) -> Narrowed:
    """To int8 by each part's absolute maximum. `double`: by way of 16-bit mantissas, as a norm."""
    width = len(lanes[0])
    keys = [magnitude(m, lane, width) for lane in lanes]
    done, best = maximum(m, valid, keys, parts, spec)
    peaks, shifts, firsts = [], [], []
    for key in best:
        largest = bind(m, key[1:])
        s1 = bind(m, excess(m, largest))
        rounded = round_shift(largest, s1)[:17]
        s2: Value = s1
        if double:  # a negative largest value rounds its half the other way
            other = -round_shift(clip_width((-largest).as_signed(), width + 1), s1)
            rounded = bind(m, Mux(key[0], rounded, other[:17]))
            s2 = bind(m, excess(m, rounded))
            rounded = round_shift(rounded, s2)
        peaks.append(bind(m, rounded[:16]))
        firsts.append(s1)
        shifts.append(bind(m, s1 + s2) if double else s1)
    line_valid, line = delay(m, valid, lanes, maximum_delay(parts, spec))
    per_lane = parts.of_lanes(hold(m, done, firsts), len(line))
    h_valid, h = step(m, line_valid, [_shifted(v, s) for v, s in zip(line, per_lane, strict=True)])
    cycles = int(spec.vector.reciprocal)
    ready, inverse = reciprocal(
        m, done, INT8_MAX << RECIPROCAL_BITS, peaks, cycles, RECIPROCAL_WIDTH
    )
    late_valid, late = delay(m, h_valid, h, cycles - 1)
    if double:
        _, again = delay(
            m, done, [(t - f)[:1] for t, f in zip(shifts, firsts, strict=True)], cycles
        )
        more = parts.of_lanes(hold(m, ready, again), len(late))
        late = [_shifted(v, s) for v, s in zip(late, more, strict=True)]
    factor = parts.of_lanes(hold(m, ready, inverse), len(late))
    late_valid, product = step(m, late_valid, [v * r for v, r in zip(late, factor, strict=True)])
    rounded_lanes = [clip_width(round_shift_by(p, RECIPROCAL_BITS), 8) for p in product]
    late_valid, x = step(m, late_valid, rounded_lanes)
    late_valid, x = delay(m, late_valid, x, int(spec.vector.pipeline) - 2)
    return Narrowed(late_valid, x, done, peaks, shifts, firsts, h, h_valid)


def _shifted(value: Value, places: Value) -> Value:
    """To 17 bits: |value| is at most 2**15 behind the shift."""
    return clip_width(round_shift(value, places).as_signed(), 17)


def to_int16(
    m: Module, valid: Value, lanes: Sequence[Value], parts: Parts, spec: ChipSpec
) -> tuple[Value, list[Value], Value, list[Value]]:
    """Mantissas of 16 bits: valid and lanes a cycle behind the maximum; its pulse and shifts.

    A whole vector may come in on fewer lanes than it leaves on.
    """
    keys = [magnitude(m, lane, len(lane)) for lane in lanes]
    done, best = maximum(m, valid, keys, replace(parts, lanes=len(lanes)), spec)
    shifts = [bind(m, excess(m, bind(m, key[1:]))) for key in best]
    if len(lanes) < parts.lanes:
        whole_there, whole = collect(m, valid, lanes, parts.values)
        line_valid, line, _ = emit(m, done, hold(m, whole_there, whole), parts.lanes)
    else:
        line_valid, line = delay(m, valid, lanes, maximum_delay(parts, spec))
    per_lane = parts.of_lanes(hold(m, done, shifts), len(line))
    valid, h = step(m, line_valid, [_shifted(v, s) for v, s in zip(line, per_lane, strict=True)])
    return valid, h, done, shifts


def rotate_narrow(
    m: Module, valid: Value, lanes: Sequence[Value], block: int, parts: Parts, spec: ChipSpec
) -> Narrowed:
    """`narrow` behind a Hadamard transform of 16-bit mantissas; its shifts are those of both."""
    valid, h, done, shifts = to_int16(m, valid, lanes, parts, spec)
    valid, turned = hadamard(m, valid, h, block, spec)
    found = narrow(m, valid, turned, parts, spec)
    between = hadamard_delay(block, len(h), spec) + maximum_delay(parts, spec)
    _, early = delay(m, done, shifts, between)
    both = [bind(m, a + b) for a, b in zip(early, found.shifts, strict=True)]
    return replace(found, shifts=both)


def hadamard_delay(block: int, lanes: int, spec: ChipSpec) -> int:
    """From a block's first value, not yet shifted, to the first one turned."""
    return 1 + -(-block // lanes) - 1 + tree_cycles(spec, block)


def hadamard(
    m: Module, valid: Value, lanes: Sequence[Value], block: int, spec: ChipSpec
) -> tuple[Value, list[Value]]:
    """Walsh-Hadamard transform of each run of `block` values, in adders.

    A block of several beats is held whole; its beats meet first, then the lanes of each.
    """
    n, beats = len(lanes), -(-block // len(lanes))
    width = len(lanes[0]) + (block - 1).bit_length()
    values, layers = list(lanes), []
    if beats > 1:
        _, _, last = beat_counter(m, valid, beats)
        line = [list(lanes)]
        for _ in range(beats - 1):
            line.append(step(m, valid, line[-1])[1])
        whole = Signal()
        m.d.comb += whole.eq(valid & last)
        values = hold(m, whole, [value for beat in reversed(line) for value in beat])
        row = Signal(range(beats))  # the beat that leaves
        busy = Signal()
        with m.If(whole):
            m.d.sync += [row.eq(1), busy.eq(1)]
        with m.Elif(busy):
            m.d.sync += [row.eq(row + 1), busy.eq(row != beats - 1)]
        now = bind(m, Mux(whole, 0, row))
        valid = bind(m, whole | busy)
        rows = [now]
        for bit in range((beats - 1).bit_length()):
            layers.append(_across(n, bit))
        values = [*values, *rows]
    for bit in range((min(block, n) - 1).bit_length()):
        layers.append(_within(m, n, 1 << bit, width))
    stages = tree_cycles(spec, block)
    if beats > 1:
        layers[(beats - 1).bit_length() - 1] = _without_row(layers[(beats - 1).bit_length() - 1])
    return spread(m, valid, values, stages, layers)


def _across(n: int, bit: int) -> Layer:
    """Beats 2 i and 2 i + 1 become their sum or difference, by a bit of the beat that leaves."""

    def layer(values: list[Value]) -> list[Value]:
        *beats, row = values
        sign = row[bit]
        found: list[Value] = []
        for at in range(0, len(beats), 2 * n):
            pairs = zip(beats[at : at + n], beats[at + n : at + 2 * n], strict=True)
            found += [Mux(sign, a - b, a + b).as_signed() for a, b in pairs]
        return [*found, row]

    return layer


def _without_row(layer: Layer) -> Layer:
    return lambda values: layer(values)[:-1]


def _within(m: Module, n: int, distance: int, width: int) -> Layer:
    """One level of butterflies."""

    def layer(values: list[Value]) -> list[Value]:
        found = []
        for i, value in enumerate(values):
            other = values[i ^ distance] if i ^ distance < n else value
            pair = other - value if i & distance else value + other
            found.append(bind(m, clip_width(pair.as_signed(), min(len(pair), width))))
        return found

    return layer
