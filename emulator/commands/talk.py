"""The state of a chat: the conversation, how tokens are picked, what has been said."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from typing import TYPE_CHECKING

from emulator.chat.answer import CONTEXT, Answer
from emulator.chat.conversation import Conversation
from emulator.chat.messages import Message
from emulator.chat.printer import Printer, cycles_table, summary
from emulator.chat.repeat_guard import RepeatGuard
from emulator.chat.text_stream import TextStream
from emulator.commands.answer_options import (
    Sampling,
    checked_date,
    chip_with,
    draft_source,
    write,
)
from emulator.errors import ContextError
from weights.rom import open_image

if TYPE_CHECKING:
    from emulator.images.first_start import BetterMasks
    from weights.rom import RomImage


class Talk:
    """One chat on one chip; it changes over to better masks when they are ready."""

    def __init__(
        self,
        args: argparse.Namespace,
        image: RomImage,
        sampling: Sampling,
    ) -> None:
        self.image, self.sampling = image, sampling
        self.better: BetterMasks | None = None
        self.cycles: bool = args.cycles
        self.said: list[Message] = []
        self.last: Answer | None = None
        self._told = False  # what has become of the better masks
        self._args = args
        chat, chip, self.spec = chip_with(args, image, checked_date(args))
        limit, system = args.max_tokens, args.system
        picker = sampling.picker()
        drafts = draft_source(args, chip)
        self.conversation = Conversation(chip, self.spec, chat, picker, limit, system, drafts)

    @property
    def title(self) -> str:
        """ "SmolLM2-135M-Instruct.Q4_1, 5.95 bits a weight, calibrated masks"."""
        name = self.image.manifest["checkpoint"]["name"]
        widths = Counter(matrix.bits for matrix in self.image.matrices.values())
        codes = " and ".join(str(bits) for bits in sorted(widths))
        level = self.image.manifest.get("quantiser")
        kind = "quick masks" if level == "fast" else f"calibrated masks ({level})"
        bits = f"{self.image.bits_per_weight:.2f} bits a weight"
        return f"{name}, {bits}, {kind} with codes of {codes} bits"

    def banner(self) -> str:
        """Two lines: what is in the chip, and what the user may type."""
        chip = f"{self.spec.name.upper()}, emulated: its times are estimates"
        return f'{self.title}; {chip}\n{self.sampling} | /help, /bye; """ for several lines'

    def tell(self, note: str) -> None:
        """A word of the program, which is no part of the conversation."""
        print(f"[{note}]", file=sys.stderr, flush=True)

    def sample(self, sampling: Sampling) -> None:
        """Pick tokens in another way from now on. Raises UsageError."""
        self.conversation.sampler = sampling.picker()
        self.sampling = sampling

    def restart(self) -> None:
        """A new conversation, on better masks if they are ready by now."""
        if self.better is not None and self.better.ready:
            self.image = open_image(self.better.folder)
            _, self.conversation.chip, _ = chip_with(
                self._args, self.image, checked_date(self._args)
            )
            self.better.end()
            self.better = None
            self.tell(f"now in the chip: {self.title}")
        self.conversation.restart()
        self.said, self.last = [], None

    def look_forward(self, better: BetterMasks) -> None:
        """Say that these masks are for now, and that better ones are being made."""
        self.better = better
        self.tell(
            f"{self.title}: quick, for now; the calibrated ones are being compiled beside this "
            "chat, and /new changes over when they are ready"
        )

    def look_at_better(self) -> None:
        """Say so when better masks are ready, or cannot be had."""
        if self._told or self.better is None or self.better.running:
            return
        self._told = True
        if self.better.ready:
            self.tell("the calibrated masks are ready: /new begins a conversation on them")
        else:
            self.tell(f"the calibrated masks could not be made: {self.better.problem}")

    def ask(self, text: str) -> None:
        """Print the answer to a question, and the chip's line. Raises ContextError."""
        answer = self._answer(text)
        self.said += [Message("user", text), Message("assistant", answer.text)]
        self.last = answer
        print(f"\n{summary(answer)}", flush=True)
        if self.cycles:
            self.print_cycles(answer)
        if answer.reason == CONTEXT:
            positions = self.conversation.chip.context
            self.tell(f"all {positions} positions are taken; a new conversation begins")
            self.said = []

    def print_cycles(self, answer: Answer) -> None:
        from rich.console import Console

        Console(file=sys.stdout).print(cycles_table(answer))

    def _answer(self, text: str) -> Answer:
        """Say the answer. A question that fits only alone begins a new conversation."""
        args, conversation = self._args, self.conversation
        guard = RepeatGuard() if args.repeat_guard else None
        stream = TextStream(conversation.chat.decode, args.stop)
        printer = Printer(stream, args.pace, write, guard)
        with self._waiting():
            try:
                answer = conversation.ask(text, printer.on_token)
            except ContextError as error:
                if not conversation.begun:
                    raise
                self.tell(f"{error}; a new conversation begins")
                conversation.restart()
                self.said = []
                answer = conversation.ask(text, printer.on_token)
        printer.finish(answer)
        return answer

    def _waiting(self) -> contextlib.AbstractContextManager[object]:
        """A sign of life while the whole answer is computed before it is said."""
        from rich.console import Console

        silent = self._args.pace == "chip" and sys.stderr.isatty()
        return Console(stderr=True).status("emulating ..") if silent else contextlib.nullcontext()
