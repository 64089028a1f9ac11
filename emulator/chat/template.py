"""Tokens of a conversation, a class a chat format. What a user types is text, never control tokens.

`chat_format` chooses the class by the style that an image's manifest names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date

from tokenizers import Tokenizer

from emulator.errors import UnsupportedError
from weights.chat_style import CHATML, LLAMA3, PLAIN, SMOLLM2

SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
LLAMA3_KNOWLEDGE = "December 2023"  # where the training data of Llama 3.1 and 3.2 end
LLAMA3_DATE = date(2024, 7, 26)  # "today" in Llama 3.1's own template
MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"  # strftime's are the locale's
LLAMA3_ROLES = {"tool": "ipython"}  # roles that the model knows under another name


def chat_format(tokenizer_json: str, style: str, today: date = LLAMA3_DATE) -> ChatFormat:
    """The chat format called `style`, over a `tokenizer.json`.

    `today` is the date that Llama 3's system header tells the model. Raises UnsupportedError for
    a style that is not known and a tokenizer that the library does not take.
    """
    formats: dict[str, type[ChatFormat]] = {PLAIN: Plain, CHATML: ChatMl, SMOLLM2: SmolLm2}
    if style == LLAMA3:
        return Llama3(tokenizer_json, today)
    if style not in formats:
        known = ", ".join((*formats, LLAMA3))
        raise UnsupportedError(f"chat style {style!r} is not known; known are {known}")
    return formats[style](tokenizer_json)


def read_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Raises UnsupportedError for a `tokenizer.json` that the library does not take."""
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the Rust library raises plain Exception
        raise UnsupportedError(f"tokenizer.json is malformed or unknown: {error}") from None


class ChatFormat(ABC):
    """How one family of models is told who said what."""

    def __init__(self, tokenizer_json: str) -> None:
        self.tokenizer = read_tokenizer(tokenizer_json)
        self.tokenizer.encode_special_tokens = True  # "<|im_end|>" in a message is only text

    @abstractmethod
    def opening(self, system: str | None) -> list[int]:
        """Tokens before the first turn; without a system prompt, the model's default one."""

    @abstractmethod
    def question(self, text: str, role: str = "user") -> list[int]:
        """A turn of the user, or of a tool, and the head of the answer to it."""

    @abstractmethod
    def closing(self) -> list[int]:
        """Tokens that end an answer and come before the next question."""

    def begin(self) -> list[int]:
        """Tokens before the very first turn."""
        return []

    def encode(self, text: str) -> list[int]:
        """Plain text -> token ids. Lone surrogates, from undecodable bytes, become "?"."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self.tokenizer.encode(clean, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Token ids -> text, without control tokens."""
        return str(self.tokenizer.decode(ids))

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise UnsupportedError(f"the tokenizer has no {token}, which its chat format needs")
        return number


class Plain(ChatFormat):
    """No chat format: a question is a text that the model goes on with."""

    def opening(self, system: str | None) -> list[int]:
        return list(self.tokenizer.encode("").ids)  # what every text begins with, if anything

    def question(self, text: str, role: str = "user") -> list[int]:
        return self.encode(text)

    def closing(self) -> list[int]:
        return []


class Turns(ChatFormat):
    """A format in which each turn has a head that names its role."""

    def question(self, text: str, role: str = "user") -> list[int]:
        return [*self.turn(role, text), *self.head("assistant")]

    def turn(self, role: str, text: str) -> list[int]:
        """A whole turn of `system`, `user`, `assistant` or `tool`."""
        return [*self.head(role), *self.encode(text), *self.closing()]

    @abstractmethod
    def head(self, role: str) -> list[int]:
        """What comes before the text of a turn."""


class ChatMl(Turns):
    """ChatML: `<|im_start|>role`, the text, `<|im_end|>`."""

    default_system: str | None = None

    def opening(self, system: str | None) -> list[int]:
        text = self.default_system if system is None else system
        return [] if text is None else self.turn("system", text)

    def turn(self, role: str, text: str) -> list[int]:
        """Role and text are one text to the tokenizer, which may join their border."""
        return [self._special("<|im_start|>"), *self.encode(f"{role}\n{text}"), *self.closing()]

    def head(self, role: str) -> list[int]:
        return [self._special("<|im_start|>"), *self.encode(f"{role}\n")]

    def closing(self) -> list[int]:
        return [self._special("<|im_end|>"), *self.encode("\n")]


class SmolLm2(ChatMl):
    """ChatML with the system prompt that SmolLM2's own template begins with."""

    default_system = SMOLLM2_SYSTEM


class Llama3(Turns):
    """Llama 3.1's and 3.2's format, whose system header tells two dates."""

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
