"""A conversation: turns that share the KV SRAM, and what is still to be fed between them."""

from __future__ import annotations

from collections.abc import Callable

from emulator.chat.generate import CONTEXT, END, Answer, generate
from emulator.chat.sampler import Sampler
from emulator.chat.template import ChatFormat
from emulator.chip import Chip
from emulator.silicon.spec import ChipSpec


class Conversation:
    """Questions and answers on one chip, which it has to itself."""

    def __init__(
        self,
        chip: Chip,
        spec: ChipSpec,
        chat: ChatFormat,
        sampler: Sampler,
        max_tokens: int,
        system: str | None = None,
    ) -> None:
        self.chip, self.spec, self.chat = chip, spec, chat
        self.sampler, self.max_tokens, self.system = sampler, max_tokens, system
        self.restart()

    def restart(self) -> None:
        """Forget all turns."""
        self.chip.rewind(0)
        self._unfed = self.chat.opening(self.system)  # goes before the next question

    @property
    def begun(self) -> bool:
        return self.chip.position > 0

    def ask(self, text: str, heard: Callable[[int], bool] | None = None) -> Answer:
        """The answer to one question; `heard` as in `generate`.

        However the answer ended, its turn is closed before the next one. A question that was
        interrupted before the chip took it in is forgotten. When the KV SRAM ran full the
        conversation starts again. Raises ContextError, changing nothing, when the question does
        not fit beside what was said.
        """
        start = self.chip.position
        prompt = [*self._unfed, *self.chat.question(text)]
        answer = generate(self.chip, self.spec, prompt, self.max_tokens, self.sampler, heard)
        if answer.reason == CONTEXT:
            self.restart()
        elif self.chip.position > start:
            said = answer.token_ids[:-1] if answer.reason == END else answer.token_ids
            fed = self.chip.position - start - len(prompt)
            self._unfed = [*said[fed:], *self.chat.closing()]
        return answer
