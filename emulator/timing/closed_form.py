"""A token's cycles on many chips at once: the blocks' costs written over arrays of constants.

`schedule` walks the blocks of one chip; this is the same arithmetic for a dense Llama whose layers
are all alike, with one array element a chip, so that 100,000 chips take seconds. A test holds the
two equal, to the cycle, on random chips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.blocks.kv_sram import SCALE_BITS
from emulator.config import LlamaConfig
from emulator.errors import UsageError
from emulator.fixedpoint import power_of_two_block
from emulator.timing.budget import At, Work
from kernels.rom.widths import WIDTHS
from weights.checkpoint import LAYER_MATRICES
from weights.mix import Mix

Wave = tuple[Any, Any]  # cycles of the first and of the last value
Phase = tuple[Any, Any, Any]  # take, latency, parts


@dataclass(frozen=True, slots=True)
class Cycles:
    """Of one token on each chip; [chips]."""

    token: Any
    layer: Any  # one of the inner layers
    head: Any
    row_cycles: Any  # as in `Cost`

    @property
    def headless(self) -> Any:
        """Of a prompt token that is not the last."""
        return self.token - self.head


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """One model, any number of chips."""

    config: LlamaConfig
    bits: dict[str, int]  # by matrix of a layer, and "head"

    @classmethod
    def of(cls, config: LlamaConfig, mix: Mix) -> ClosedForm:
        """Raises UsageError where layers differ, for a tied model, or for another than a Llama."""
        layers = [
            {name: mix.bits(name, i) for name in LAYER_MATRICES} for i in range(config.layers)
        ]
        if any(layer != layers[0] for layer in layers) or config.tied or not config.is_plain:
            raise UsageError("many chips at once: only an untied Llama whose layers are all alike")
        return cls(config, layers[0] | {"head": mix.bits("head", None)})

    def cycles(self, at: At, context: float) -> Cycles:
        """Of a token that attends to `context` positions, itself included."""
        c = self.config
        zero = np.zeros(np.shape(at("vector.lanes")))
        wave = (zero, zero)
        columns = self.config.hidden
        wave = _through([(_passes(at, columns), at("embedding.read"), columns)], wave)
        first = wave = _through(self._layer(at, context), wave)
        inner = (zero, first[1] - first[0])
        left = _through(self._layer(at, context), inner)
        layer = left[1] - inner[1]
        head = _through(self._head(at), inner)[1] - inner[1]
        token = first[1] + (c.layers - 1) * layer + head
        return Cycles(token, layer, head, self._row_cycles(at))

    def work(self, at: At, cycles: Cycles, context: float) -> Work:
        """What such a token does; as `token_work`, but for the small tables."""
        c = self.config
        width, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
        rows = {"q": width, "k": kv, "v": kv, "o": width, "gate": c.ffn, "up": c.ffn, "down": c.ffn}
        sizes = {name: c.hidden * n for name, n in rows.items()}  # o and down turned round
        layer, head = sum(sizes.values()), c.vocabulary * c.hidden
        stored = {
            name: bits + 8 / WIDTHS[bits].group for name, bits in self.bits.items()
        }  # and scales
        codes = c.layers * sum(n * stored[name] for name, n in sizes.items())
        position = c.kv_heads * (at("kv_sram.value_bits") * c.head_dim + SCALE_BITS)
        outputs = c.layers * (width + 2 * kv + 2 * c.hidden + 2 * c.ffn) + c.vocabulary
        inputs = c.layers * (2 * c.hidden + width + c.ffn) + c.hidden
        return Work(
            macs=c.layers * (layer + 2 * context * width) + head,
            rom_bits=codes + head * stored["head"],
            sram_bits=c.layers * 2 * (context + 1) * position,
            row_cycles=cycles.row_cycles,
            wire_bits=8 * inputs + 32 * outputs,
        )

    def _layer(self, at: At, context: float) -> list[Phase]:
        c = self.config
        width, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
        norm = list(_norm(at, c.hidden))
        add = _stream(at, c.hidden, 1)
        silu = at("vector.table") + at("vector.pipeline")
        return [
            *norm,
            *self._pass(at, c.hidden, width + 2 * kv, "q", "k", "v"),
            _stream(at, width + kv),
            *_rotate_narrow(at, width + kv, c.head_dim, c.head_dim),
            *self._attention(at, context),
            *self._pass(at, width, c.hidden, "o"),
            add,
            *norm,
            *self._pass(at, c.hidden, 2 * c.ffn, "gate", "up"),
            _stream(at, c.ffn, silu),
            *_rotate_narrow(at, c.ffn, power_of_two_block(c.ffn), c.ffn),
            *self._pass(at, c.ffn, c.hidden, "down"),
            add,
            (1, 0, 1),
            (1, at("sequencer.layer"), 1),
        ]

    def _head(self, at: At) -> list[Phase]:
        c = self.config
        rows = self._pass(at, c.hidden, c.vocabulary, "head")
        return [*_norm(at, c.hidden), *rows, self._top_k(at)]

    def _top_k(self, at: At) -> Phase:
        """As `TopK.cost` has it."""
        vocabulary = self.config.vocabulary
        levels = 1 + np.ceil(np.log2(at("top_k.width")))

        def merges(lists: Any) -> Any:
            return np.ceil(np.ceil(np.log2(lists)) * levels / at("vector.levels"))

        take, turns = _passes(at, vocabulary), merges(2)
        more = np.where(take > 1, turns + merges(np.minimum(turns, take)), 0)
        return take, merges(np.minimum(vocabulary, at("vector.lanes"))) + more, 1

    def _pass(self, at: At, columns: int, rows: int, *names: str) -> tuple[Phase, Phase]:
        bits = max(self.bits[name] for name in names)
        cells = np.ceil(bits / at("fabric.cell_bits"))
        fixed = at("fabric.wire") + at("fabric.alphabet_setup") + 1
        latency = fixed + _tree(at, at("fabric.lanes") * cells)
        feed = self._take(at, columns, bits), latency, 1
        return feed, _stream(at, rows, at("fabric.scale_drain"))

    def _take(self, at: At, columns: int, bits: int) -> Any:
        turns = np.ceil(np.ceil(bits / at("fabric.cell_bits")) / at("fabric.cells"))
        return np.ceil(columns / at("fabric.lanes")) * turns

    def _row_cycles(self, at: At) -> Any:
        c, b = self.config, self.bits
        width, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
        qkv = (width + 2 * kv) * self._take(at, c.hidden, max(b["q"], b["k"], b["v"]))
        inner = 2 * c.ffn * self._take(at, c.hidden, max(b["gate"], b["up"]))
        outer = c.hidden * (self._take(at, width, b["o"]) + self._take(at, c.ffn, b["down"]))
        head = c.vocabulary * self._take(at, c.hidden, b["head"])
        return c.layers * (qkv + inner + outer) + head

    def _attention(self, at: At, context: float) -> list[Phase]:
        c = self.config
        width = c.heads * c.head_dim
        sweep, positions = self.sweep(at, context)
        side, pipeline = _tree(at, positions), at("vector.pipeline")
        scores = at("kv_sram.latency") + _tree(at, c.head_dim) + pipeline + side + 1
        values = at("vector.table") + pipeline + side + 1
        return [
            (1, 0, 1),
            (sweep, scores, c.kv_heads),
            (sweep, values, c.kv_heads),
            (1, 0, 1),
            _stream(at, c.heads, at("vector.reciprocal")),
            _stream(at, width),
            *_narrow(at, width),
        ]

    def sweep(self, at: At, context: float) -> tuple[Any, Any]:
        """Cycles in which a layer's keys (its values) are read; positions of a head a cycle."""
        c = self.config
        bits = c.kv_heads * (at("kv_sram.value_bits") * c.head_dim + SCALE_BITS)
        by_macs = at("attention.macs") / (c.heads * c.head_dim)
        positions = np.minimum(8 * at("kv_sram.bandwidth") / bits, by_macs)
        at_once = np.maximum(1, np.floor(positions * c.kv_heads))
        return c.kv_heads * np.ceil(context / at_once), at_once


