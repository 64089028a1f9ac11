"""The root of a sum of squares, part by part: what a norm divides by."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Value

from emulator.rtl.arithmetic import bit_length, integer_sqrt
from emulator.rtl.narrow import Parts, running
from emulator.rtl.pipeline import bind, delay, step, tree
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec

TOTAL_BITS = 62


def sum_delay(parts: Parts, spec: ChipSpec) -> int:
    """From a part's first mantissas to their sum of squares: squares, tree, register."""
    inputs = min(parts.over, spec.vector.lanes.value)
    return 1 + tree_cycles(spec, inputs) + parts.beats - 1 + 1


def root_delay(spec: ChipSpec) -> int:
    """From the sum to its root: epsilon, an even shift, 31 bits of root."""
    return 1 + 1 + -(-31 // int(spec.vector.levels))


def evenly_raised(m: Module, total: Value) -> tuple[Value, Value]:
    """Shifted up to 61 or 62 bits by an even number of places, and half that number."""
    zeros = bind(m, ((TOTAL_BITS - bit_length(m, total)) >> 1)[:5])
    return (total << Cat(Const(0, 1), zeros))[:TOTAL_BITS], zeros


def root_of_squares(
    m: Module, valid: Value, h: Sequence[Value], shifts: Sequence[Value], parts: Parts,
    epsilon: int, spec: ChipSpec,
) -> tuple[Value, list[Value], list[Value]]:  # fmt: skip
    """Pulse; of each part of a beat isqrt(sum of h**2 and epsilon, shifted up to 61 or 62 bits),
    and half that shift.

    `shifts` of the mantissas must be there `sum_delay` behind a part's first ones.
    """
    n = parts.in_beat
    valid, squares = step(m, valid, [(v * v)[:33] for v in h])
    size = -(-len(h) // n)
    groups = [squares[g * size : (g + 1) * size] for g in range(n)]
    stages = tree_cycles(spec, min(parts.over, spec.vector.lanes.value))
    valid, sums = tree(m, valid, groups, lambda a, b: a + b, stages, sums=True)
    wide = [Cat(s, Const(0, max(TOTAL_BITS - len(s), 1)))[:TOTAL_BITS] for s in sums]
    valid, sums = running(m, valid, wide, parts.beats, lambda a, b: (a + b)[:TOTAL_BITS])
    totals = []
    for one, shift in zip(sums, shifts, strict=True):
        places = Mux(shift > 31, 62, shift << 1)[:6]
        own = Const(epsilon, max(epsilon.bit_length(), 1)) >> places
        totals.append((one + own)[:TOTAL_BITS])
    valid, totals = step(m, valid, totals)
    pairs = [evenly_raised(m, total) for total in totals]
    valid, kept = step(m, valid, [r for r, _ in pairs] + [z for _, z in pairs])
    cycles, roots, ready = root_delay(spec) - 2, [], valid
    for one in kept[:n]:
        ready, root = integer_sqrt(m, valid, one, cycles)
        roots.append(bind(m, Mux(root == 0, 1, root)[:31]))
    _, zeros = delay(m, valid, kept[n:], cycles)
    return ready, roots, zeros
