"""Top-k: the ids of the largest logits, the lower id first among equals."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.blocks.top_k import TopK
from emulator.blocks.wires import Wires
from emulator.silicon.spec import load_spec
from kernels import compiled
from tests.support.signals import (
    INT32,
    twins,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-4, 4) | st.sampled_from([INT32.min, INT32.max]), min_size=1))
def test_twins(values):
    """Many ties; k above the number of logits."""
    logits = np.array(values, np.int32)
    for k in (1, 2, 8, len(values)):
        twins("top_k", logits, k)


def test_against_a_sort():
    """Of the last token only; a tie goes to the lower id."""
    logits = np.random.default_rng(1).integers(-9, 9, (2, 320)).astype(np.int32)
    wires = Wires.carrying(2, 0, {"logits": logits})
    TopK(320).run(compiled, wires)
    assert wires.top.tolist() == np.argsort(-logits[-1], kind="stable")[:8].tolist()


def test_cost():
    """4,096 logits a cycle, 12 merges in the tree, one with the best so far; a cycle a merge."""
    spec = load_spec()
    assert TopK(4096).cost(spec, 1).cycles == 12
    assert TopK(4097).cost(spec, 1).cycles == 1 + 12 + 1
    assert TopK(128256).cost(spec, 1).cycles == 31 + 12 + 1


def test_slow_merges_take_turns():
    """At a level a cycle a merge takes four: four lists of the best so far, merged in two more."""
    slow = load_spec().with_value("vector.levels", 1)
    assert TopK(128256).cost(slow, 1).cycles == 31 + 48 + 4 + 8
    assert TopK(4097).cost(slow, 1).cycles == 1 + 48 + 4 + 4
