"""Generate an answer: run the prompt, then token after token, and count the cycles of each."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from emulator.blocks.wires import Wires
from emulator.chat.answer import CONTEXT, END, MAX_TOKENS, STOP, Answer
from emulator.chat.drafts import Drafts
from emulator.chat.sampler import Picker, Sampler
from emulator.chip import Chip
from emulator.errors import ContextError
from emulator.silicon.spec import ChipSpec
from emulator.timing.token_times import TokenTimes

PASS = 512  # prompt tokens at once; an answer can be cancelled between passes
READ_PASS = 64  # the same where the logits of each are wanted, int32[64, vocabulary]
Reader = Callable[[Wires], None]


class Asked(NamedTuple):
    """Tokens that have to run next, and whether the logits of all of them are needed."""

    tokens: list[int]
    all_logits: bool = False

    def first(self, most: int) -> Asked:
        """What one pass takes of them, at most so many."""
        return Asked(
            self.tokens[: min(most, READ_PASS) if self.all_logits else most], self.all_logits
        )


Passes = Generator[Asked, Wires, None]


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
    drafts: Drafts | None = None,
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
        drafts=drafts,
    )
    try:
        asked = following(run)
        while asked.tokens:
            asked = following(run, chip.forward(*asked.first(PASS)))
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
    drafts: Drafts | None = None,
) -> Generator[int, None, None]:
    """Yield the tokens of an answer as they are picked, without the end token; see `passes`."""
    picked: list[int] = []
    run = passes(
        *(chip, spec, prompt, max_tokens, sampler, picked.append),
        cached=cached,
        answer=answer,
        drafts=drafts,
    )
    return _picked(chip, run, picked)


def _picked(chip: Chip, run: Passes, picked: list[int]) -> Generator[int, None, None]:
    try:
        asked = following(run)
        while asked.tokens:
            asked = following(run, chip.forward(*asked.first(PASS)))
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
    drafts: Drafts | None = None,
) -> Passes:
    """An answer as the passes that it needs; fill in `answer` on the way.

    Whoever holds the chips runs them, of many answers together if need be: `following` gives the
    tokens that have to run next, and takes the wires of a pass over the first of them, or all.
    With `drafts`, tokens that may be the answer's next run, too; those that are not are forgotten,
    and nothing but the host's time depends on them.

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
    picking = _Picking(chip, spec, sampler or Sampler(), max_tokens, heard, answer)
    return _passes(prompt, picking, start, asked, reader, drafts)


def following(run: Passes, wires: Wires | None = None) -> Asked:
    """What has to run next, no tokens at the end; `wires` are those of the last pass."""
    try:
        return next(run) if wires is None else run.send(wires)
    except StopIteration:
        return Asked([])


@dataclass(slots=True)
class _Picking:
    """The tokens of an answer, one by one: what each costs, and what it was picked from."""

    chip: Chip
    spec: ChipSpec
    sampler: Picker
    max_tokens: int
    on_token: Callable[[int], bool | None]
    answer: Answer
    digest: Any = field(default_factory=hashlib.sha256)
    step: Counter[str] = field(default_factory=Counter)  # cycles of the last token's own pass
    times: TokenTimes = field(init=False)

    def __post_init__(self) -> None:
        self.times = TokenTimes.of(self.chip, self.spec)

    def pick(self, wires: Wires) -> str:
        """Pick what follows these wires; return why the answer ends with it, or ""."""
        answer, position = self.answer, wires.start + wires.tokens.size
        if self.step:
            answer.cycles += self.step
        self.digest.update(np.ascontiguousarray(wires.logits[-1], "<i4"))
        token = self.sampler.pick(wires)
        answer.token_ids.append(token)
        if token in self.chip.image.config.end_ids:
            return END
        if self.on_token(token):
            return STOP
        if len(answer.token_ids) == self.max_tokens:
            return MAX_TOKENS
        if position == self.chip.context:
            return CONTEXT
        self.step = self.times.token(position + 1)
        return ""


def _passes(
    prompt: list[int],
    picking: _Picking,
    start: int,
    should_continue: Callable[[], bool],
    reader: Reader | None,
    drafts: Drafts | None,
) -> Passes:
    """The prompt starts at position `start`; the KV SRAM holds its tokens up to `chip.position`."""
    begin = asked_at = time.perf_counter()
    chip, spec, answer = picking.chip, picking.spec, picking.answer
    answer.prompt_tokens, answer.clock_hz = len(prompt), spec.clock_hz
    known = chip.position  # tokens in the KV SRAM that are no draft's
    unfed, draft = prompt[known - start :], list[int]()
    try:
        answer.cycles = picking.times.prompt(start, len(prompt))
        answer.prefill_cycles = sum(answer.cycles.values())
        while should_continue():
            wires = yield Asked(unfed + draft, reader is not None or bool(draft))
            ran = wires.tokens.size
            known, unfed = known + min(ran, len(unfed)), unfed[ran:]
            if reader is not None:
                reader(wires)
            if unfed:
                continue
            reader = None
            if picking.max_tokens == 0:
                answer.reason = MAX_TOKENS
                return
            right = 0
            answer.drafted += ran - 1 if draft else 0
            for one in chip.each_token(wires) if draft else [wires]:
                if reason := picking.pick(one):
                    answer.reason = reason
                    return
                if right + 1 == ran or draft[right : right + 1] != answer.token_ids[-1:]:
                    break
                right, known = right + 1, known + 1
                answer.accepted += 1
            chip.rewind(known)
            unfed = answer.token_ids[-1:]
            if drafts is not None:
                now = time.perf_counter()
                if len(answer.token_ids) > 1 + right:  # it was no pass of the prompt
                    drafts.took(ran, right, now - asked_at)
                room = min(picking.max_tokens - len(answer.token_ids), chip.context - known) - 1
                draft, asked_at = drafts.propose([*chip.tokens, *unfed], room), now
    finally:
        if draft:
            chip.rewind(min(known, chip.position))
        answer.host_seconds = time.perf_counter() - begin
        answer.logits_sha256 = picking.digest.hexdigest()
