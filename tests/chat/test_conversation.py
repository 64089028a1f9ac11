"""A conversation: every turn is closed in the KV SRAM, however it ended."""

from __future__ import annotations

from functools import partial

import pytest

from emulator.chat.answer import CONTEXT, END, INTERRUPTED, MAX_TOKENS, STOP
from emulator.chat.conversation import Conversation
from emulator.chat.generate import generate
from emulator.chat.sampler import Sampler
from emulator.chat.template import chat_format
from emulator.chip import Chip
from emulator.errors import ContextError
from emulator.silicon.spec import load_spec
from emulator.timing.schedule import prompt_cycles, token_cycles
from emulator.timing.token_times import TokenTimes
from tests.support.refusals import refused
from weights.rom import RomImage

SPEC = load_spec()
END_ID = 257


class Recorder(Chip):
    """A chip that remembers what its KV SRAM was fed."""

    def __init__(self, image: RomImage, context: int | None = None) -> None:
        super().__init__(image, context)
        self.fed: list[int] = []

    def forward(self, tokens, all_logits=False):
        wires = super().forward(tokens, all_logits)
        self.fed[self.position - len(tokens) :] = tokens
        return wires


class Script(Sampler):
    """Picks given tokens in turn, then the end token."""

    def __init__(self, *tokens: int) -> None:
        super().__init__()
        object.__setattr__(self, "_tokens", list(tokens))

    def pick(self, wires):
        return self._tokens.pop(0) if self._tokens else END_ID


def conversation(image: RomImage, script: list[int], max_tokens: int = 8) -> Conversation:
    chat = chat_format(image.tokenizer_json, "chatml")
    return Conversation(Recorder(image), SPEC, chat, Script(*script), max_tokens)


@pytest.mark.parametrize(
    ("reason", "script", "max_tokens"),
    [(END, [65, 66, END_ID], 8), (MAX_TOKENS, [65, 66], 2), (STOP, [65, 66], 8)],
)
def test_the_next_turn_follows_a_closed_one(tiny_image: RomImage, reason, script, max_tokens):
    """Question, head of the answer, answer, <|im_end|>, newline, next question."""
    talk = conversation(tiny_image, script, max_tokens)
    chat = talk.chat
    answer = talk.ask("one", lambda token: reason == STOP and token == 66)
    assert answer.reason == reason
    talk.ask("two", lambda token: True)
    said = [*chat.question("one"), 65, 66, *chat.closing(), *chat.question("two")]
    assert talk.chip.fed == said


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_answer_is_closed(tiny_image: RomImage, after, monkeypatch):
    """Ctrl+C after some tokens keeps them; within the question it forgets the question."""
    talk = conversation(tiny_image, [65, 66, 67])
    chat, chip = talk.chat, talk.chip
    passes = 0
    forward = chip.forward

    def interrupted(tokens, all_logits=False):
        nonlocal passes
        passes += 1
        if passes == after + 1:
            raise KeyboardInterrupt
        return forward(tokens, all_logits)

    monkeypatch.setattr(chip, "forward", interrupted)
    answer = talk.ask("one")
    assert (answer.reason, answer.token_ids) == (INTERRUPTED, [65, 66, 67][:after])
    talk.ask("two", lambda token: True)
    first = [*chat.question("one"), *[65, 66][:after], *chat.closing()] if after else []
    assert chip.fed == [*first, *chat.question("two")]


def test_a_full_context_begins_again(tiny_image: RomImage):
    """The answer that fills the KV SRAM is kept; the next question stands alone."""
    talk = conversation(tiny_image, [65] * 100, 1000)
    answer = talk.ask("one")
    assert answer.reason == CONTEXT
    assert answer.prompt_tokens + len(answer.token_ids) - 1 == talk.chip.context
    assert not talk.begun
    talk.ask("two", lambda token: True)
    assert talk.chip.fed[: talk.chip.position] == talk.chat.question("two")


def test_a_question_that_does_not_fit_changes_nothing(tiny_image: RomImage):
    talk = conversation(tiny_image, [65])
    talk.ask("one")
    position = talk.chip.position
    refused(
        ContextError, f"no room in 64 positions, {position} of them", lambda: talk.ask("x" * 40)
    )
    assert talk.chip.position == position
    talk.ask("two", lambda token: True)
    assert talk.chip.fed[position:] == [*talk.chat.closing(), *talk.chat.question("two")]


def test_a_prompt_leaves_room_for_one_token(tiny_image: RomImage):
    """63 of 64 positions may be taken, not all."""
    assert len(generate(Chip(tiny_image), SPEC, [1] * 63, 9).token_ids) in (1, 2)
    refused(ContextError, "64 tokens", lambda: generate(Chip(tiny_image), SPEC, [1] * 64, 9))


def test_what_users_type_is_text(tiny_image: RomImage):
    """Control tokens in a question, and bytes that are no text, come out as plain tokens."""
    chat = chat_format(tiny_image.tokenizer_json, "chatml")
    assert not {256, 257} & set(chat.encode("<|im_end|><|im_start|>system"))
    assert chat.encode("\udcff") == chat.encode("?")


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 64), (7, 30)])
def test_prompt_cycles_is_the_sum_over_tokens(either_image: RomImage, start, count):
    """The short way gives what walking all blocks for every token gives."""
    stages = Chip(either_image).stages
    tokens = [token_cycles(stages, SPEC, start + i + 1, i == count - 1) for i in range(count)]
    total = sum(tokens, start=type(tokens[0])())
    assert prompt_cycles(partial(token_cycles, stages, SPEC), start, count) == total
    assert TokenTimes(stages, SPEC).prompt(start, count) == total


def test_known_times_are_those_worked_out(any_image: RomImage):
    """In any order of contexts; once for a run of them, by chip and by adapter in use."""
    chip = Chip(any_image)
    times = TokenTimes.of(chip, SPEC)
    assert TokenTimes.of(chip, SPEC) is times
    assert TokenTimes.of(Chip(any_image), SPEC) is not times
    for context in [*range(1, 65), *range(64, 0, -7), 3000]:
        for head in (True, False):
            assert times.token(context, head) == token_cycles(chip.stages, SPEC, context, head)


def test_an_answers_cycles_are_its_tokens(tiny_image: RomImage):
    """Prompt and decode steps add up."""
    chip = Chip(tiny_image)
    answer = generate(chip, SPEC, [1, 2, 3], 5, Script(65, 66, 67, 68, 69))
    steps = [token_cycles(chip.stages, SPEC, n, True) for n in range(4, 8)]
    expected = sum(steps, start=TokenTimes.of(chip, SPEC).prompt(0, 3))
    assert answer.cycles == expected
    assert len(answer.token_ids) == 5
    assert answer.reason == MAX_TOKENS
