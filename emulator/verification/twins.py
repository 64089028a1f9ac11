"""Kernel against NumPy twin, block by block, on random signals and an image's own masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kernels
from emulator.blocks.block import Block
from emulator.blocks.wires import SIGNALS, Arrays, Format, Signal, Wires
from emulator.chip import Chip

TOKENS, START = 3, 5  # of a random pass
ROWS = 256  # of each matrix: a twin unpacks to int64


def disagreements(chip: Chip, seed: int) -> Iterator[tuple[str, str | None]]:
    """(block, what differs or None) for each kind of block of the chip, once."""
    seen = set()
    for stage in chip.stages:
        for block in stage.blocks:
            if block.name not in seen:
                seen.add(block.name)
                yield block.name, _compare(chip, block.cut(ROWS), seed)


def _compare(chip: Chip, block: Block, seed: int) -> str | None:
    rng = np.random.default_rng([seed, *block.name.encode()])
    sizes = {"T": TOKENS, **asdict(chip.image.config), **block.sizes}
    signals = {name: _random(SIGNALS[name], sizes, rng) for name in block.reads}
    memory = {name: _contents(array, rng) for name, array in block.memory.items()}
    answers = [_run(backend, block, signals, memory) for backend in kernels.BACKENDS]
    for name, one in answers[0].items():
        other = answers[1][name]
        if one.dtype != other.dtype or not np.array_equal(one, other):
            return name
    return None


def _run(backend: str, block: Block, signals: Arrays, memory: Arrays) -> Arrays:
    own = block.with_memory({name: array.copy() for name, array in memory.items()})
    wires = Wires.carrying(TOKENS, START, {name: a.copy() for name, a in signals.items()})
    own.run(kernels.load(backend), wires)
    out = {name: getattr(wires, name) for name in block.writes}
    return out | {f"sram.{name}": array for name, array in own.memory.items()}


def _random(signal: Signal, sizes: dict[str, int], rng: np.random.Generator) -> NDArray[Any]:
    """A signal that a block can meet: any int8, any scale of 16 bits, int32 of 12 to 32 bits,
    sums of 14 to 44."""
    shape = signal.shape(sizes)
    if signal.format is Format.TOKEN_ID:  # rows near the first, which the cut table has
        return rng.integers(0, min(sizes["vocabulary"], ROWS), shape)
    if signal.format is Format.SCALE:
        return _scales(shape[:-1], rng)
    if signal.format is Format.INT8:
        return rng.integers(-127, 128, shape).astype(np.int8)
    if signal.format is Format.SUM:
        return rng.integers(-(1 << 43), 1 << 43, shape) >> int(rng.integers(0, 30))
    narrower = np.int32(rng.integers(0, 20))
    return rng.integers(-(1 << 31), 1 << 31, shape).astype(np.int32) >> narrower


def _contents(like: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """KV SRAM with random values in every position that the pass can see."""
    shape = (START + TOKENS, *like.shape[1:])
    if like.dtype == np.int8:
        return rng.integers(-127, 128, shape).astype(np.int8)
    return _scales(shape[:-1], rng)


def _scales(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int32]:
    mantissa = rng.integers(1 << 15, 1 << 16, shape)
    return np.stack([mantissa, rng.integers(18, 26, shape)], axis=-1).astype(np.int32)
