"""The words of a chip description: each section's constants and the unit each must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_type_hints

GRADES = ("official", "observed", "estimate", "assumed")


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of the silicon and how well it is known."""

    value: float
    unit: str
    range: tuple[float, float]
    grade: str
    source: str

    def __int__(self) -> int:
        return int(self.value)


def units(section: type) -> dict[str, str]:
    """Unit by name of a section's constants."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


@dataclass(frozen=True, slots=True)
class Clock:
    """Voltage and frequency go together: V = voltage + voltage_slope * (frequency - 1 GHz)."""

    frequency: Annotated[Constant, "Hz"]
    voltage: Annotated[Constant, "V"]
    voltage_slope: Annotated[Constant, "V/GHz"]


@dataclass(frozen=True, slots=True)
class Fabric:
    """Multiply-select-add: products of the alphabet are formed once, ROM cells select them."""

    lanes: Annotated[Constant, "activations/cycle"]
    alphabet_setup: Annotated[Constant, "cycles"]
    scale_drain: Annotated[Constant, "cycles"]
    wire: Annotated[Constant, "cycles"]  # of a pass: inputs to all rows and results back
    cell_bits: Annotated[Constant, "bits"]
    cells: Annotated[Constant, "cells/cycle"]
    owned: Annotated[Constant, "0 or 1"]  # 1: every row has adders; 0: all layers share one set
    bank_rows: Annotated[Constant, "rows"]


@dataclass(frozen=True, slots=True)
class Vector:
    """The unit of norms, RoPE, rotations, SwiGLU and narrowing."""

    lanes: Annotated[Constant, "values/cycle"]
    pipeline: Annotated[Constant, "cycles"]
    levels: Annotated[Constant, "levels/cycle"]
    reciprocal: Annotated[Constant, "cycles"]
    table: Annotated[Constant, "cycles"]


@dataclass(frozen=True, slots=True)
class Embedding:
    read: Annotated[Constant, "cycles"]


@dataclass(frozen=True, slots=True)
class KvSram:
    positions: Annotated[Constant, "positions"]
    value_bits: Annotated[Constant, "bits"]
    bandwidth: Annotated[Constant, "bytes/cycle"]
    latency: Annotated[Constant, "cycles"]  # from an address to its bytes
    port: Annotated[
        Constant, "bytes/cycle"
    ]  # of one bank; K and V together need 2 bandwidth / port


@dataclass(frozen=True, slots=True)
class Attention:
    macs: Annotated[Constant, "MACs/cycle"]


@dataclass(frozen=True, slots=True)
class Lora:
    """The adapter's unit; its matrices share the SRAM of keys and values."""

    macs: Annotated[Constant, "MACs/cycle"]
    scale: Annotated[Constant, "cycles"]  # B's row scale, shift, add to the fabric's sum
    cells: Annotated[Constant, "cells/cycle"]  # of a repair
    host: Annotated[Constant, "GB/s"]  # from the host's memory into the SRAM


@dataclass(frozen=True, slots=True)
class TopK:
    width: Annotated[Constant, "entries"]


@dataclass(frozen=True, slots=True)
class Link:
    """Between two chips of one model."""

    latency: Annotated[Constant, "us"]
    bandwidth: Annotated[Constant, "GB/s"]
    energy: Annotated[Constant, "pJ/bit"]


@dataclass(frozen=True, slots=True)
class Sequencer:
    """Tells the units whose turn it is; their times are known before, so nothing else waits."""

    layer: Annotated[Constant, "cycles"]  # between two layers


@dataclass(frozen=True, slots=True)
class Energy:
    """Of one event or transistor at `clock.voltage`; events go with V squared, leakage with V^3."""

    mac: Annotated[Constant, "pJ/MAC"]
    accumulate: Annotated[Constant, "pJ/row/cycle"]
    rom: Annotated[Constant, "pJ/bit"]
    sram: Annotated[Constant, "pJ/bit"]
    wire: Annotated[Constant, "pJ/bit/mm"]
    leakage_logic: Annotated[Constant, "W/billion transistors"]
    leakage_memory: Annotated[Constant, "W/billion transistors"]
    card: Annotated[Constant, "W"]


@dataclass(frozen=True, slots=True)
class Area:
    cell: Annotated[Constant, "um2/cell"]
    logic: Annotated[Constant, "mm2/billion transistors"]
    sram: Annotated[Constant, "mm2/Gbit"]
    sram_bank: Annotated[Constant, "um2/bank"]
    sram_port: Annotated[Constant, "um2/bit"]
    rest: Annotated[Constant, "mm2"]


@dataclass(frozen=True, slots=True)
class Transistors:
    cell: Annotated[Constant, "transistors/cell"]
    row: Annotated[Constant, "transistors/row"]
    row_lane: Annotated[Constant, "transistors/row/lane"]
    switch: Annotated[Constant, "transistors/row/lane"]
    sram: Annotated[Constant, "transistors/bit"]
    attention: Annotated[Constant, "transistors/MAC"]
    vector: Annotated[Constant, "transistors/lane"]
    rest: Annotated[Constant, "billion transistors"]


@dataclass(frozen=True, slots=True)
class Published:
    """What the vendor says of the whole chip; compared with, never computed from."""

    rate: Annotated[Constant, "tokens/s"]
    power: Annotated[Constant, "W"]
    die: Annotated[Constant, "mm2"]
    transistors: Annotated[Constant, "billion transistors"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a served chip adds to its own time; one value each, whatever the request."""

    decode_step: Annotated[Constant, "us"]
    request_serial: Annotated[Constant, "us"]
    request_pipelined: Annotated[Constant, "us"]
