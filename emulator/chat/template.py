"""Chat formats, one class each: a conversation as tokens. User input never becomes control tokens.

`chat_format` chooses the class by the style that an image's manifest names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date
from typing import ClassVar

from emulator.chat.tokenizer import decoded, encoded, read_tokenizer
from emulator.errors import UnsupportedError
from weights.chat_style import (
    CHATML,
    LLAMA2,
    LLAMA3,
    MISTRAL,
    MISTRAL3,
    PLAIN,
    QWEN2,
    QWEN2_SYSTEM,
    QWEN3,
    QWEN25,
    QWEN25_SYSTEM,
    SMOLLM2,
    SMOLLM3,
    TEKKEN,
)
from weights.rom import RomImage
from weights.tokenizer_json import last_token, longest_token

SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
LLAMA3_KNOWLEDGE = "December 2023"  # the training data of Llama 3.1 and 3.2 end here
LLAMA3_DATE = date(2024, 7, 26)  # "today" in Llama 3.1's own template
END_OF_THOUGHT = "</think>"
MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"  # strftime's depend on the locale
SMOLLM3_KNOWLEDGE = "June 2025"
MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
LLAMA3_ROLES = {"tool": "ipython"}  # roles that the model knows under another name


def chat_of(image: RomImage, today: date = LLAMA3_DATE) -> ChatFormat:
    """The chat format of an image; see `chat_format`.

    Raises UnsupportedError, too, if a text can become a token that the image has no row for.
    """
    last, rows = last_token(image.tokenizer_json), image.config.vocabulary
    if last >= rows:
        raise UnsupportedError(f"the tokenizer has tokens up to {last}, the model only {rows}")
    instructions = str(image.manifest.get("chat_instructions", ""))
    return chat_format(image.tokenizer_json, image.manifest["chat_style"], today, instructions)


def chat_format(
    tokenizer_json: str, style: str, today: date = LLAMA3_DATE, instructions: str = ""
) -> ChatFormat:
    """The chat format called `style`, with the tokenizer of a `tokenizer.json`.

    `today` is the date that the system header of Llama 3 and SmolLM3 tells the model,
    `instructions` what SmolLM3 is told without a system prompt. Raises UnsupportedError for an
    unknown style, or a tokenizer that the library rejects.
    """
    formats: dict[str, type[ChatFormat]] = {PLAIN: Plain, CHATML: ChatMl, SMOLLM2: SmolLm2}
    formats |= {QWEN2: Qwen2, QWEN25: Qwen25, QWEN3: Qwen3, LLAMA2: Llama2}
    formats |= {MISTRAL: Mistral, MISTRAL3: Mistral3, TEKKEN: Tekken}
    if style == LLAMA3:
        return Llama3(tokenizer_json, today)
    if style == SMOLLM3:
        return SmolLm3(tokenizer_json, today, instructions)
    if style not in formats:
        known = ", ".join(sorted((*formats, LLAMA3, SMOLLM3)))
        raise UnsupportedError(f"chat style {style!r} is not known; known are {known}")
    return formats[style](tokenizer_json)


class ChatFormat(ABC):
    """How a family of models marks who said what."""

    # Where the system prompt goes: before the "first" or the "last" question's own text, or into
    # the "opening".
    system_place: ClassVar[str] = "opening"

    def __init__(self, tokenizer_json: str) -> None:
        self.tokenizer = read_tokenizer(tokenizer_json)
        self.tokenizer.encode_special_tokens = True  # "<|im_end|>" in a message is only text
        self.longest_token = longest_token(tokenizer_json)  # characters; None: there is no telling

    @abstractmethod
    def opening(self, system: str | None) -> list[int]:
        """Tokens before the first turn; None means the model's default system prompt, if any."""

    @abstractmethod
    def question(self, text: str, role: str = "user") -> list[int]:
        """The user's or a tool's turn, then the head of the answer."""

    @abstractmethod
    def closing(self) -> list[int]:
        """Tokens that end an answer and come before the next question."""

    def answer(self, text: str) -> list[int]:
        """Tokens of an answer that was given before."""
        return self.encode(text)

    def with_system(self, system: str, text: str) -> str:
        """A question with the system prompt before it, where `system_place` puts it there."""
        return f"{system}\n\n{text}"

    def begin(self) -> list[int]:
        """Tokens with which every sequence starts."""
        return []

    def encode(self, text: str) -> list[int]:
        """Plain text -> token ids. Lone surrogates, from undecodable bytes, become "?"."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return encoded(self.tokenizer, clean)

    def decode(self, ids: list[int]) -> str:
        """Token ids -> text, without control tokens."""
        return decoded(self.tokenizer, ids)

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise UnsupportedError(f"the tokenizer has no {token}, which its chat format needs")
        return number


class Plain(ChatFormat):
    """No chat format: the model continues the question's text."""

    def opening(self, system: str | None) -> list[int]:
        return list(self.tokenizer.encode("").ids)  # the tokens that start every text, if any

    def question(self, text: str, role: str = "user") -> list[int]:
        return self.encode(text)

    def closing(self) -> list[int]:
        return []


class Turns(ChatFormat):
    """A format whose turns each have a head that names the role."""

    def question(self, text: str, role: str = "user") -> list[int]:
        return [*self.turn(role, text), *self.head("assistant")]

    def turn(self, role: str, text: str) -> list[int]:
        """A whole turn of `system`, `user`, `assistant` or `tool`."""
        return [*self.head(role), *self.encode(text), *self.closing()]

    @abstractmethod
    def head(self, role: str) -> list[int]:
        """Tokens before the text of a turn."""


