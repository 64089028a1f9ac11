"""Every compiled kernel gives the bits of its NumPy twin: random, extreme and odd inputs."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from kernels import compiled, reference
from tests.support.signals import (
    CONSTANT,
    same,
    signal,
    twins,
)


def test_every_public_function_has_a_twin():
    """`compiled` offers functions of `reference` only, with the same parameters."""
    for name, function in inspect.getmembers(compiled, inspect.isfunction):
        if not name.startswith("_") and name != "record":
            expected = inspect.signature(getattr(reference, name)).parameters
            assert list(inspect.signature(function).parameters) == list(expected), name


def test_token_by_token_over_threads(threads):
    """More tokens than chunks, and one: what a thread does for its tokens, it does for no other."""
    constants = np.stack([CONSTANT, CONSTANT + 5, CONSTANT - 7]).astype(np.int32)
    for tokens in (1, 2, 67):
        a, b = signal((tokens, 96), "random", 1), signal((tokens, 96), "random", 2)
        twins("rms_norm", a, 1 << 20, CONSTANT)
        twins("residual_add", a, b)
        twins("swiglu_narrow", a >> 10, b, 32, CONSTANT)
        q, k, v = (signal((tokens, heads, 32), "random", heads) for heads in (6, 2, 2))
        rows, results = np.random.default_rng(3).permutation(70)[:tokens], []
        for ops in (reference, compiled):
            sram = [np.zeros((70, 2, 32), np.int8), np.zeros((70, 2, 2), np.int32)] * 2
            memory = [part.copy() for part in sram]
            results.append([*ops.kv_write(q, k, v, constants, rows, *memory), *memory])
        same(*results)


@pytest.mark.parametrize("name", ["swiglu", "residual_add"])
def test_arrays_in_column_order(name):
    """A result in the order of memory, whatever the order of the arguments."""
    a = np.asfortranarray(signal((4, 6), "random"))
    twins(name, a, a)
