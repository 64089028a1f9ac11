"""Square root and quotient of a norm for all inputs: one level by SAT, all levels by induction.

A level finds one bit. If what is said of a level's inputs is true, the same is true of its outputs
with a step half as large; SAT shows that of every level, at full width and for all inputs. It is
true of what goes into the first level, and of what leaves the last it says that the answer is
right:

root: root**2 + rest = value, and value < (root + step)**2. The step becomes 1.
quotient: quotient * d + rest = numerator, and rest < d * step.

(root + step)**2 - root**2 is 2 root step + step**2, so that no level has a square in it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("amaranth")

from amaranth.hdl import Module, Mux, Signal, Value

from emulator.blocks.head_norm import QUOTIENT_BITS as HEAD_BITS
from emulator.rtl.arithmetic import divide_level, sqrt_level
from emulator.rtl.rms_norm import QUOTIENT_BITS
from emulator.rtl.root import TOTAL_BITS, evenly_raised
from tests.rtl.test_proofs import folder, proved, wire  # noqa: F401

pytestmark = pytest.mark.slow
ROOTS, WIDE = range(30, -1, -1), 70


def all_of(m: Module, claims: list[Value]) -> Value:
    """Every one of many claims, each on a wire of its own."""
    found = Signal(len(claims))
    m.d.comb += [found[i].eq(claim) for i, claim in enumerate(claims)]
    return found.all()


def root_claim(m: Module, bit: int, level=sqrt_level) -> tuple[list[Signal], Value]:
    """One level of the root: what it assumes implies what the next one assumes."""
    rest, root = Signal(62, name=f"rest_{bit}"), Signal(31, name=f"root_{bit}")
    low = (root & ((2 << bit) - 1)) == 0
    before = low & (rest < (root << (bit + 2)) + (1 << 2 * bit + 2))
    less, more = level(m, bit)([rest, root])
    less, more = wire(m, less, WIDE), wire(m, more, 33)
    taken = more != root
    added = (root << (bit + 1)) + (1 << 2 * bit)  # (root + 2**bit)**2 - root**2
    kept = (less == rest - added) & (more == root + (1 << bit))
    after = (less < (more << (bit + 1)) + (1 << 2 * bit)) & (less >= 0)
    grid = (more & ((1 << bit) - 1)) == 0
    same = (less == rest) & (more == root)
    return [rest, root], ~before | (after & grid & ((taken & kept) | (~taken & same)))


def quotient_claim(
    m: Module, bit: int, wide: int, bits: int, level=divide_level
) -> tuple[list[Signal], Value]:
    """One level of the quotient, likewise; divisors have 31 bits."""
    rest, d = Signal(wide, name=f"rest_{bit}"), Signal(31, name=f"d_{bit}")
    quotient = Signal(bits, name=f"quotient_{bit}")
    low = (quotient & ((2 << bit) - 1)) == 0
    before = low & (rest < (d << (bit + 1)))
    less, same_d, more = level(m, bit, wide, bits)([rest, d, quotient])
    less, more = wire(m, less, wide + 34), wire(m, more, bits + 2)
    taken = more != quotient
    kept = (less == rest - (d << bit)) & (more == quotient + (1 << bit))
    same = (less == rest) & (more == quotient)
    grid = (more & ((1 << bit) - 1)) == 0
    after = (less < (d << bit)) & (less >= 0) & grid & (same_d == d)
    return [rest, d, quotient], ~before | (after & ((taken & kept) | (~taken & same)))


def test_every_level_of_the_root(folder: Path):  # noqa: F811
    m, inputs, claims = Module(), [], []
    for bit in ROOTS:
        some, claim = root_claim(m, bit)
        inputs += some
        claims.append(claim)
    assert proved(folder, m, inputs, all_of(m, claims))


@pytest.mark.parametrize(("wide", "bits"), [(63, QUOTIENT_BITS), (48, HEAD_BITS)])
def test_every_level_of_the_quotient(folder: Path, wide, bits):  # noqa: F811
    """Of a peak of 16 bits and 47 zeros, and of 2**47, as a norm of heads has it."""
    m, inputs, claims = Module(), [], []
    for bit in range(bits - 1, -1, -1):
        some, claim = quotient_claim(m, bit, wide, bits)
        inputs += some
        claims.append(claim)
    assert proved(folder, m, inputs, all_of(m, claims))


def test_where_the_induction_begins(folder: Path):  # noqa: F811
    """A sum but 0 becomes one of 61 or 62 bits, so its root has the first of its 31 bits set.

    Then numerators are below what a first level assumes: 2**15 << 47 < root << 33, and
    2**47 < root << 18. Of a sum of 0 every value is 0, whatever its scale.
    """
    m, total = Module(), Signal(TOTAL_BITS, name="total")
    raised, zeros = evenly_raised(m, total)
    whole = wire(m, raised, TOTAL_BITS + 2)
    back = whole >> (zeros << 1)
    assert proved(folder, m, [total], (total == 0) | ((whole >= 1 << 60) & (back == total)))
    least = 1 << 30
    assert least << QUOTIENT_BITS > (1 << 15) << 47
    assert least << HEAD_BITS > 1 << 47


@pytest.mark.parametrize("bit", [30, 12, 0])
def test_a_level_that_is_wrong(folder: Path, bit):  # noqa: F811
    """A compare that lets one too few through."""

    def shy(m: Module, at: int):
        def apply(values: list[Value]) -> list[Value]:
            rest, root = values
            trial = (root << (at + 1)) + (1 << (2 * at))
            fits = rest > trial
            return [Mux(fits, rest - trial, rest)[:62], Mux(fits, root | (1 << at), root)[:31]]

        return apply

    m = Module()
    inputs, claim = root_claim(m, bit, shy)
    assert not proved(folder, m, inputs, claim)