class ChatMl(Turns):
    """ChatML: `<|im_start|>role`, the text, `<|im_end|>`."""

    default_system: str | None = None

    def opening(self, system: str | None) -> list[int]:
        text = self.default_system if system is None else system
        return [] if text is None else self.turn("system", text)

    def turn(self, role: str, text: str) -> list[int]:
        """Encode role and text together: the tokenizer may merge across their border."""
        return [self._special("<|im_start|>"), *self.encode(f"{role}\n{text}"), *self.closing()]

    def head(self, role: str) -> list[int]:
        return [self._special("<|im_start|>"), *self.encode(f"{role}\n")]

    def closing(self) -> list[int]:
        return [self._special("<|im_end|>"), *self.encode("\n")]


class SmolLm2(ChatMl):
    """ChatML with the system prompt that SmolLM2's own template begins with."""

    default_system = SMOLLM2_SYSTEM


class SmolLm3(ChatMl):
    """ChatML with SmolLM3's system header: two dates, the mode of thinking, instructions."""

    def __init__(self, tokenizer_json: str, today: date, instructions: str) -> None:
        super().__init__(tokenizer_json)
        self.today, self.instructions = today, instructions

    def opening(self, system: str | None) -> list[int]:
        mode, own = "/think", ""
        if system is not None:
            mode = "/no_think" if "/no_think" in system else mode
            own = system.replace("/no_think", "").replace("/think", "").rstrip()
        day = f"{self.today.day:02} {MONTH_NAMES[self.today.month - 1]} {self.today.year}"
        return self.turn(
            "system",
            f"## Metadata\n\nKnowledge Cutoff Date: {SMOLLM3_KNOWLEDGE}\nToday Date: {day}\n"
            f"Reasoning Mode: {mode}\n\n## Custom Instructions\n\n"
            f"{own or self.instructions}\n\n",
        )

    def answer(self, text: str) -> list[int]:
        return self.encode(text.lstrip("\n"))


class Llama3(Turns):
    """The format of Llama 3.1 and 3.2, whose system header gives two dates."""

    def __init__(self, tokenizer_json: str, today: date = LLAMA3_DATE) -> None:
        super().__init__(tokenizer_json)
        self.today = today

    def begin(self) -> list[int]:
        return [self._special("<|begin_of_text|>")]

    def opening(self, system: str | None) -> list[int]:
        return [*self.begin(), *self.turn("system", self.system_text(system))]

    def system_text(self, text: str | None) -> str:
        """Two dates, then the system prompt, which may be empty."""
        month = MONTHS[3 * self.today.month - 3 :][:3]
        today = f"{self.today.day:02} {month} {self.today.year}"
        dates = f"Cutting Knowledge Date: {LLAMA3_KNOWLEDGE}\nToday Date: {today}\n\n"
        return dates + (text or "")

    def head(self, role: str) -> list[int]:
        begin, end = self._special("<|start_header_id|>"), self._special("<|end_header_id|>")
        name = self.encode(LLAMA3_ROLES.get(role, role))
        return [begin, *name, end, *self.encode("\n\n")]

    def closing(self) -> list[int]:
        return [self._special("<|eot_id|>")]


class Qwen2(ChatMl):
    """ChatML with Qwen2's default system prompt."""

    default_system = QWEN2_SYSTEM


class Qwen25(ChatMl):
    """ChatML with Qwen2.5's default system prompt."""

    default_system = QWEN25_SYSTEM


class Qwen3(ChatMl):
    """ChatML without a default; what an earlier answer thought is not said again."""

    def answer(self, text: str) -> list[int]:
        return self.encode(text.rpartition(END_OF_THOUGHT)[2].lstrip("\n"))


class Mistral(ChatFormat):
    """Mistral 7B 0.1 and 0.2: `[INST] question [/INST]answer</s>`, all but `</s>` plain text."""

    system_place: ClassVar[str] = "first"

    def begin(self) -> list[int]:
        return [self._special("<s>")]

    def opening(self, system: str | None) -> list[int]:
        return self.begin()

    def question(self, text: str, role: str = "user") -> list[int]:
        return self.encode(f"[INST] {text} [/INST]")

    def closing(self) -> list[int]:
        return [self._special("</s>")]


class Mistral3(Mistral):
    """Mistral 7B 0.3: brackets are control tokens, the last question has the system prompt."""

    system_place: ClassVar[str] = "last"
    space: ClassVar[str] = " "  # before what is said

    def question(self, text: str, role: str = "user") -> list[int]:
        said = self.encode(f"{self.space}{text}")
        return [self._special("[INST]"), *said, self._special("[/INST]")]

    def answer(self, text: str) -> list[int]:
        return self.encode(f"{self.space}{text.strip()}")


class Tekken(Mistral3):
    """Mistral Nemo: the same without spaces."""

    space: ClassVar[str] = ""

    def answer(self, text: str) -> list[int]:
        return self.encode(text)


class Llama2(Mistral):
    """Llama 2: every question starts a text of its own, the first with the system prompt."""

    def opening(self, system: str | None) -> list[int]:
        return []

    def with_system(self, system: str, text: str) -> str:
        return f"<<SYS>>\n{system}\n<</SYS>>\n\n{text}"

    def question(self, text: str, role: str = "user") -> list[int]:
        return [*self.begin(), *self.encode(f"[INST] {text.strip()} [/INST]")]

    def answer(self, text: str) -> list[int]:
        return self.encode(f" {text.strip()} ")
