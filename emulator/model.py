"""The front door: a model on a chip that answers, in two lines of Python.

import emulator
print(emulator.open_model().chat("What is the capital of France?").text)
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.chat.answer import STOP, Answer
from emulator.chat.drafts import Drafts, Lookup
from emulator.chat.generate import tokens
from emulator.chat.messages import ROLES, SYSTEM_ROLES, Message, chat_tokens
from emulator.chat.sampler import Sampler
from emulator.chat.template import chat_of
from emulator.chat.text_stream import TextStream
from emulator.chip import Chip, Stage
from emulator.config import LlamaConfig
from emulator.errors import UsageError
from emulator.images.folder import is_image
from emulator.images.make import open_named
from emulator.images.recipe import EMBEDDED
from emulator.images.shape_of import shape_of
from emulator.silicon.spec import DEFAULT_SPEC, ChipSpec, load_spec
from emulator.timing.models import HC1_MIX, blank_stages
from emulator.timing.report import Report, report
from weights.mix import Mix
from weights.rom import RomImage, open_image

Text = str | Sequence[Mapping[str, str]]  # a question, or messages {"role": .., "content": ..}


def open_model(
    name_or_path: str | Path = EMBEDDED,
    *,
    context: int | None = None,
    chip: str | Path | ChipSpec = DEFAULT_SPEC,
) -> Model:
    """A model in a chip of its own; downloaded and compiled on first use, with a progress bar.

    name_or_path: a name that `python -m emulator models` lists, a hub repository
        (owner/repo[@revision]), a checkpoint (GGUF file or folder with safetensors), or the folder
        of a ROM image. The default is the small embedded model.
    context: positions of the KV SRAM, at most the image's; None for all of them.
    chip: the chip's description, or the TOML file that holds it, for cycles and times.

    Raises CheckpointError or ImageError when there is no such model, ChipError for a wrong
    description, UsageError for a context below 1.
    """
    spec = chip if isinstance(chip, ChipSpec) else load_spec(chip)
    path = Path(name_or_path)
    image = open_image(path) if is_image(path) else open_named(str(name_or_path))
    return Model(image, spec, context)


class Model:
    """A ROM image at work on a chip: text in, answers out. One caller at a time.

    `chip` is the emulated chip, `spec` its description, `image` the masks, `chat_format` the
    tokens of a conversation. What a prompt shares with the one before is not computed again.
    """

    def __init__(self, image: RomImage, spec: ChipSpec, context: int | None = None) -> None:
        self.image, self.spec = image, spec
        self.chip = Chip(image, context)
        self.chat_format = chat_of(image)
        self._last: AnswerStream | None = None

    def chat(self, text_or_messages: Text, **options: Any) -> Answer:
        """The answer to a question, or to a conversation.

        text_or_messages: the question, or messages with `role` (system, developer, user,
            assistant) and `content`, of which the last is the user's.
        options: see `stream`.
        """
        return self.stream(text_or_messages, **options).finish()

    def complete(self, text: str, **options: Any) -> Answer:
        """The model's continuation of a text, without a chat format; options as in `stream`."""
        prompt = [*self.chat_format.begin(), *self.chat_format.encode(text)]
        return self._start(prompt, **options).finish()

    def stream(
        self, text_or_messages: Text, *, system: str | None = None, **options: Any
    ) -> AnswerStream:
        """The answer of `chat`, piece by piece: `for piece in model.stream("Hi"): ...`.

        system: the system prompt, before a question that is a text.
        max_tokens: of the answer, the end token among them; 512.
        top_k: pick from the k best tokens, 1 to 8; 1 is greedy.
        temperature: 0.01 to 2, for top_k above 1.
        seed: 0 to 2**64 - 1, for top_k above 1; a seed gives the same text on every host.
        stop: texts, such as ["\\n"], that end an answer and are left out of it.

        Raises UsageError for an option or a message outside these, and ContextError for a prompt
        that leaves no room for an answer.
        """
        messages = _messages(text_or_messages, system)
        return self._start(chat_tokens(self.chat_format, messages), **options)

    def cycles(self, context: int = 1024) -> Report:
        """Estimated cycles of one token that attends to `context` positions; see `cycles`."""
        return cycles(self, context=context)

    def _start(
        self,
        prompt: list[int],
        *,
        max_tokens: int = 512,
        top_k: int = 1,
        temperature: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> AnswerStream:
        if max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, not {max_tokens}")
        stops = [stop] if isinstance(stop, str) else list(stop)
        if "" in stops:
            raise UsageError("a stop text must not be empty")
        if not prompt:
            raise UsageError("the prompt has no tokens")
        sampler, answer = Sampler(top_k, temperature, seed), Answer()
        if self._last is not None:
            self._last.close()
        picked = tokens(
            self.chip,
            self.spec,
            prompt,
            max_tokens,
            sampler,
            cached=self.chip.resume(prompt),
            answer=answer,
            drafts=Drafts(Lookup()),
        )
        self._last = AnswerStream(picked, TextStream(self.chat_format.decode, stops), answer)
        return self._last


class AnswerStream:
    """Pieces of an answer as they are made; `answer` is whole when they have all been taken.

    The model's next answer ends this one where it is.
    """

    def __init__(
        self, picked: Generator[int, None, None], text: TextStream, answer: Answer
    ) -> None:
        self.answer = answer
        self._pieces = self._made(picked, text)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def finish(self) -> Answer:
        """The whole answer, of which the rest is made now."""
        for _ in self._pieces:
            pass
        return self.answer

    def close(self) -> None:
        """End the answer where it is."""
        self._pieces.close()

    def _made(
        self, picked: Generator[int, None, None], text: TextStream
    ) -> Generator[str, None, None]:
        try:
            for token in picked:
                piece = text.feed(token)
                self.answer.text = text.text
                if piece:
                    yield piece
                if text.stopped:
                    self.answer.reason = STOP
                    break
        finally:
            picked.close()
        rest = text.finish()
        self.answer.text = text.text
        if rest:
            yield rest


def cycles(
    model: str | Path | LlamaConfig | Model = "llama-3.1-8b",
    *,
    context: int = 1024,
    chip: str | Path | ChipSpec = DEFAULT_SPEC,
    mix: str = HC1_MIX,
) -> Report:
    """Estimated cycles of one decode step, by block and layer; no weights are needed.

    model: a name ("llama-3.1-8b"; see `shape_of`), a `config.json` or its folder, a LlamaConfig,
        or an open Model, whose own chip and mix are taken.
    context: positions that the token attends to, itself included.
    chip: the chip's description, or the TOML file that holds it.
    mix: bits by class of matrices, as `compile --mix` takes them.

    Raises UsageError for an unknown name or a context that the chip does not have, ChipError for a
    wrong description, UnsupportedError for a config of which no shape is known.
    """
    if isinstance(model, Model):
        stages, spec = model.chip.stages, model.spec
    else:
        spec = chip if isinstance(chip, ChipSpec) else load_spec(chip)
        stages = _blank(model, mix)
    most = int(spec.kv_sram.positions)
    if not 1 <= context <= most:
        raise UsageError(f"context {context}: the chip has positions 1 to {most}")
    return report(stages, spec, context)


def _blank(model: str | Path | LlamaConfig, mix: str) -> list[Stage]:
    """The blocks of a chip with this shape, without weights."""
    config = model if isinstance(model, LlamaConfig) else shape_of(str(model))[0]
    return blank_stages(config, Mix.parse(mix))


def _messages(text_or_messages: Text, system: str | None) -> list[Message]:
    if isinstance(text_or_messages, str):
        first = [] if system is None else [Message("system", system)]
        return [*first, Message("user", text_or_messages)]
    if system is not None:
        raise UsageError("system goes with a text; messages have a system message of their own")
    messages = []
    for number, message in enumerate(text_or_messages):
        role, text = message.get("role"), message.get("content")
        if role not in (*SYSTEM_ROLES, *ROLES) or not isinstance(text, str):
            known = ", ".join((*SYSTEM_ROLES, *ROLES))
            raise UsageError(f"message {number}: needs a role of {known}, and a text as content")
        messages.append(Message(str(role), text))
    if not messages or messages[-1].role != "user":
        raise UsageError("the last message of a conversation is the user's")
    return messages
