"""A few rounds of the chain's fuzzer; `python -m tests.fuzz.fuzz_chain` runs many."""

from __future__ import annotations

import pytest

pytest.importorskip("httpx")
pytest.importorskip("llguidance")

from tests.fuzz.fuzz_chain import chain, fuzz


def test_a_good_checkpoint_goes_all_the_way(tiny_checkpoint, tmp_path):
    assert '"role": "assistant"' in chain(tiny_checkpoint, tmp_path)


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_damaged_checkpoints(rounds):
    told: list[str] = []
    assert fuzz(lambda number: number == rounds, 1000, told.append) == rounds
    assert len(told) == rounds
