"""Drives a block's RTL with vectors in Amaranth's simulator, and measures cycles."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from emulator.errors import EmulatorError
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.pipeline import Port
from emulator.rtl.rom import word_of

LIMIT = 100_000  # cycles without an answer


@dataclass(frozen=True)
class Answer:
    """What came out of every port, and the cycles from the first value in to the last one out."""

    arrays: dict[str, np.ndarray]
    cycles: int


def beats_of(port: Port, values: np.ndarray) -> list[int]:
    """A signal as the words of its beats; the last is filled up with zeros."""
    flat = [int(value) for value in np.ravel(values)]
    if len(flat) != port.values:
        raise EmulatorError(f"port {port.name} takes {port.values} values, not {len(flat)}")
    return [
        word_of(flat[at : at + port.lanes], port.width) for at in range(0, len(flat), port.lanes)
    ]


def values_of(port: Port, words: list[int]) -> np.ndarray:
    """The inverse: int64[values]."""
    mask, found = (1 << port.width) - 1, []
    for word in words:
        for lane in range(port.lanes):
            value = word >> (port.width * lane) & mask
            negative = port.sign and value >> (port.width - 1)
            found.append(value - (1 << port.width) if negative else value)
    return np.array(found[: port.values], np.int64)


def simulate(dut: BlockRtl, signals: dict[str, np.ndarray]) -> Answer:
    """Streams go in from their port's cycle, a beat a cycle; scales and positions stand from 0 on.

    Raises EmulatorError when an output does not come, or comes twice.
    """
    stimulus = {port: beats_of(port, signals[port.name]) for port in dut.inputs}
    words: dict[Port, list[int]] = {port: [] for port in dut.outputs}
    last = {port: -1 for port in dut.outputs}

    async def bench(ctx: Any) -> None:
        for cycle in range(LIMIT):
            for port, beats in stimulus.items():
                here = 0 <= cycle - port.at < len(beats)
                if here:
                    ctx.set(port.data, beats[cycle - port.at])
                ctx.set(port.valid, here)
            for port, seen in words.items():
                if ctx.get(port.valid):
                    seen.append(ctx.get(port.data))
                    last[port] = cycle
            if all(len(seen) >= port.beats for port, seen in words.items()):
                break
            await ctx.tick()

    run_bench(dut, bench)
    for port, seen in words.items():
        if len(seen) != port.beats:
            raise EmulatorError(f"port {port.name} gave {len(seen)} of {port.beats} beats")
    arrays = {port.name: values_of(port, seen) for port, seen in words.items()}
    end = max(at for port, at in last.items() if not port.name.endswith("_scale"))
    return Answer(arrays, end - max(port.at for port in dut.inputs))


def run_bench(dut: Any, bench: Any) -> None:
    """Simulate until the bench ends.

    The simulator writes masks as decimal numbers, and a row of ROM has more digits than Python
    converts unasked.
    """
    before = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else 0
    if before:
        sys.set_int_max_str_digits(0)
    try:
        simulator = Simulator(dut)
        simulator.add_clock(1e-9)
        simulator.add_testbench(bench)
        simulator.run()
    finally:
        if before:
            sys.set_int_max_str_digits(before)
