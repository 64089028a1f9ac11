"""What the RTL of a block has: the ports by which it is driven and read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Const, Elaboratable, Module, Value, signed

from emulator.rtl.arithmetic import EXPONENT_BITS
from emulator.rtl.pipeline import Port
from emulator.silicon.spec import ChipSpec


class BlockRtl(Elaboratable):
    """Ports in the order of the block's signals; `build` puts registers and gates between them.

    A port whose name ends in `_scale` is steady from its valid to the next one's; it is read, and
    counted, apart from the stream that it belongs to. Where one bus carries several signals in
    turn, its name joins theirs.
    """

    inputs: list[Port]
    outputs: list[Port]
    instances: bool = False  # so large that its rows are written as instances (`rtl.library`)
    pairs: bool = False  # two signals of one size lie value by value on one bus

    def __init__(self, spec: ChipSpec) -> None:
        self.spec = spec
        self.lanes = int(spec.vector.lanes)

    def port(self, name: str) -> Port:
        """Raises KeyError for a port that the block does not have."""
        return {port.name: port for port in (*self.inputs, *self.outputs)}[name]

    def build(self, m: Module) -> None:
        """The circuit."""
        raise NotImplementedError

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self.build(m)
        return m

    def signals(self) -> list[Value]:
        """Data and valid of every port, for a Verilog module."""
        return [s for port in (*self.inputs, *self.outputs) for s in (port.data, port.valid)]


def scale_port(name: str, count: int = 1) -> Port:
    """(mantissa, exponent) of so many scales, 32 bits each."""
    return Port(name, 2 * count, 32)


def scales_of(port: Port) -> list[tuple[Value, Value]]:
    """The scales on a port as mantissa of 16 bits and exponent."""
    lanes = list(port)
    pairs = zip(lanes[::2], lanes[1::2], strict=True)
    return [(a[:16], b[:EXPONENT_BITS].as_signed()) for a, b in pairs]


def constant_scale(scale: np.ndarray) -> Sequence[Value]:
    """A scale int32[2] that is wired in."""
    return Const(int(scale[0]), 16), Const(int(scale[1]), signed(EXPONENT_BITS))
