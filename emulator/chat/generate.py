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
Passes = Generator[list[int], Wires, None]


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
    """Answer `prompt` at the chip's position, greedily without a sampler; see `passes`.

    A KeyboardInterrupt ends the answer and keeps its tokens. Raises ContextError.
    """
    answer = answer or Answer()
    run = passes(
        chip,
        spec,
        prompt,
        max_tokens,
        sampler,
        on_token,
        cached=cached,
        should_continue=should_continue,
        answer=answer,
        reader=reader,
    )
    try:
        unfed = following(run)
        while unfed:
            reads = reader is not None and not answer.token_ids
            wires = chip.forward(unfed[: READ_PASS if reads else PASS], reads)
            unfed = following(run, wires)
    except KeyboardInterrupt:
        pass
    finally:
        run.close()
    return answer


def tokens(
    chip: Chip,
    spec: ChipSpec,
    prompt: list[int],
    max_tokens: int,
    sampler: Picker | None = None,
    *,
    cached: int = 0,
    answer: Answer,
) -> Generator[int, None, None]:
    """Yield the tokens of an answer as they are picked, without the end token; see `passes`."""
    picked: list[int] = []
    run = passes(
        chip, spec, prompt, max_tokens, sampler, picked.append, cached=cached, answer=answer
    )
    return _picked(chip, run, picked)


def _picked(chip: Chip, run: Passes, picked: list[int]) -> Generator[int, None, None]:
    try:
        unfed = following(run)
        while unfed:
            unfed = following(run, chip.forward(unfed[:PASS]))
            while picked:
                yield picked.pop(0)
    finally:
        run.close()


def passes(
    chip: Chip,
    spec: ChipSpec,
    prompt: list[int],
    max_tokens: int,
    sampler: Picker | None = None,
    on_token: Callable[[int], bool | None] | None = None,
    *,
    cached: int = 0,
    should_continue: Callable[[], bool] | None = None,
    answer: Answer,
    reader: Reader | None = None,
) -> Passes:
    """An answer as the passes that it needs; fill in `answer` on the way.

    Whoever holds the chips runs them, of many answers in turn if need be: `following` gives the
    tokens that have to run next, and takes the wires of a pass over the first of them, or all.

    `on_token` gets each token as it is picked, except the end token; it ends the answer by
    returning true. The last token picked is not in the KV SRAM. The first `cached` tokens of the
    prompt, fewer than all, are in the KV SRAM already: the host skips them, the chip's time counts
    them. `should_continue` is asked before each pass and ends the answer by returning false.
    `reader` gets the wires of the prompt's passes, which then are of at most READ_PASS tokens with
    logits at every position; none of the prompt is cached. With max_tokens 0 the prompt runs, and
    nothing is picked.
    Raises ContextError if the prompt leaves no room for an answer.
    """
    start = chip.position - cached
    if start + len(prompt) >= chip.context:
        taken = f", {start} of them taken" if start else ""
        raise ContextError(
            f"a prompt of {len(prompt)} tokens leaves no room in {chip.context} positions{taken}"
        )
    asked = should_continue or (lambda: True)
    heard = on_token or (lambda token: False)
    return _passes(
        *(chip, spec, prompt, max_tokens, sampler or Sampler(), heard, start, asked, answer, reader)
    )


def following(run: Passes, wires: Wires | None = None) -> list[int]:
    """The tokens that have to run next, none at the end; `wires` are those of the last pass."""
    try:
        return next(run) if wires is None else run.send(wires)
    except StopIteration:
        return []


def _passes(
    chip: Chip,
    spec: ChipSpec,
    prompt: list[int],
    max_tokens: int,
    sampler: Picker,
    on_token: Callable[[int], bool | None],
    start: int,
    should_continue: Callable[[], bool],
    answer: Answer,
    reader: Reader | None,
) -> Passes:
    """The prompt starts at position `start`; the KV SRAM holds its tokens up to `chip.position`."""
    begin, digest = time.perf_counter(), hashlib.sha256()
    answer.prompt_tokens, answer.clock_hz = len(prompt), spec.clock_hz
    try:
        answer.cycles = prompt_cycles(chip.stages, spec, start, len(prompt))
        answer.prefill_cycles = sum(answer.cycles.values())
        unfed, step = prompt[chip.position - start :], Counter[str]()
        while should_continue():
            wires = yield unfed
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
            if on_token(token):
                answer.reason = STOP
                return
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
