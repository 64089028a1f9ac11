"""Ports, register stages and trees, of which every block is put together.

Nothing waits for a consumer: a block takes a vector in as *beats* of so many lanes, one a cycle
without a gap, with a `valid` beside them, and answers so many cycles later. A stage's registers
are clocked by its `valid` alone. A tree or a pipeline that the chip description makes longer than
its logic needs ends in plain registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueCastable

PACK_LANES = 64  # values that share one register signal
EMIT_LANES = 16  # lanes that one selection among beats serves

Op = Callable[[Value, Value], Value]


class Port:
    """A bus of `values` numbers, `lanes` a beat: signals NAME and NAME_valid.

    `at` is the cycle in which a bench brings an input's first beat; what takes time counts from the
    latest. The lanes of a last beat that is not full carry zeros.
    """

    def __init__(
        self, name: str, values: int, width: int, lanes: int | None = None, sign: bool = True,
        at: int = 0,
    ) -> None:  # fmt: skip
        self.at = at
        self.name, self.values, self.width, self.sign = name, values, width, sign
        self.lanes = min(lanes or values, values)
        self.beats = -(-values // self.lanes)
        self.data = Signal(self.lanes * width, name=name)
        self.valid = Signal(name=f"{name}_valid")

    def __iter__(self) -> Iterator[Value]:
        """The lanes of a beat."""
        return iter(fields(self.data, [self.width] * self.lanes, self.sign))

    def drive(self, m: Module, valid: Value, lanes: Sequence[Value]) -> None:
        """Put a beat on the bus."""
        m.d.comb += self.valid.eq(valid)
        whole = [Signal(self.width) for _ in lanes]
        m.d.comb += [lane.eq(value) for lane, value in zip(whole, lanes, strict=True)]
        m.d.comb += self.data.eq(join(whole))


def drive(m: Module, port: Port, valid: Value, data: Value) -> None:
    """Put a beat on a unit's input."""
    m.d.comb += [port.valid.eq(valid), port.data.eq(data)]


def fields(word: Value, widths: Sequence[int], sign: bool = False) -> list[Value]:
    """Cut a word into numbers, the first in its lowest bits."""
    found, at = [], 0
    for width in widths:
        part = word[at : at + width]
        found.append(part.as_signed() if sign else part)
        at += width
    return found


