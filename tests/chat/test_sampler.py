"""The sampler: integers in, one of eight ids out, the same for a seed on every host."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from emulator.blocks.wires import Wires
from emulator.chat.philox import philox
from emulator.chat.sampler import Sampler
from emulator.chip import Chip
from emulator.errors import UsageError
from tests.support.refusals import refused
from weights.rom import RomImage

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers published with the generator (Random123, kat_vectors)
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox(counter, key, words):
    assert philox(counter, key) == words


def wires(*logits: float, position: int = 1) -> Wires:
    """A pass that ends at `position`, with these logits and ids from 100 up, largest first."""
    values = np.zeros(100 + len(logits), np.int32)
    values[100:] = np.round(np.array(logits) * 65536)
    top = np.arange(100, 100 + len(logits))
    return Wires(np.array([0]), position - 1, False, logits=values[None], top=top)


EIGHT = (5.0, 4.5, 4.0, 3.0, 2.0, 0.0, -3.0, -40.0)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 1.7, 2.0])
def test_weights_are_a_softmax(temperature):
    """Within 0.4 % of the largest weight: 8 fractional bits, a table of 32 and 15 bits out."""
    logits = wires(*EIGHT).logits[-1, 100:]
    weights = Sampler(8, temperature).weights(logits)
    assert weights.dtype == np.int64
    exact = np.exp((np.array(EIGHT) - EIGHT[0]) / temperature)
    np.testing.assert_allclose(weights / 32767, exact, atol=0.004)
    assert weights[0] == 32767


def test_weights_of_extreme_logits():
    """The whole range of int32 between two logits wraps nowhere."""
    logits = np.array([2**31 - 1, 2**31 - 1, -(2**31)], np.int32)
    for temperature in (0.01, 2.0):
        assert Sampler(3, temperature).weights(logits).tolist() == [32767, 32767, 0]


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_frequencies(temperature):
    """4,000 positions: each id as often as its probability says, within 5 standard deviations."""
    n = 4000
    sampler = Sampler(8, temperature, seed=3)
    drawn = Counter(sampler.pick(wires(*EIGHT, position=p)) for p in range(1, n + 1))
    exact = np.exp((np.array(EIGHT) - EIGHT[0]) / temperature)
    for i, p in enumerate(exact / exact.sum()):
        assert abs(drawn[100 + i] - n * p) <= 5 * math.sqrt(n * p * (1 - p)) + 0.004 * n


@pytest.mark.parametrize("k", range(1, 9))
def test_top_k_bounds_the_choice(k):
    """Equal logits: all of the first k ids come up, none beyond."""
    ids = {Sampler(k, seed=1).pick(wires(*[1.0] * 8, position=p)) for p in range(1, 400)}
    assert ids == set(range(100, 100 + k))


def test_the_ends_of_a_draw():
    """The smallest and the largest random word choose the first and the last positive weight."""
    assert Sampler(8).draw(np.array([0, 0, 5, 0]), 1) == 2
    many = [Sampler(8, seed=s).draw(np.array([1, 0, 1]), 9) for s in range(64)]
    assert set(many) == {0, 2}


def test_a_seed_is_a_text():
    """The same at every call, another for another seed, and pinned: no host may differ."""

    def ids(seed: int) -> list[int]:
        return [Sampler(8, 2.0, seed).pick(wires(*EIGHT, position=p)) - 100 for p in range(1, 17)]

    assert ids(7) == ids(7) != ids(7 << 32)
    assert ids(7) == [1, 0, 1, 0, 1, 3, 0, 0, 1, 2, 3, 0, 0, 0, 0, 2]


def test_greedy_ignores_seed_and_temperature():
    for seed in range(20):
        assert Sampler(1, 2.0, seed).pick(wires(1.0, 1.0)) == 100


def test_pieces_of_a_prompt_do_not_matter(tiny_image: RomImage):
    """The counter is the position, not the number of calls."""
    tokens, sampler = [(i * 29 + 5) % 256 for i in range(12)], Sampler(8, 2.0, 11)
    whole = sampler.pick(Chip(tiny_image).forward(tokens))
    chip = Chip(tiny_image)
    for token in tokens[:-1]:
        chip.forward([token])
    assert sampler.pick(chip.forward(tokens[-1:])) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "--top-k must be from 1 to 8, not 0"),
        ({"top_k": 9}, "--top-k must be from 1 to 8, not 9"),
        ({"temperature": 0.0}, "--temperature"),
        ({"temperature": -1.0}, "--temperature"),
        ({"temperature": 2.1}, "--temperature"),
        ({"temperature": math.nan}, "--temperature"),
        ({"temperature": math.inf}, "--temperature"),
        ({"seed": -1}, "--seed"),
        ({"seed": 1 << 64}, "--seed"),
    ],
    ids=str,
)
def test_bad_options(options, message):
    refused(UsageError, message, lambda: Sampler(**options))
