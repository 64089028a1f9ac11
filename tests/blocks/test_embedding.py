"""Embedding: a row of the table, its scales multiplied out."""

from __future__ import annotations

import numpy as np

from emulator.blocks.embedding import Embedding
from emulator.blocks.wires import Wires
from emulator.fixedpoint import scale_value
from emulator.silicon.spec import load_spec
from kernels import compiled, reference
from kernels.rom.pack import LEAST_ROW_EXPONENT
from tests.support.signals import (
    INT32,
    ONE,
    matrix,
    twins,
)


def test_lookup_with_far_exponents():
    """Row exponents from the least that an image may hold: saturated where that is needed."""
    for exponents in ((LEAST_ROW_EXPONENT, LEAST_ROW_EXPONENT), (-10, 16), (60, 127)):
        twins("lookup", matrix(17, 96, 4, 32, exponents), np.arange(17))
    m = matrix(17, 96, 4, 32, (LEAST_ROW_EXPONENT, LEAST_ROW_EXPONENT))
    exact = reference.levels(m).astype(object) * m.row_mantissa.astype(object)[:, None]
    expected = np.clip(exact << (16 - LEAST_ROW_EXPONENT), INT32.min, INT32.max)
    np.testing.assert_array_equal(compiled.lookup(m, np.arange(17)), expected.astype(np.int64))


def test_a_token_is_its_row():
    """Against levels and row scales multiplied as numbers."""
    table = matrix(17, 96, 4, 32, (16, 20))
    wires = Wires.carrying(3, 0, {"tokens": np.array([16, 2, 2])})
    Embedding(table).run(compiled, wires)
    rows = reference.levels(table) * scale_value(reference.row_scales(table))[:, None]
    np.testing.assert_allclose(wires.residual / ONE, rows[[16, 2, 2]], atol=1 / ONE)


def test_one_row_is_read():
    """The ROM bits of a token are those of its row, whatever the size of the vocabulary."""
    small, large = (Embedding(matrix(rows, 96, 4, 32)).cost(load_spec(), 1) for rows in (8, 64))
    assert small == large
    assert small.rom_bits == 96 * 4
