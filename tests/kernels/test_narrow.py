"""Narrowing to int8, with and without a Hadamard transform before it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.config.limits import MAX_BLOCK
from tests.support.signals import (
    CONSTANT,
    FILLS,
    INT32,
    WIDTHS,
    signal,
    twins,
)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("width", WIDTHS)
def test_twins(fill, width):
    """narrow and rotate_narrow at every fill, batches 1 and 5."""
    far = np.array([65535, -100], np.int32)
    for tokens in (1, 5):
        v = signal((tokens, width), fill, tokens)
        for constant in (CONSTANT, far):
            twins("narrow", v, constant)
            for block in (1, 32, width & -width):
                twins("rotate_narrow", v, block, constant)


def test_narrowing_works_on_any_leading_axes():
    """[T, heads, n] is what RoPE hands over."""
    v = signal((3, 4, 64), "random")
    twins("narrow", v, CONSTANT)
    twins("rotate_narrow", v, 64, CONSTANT)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(INT32.min, INT32.max), min_size=32, max_size=32))
def test_narrowing_of_any_vector(values):
    v = np.array([values], np.int32)
    twins("narrow", v, CONSTANT)
    twins("rotate_narrow", v, 32, CONSTANT)


@pytest.mark.parametrize("fill", ["largest", "smallest", "alternating", "random"])
def test_the_widest_hadamard_transform(fill):
    """32,768 values of up to 2**15 add up to 2**30, so that int32 holds every sum."""
    v = signal((1, MAX_BLOCK), fill)
    twins("rotate_narrow", v, MAX_BLOCK, CONSTANT)
