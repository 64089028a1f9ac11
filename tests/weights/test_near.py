"""Masks near another image's: what changes pays for its cells, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from emulator.errors import UsageError
from kernels.reference import levels
from kernels.rom.pack import unpack_codes
from weights.near import Near, scales
from weights.rom import RomImage, open_image

NAMES = ("layers.0.q", "layers.0.o", "layers.0.v")  # 3, 4 and 6 bits
PRICES = (0.0, 0.001, 0.01, 0.1)


def weights_of(image: RomImage, name: str) -> np.ndarray:
    matrix = image.matrices[name]
    row = np.ldexp(matrix.row_mantissa.astype(float), -matrix.row_exponent.astype(int))
    return levels(matrix) * row[:, None]


def moved(image: RomImage, name: str) -> tuple[np.ndarray, np.ndarray]:
    """New weights for a matrix, and second moments of correlated inputs."""
    rng, old = np.random.default_rng(4), weights_of(image, name)
    w = (old + rng.normal(0, 0.1 * old.std(), old.shape)).astype(np.float32)
    x = rng.normal(size=(200, old.shape[1])) @ rng.normal(size=(old.shape[1], old.shape[1]))
    h = x.T @ x
    return w, (h / np.trace(h) * len(h)).astype(np.float32)


def near_codes(image: RomImage, price: float, name: str, w: np.ndarray, h) -> np.ndarray:
    """Only codes may differ from the image's."""
    made, m = Near(image, price, 4).masks(name, w, h), image.matrices[name]
    assert np.array_equal(made.group_scale, m.group_scale)
    return unpack_codes(made.codes, m.rows, m.bits)


def cost(image: RomImage, name: str, codes: np.ndarray, w: np.ndarray, h) -> tuple:
    """e H e of each row (e e without H), and the cells that differ from the image's."""
    m = image.matrices[name]
    old = unpack_codes(m.codes, m.rows, m.bits)
    scale = np.repeat(scales(m).astype(float), m.group, axis=1)
    error = w - scale * m.alphabet[codes].astype(float)
    differs = codes ^ old
    cells = (differs & 15 != 0).astype(int) + (differs >> 4 != 0)
    weighted = error if h is None else error @ h.astype(float)
    return (weighted * error).sum(axis=1), cells.sum(axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_no_other_code_is_better(tiny_image: RomImage, name: str):
    """A code that stands alone has the least sum of error and price; a price buys fewer cells."""
    w, _ = moved(tiny_image, name)
    m, counts = tiny_image.matrices[name], []
    for price in PRICES:
        codes = near_codes(tiny_image, price, name, w, None)
        unit = price * float(np.mean(np.square(w, dtype=float)))
        error, cells = cost(tiny_image, name, codes, w, None)
        for k in range(0, m.columns, 13):
            for code in range(1 << m.bits):
                other = codes.copy()
                other[:, k] = code
                error_then, cells_then = cost(tiny_image, name, other, w, None)
                assert (error_then + unit * cells_then >= (error + unit * cells) * (1 - 1e-5)).all()
        counts.append(cells.sum())
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


@pytest.mark.parametrize("name", NAMES)
def test_with_moments_the_outputs_are_nearer(tiny_image: RomImage, name: str):
    """e H e and the price are less than in the old masks, and than where codes stand alone."""
    w, h = moved(tiny_image, name)
    m, errors = tiny_image.matrices[name], []
    before, _ = cost(tiny_image, name, unpack_codes(m.codes, m.rows, m.bits), w, h)
    for price in PRICES:
        unit = price * float(np.mean(np.square(w, dtype=float)))
        error, cells = cost(tiny_image, name, near_codes(tiny_image, price, name, w, h), w, h)
        assert (error + unit * cells <= before * (1 + 1e-5)).all()
        errors.append(error.sum())
    apart, _ = cost(tiny_image, name, near_codes(tiny_image, 0, name, w, None), w, h)
    assert all(a < 1.05 * b for a, b in pairwise(errors))
    assert errors[0] < errors[-1]
    assert errors[0] < 0.9 * apart.sum()


def test_a_high_price_changes_nothing(tiny_image: RomImage):
    w, h = moved(tiny_image, "layers.1.down")
    made = Near(tiny_image, 1e9, 4).masks("layers.1.down", w, h)
    np.testing.assert_array_equal(made.codes, tiny_image.matrices["layers.1.down"].codes)


def test_an_empty_row_is_named(tiny_image: RomImage):
    w, _ = moved(tiny_image, "layers.0.q")
    tiny_image = open_image(tiny_image.folder)
    m = tiny_image.matrices["layers.0.q"]
    mantissa = m.row_mantissa.copy()
    mantissa[5] = 0
    tiny_image.matrices["layers.0.q"] = replace(m, row_mantissa=mantissa)
    near = Near(tiny_image, 0.1, 4)
    with pytest.raises(UsageError, match=r"row 5 of layers.0.q is empty"):
        near.masks("layers.0.q", w, None)
    w[5] = 0
    near.masks("layers.0.q", w, None)