def _through(phases: list[Phase], wave: Wave) -> Wave:
    first, last = wave
    for take, latency, parts in phases:
        span = np.maximum(take, last - first + 1)
        first, last = first + np.ceil(span / parts) - 1 + latency, first + span - 1 + latency
    return first, last


def _passes(at: At, values: int) -> Any:
    return np.ceil(values / at("vector.lanes"))


def _tree(at: At, inputs: Any) -> Any:
    levels = np.ceil(np.log2(np.maximum(inputs, 1)))
    return np.ceil(levels / at("vector.levels"))


def _stream(at: At, values: int, latency: Any = None) -> Phase:
    latency = at("vector.pipeline") if latency is None else latency
    return _passes(at, values), latency, values


def _reduce(at: At, values: int, over: int) -> Phase:
    inputs = np.minimum(over, at("vector.lanes"))
    return _passes(at, values), _tree(at, inputs) + 1, values // over


def _narrow(at: At, values: int, over: int = 0) -> Iterator[Phase]:
    over = over or values
    yield _reduce(at, values, over)
    yield _stream(at, values // over, at("vector.reciprocal"))
    yield _stream(at, values)


def _norm(at: At, hidden: int) -> Iterator[Phase]:
    """`RmsNorm.cost`, with the part of the root that nothing hides."""
    levels, lanes = at("vector.levels"), at("fabric.lanes")
    steps = np.ceil(31 / levels) + np.ceil(33 / levels)
    tree = _tree(at, np.minimum(hidden, at("vector.lanes")))
    root = _passes(at, hidden) + 1 + tree + 3 + steps + 3
    feed = np.ceil(hidden / lanes) - 1 + at("fabric.wire")
    row = at("fabric.alphabet_setup") + _tree(at, lanes) + 1 + 2
    x = at("vector.reciprocal") + at("vector.pipeline")
    yield from _narrow(at, hidden)
    yield _stream(at, hidden, np.maximum(0, root - x - feed - row))


def _rotate_narrow(at: At, values: int, block: int, over: int) -> Iterator[Phase]:
    yield _reduce(at, values, over)
    yield _passes(at, values), _tree(at, block) + 1, values // block
    yield from _narrow(at, values, over)
