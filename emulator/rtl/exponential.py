"""Probabilities' exponential, 32767 * 2**-(n / 256): a table of 32, the line between, a shift.

Three cycles, each a function: what is read, the line, the shift.
"""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Mux, Value

from emulator.rtl.arithmetic import round_shift, round_shift_by
from emulator.rtl.pipeline import bind
from emulator.rtl.rom import read_rom
from kernels.reference import EXP2, SCORE_FRACTION
from kernels.tables import EXP2_BITS

BELOW = SCORE_FRACTION - EXP2_BITS  # bits that the table does not tell apart
NOTHING = 16  # powers of two below which nothing is left


def exp_read(m: Module, distance: Value, counts: Value) -> list[Value]:
    """Two entries, how far the distance lies behind the first, whole powers; 16 if not counted."""
    table = [int(entry) for entry in EXP2]
    pairs = [a | b << 16 for a, b in pairwise(table)]
    near = counts & (distance >> SCORE_FRACTION < NOTHING)
    whole = Mux(near, distance[SCORE_FRACTION : SCORE_FRACTION + 4], NOTHING)[:5]
    entries = read_rom(m, bind(m, distance[BELOW:SCORE_FRACTION]), pairs, 32)
    return [entries, distance[:BELOW], whole]


def exp_line(entries: Value, rest: Value) -> Value:
    """15 bits between the two entries."""
    a, b = entries[:16], entries[16:]
    return (a - round_shift_by((a - b)[:16] * rest, BELOW))[:15]


def exp_shift(value: Value, whole: Value) -> Value:
    """15 bits, rounded."""
    return Mux(whole < NOTHING, round_shift(value, whole, 31), 0)[:15]
