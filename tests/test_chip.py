"""The whole chip on tiny models, tied and untied: one stream of tokens, many ways to feed it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import kernels
from emulator.chip import Chip
from emulator.errors import ContextError, UsageError
from emulator.silicon.spec import load_spec
from weights.rom import RomImage, open_image

TOKENS = [(i * 37 + 11) % 320 for i in range(24)]


def feed(chip: Chip, *pieces: list[int]) -> np.ndarray:
    """Logits of all tokens, int32[T, vocabulary]."""
    return np.concatenate([chip.forward(piece, all_logits=True).logits for piece in pieces])


def digest(logits: np.ndarray) -> str:
    assert logits.dtype == np.int32
    return hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()


def test_one_prefill_equals_token_by_token(either_image: RomImage):
    """The same bits for one prefill, single tokens, and prefills cut anywhere."""
    expected = feed(Chip(either_image), TOKENS)
    assert len(np.unique(expected[-1])) > 100  # logits that say something
    assert digest(feed(Chip(either_image), *[[t] for t in TOKENS])) == digest(expected)
    for cut in (1, 7, 23):
        assert digest(feed(Chip(either_image), TOKENS[:cut], TOKENS[cut:])) == digest(expected)


def test_compiled_equals_reference(either_image: RomImage):
    """Logits, top ids and the KV SRAM of every layer, kernels against their twins."""
    chips = [Chip(either_image, ops=kernels.load(name)) for name in kernels.BACKENDS]
    compiled, reference = (chip.forward(TOKENS, all_logits=True) for chip in chips)
    assert digest(compiled.logits) == digest(reference.logits)
    np.testing.assert_array_equal(compiled.top, reference.top)
    for mine, twin in zip(*(chip.stages[1:-1] for chip in chips), strict=True):
        sram, other = (next(b for b in s.blocks if b.name == "kv_sram") for s in (mine, twin))
        for part in ("k", "k_scale", "v", "v_scale"):
            np.testing.assert_array_equal(getattr(sram, part), getattr(other, part))


def test_thread_count_does_not_matter(either_image: RomImage, threads: int):
    """1 to 4 threads against the twins, which have none."""
    compiled, reference = (Chip(either_image, ops=kernels.load(name)) for name in kernels.BACKENDS)
    assert digest(feed(compiled, TOKENS[:9])) == digest(feed(reference, TOKENS[:9]))


def test_last_logits_only(either_image: RomImage):
    """Without `all_logits` the head runs for the last token, with the same bits."""
    last = Chip(either_image).forward(TOKENS).logits
    assert last.shape == (1, 320)
    assert digest(last) == digest(feed(Chip(either_image), TOKENS)[-1:])


def test_top_holds_the_largest_logits(either_image: RomImage):
    """Eight ids, largest first; the first is the argmax, the lower id at a tie."""
    wires = Chip(either_image).forward(TOKENS)
    logits = wires.logits[-1]
    assert wires.top.shape == (8,)
    assert wires.top[0] == logits.argmax()
    assert logits[wires.top].tolist() == np.sort(logits)[::-1][:8].tolist()


def test_a_full_context_raises_and_changes_nothing(either_image: RomImage):
    """ContextError, one line with both numbers; the next token gives the bits it would have."""
    chip = Chip(either_image, context=len(TOKENS))
    feed(chip, TOKENS[:-1])
    with pytest.raises(ContextError, match=r"^25 tokens do not fit the chip's 24 positions$"):
        chip.forward([1, 2])
    assert chip.position == len(TOKENS) - 1
    assert digest(feed(chip, TOKENS[-1:])) == digest(feed(Chip(either_image), TOKENS)[-1:])


def test_context_is_at_most_the_images(either_image: RomImage):
    assert Chip(either_image).context == 64
    assert Chip(either_image, context=1000).context == 64


@pytest.mark.parametrize("tokens", [[320], [-1], [1, 2**70], [1.5], ["a"], []], ids=str)
def test_tokens_outside_the_vocabulary(either_image: RomImage, tokens):
    """Refused before anything is looked up; the chip stays where it was."""
    chip = Chip(either_image)
    with pytest.raises(UsageError, match="token"):
        chip.forward(tokens)
    assert chip.position == 0


@pytest.mark.parametrize("context", [0, -1])
def test_positions_below_the_first(tiny_image: RomImage, context):
    """Neither a chip without positions nor a way back beyond the first one."""
    with pytest.raises(UsageError, match=f"at least 1 position, not {context}"):
        Chip(tiny_image, context=context)
    chip = Chip(tiny_image)
    chip.forward([1, 2])
    with pytest.raises(UsageError, match="position -1"):
        chip.rewind(-1)
    assert chip.position == 2


def test_the_mixer_comes_from_the_image(tiny_image: RomImage, monkeypatch):
    """A host whose math library rounds otherwise gives the same bits: a run does not ask it."""
    expected = digest(feed(Chip(tiny_image), TOKENS))
    for function in ("cos", "sin"):
        monkeypatch.setattr(f"math.{function}", lambda x: 0.0)
    assert digest(feed(Chip(open_image(tiny_image.folder)), TOKENS)) == expected


def test_rewind_reproduces(either_image: RomImage):
    """After other tokens, going back gives the first run's bits: nothing of them stays."""
    chip = Chip(either_image)
    first = feed(chip, TOKENS)
    chip.rewind(5)
    feed(chip, [3] * 30)
    chip.rewind(5)
    assert digest(feed(chip, TOKENS[5:])) == digest(first[5:])
    chip.rewind(1000)  # never forward
    assert chip.position == len(TOKENS)


def test_costs(either_image: RomImage):
    """Every block's work is non-negative and whole, and never falls as the context grows."""
    spec = load_spec()
    for stage in Chip(either_image).stages:
        for block in stage.blocks:
            costs = [block.cost(spec, context) for context in (1, 2, 33, 64)]
            numbers = [(c.cycles, c.macs, c.rom_bits, c.sram_bits) for c in costs]
            assert all(type(n) is int and n >= 0 for row in numbers for n in row), block.name
            assert numbers == sorted(numbers), block.name


def test_the_chip_runs_every_weight_once(either_image: RomImage):
    """The matrices' multiplications add up to the model's weights, a shared table once more."""
    config = either_image.config
    blocks = [b for s in Chip(either_image).stages for b in s.blocks if "fabric" in b.name]
    macs = sum(block.cost(load_spec(), 1).macs for block in blocks)
    gains = (2 * config.layers + 1) * config.hidden
    table = config.vocabulary * config.hidden
    assert macs == config.parameters - gains - (0 if config.tied else table)
