"""One answer: prompt through the chip, then a token at a time, with the cycles of each."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.chip import Chip
from emulator.errors import ContextError
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import token_cycles


@dataclass(slots=True)
class Answer:
    """What came out, and what it cost on the chip and on this computer."""

    prompt_tokens: int
    token_ids: list[int] = field(default_factory=list)
    cycles: Counter[str] = field(default_factory=Counter)
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
    emit: Callable[[list[int]], None] | None = None,
) -> Answer:
    """Greedy answer to `prompt` at the chip's position; `emit` sees the ids after each token.

    Raises ContextError when the prompt leaves no room for an answer. A KeyboardInterrupt ends
    the answer and keeps what was said.
    """
    if chip.position + len(prompt) >= chip.context:
        raise ContextError(
            f"a prompt of {len(prompt)} tokens leaves no room in {chip.context} positions"
        )
    begin, digest = time.perf_counter(), hashlib.sha256()
    answer = Answer(len(prompt), clock_hz=spec.clock_hz)
    for i in range(len(prompt)):
        last = i == len(prompt) - 1
        answer.cycles += token_cycles(chip.stages, spec, chip.position + i + 1, last)
    answer.prefill_cycles = sum(answer.cycles.values())
    try:
        wires = chip.forward(prompt)
        while True:
            digest.update(wires.logits[-1].astype("<i4").tobytes())
            token = int(wires.top[0])
            answer.token_ids.append(token)
            if emit is not None:
                emit(answer.token_ids)
            ended = token in chip.image.config.end_ids
            if ended or len(answer.token_ids) == max_tokens or chip.position == chip.context:
                break
            answer.cycles += token_cycles(chip.stages, spec, chip.position + 1, True)
            wires = chip.forward([token])
    except KeyboardInterrupt:
        pass
    answer.host_seconds = time.perf_counter() - begin
    answer.logits_sha256 = digest.hexdigest()
    return answer
