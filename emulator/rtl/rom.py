"""Masks: what is read from them, by a number."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Value
from amaranth.lib.memory import Memory


def read_rom(m: Module, index: Value, words: Sequence[int], width: int) -> Value:
    """The word of this number, in the same cycle; constant where there is one word alone."""
    if len(words) == 1:
        return Const(words[0], width)
    memory = Memory(shape=width, depth=len(words), init=[int(word) for word in words])
    m.submodules += memory
    port = memory.read_port(domain="comb")
    m.d.comb += port.addr.eq(index)
    data: Value = port.data
    return data


def word_of(values: Sequence[int], width: int) -> int:
    """Numbers packed into one word, the first in its lowest bits, as two's complement."""
    mask, word = (1 << width) - 1, 0
    for i, value in enumerate(values):
        word |= (int(value) & mask) << (width * i)
    return word
