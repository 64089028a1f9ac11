"""Single cells of a repair: an input by its number times a value, added to a row by its number.

The numbers stand in SRAM, so every row looks at every cell of a turn: a crossbar, the widest part
of an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from emulator.rtl.pipeline import beat_counter, bind, delay, fields, join, step, tree
from emulator.rtl.rom import read_rom, word_of
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec
from kernels.sram_matrix import SramMatrix

VALUE_BITS = 16


def cell_sums(
    m: Module, sides: Sequence[SramMatrix], x_valid: Value, x: Sequence[Value], begin: Value,
    spec: ChipSpec, latency: int,
) -> tuple[tuple[Value, list[Value]], Value]:  # fmt: skip
    """What each row gets, with its valid, `latency` - 1 cycles behind a turn; the last turn."""
    columns, rows = sides[0].columns, sum(side.rows for side in sides)
    cells, first = [], 0
    for side in sides:
        places = zip(side.cell_rows, side.cell_columns, side.cell_values, strict=True)
        cells += [(first + int(r), int(c), int(v)) for r, c, v in places]
        first += side.rows
    n = min(len(cells), int(spec.lora.cells))
    turns = -(-len(cells) // n)
    widths = [max((rows - 1).bit_length(), 1), max((columns - 1).bit_length(), 1), VALUE_BITS]
    packed = [
        r | c << widths[0] | (v & (1 << VALUE_BITS) - 1) << widths[0] + widths[1]
        for r, c, v in cells
    ]
    packed += [0] * (turns * n - len(cells))  # row 0 gets nothing
    words = [word_of(packed[t * n : (t + 1) * n], sum(widths)) for t in range(turns)]
    count, busy = Signal(range(max(turns, 2))), Signal()
    now, active = bind(m, Mux(begin, 0, count)), bind(m, begin | busy)
    last = bind(m, active & (now == turns - 1))
    with m.If(active):
        m.d.sync += [count.eq(now + 1), busy.eq(~last)]
    word = bind(m, read_rom(m, now if turns > 1 else Const(0, 1), words, sum(widths) * n))
    fetch = _kept(m, x_valid, x, columns)
    fetched: list[Value] = []
    for cell in fields(word, [sum(widths)] * n):
        row, column, value = fields(cell, widths)
        fetched += [fetch(column), row, value]
    valid, fetched = step(m, active, fetched)
    triples = list(zip(fetched[::3], fetched[1::3], fetched[2::3], strict=True))
    products = [v for a, row, b in triples for v in (a.as_signed() * b.as_signed(), row)]
    valid, products = step(m, valid, products)
    groups = [
        [
            Mux(to == row, p, 0).as_signed()
            for p, to in zip(products[::2], products[1::2], strict=True)
        ]
        for row in range(rows)
    ]
    depth = tree_cycles(spec, n)
    valid, sums = tree(m, valid, groups, lambda a, b: a + b, depth, sums=True)
    valid, sums = delay(m, valid, sums, latency - 3 - depth)
    return (valid, [value.as_signed() for value in sums]), last


def _kept(m: Module, valid: Value, x: Sequence[Value], columns: int) -> Callable[[Value], Value]:
    """All inputs, kept as they come, a beat a row; reads one of them, with a port of its own."""
    lanes, beats = len(x), columns // len(x)
    memory = Memory(shape=8 * lanes, depth=beats, init=[])
    m.submodules += memory
    write = memory.write_port()
    beat, _, _ = beat_counter(m, valid, beats)
    m.d.comb += [
        write.addr.eq(beat), write.en.eq(valid), write.data.eq(join([v.as_unsigned() for v in x])),
    ]  # fmt: skip

    def fetch(column: Value) -> Value:
        port = memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(column // lanes)
        return port.data.word_select(column % lanes, 8)

    return fetch
