"""Generate an answer: run the prompt, then token after token, and count the cycles of each."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Generator

from emulator.blocks.wires import Wires
from emulator.chat.answer import CONTEXT, END, MAX_TOKENS, STOP, Answer
from emulator.chat.sampler import Picker, Sampler
from emulator.chip import Chip
from emulator.errors import ContextError
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import prompt_cycles, token_cycles

PASS = 512  # prompt tokens at once; an answer can be cancelled between passes
READ_PASS = 64  # the same where the logits of each are wanted, int32[64, vocabulary]
Reader = Callable[[Wires], None]


def generate(
    chip: Chip,
    spec: ChipSpec,
    prompt: list[int],
    max_tokens: int,
    sampler: Picker | None = None,
    on_token: Callable[[int], bool] | None = None,
    *,
    cached: int = 0,
    should_continue: Callable[[], bool] | None = None,
    answer: Answer | None = None,
    reader: Reader | None = None,
) -> Answer:
    """Answer `prompt` at the chip's position, greedily without a sampler; see `tokens`.

    `on_token` gets each token as it is picked, except the end token; it ends the answer by
    returning true. A KeyboardInterrupt ends the answer and keeps its tokens. Raises ContextError.
    """
    answer = answer or Answer()
    picked = tokens(
        chip,
        spec,
        prompt,
        max_tokens,
        sampler,
        cached=cached,
        should_continue=should_continue,
        answer=answer,
        reader=reader,
    )
    try:
        for token in picked:
            if on_token is not None and on_token(token):
                answer.reason = STOP
                break
    except KeyboardInterrupt:
        pass
    finally:
        picked.close()
    return answer


def tokens(
    chip: Chip,
    spec: ChipSpec,
    prompt: list[int],
    max_tokens: int,
    sampler: Picker | None = None,
    *,
    cached: int = 0,
    should_continue: Callable[[], bool] | None = None,
    answer: Answer,
    reader: Reader | None = None,
) -> Generator[int, None, None]:
    """Yield the tokens of an answer as they are picked, without the end token; fill in `answer`.

    The last token picked is not in the KV SRAM. The first `cached` tokens of the prompt, fewer
    than all, are in the KV SRAM already: the host skips them, the chip's time counts them.
    `should_continue` is asked before each pass and ends the answer by returning false. `reader`
    gets the wires of the prompt's passes, with logits at every position; none of it is cached then.
    With max_tokens 0 the prompt runs, and nothing is picked.
    Raises ContextError if the prompt leaves no room for an answer.
    """
    start = chip.position - cached
    if start + len(prompt) >= chip.context:
        taken = f", {start} of them taken" if start else ""
        raise ContextError(
            f"a prompt of {len(prompt)} tokens leaves no room in {chip.context} positions{taken}"
        )
    sampler = sampler or Sampler()
    return _picked(chip, spec, prompt, max_tokens, sampler, start, should_continue, answer, reader)


def _picked(
    chip: Chip,
    spec: ChipSpec,
    prompt: list[int],
    max_tokens: int,
    sampler: Picker,
    start: int,
    should_continue: Callable[[], bool] | None,
    answer: Answer,
    reader: Reader | None,
) -> Generator[int, None, None]:
    """The prompt starts at position `start`; the KV SRAM holds its tokens up to `chip.position`."""
    begin, digest = time.perf_counter(), hashlib.sha256()
    answer.prompt_tokens, answer.clock_hz = len(prompt), spec.clock_hz
    try:
        answer.cycles = prompt_cycles(chip.stages, spec, start, len(prompt))
        answer.prefill_cycles = sum(answer.cycles.values())
        unfed, step = prompt[chip.position - start :], Counter[str]()
        while should_continue is None or should_continue():
            wires = chip.forward(unfed[: READ_PASS if reader else PASS], reader is not None)
            unfed = unfed[wires.tokens.size :]
            if reader is not None:
                reader(wires)
            if unfed:
                continue
            reader = None
            if max_tokens == 0:
                answer.reason = MAX_TOKENS
                return
            if step:
                answer.cycles += step
            digest.update(wires.logits[-1].astype("<i4").tobytes())
            token = sampler.pick(wires)
            answer.token_ids.append(token)
            if token in chip.image.config.end_ids:
                answer.reason = END
                return
            yield token
            if len(answer.token_ids) == max_tokens:
                answer.reason = MAX_TOKENS
                return
            if chip.position == chip.context:
                answer.reason = CONTEXT
                return
            step = token_cycles(chip.stages, spec, chip.position + 1, True)
            unfed = [token]
    finally:
        answer.host_seconds = time.perf_counter() - begin
        answer.logits_sha256 = digest.hexdigest()
