"""One answer: prompt through the chip, then a token at a time, with the cycles of each."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.chat.sampler import Picker, Sampler
from emulator.chip import Chip
from emulator.errors import ContextError
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import prompt_cycles, token_cycles

PASS = 512  # prompt tokens at once: between passes an answer can be given up

# Why an answer ended:
END = "end"  # the model said so
STOP = "stop"  # whoever listened said so
MAX_TOKENS = "max_tokens"
CONTEXT = "context"  # the KV SRAM is full
INTERRUPTED = "interrupted"  # Ctrl+C, or nobody wants it any more


@dataclass(slots=True)
class Answer:
    """What came out, and what it cost on the chip and on this computer."""

    prompt_tokens: int = 0
    token_ids: list[int] = field(default_factory=list)  # the end token among them
    reason: str = INTERRUPTED
    cycles: Counter[str] = field(default_factory=Counter)  # by block
    prefill_cycles: int = 0
    clock_hz: float = 1.0
    host_seconds: float = 0.0
    logits_sha256: str = ""

    @property
    def chip_seconds(self) -> float:
        return sum(self.cycles.values()) / self.clock_hz

    @property
    def tokens_per_second(self) -> float:
        """Decode rate: steps after the first token over their time."""
        steps = len(self.token_ids) - 1
        decode = sum(self.cycles.values()) - self.prefill_cycles
        return steps * self.clock_hz / decode if steps > 0 else 0.0


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
) -> Answer:
    """Answer to `prompt` at the chip's position, greedy without a sampler.

    `on_token` gets each token but the end token as it is picked, and ends the answer by returning
    true. The last token picked is not in the KV SRAM. Raises ContextError when the prompt leaves
    no room for an answer. A KeyboardInterrupt ends the answer and keeps what was said; so does
    `should_continue`, asked before each pass, by returning false.

    The first `cached` tokens of the prompt, fewer than all, are in the KV SRAM already: that spares
    the host their passes, not the chip its time. `answer` is filled in while it is made.
    """
    start = chip.position - cached
    if start + len(prompt) >= chip.context:
        taken = f", {start} of them taken" if start else ""
        raise ContextError(
            f"a prompt of {len(prompt)} tokens leaves no room in {chip.context} positions{taken}"
        )
    sampler = sampler or Sampler()
    begin, digest = time.perf_counter(), hashlib.sha256()
    answer = answer or Answer()
    answer.prompt_tokens, answer.clock_hz = len(prompt), spec.clock_hz
    try:
        answer.cycles = prompt_cycles(chip.stages, spec, start, len(prompt))
        answer.prefill_cycles = sum(answer.cycles.values())
        unfed, step = prompt[cached:], Counter[str]()
        while should_continue is None or should_continue():
            wires = chip.forward(unfed[:PASS])
            unfed = unfed[PASS:]
            if unfed:
                continue
            if step:
                answer.cycles += step
            digest.update(wires.logits[-1].astype("<i4").tobytes())
            token = sampler.pick(wires)
            answer.token_ids.append(token)
            if token in chip.image.config.end_ids:
                answer.reason = END
            elif on_token is not None and on_token(token):
                answer.reason = STOP
            elif len(answer.token_ids) == max_tokens:
                answer.reason = MAX_TOKENS
            elif chip.position == chip.context:
                answer.reason = CONTEXT
            else:
                step = token_cycles(chip.stages, spec, chip.position + 1, True)
                unfed = [token]
                continue
            break
    except KeyboardInterrupt:
        pass
    answer.host_seconds = time.perf_counter() - begin
    answer.logits_sha256 = digest.hexdigest()
    return answer