def join(values: Sequence[Value]) -> Value:
    """The inverse of `fields`; nested, so that a wide word is no deep expression."""
    if len(values) <= PACK_LANES:
        return Cat(*values)
    size = -(-len(values) // PACK_LANES)
    return Cat(*(join(values[i : i + size]) for i in range(0, len(values), size)))


def step(
    m: Module, valid: Value, values: Sequence[Value | ValueCastable]
) -> tuple[Signal, list[Value]]:
    """One register stage: the valid and the values, a cycle later."""
    later = Signal()
    m.d.sync += later.eq(valid)
    cast = [Value.cast(value) for value in values]
    held: list[Value] = []
    with m.If(valid):
        for at in range(0, len(cast), PACK_LANES):
            some = cast[at : at + PACK_LANES]
            widths = [len(value) for value in some]
            word = Signal(max(sum(widths), 1))
            m.d.sync += word.eq(Cat(*some))
            parts = fields(word, widths)
            held += [
                part.as_signed() if value.shape().signed else part
                for part, value in zip(parts, some, strict=True)
            ]
    return later, held


def delay(
    m: Module, valid: Value, values: Sequence[Value], cycles: int
) -> tuple[Value, list[Value]]:
    """Registers in a line."""
    found = list(values)
    for _ in range(cycles):
        valid, found = step(m, valid, found)
    return valid, found


def spread(
    m: Module,
    valid: Value,
    values: Sequence[Value],
    stages: int,
    layers: Sequence[Layer],
    each: int = 0,
    sums: bool = False,
) -> tuple[Value, list[Value]]:
    """Layers of logic dealt out over register stages, `each` a cycle or as many as it takes.

    `sums`: every value is read once, and needs no wire of its own.
    """  # fmt: skip
    found = list(values)
    each = each or (-(-len(layers) // stages) if stages else 0)
    if len(layers) > stages * each:
        raise ValueError(f"{len(layers)} layers of logic in {stages} cycles of {each}")
    for stage in range(stages):
        some = layers[stage * each : (stage + 1) * each]
        for i, layer in enumerate(some):
            found = layer(found)
            if not sums and i + 1 < len(some):
                found = [bind(m, value) for value in found]
        valid, found = step(m, valid, found)
    return valid, found


def bind(m: Module, value: Value) -> Value:
    """A wire of its own, so that what reads it often is computed once."""
    if isinstance(value, Signal | Const):
        return value
    wire = Signal(value.shape())
    m.d.comb += wire.eq(value)
    return wire


Layer = Callable[[list[Value]], list[Value]]


def pairwise(op: Op) -> Layer:
    """One level of a tree; an odd one passes."""

    def layer(values: list[Value]) -> list[Value]:
        pairs = [op(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        return pairs + values[2 * len(pairs) :]

    return layer


def tree(
    m: Module,
    valid: Value,
    groups: Sequence[Sequence[Value]],
    op: Op,
    stages: int,
    sums: bool = False,
) -> tuple[Value, list[Value]]:
    """Each group of equally many values becomes one, in so many cycles."""
    n, size = len(groups), len(groups[0])
    depth = (size - 1).bit_length()

    def level(values: list[Value]) -> list[Value]:
        width = len(values) // n
        one = pairwise(op)
        return [v for g in range(n) for v in one(values[g * width : (g + 1) * width])]

    flat = [value for group in groups for value in group]
    return spread(m, valid, flat, stages, [level] * depth, sums=sums)


def total(values: Sequence[Value]) -> Value:
    """A sum without registers."""
    found = list(values)
    while len(found) > 1:
        found = pairwise(lambda a, b: a + b)(found)
    return found[0]


def larger(a: Value, b: Value) -> Value:
    """Of two numbers of one shape."""
    word = Mux(a > b, a, b)
    return word.as_signed() if a.shape().signed else word


def later(m: Module, one: Value, other: Value) -> Value:
    """A pulse in the cycle in which the second of two pulses comes."""
    seen = [Signal(name=f"seen_{i}") for i in range(2)]
    both = Signal(name="both")
    m.d.comb += both.eq((seen[0] | one) & (seen[1] | other))
    for flag, pulse in zip(seen, (one, other), strict=True):
        m.d.sync += flag.eq((flag | pulse) & ~both)
    return both


def hold(m: Module, pulse: Value, values: Sequence[Value]) -> list[Value]:
    """The values at the pulse, from then on until the next one."""
    _, kept = step(m, pulse, values)
    both = [Mux(pulse, new, old) for new, old in zip(values, kept, strict=True)]
    return [
        word.as_signed() if Value.cast(value).shape().signed else word
        for word, value in zip(both, values, strict=True)
    ]


def beat_counter(m: Module, valid: Value, beats: int) -> tuple[Value, Value, Value]:
    """Number of the beat that is there, and whether it is the first and the last of `beats`."""
    count = Signal(range(max(beats, 2)))
    last = count == beats - 1
    with m.If(valid):
        m.d.sync += count.eq(Mux(last, 0, count + 1))
    return count, count == 0, last


def collect(
    m: Module, valid: Value, lanes: Sequence[Value], values: int
) -> tuple[Value, list[Value]]:
    """Beats become a whole vector, which is there with its last beat."""
    beats = -(-values // len(lanes))
    if beats == 1:
        return valid, list(lanes)[:values]
    _, _, last = beat_counter(m, valid, beats)
    line: list[list[Value]] = [list(lanes)]
    for _ in range(beats - 1):
        line.append(step(m, valid, line[-1])[1])
    done = Signal()
    m.d.comb += done.eq(valid & last)
    return done, [value for beat in reversed(line) for value in beat][:values]


def clip_width(value: Value, width: int) -> Value:
    """The low bits of a number that is known to fit them."""
    low = value[:width]
    return low.as_signed() if value.shape().signed else low


def emit(
    m: Module, pulse: Value, values: Sequence[Value], lanes: int, whole: bool = False
) -> tuple[Value, list[Value], Value]:
    """A whole vector that is there from the pulse on leaves in beats: valid, lanes, beat number.

    The values must stay until the last beat. `whole`: a beat is chosen as one, which Verilator
    compiles to less where its values lie side by side, and Amaranth's simulator runs slower.
    """
    beats = -(-len(values) // lanes)
    if beats == 1:
        return pulse, list(values), Const(0, 1)
    count, busy, active, now = (
        Signal(range(beats)), Signal(), Signal(), Signal(range(beats)),
    )  # fmt: skip
    m.d.comb += [active.eq(pulse | busy), now.eq(Mux(pulse, 0, count))]
    with m.If(active):
        m.d.sync += [count.eq(now + 1), busy.eq(now != beats - 1)]
    widths = {len(value) for value in values}
    if len(widths) != 1:
        raise ValueError("values of several widths on one bus")
    width, sign = widths.pop(), Value.cast(values[0]).shape().signed
    full = [*values, *[Const(0, width)] * (beats * lanes - len(values))]
    if whole:
        bus = Signal(lanes * width)
        with m.Switch(now):
            for beat in range(beats):
                with m.Case(beat):
                    m.d.comb += bus.eq(join(full[beat * lanes : (beat + 1) * lanes]))
        return active, fields(bus, [width] * lanes, sign), now
    found: list[Value] = []
    for at in range(0, lanes, EMIT_LANES):
        own = range(at, min(at + EMIT_LANES, lanes))
        word = Signal(beats * len(own) * width)
        m.d.comb += word.eq(join([full[beat * lanes + i] for beat in range(beats) for i in own]))
        part = Signal(len(own) * width)
        m.d.comb += part.eq(word.word_select(now, len(own) * width))
        found += fields(part, [width] * len(own), sign)
    return active, found, now
