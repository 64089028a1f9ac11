"""Top-k: sorted lists of eight merge down a tree; a list of the best so far meets each beat's.

A key is a logit with the inverted id below it, so that one compare also settles ties.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from emulator.blocks.top_k import TopK
from emulator.config import MAX_K
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.pipeline import Layer, Port, beat_counter, spread, step
from emulator.silicon.spec import ChipSpec

LEVELS = 4  # of compares in a merge: one keeps the better half, three sort it


class TopKRtl(BlockRtl):
    """logits int32[vocabulary] -> top: eight ids, the best first; `best` are their logits."""

    def __init__(self, block: TopK, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block = block
        self.inputs = [Port("logits", block.vocabulary, 32, self.lanes)]
        self.outputs = [Port("top", MAX_K, 32, sign=False), Port("best", MAX_K, 32)]
        self.bits = (block.vocabulary - 1).bit_length()

    def build(self, m: Module) -> None:
        logits, (top, best) = self.inputs[0], self.outputs
        beat, _, _ = beat_counter(m, logits.valid, logits.beats)
        n, mask = logits.lanes, (1 << self.bits) - 1
        keys: list[Value] = []
        for i, logit in enumerate(logits):
            number = (beat * n + i)[: self.bits + 1]
            key = Cat(~number[: self.bits], logit).as_signed()
            nothing = Const(-(1 << (31 + self.bits)), len(key)).as_signed()
            keys.append(
                key if logits.beats * n == self.block.vocabulary
                else Mux(number < self.block.vocabulary, key, nothing).as_signed()
            )  # fmt: skip
        valid, found = self._merge(m, logits.valid, keys, 1)
        if logits.beats > 1:
            valid, found = self._so_far(m, valid, found, logits.beats)
        while len(found) < MAX_K:
            found.append(Const(0, len(found[0])))
        top.drive(m, valid, [key[: self.bits] ^ mask for key in found])
        best.drive(m, valid, [key[self.bits :] for key in found])

    def _cycles(self, lists: int) -> int:
        return -(-((lists - 1).bit_length() * LEVELS) // int(self.spec.vector.levels))

    def _merge(
        self, m: Module, valid: Value, keys: list[Value], size: int
    ) -> tuple[Value, list[Value]]:
        """Sorted lists of `size` become one."""
        lists = [keys[at : at + size] for at in range(0, len(keys), size)]
        layers: list[Layer] = []
        sizes = [len(one) for one in lists]
        while len(sizes) > 1:
            layers += _merge_layers(sizes)
            sizes = _merged(sizes)
        cycles = self._cycles(len(lists))
        return spread(m, valid, keys, cycles, layers, each=int(self.spec.vector.levels))

    def _so_far(
        self, m: Module, valid: Value, found: list[Value], beats: int
    ) -> tuple[Value, list[Value]]:
        """As many lists as a merge takes cycles take turns; behind the last beat they merge."""
        turns = self._cycles(2)
        count, _, _ = beat_counter(m, valid, beats)
        nothing = Const(-(1 << (31 + self.bits)), 32 + self.bits).as_signed()
        loop = [Signal(32 + self.bits) for _ in range(MAX_K)]
        back = [Mux(count < turns, nothing, key.as_signed()).as_signed() for key in loop]
        best = found + [nothing] * (MAX_K - len(found))
        later, new = self._merge(m, valid, [*back, *best], MAX_K)
        m.d.comb += [a.eq(b) for a, b in zip(loop, new, strict=True)]
        _, _, last = beat_counter(m, later, beats)
        line, some = [new], new
        for _ in range(min(turns, beats) - 1):
            _, some = step(m, later, some)
            line.append(some)
        done = Signal()
        m.d.comb += done.eq(later & last)
        return self._merge(m, done, [key for one in line for key in one], MAX_K)


def _merged(sizes: list[int]) -> list[int]:
    pairs = [min(a + b, MAX_K) for a, b in zip(sizes[::2], sizes[1::2], strict=False)]
    return pairs + sizes[2 * len(pairs) :]


def _merge_layers(sizes: list[int]) -> list[Layer]:
    """One merge of neighbouring lists, as LEVELS layers of compares.

    The better half of a falling and a rising list is bitonic; halving distances sort it.
    """
    pairs = list(zip(sizes[::2], sizes[1::2], strict=False))

    def half(values: list[Value]) -> list[Value]:
        found, at = [], 0
        for a, b in pairs:
            one, two = values[at : at + a], values[at + a : at + a + b]
            at += a + b
            size = 1 << (max(a, b) - 1).bit_length()
            low = Const(-(1 << (len(one[0]) - 1)), len(one[0])).as_signed()
            one, two = one + [low] * (size - a), two + [low] * (size - b)
            best = [_better(x, y) for x, y in zip(one, reversed(two), strict=True)]
            worse = (
                []
                if size == MAX_K
                else [_worse(x, y) for x, y in zip(one, reversed(two), strict=True)]
            )
            found += best + worse
        return found + values[at:]

    def sort(distance: int) -> Layer:
        def layer(values: list[Value]) -> list[Value]:
            found, at = [], 0
            for a, b in pairs:
                size = 1 << (max(a, b) - 1).bit_length()
                width = size if size == MAX_K else 2 * size
                some = values[at : at + width]
                at += width
                if distance < size:
                    pairs_of = [(v, some[i ^ distance]) for i, v in enumerate(some)]
                    some = [
                        _worse(other, v) if i & distance else _better(v, other)
                        for i, (v, other) in enumerate(pairs_of)
                    ]
                found += some
            return found + values[at:]

        return layer

    def trim(values: list[Value]) -> list[Value]:
        """Entries that hold nothing, of lists that were not full."""
        found, at = [], 0
        for a, b in pairs:
            size = 1 << (max(a, b) - 1).bit_length()
            width = size if size == MAX_K else 2 * size
            found += values[at : at + min(a + b, MAX_K)]
            at += width
        return found + values[at:]

    last = sort(1)
    return [half, sort(4), sort(2), lambda values: trim(last(values))]


def _better(a: Value, b: Value) -> Value:
    return Mux(a > b, a, b).as_signed()


def _worse(a: Value, b: Value) -> Value:
    return Mux(a > b, b, a).as_signed()
