"""Chat formats, one class each: a conversation as tokens. User input never becomes control tokens.

`chat_format` chooses the class by the style that an image's manifest names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date

from tokenizers import Tokenizer

from emulator.errors import UnsupportedError
from weights.chat_style import CHATML, LLAMA3, PLAIN, SMOLLM2

SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
LLAMA3_KNOWLEDGE = "December 2023"  # the training data of Llama 3.1 and 3.2 end here
LLAMA3_DATE = date(2024, 7, 26)  # "today" in Llama 3.1's own template
MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"  # strftime's depend on the locale
LLAMA3_ROLES = {"tool": "ipython"}  # roles that the model knows under another name


def chat_format(tokenizer_json: str, style: str, today: date = LLAMA3_DATE) -> ChatFormat:
    """The chat format called `style`, with the tokenizer of a `tokenizer.json`.

    `today` is the date that Llama 3's system header tells the model. Raises UnsupportedError for
    an unknown style, or a tokenizer that the library rejects.
    """
    formats: dict[str, type[ChatFormat]] = {PLAIN: Plain, CHATML: ChatMl, SMOLLM2: SmolLm2}
    if style == LLAMA3:
        return Llama3(tokenizer_json, today)
    if style not in formats:
        known = ", ".join((*formats, LLAMA3))
        raise UnsupportedError(f"chat style {style!r} is not known; known are {known}")
    return formats[style](tokenizer_json)


def read_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Load a `tokenizer.json`. Raises UnsupportedError if the library rejects it."""
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the Rust library raises plain Exception
        raise UnsupportedError(f"tokenizer.json is malformed or unknown: {error}") from None


class ChatFormat(ABC):
    """How a family of models marks who said what."""

    def __init__(self, tokenizer_json: str) -> None:
        self.tokenizer = read_tokenizer(tokenizer_json)
        self.tokenizer.encode_special_tokens = True  # "<|im_end|>" in a message is only text

    @abstractmethod
    def opening(self, system: str | None) -> list[int]:
        """Tokens before the first turn; None means the model's default system prompt, if any."""

    @abstractmethod
    def question(self, text: str, role: str = "user") -> list[int]:
        """The user's or a tool's turn, then the head of the answer."""

    @abstractmethod
    def closing(self) -> list[int]:
        """Tokens that end an answer and come before the next question."""

    def begin(self) -> list[int]:
        """Tokens with which every sequence starts."""
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
