"""Kernel against NumPy twin, block by block, on random signals and an image's own masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kernels
from emulator.blocks.wires import Block
from emulator.chip import Chip
from emulator.verification.ports import (
    MEMORY,
    PORTS,
    cut_block,
    fresh_wires,
    memory_of,
    with_memory,
)

TOKENS, START = 3, 5  # of a random pass
ROWS = 256  # of each matrix: a twin unpacks to int64
Signals = dict[str, NDArray[Any]]


def disagreements(chip: Chip, seed: int) -> Iterator[tuple[str, str | None]]:
    """(block, what differs or None) for each kind of block of the chip, once."""
    seen = set()
    for stage in chip.stages:
        for block in stage.blocks:
            if block.name not in seen:
                seen.add(block.name)
                yield block.name, _compare(chip, cut_block(block, ROWS), seed)


def _compare(chip: Chip, block: Block, seed: int) -> str | None:
    rng = np.random.default_rng([seed, *block.name.encode()])
    ports = PORTS[block.name]
    signals = {name: _random(chip, block, name, rng) for name in ports.reads}
    sram = memory_of(block)
    memory = {name: _contents(getattr(sram, name), rng) for name in MEMORY} if sram else {}
    answers = [_run(backend, block, signals, memory, ports.writes) for backend in kernels.BACKENDS]
    for name, one in answers[0].items():
        other = answers[1][name]
        if one.dtype != other.dtype or not np.array_equal(one, other):
            return name
    return None


def _run(
    backend: str, block: Block, signals: Signals, memory: Signals, writes: tuple[str, ...]
) -> Signals:
    own = with_memory(block, memory)
    wires = fresh_wires(TOKENS, START, {name: a.copy() for name, a in signals.items()})
    own.run(kernels.load(backend), wires)
    out = {name: getattr(wires, name) for name in writes}
    sram = memory_of(own)
    return out | ({f"sram.{n}": getattr(sram, n) for n in MEMORY} if sram else {})


def _random(chip: Chip, block: Block, name: str, rng: np.random.Generator) -> NDArray[Any]:
    """A signal that a block can meet: any int8, any scale of 16 bits, int32 of 12 to 32 bits."""
    config = chip.image.config
    matrices = getattr(block, "matrices", {})
    columns = next(iter(matrices.values())).columns if matrices else config.hidden
    width = {
        "x": (columns,),
        "residual": (config.hidden,),
        "delta": (config.hidden,),
        "gate": (config.ffn,),
        "up": (config.ffn,),
        "logits": (config.vocabulary,),
        "q": (config.heads, config.head_dim),
        "q8": (config.heads, config.head_dim),
        "k": (config.kv_heads, config.head_dim),
        "v": (config.kv_heads, config.head_dim),
    }
    if name == "tokens":  # rows near the first, so that a twin need not unpack a whole table
        return rng.integers(0, min(config.vocabulary, ROWS), TOKENS)
    if name == "x_scale":
        return _scales((TOKENS,), rng)
    if name == "q8_scale":
        return _scales((TOKENS, config.heads), rng)
    shape = (TOKENS, *width[name])
    if name in ("x", "q8"):
        return rng.integers(-127, 128, shape).astype(np.int8)
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
