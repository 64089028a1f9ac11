"""LoRA: the kernel has the twin's bits, B A is what is added, and no adapter changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.blocks.lora import Lora
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Wires
from emulator.fixedpoint import scale_value
from emulator.silicon.spec import load_spec
from kernels import compiled, reference
from kernels.rom.pack import PackedMatrix
from kernels.sram_matrix import MOST_RANK, SramMatrix, SramPass, fault, nothing, sram_bits
from tests.support.signals import matrix, same, scales, twins

RANKS = (0, 1, 3, 4, 16, MOST_RANK)


def side(
    rows: int, columns: int, rank: int, cells: int = 0, exponents: tuple[int, int] = (17, 40)
) -> SramMatrix:
    """Any integers that an SRAM matrix can hold."""
    rng = np.random.default_rng([rows, columns, rank, cells])
    return SramMatrix(
        rng.integers(-127, 128, (rank, columns)).astype(np.int8),
        rng.integers(-127, 128, (rank, rows)).astype(np.int8),
        rng.integers(1 << 15, 1 << 16, rows).astype(np.uint16),
        rng.integers(*exponents, rows, endpoint=True).astype(np.int8),
        np.sort(rng.integers(0, rows, cells)).astype(np.int32),
        rng.integers(0, columns, cells).astype(np.int32),
        rng.integers(-16384, 16385, cells).astype(np.int16),
        rng.integers(1 << 15, 1 << 16, rows).astype(np.uint16),
        rng.integers(10, 30, rows).astype(np.int8),
    )


@pytest.mark.parametrize("tokens", [1, 2, 9])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("exponents", [(0, 1), (0, 127), (17, 40)])
def test_twins(tokens, rank, exponents, threads):
    """Every rank, several matrices, shifts to both sides, cells, any number of threads."""
    rng = np.random.default_rng(rank)
    sides = side(300, 96, rank, 7, exponents), side(24, 96, max(rank - 1, 0), 0, exponents)
    x = rng.integers(-128, 128, (tokens, 96)).astype(np.int8)
    sums = rng.integers(-(1 << 43), 1 << 43, (tokens, 324))
    twins("lora", SramPass(sides), x, scales(rng, (tokens,), 0, 40), sums)


def test_a_mantissa_of_2_to_the_15(threads):
    """A's sum of 65,535 rounds to it: a step more than an int16 holds."""
    for rank, place in ((1, 0), (4, 2), (5, 4)):
        one = side(70, 64, rank, 0, (17, 17))
        x = np.zeros((1, 64), np.int8)
        x[0, :6] = 127, 127, 127, 127, 127, 1
        one.a[place, :6] = 127, 127, 127, 127, 8, 3
        assert (x @ one.a[place].astype(np.int64)).item() == 65535
        for count in (1, 2):
            scale = np.array([[40000, 30]] * count, np.int32)
            sums = np.arange(count * 70).reshape(count, 70)
            twins("lora", SramPass((one,)), np.repeat(x, count, 0), scale, sums)


@pytest.mark.parametrize("value", [-128, 127])
def test_the_widest_sums(value):
    """All products at one end: A's sum, B's product and what is added stay in their widths."""
    wide = side(16, 1 << 15, MOST_RANK, 0, (0, 0))
    wide.a[:], wide.b[:], wide.mantissa[:] = value + (value < -127), 127, 65535
    x = np.full((2, 1 << 15), value, np.int8)
    for sums in (np.full((2, 16), 1 << 44), np.full((2, 16), -(1 << 44))):
        for count in (1, 2):
            scale = np.tile(np.array([[65535, 60]], np.int32), (count, 1))
            twins("lora", SramPass((wide,)), x[:count], scale, sums[:count])


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_sums_are_the_fabrics_own(bits, threads):
    """Requantised, the sums are the outputs without an adapter; and nothing added is nothing."""
    rng = np.random.default_rng(bits)
    masks = matrix(77, 96, bits, 32), matrix(9, 96, 6, 32)
    for tokens in (1, 5):
        x = rng.integers(-127, 128, (tokens, 96)).astype(np.int8)
        scale = scales(rng, (tokens,), 0, 30)
        twins("fabric_sums", masks, x)
        empty = SramPass(tuple(_nothing(m) for m in masks))
        outputs = compiled.lora(empty, x, scale, compiled.fabric_sums(masks, x))
        same(outputs, reference.fabric(masks, x, scale))


def test_against_the_formula():
    """The masks' product plus B A x, as real numbers; outputs split into heads."""
    rng = np.random.default_rng(4)
    masks = matrix(64, 96, 4, 32, (28, 30))
    own = side(64, 96, 8, 3)
    own.exponent[:] = rng.integers(22, 26, 64)
    own = SramMatrix(
        *(own.a, own.b, own.mantissa, own.exponent, own.cell_rows, own.cell_columns),
        *(own.cell_values, masks.row_mantissa, masks.row_exponent),
    )
    x = rng.integers(-127, 128, (3, 96)).astype(np.int8)
    scale = np.tile(np.array([[40000, 24]], np.int32), (3, 1))
    wires = Wires.carrying(
        3, 0, {"x": x, "x_scale": scale, "sums": compiled.fabric_sums((masks,), x)}
    )
    Lora.of("lora_o", {"delta": own}, 32).run(compiled, wires)
    factor = np.ldexp(own.mantissa.astype(float), -own.exponent.astype(int))
    added = reference.levels(masks) + (own.b.T.astype(float) * factor[:, None]) @ own.a
    for row, column, value in zip(own.cell_rows, own.cell_columns, own.cell_values, strict=True):
        added[row, column] += value
    weights = added * scale_value(reference.row_scales(masks))[:, None]
    expected = (x * scale_value(scale)[:, None]) @ weights.T
    assert wires.delta.shape == (3, 2, 32)
    error = np.ldexp(wires.delta.reshape(3, 64).astype(float), -16) - expected
    assert np.abs(error).max() < 1e-4 * np.abs(expected).max()


def test_what_it_costs():
    """A keeps pace with the fabric; B's products come behind, and with few multipliers A too."""
    spec = load_spec()
    one = Lora.of("lora_o", {"delta": side(4096, 4096, 16)}).cost(spec, 1)
    assert one.macs == 16 * 8192
    assert one.sram_bits == sram_bits(4096, 4096, 16)
    assert one.cycles < 12
    few = spec.with_value("lora.macs", 4096)
    assert Lora.of("lora_o", {"delta": side(4096, 4096, 16)}).cost(few, 1).cycles > one.cycles
    masks = WeightFabric("fabric_o", {"delta": matrix(64, 96, 4, 32)}).cost(spec, 1)
    assert masks.sram_bits == 0


def test_what_no_width_holds_is_named():
    assert fault(side(8, 32, 4)) is None
    assert "rank 65" in str(fault(side(8, 32, 65)))
    low = side(8, 32, 1)
    low.exponent[3] = -1
    assert "steps" in str(fault(low))
    wild = side(8, 32, 1, 2)
    wild.cell_values[0] = 32767
    assert "cell" in str(fault(wild))


def _nothing(m: PackedMatrix) -> SramMatrix:
    return nothing(m.columns, m.row_mantissa, m.row_exponent)
