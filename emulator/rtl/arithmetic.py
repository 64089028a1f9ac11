"""The twin's arithmetic as gates: the one rounding rule and what is built from it.

Each function answers an expression without registers, or takes a module and answers after so many
cycles. Widths hold every value that docs/datapath.md allows. Exponents have 12 bits on the chip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Value

from emulator.errors import ChipError
from emulator.rtl.pipeline import Layer, bind, clip_width, delay, spread, step
from emulator.rtl.rom import read_rom
from kernels.reference import ZERO_EXPONENT

EXPONENT_BITS = 12
LEAST, MOST = -(2**31), 2**31 - 1
RECIPROCAL_CYCLES = 6
TABLE_BITS = 8  # of a divisor's bits behind the first, that choose a line of its table
GUARD = 40  # fractional bits of a reciprocal on its way


def saturate(value: Value, low: int = LEAST, high: int = MOST) -> Value:
    """Clamp to int32."""
    word = Mux(value > high, high, Mux(value < low, low, value))
    return clip_width(word.as_signed() if not word.shape().signed else word, 32)


def round_shift_by(value: Value, shift: int) -> Value:
    """By a constant: half goes up."""
    return (value + (1 << shift >> 1)) >> shift if shift > 0 else value << -shift


def round_shift(value: Value, shift: Value, most: int = 63) -> Value:
    """By 0 to `most` places; a shift above that is done as `most`."""
    bits = most.bit_length()
    limit = (1 << bits) - 1
    places = shift if len(shift) <= bits else Mux(shift > limit, limit, shift)[:bits]
    half = (Const(1, 1) << places) >> 1
    return (value + half) >> places


def bit_length(m: Module, value: Value) -> Value:
    """Of an unsigned value: a priority encoder, by halves."""
    width = 1 << max(len(value) - 1, 1).bit_length()
    rest: Value = Cat(value, Const(0, width - len(value))) if width > len(value) else value
    bits: list[Value] = []
    while width > 1:
        width //= 2
        high, low = rest[width:], rest[:width]
        more = bind(m, high.any())
        bits.insert(0, more)
        rest = bind(m, Mux(more, high, low))  # read thrice by the next half
    return Cat(*bits) + rest[0]


def excess(m: Module, largest: Value) -> Value:
    """Places by which a magnitude is shifted right to fit 15 bits."""
    bits = bind(m, bit_length(m, largest))
    return Mux(bits > 15, bits - 15, 0)[: len(bits)]


def normalise(m: Module, value: Value, exponent: Value) -> tuple[Value, Value]:
    """value * 2**-exponent as a scale: mantissa of 16 bits and exponent; no register."""
    value = bind(m, value)
    bits = bind(m, bit_length(m, value))
    right = bind(m, Mux(bits > 16, bits - 16, 0)[: len(bits)])
    down = round_shift(value, right, (1 << len(bits)) - 1)[:17]
    left = bind(m, Mux(bits < 16, 16 - bits, 0)[:5])
    mantissa = bind(m, Mux(bits > 16, down, (value[:16] << left)[:17]))
    carry = mantissa[16]
    shifted = Mux(carry, mantissa >> 1, mantissa)[:16]
    found = clip_width((exponent - bits.as_unsigned() + 16 - carry).as_signed(), EXPONENT_BITS)
    return shifted, Mux(value == 0, ZERO_EXPONENT, found)[:EXPONENT_BITS].as_signed()


def scaled(
    m: Module, valid: Value, value: Value, exponent: Value, constant: Sequence[Value]
) -> tuple[Value, Value, Value]:
    """`normalise`, times a constant scale, `normalise`: valid, mantissa, exponent; 3 cycles."""
    valid, (mantissa, e) = step(m, valid, normalise(m, value, exponent))
    product = mantissa * constant[0]
    valid, (product, e) = step(m, valid, (product, clip_width(e + constant[1], EXPONENT_BITS)))
    valid, (mantissa, e) = step(m, valid, normalise(m, product, e))
    return valid, mantissa, e


def scale_product(a: tuple[Value, Value], b: tuple[Value, Value], fraction: int) -> list[Value]:
    """First stage of `requantise`: the 17-bit multiplier and the shift."""
    multiplier = round_shift_by(a[0] * b[0], 15)[:17]
    shift = clip_width(a[1] + b[1] - 15 - fraction, EXPONENT_BITS + 2)
    return [multiplier, shift]


def requantised(m: Module, product: Value, shift: Value) -> Value:
    """Last stage of `requantise`: rounded and saturated; a left shift clamps before and after."""
    product, shift = bind(m, product), bind(m, shift)
    right = Mux(shift > 63, 63, Mux(shift < 0, 0, shift))[:6]
    left = Mux(shift < -31, 31, Mux(shift < 0, -shift, 0))[:5]
    clamped = Mux(product > 2**31, 2**31, Mux(product < LEAST, LEAST, product))
    up = clip_width(clamped.as_signed(), 34) << left
    down = round_shift(product, right)
    return Mux(shift < 0, saturate(up), saturate(down)).as_signed()


def _reciprocal_table() -> list[int]:
    """2**19 / x at x = 0.5 .. 1 in 2**TABLE_BITS steps, 20 bits: the interval's two ends."""
    n = 1 << TABLE_BITS
    return [((1 << 20) * n + (n + i) // 2) // (n + i) for i in range(n + 1)]


def reciprocal(
    m: Module,
    valid: Value,
    numerator: int,
    divisors: Sequence[Value],
    cycles: int,
    most_bits: int,
) -> tuple[Value, list[Value]]:
    """floor(numerator / max(divisor, 1)), exact, `most_bits` wide.

    A table and a line between two entries (18 bits), one Newton step (36 bits), multiplied back
    and corrected by one. Raises ChipError for fewer cycles than that takes.
    """
    if cycles < RECIPROCAL_CYCLES:
        raise ChipError(
            f"vector.reciprocal = {cycles}: the exact floor takes {RECIPROCAL_CYCLES} cycles in RTL"
        )
    width = len(divisors[0])
    table = _reciprocal_table()
    zs = [bind(m, (width - bit_length(m, d | (d == 0)))[: width.bit_length()]) for d in divisors]
    ds = [bind(m, Mux(d == 0, 1, d)[:width]) for d in divisors]
    norm = [(d << z)[:width] for d, z in zip(ds, zs, strict=True)]  # first bit set
    below = width - 1 - TABLE_BITS
    pad = max(0, -below)
    norm = [Cat(Const(0, pad), n) if pad else n for n in norm]
    below += pad
    flat = [v for d, n, z in zip(ds, norm, zs, strict=True) for v in (d, n, z)]
    valid, flat = step(m, valid, flat)  # leading bit found
    n = len(divisors)
    ends = []
    for i in range(n):
        index = flat[3 * i + 1][below : below + TABLE_BITS]
        pair = read_rom(m, index, [a | b << 21 for a, b in pairwise(table)], 42)
        rest = flat[3 * i + 1][:below] if below else Const(0, 1)
        fall = (pair[:21] - pair[21:42]) * rest
        ends.append((pair[:21] - (fall >> below))[:21])
    valid, kept = step(m, valid, [*flat, *ends])  # read, and the line between
    flat, ends = kept[: 3 * n], kept[3 * n :]
    # norm / 2**(width + pad) is x in 0.5 .. 1; an end is 2**20 / (2 x)
    size = width + pad
    errors = [
        clip_width(((1 << (size + 20)) - flat[3 * i + 1] * ends[i] * 2).as_signed(), size + 8)
        for i in range(n)
    ]
    valid, kept = step(m, valid, [*flat, *ends, *errors])
    flat, ends, errors = kept[: 3 * n], kept[3 * n : 4 * n], kept[4 * n :]
    better = [
        clip_width(((e << GUARD) + (((e * error) << GUARD) >> (size + 20))).as_signed(), 63)
        for e, error in zip(ends, errors, strict=True)
    ]  # 2**(20 + GUARD) / (2 x)
    valid, kept = step(
        m, valid, [*(v for i in range(n) for v in (flat[3 * i], flat[3 * i + 2])), *better]
    )
    flat, better = kept[: 2 * n], kept[2 * n :]
    guesses = []
    for i in range(n):
        # d = x * 2**(width - z), and better = 2**(19 + GUARD) / x
        exact = (numerator * better[i]) << 1
        places = (20 + GUARD + width - flat[2 * i + 1])[:7]
        guesses.append((exact >> places)[:most_bits].as_unsigned())
    valid, kept = step(m, valid, [*(flat[2 * i] for i in range(n)), *guesses])
    ds, guesses = kept[:n], kept[n:]
    found = []
    for d, guess in zip(ds, guesses, strict=True):
        rest = bind(m, clip_width((numerator - guess * d).as_signed(), width + 3))
        step_by = Mux(rest < 0, guess - 1, Mux(rest >= d, guess + 1, guess))
        found.append(step_by[:most_bits])
    valid, found = step(m, valid, found)  # multiplied back, corrected
    return delay(m, valid, found, cycles - RECIPROCAL_CYCLES)


def sqrt_level(m: Module, bit: int) -> Layer:
    """One bit of a root: of `value` the rest, value - root**2, and the root so far."""

    def apply(values: list[Value]) -> list[Value]:
        rest, root = bind(m, values[0]), bind(m, values[1])
        trial = bind(m, (root << (bit + 1)) + (1 << (2 * bit)))
        fits = bind(m, rest >= trial)
        return [Mux(fits, rest - trial, rest)[:62], Mux(fits, root | (1 << bit), root)[:31]]

    return apply


def integer_sqrt(m: Module, valid: Value, value: Value, stages: int) -> tuple[Value, Value]:
    """floor(sqrt(value)) of 62 bits, bit by bit: 31 compares, dealt out over the stages."""
    levels = [sqrt_level(m, bit) for bit in range(30, -1, -1)]
    valid, (_, root) = spread(m, valid, [value, Const(0, 31)], stages, levels)
    return valid, root


def divide_level(m: Module, bit: int, wide: int, bits: int) -> Layer:
    """One bit of a quotient: the rest of the numerator, the divisor, the quotient so far."""

    def apply(values: list[Value]) -> list[Value]:
        rest, d, quotient = (bind(m, v) for v in values)
        fits = bind(m, (rest >> bit) >= d)
        less = (rest - (d << bit))[:wide]
        return [
            Mux(fits, less, rest)[:wide],
            d,
            Mux(fits, quotient | (1 << bit), quotient)[:bits],
        ]

    return apply


def divide(
    m: Module, valid: Value, numerator: Value, divisor: Value, bits: int, stages: int
) -> tuple[Value, Value]:
    """floor(numerator / divisor), a quotient of so many bits: a bit a subtraction."""
    wide = len(numerator)
    levels = [divide_level(m, bit, wide, bits) for bit in range(bits - 1, -1, -1)]
    valid, (_, _, quotient) = spread(m, valid, [numerator, divisor, Const(0, bits)], stages, levels)
    return valid, quotient
