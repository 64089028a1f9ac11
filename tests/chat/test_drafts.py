"""Drafts change no token, no hash and no cycle; wrong ones cost little, right ones are taken."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.chat.drafts import MOST, SHARE, DraftChip, Drafts, Lookup
from emulator.chat.generate import generate
from emulator.chat.sampler import Sampler
from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.silicon.spec import load_spec

ALWAYS = 1e9  # share of the time that drafts may cost
TIMES = ("host_seconds", "drafted", "accepted")


class Oracle:
    """Knows the answer, and is wrong as often as it is told to be."""

    def __init__(self, prompt: list[int], answer: list[int], wrong: float, seed: int) -> None:
        self.said, self.wrong, self.rng = [*prompt, *answer], wrong, np.random.default_rng(seed)

    def propose(self, tokens, most):
        right = self.said[len(tokens) : len(tokens) + most]
        return [t if self.rng.random() >= self.wrong else (t + 1) % 320 for t in right]


def facts(answer) -> dict:
    return {name: value for name, value in asdict(answer).items() if name not in TIMES}


def answered(chip, prompt, sampler, tokens, drafts=None):
    chip.rewind(0)
    return generate(chip, load_spec(), prompt, tokens, sampler, drafts=drafts)


def test_an_answer_with_drafts_is_the_answer_without(either_image):
    """Greedy and by chance, right and wrong drafts, cut by length and by the context's end."""
    chip = Chip(either_image)

    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 40),
        st.integers(1, 80),
        st.sampled_from([0.0, 0.3, 1.0]),
        st.booleans(),
        st.integers(0, 1 << 20),
    )
    def check(length, tokens, wrong, chance, seed):
        sampler = Sampler(8, 1.3, seed) if chance else Sampler()
        prompt = np.random.default_rng(seed).integers(0, 320, length).tolist()
        expected = answered(chip, prompt, sampler, tokens)
        held = list(chip.tokens)
        oracle = Oracle(prompt, expected.token_ids, wrong, seed)
        found = answered(chip, prompt, sampler, tokens, Drafts(oracle, ALWAYS))
        assert facts(found) == facts(expected)
        assert chip.tokens == held  # all but the last, and no draft
        assert found.accepted <= found.drafted
        if wrong == 0 and len(expected.token_ids) > 3:
            assert found.accepted > 0
        if wrong == 1:
            assert found.accepted == 0

    check()


def test_a_stop_text_or_an_interrupt_leaves_no_draft_behind(tiny_image):
    chip = Chip(tiny_image)
    expected = answered(chip, [5, 6], Sampler(), 20).token_ids
    for ends in (1, 3, 6):
        chip.rewind(0)
        heard: list[int] = []

        def stop(token, heard=heard, ends=ends):
            heard.append(token)
            return len(heard) == ends

        drafts = Drafts(Oracle([5, 6], expected, 0, 0), ALWAYS)
        answer = generate(chip, load_spec(), [5, 6], 20, on_token=stop, drafts=drafts)
        assert answer.token_ids == expected[:ends]
        assert chip.tokens == [5, 6, *expected[: ends - 1]]


def test_lookup_finds_what_followed_the_longest_run():
    lookup = Lookup()
    assert lookup.propose([1, 2, 3, 4, 5, 9, 3, 4, 5], 3) == [9, 3, 4]
    assert lookup.propose([1, 2, 3, 4, 5, 9, 3, 4, 5, 7, 4, 5], 2) == [7, 4]  # the newest place
    assert Lookup().propose([1, 2, 3, 4], 5) == []
    assert Lookup().propose([7], 5) == []
    assert Lookup().propose([8, 8, 8], 5) == [8]  # no more is known of it


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, MOST))
def test_lookup_fed_piece_by_piece_is_lookup_at_once(tokens, most):
    growing = Lookup()
    for end in range(1, len(tokens) + 1):
        assert growing.propose(tokens[:end], most) == Lookup().propose(tokens[:end], most)


def test_a_draft_chip_with_the_same_masks_is_always_right(tiny_image):
    """By chance, too: it draws with the same random bits."""
    chip, sampler = Chip(tiny_image), Sampler(8, 1.3, 5)
    expected = answered(chip, [5, 6, 7], sampler, 30)
    source = DraftChip(Chip(tiny_image), 320, sampler)
    found = answered(chip, [5, 6, 7], sampler, 30, Drafts(source, ALWAYS))
    assert facts(found) == facts(expected)
    assert found.accepted >= 14  # all of four drafts, and the last up to the answer's end


def test_a_draft_chip_of_less_context_drafts_as_far_as_it_goes(tiny_image):
    source = DraftChip(Chip(tiny_image, context=6), 320)
    assert len(source.propose([1, 2, 3, 4], 5)) == 2
    assert source.propose([1, 2, 3, 4, 5, 6, 7], 5) == []


def test_a_draft_image_has_the_models_vocabulary(tiny_image):
    with pytest.raises(UsageError, match="320 tokens, the model 1000"):
        DraftChip(Chip(tiny_image), 1000)


class Blind:
    def propose(self, tokens, most):
        return [0] * most


@pytest.mark.parametrize("more", [0.05, 0.3, 1.0])
def test_wrong_drafts_cost_their_share_of_the_time_and_no_more(more):
    """A pass takes 1 s, and `more` for each further token; nothing drafted is ever right."""
    drafts, lost, total, made = Drafts(Blind()), 0.0, 0.0, 0
    for _ in range(500):
        count = len(drafts.propose([1, 2], MOST))
        seconds = 1 + more * count
        drafts.took(1 + count, 0, seconds)
        made, lost, total = made + count, lost + seconds - 1, total + seconds
        assert lost <= SHARE * total + 1e-9 or made == 1
    assert made > 1
    assert lost <= SHARE * total


def test_right_drafts_grow():
    drafts, ran = Drafts(Blind()), []
    for _ in range(60):
        count = len(drafts.propose([1, 2], MOST))
        drafts.took(1 + count, count, 1 + 0.05 * count)
        ran.append(1 + count)
    assert ran[0] == 1
    assert ran[-1] == 1 + MOST
    assert drafts.propose([1, 2], 3) == [0, 0, 0]
    assert drafts.propose([1, 2], 0) == []
