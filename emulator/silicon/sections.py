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
    frequency: Annotated[Constant, "Hz"]


@dataclass(frozen=True, slots=True)
class Fabric:
    """Multiply-select-add: products of the alphabet are formed once, ROM cells select them."""

    lanes: Annotated[Constant, "activations/cycle"]
    alphabet_setup: Annotated[Constant, "cycles"]
    scale_drain: Annotated[Constant, "cycles"]
    cell_bits: Annotated[Constant, "bits"]
    cells: Annotated[Constant, "cells/cycle"]
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


@dataclass(frozen=True, slots=True)
class Attention:
    macs: Annotated[Constant, "MACs/cycle"]


@dataclass(frozen=True, slots=True)
class TopK:
    width: Annotated[Constant, "entries"]


@dataclass(frozen=True, slots=True)
class Energy:
    mac: Annotated[Constant, "pJ/MAC"]
    rom: Annotated[Constant, "pJ/bit"]
    sram: Annotated[Constant, "pJ/bit"]
    leakage: Annotated[Constant, "W"]
    card: Annotated[Constant, "W"]


@dataclass(frozen=True, slots=True)
class Area:
    rom: Annotated[Constant, "mm2/Gbit"]
    sram: Annotated[Constant, "mm2/Gbit"]
    attention: Annotated[Constant, "um2/MAC"]
    vector: Annotated[Constant, "um2/lane"]
    rest: Annotated[Constant, "mm2"]


@dataclass(frozen=True, slots=True)
class Transistors:
    rom: Annotated[Constant, "transistors/bit"]
    sram: Annotated[Constant, "transistors/bit"]
    logic: Annotated[Constant, "billion transistors"]


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
