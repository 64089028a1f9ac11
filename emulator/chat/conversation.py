"""A conversation: its turns share the KV SRAM, so each question feeds only what is new."""

from __future__ import annotations

from collections.abc import Callable

from emulator.chat.answer import CONTEXT, END, Answer
from emulator.chat.drafts import Drafts
from emulator.chat.generate import generate
from emulator.chat.sampler import Picker
from emulator.chat.template import ChatFormat
from emulator.chip import Chip
from emulator.silicon.spec import ChipSpec


class Conversation:
    """Questions and answers on one chip that nothing else uses."""

    def __init__(
        self,
        chip: Chip,
        spec: ChipSpec,
        chat: ChatFormat,
        sampler: Picker,
        max_tokens: int,
        system: str | None = None,
        drafts: Callable[[Picker], Drafts | None] = lambda picker: None,
    ) -> None:
        self.chip, self.spec, self.chat = chip, spec, chat
        self.sampler, self.max_tokens, self.system = sampler, max_tokens, system
        self.drafts = drafts  # for an answer whose tokens this picker picks
        self.restart()

    def restart(self) -> None:
        """Forget all turns."""
        self.chip.rewind(0)
        self._said = self.chat.opening(self.system)  # all tokens before the next question

    @property
    def begun(self) -> bool:
        return self.chip.position > 0

    def ask(self, text: str, on_token: Callable[[int], bool] | None = None) -> Answer:
        """Answer one question; `on_token` as in `generate`.

        However the answer ends, its turn is closed before the next one. A question interrupted
        before its first pass is forgotten. When the KV SRAM is full, the conversation starts
        again. Raises ContextError, and changes nothing, if the question does not fit beside the
        earlier turns.
        """
        start = self.chip.position
        if start == 0 and self.system and self.chat.system_place != "opening":
            text = self.chat.with_system(self.system, text)
        prompt = [*self._said[start:], *self.chat.question(text)]
        answer = generate(
            *(self.chip, self.spec, prompt, self.max_tokens, self.sampler, on_token),
            drafts=self.drafts(self.sampler),
        )
        if answer.reason == CONTEXT:
            self.restart()
        elif self.chip.position > start:
            reply = answer.token_ids[:-1] if answer.reason == END else answer.token_ids
            self._said = [*self._said[:start], *prompt, *reply, *self.chat.closing()]
        return answer
