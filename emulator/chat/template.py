"""Tokens of a conversation. What a user types is text, never a control token."""

from __future__ import annotations

from datetime import date

from tokenizers import Tokenizer

from emulator.errors import UnsupportedError

SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
LLAMA3_KNOWLEDGE = "December 2023"  # where the training data of Llama 3.1 and 3.2 end
LLAMA3_DATE = date(2024, 7, 26)  # "today" in Llama 3.1's own template
MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"  # strftime's are the locale's
LLAMA3_ROLES = {"tool": "ipython"}  # roles that the model knows under another name


def read_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Raises UnsupportedError for a `tokenizer.json` that the library does not take."""
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the Rust library raises plain Exception
        raise UnsupportedError(f"tokenizer.json is malformed or unknown: {error}") from None


class ChatFormat:
    """A chat format over a `tokenizer.json`: of Llama 3, ChatML (SmolLM2's and others'), or none.

    `today` is the date that Llama 3's system header tells the model.
    """

    def __init__(self, tokenizer_json: str, style: str, today: date = LLAMA3_DATE) -> None:
        self.tokenizer = read_tokenizer(tokenizer_json)
        self.tokenizer.encode_special_tokens = True  # "<|im_end|>" in a message is only text
        self.style = style
        self.today = today

    def opening(self, system: str | None) -> list[int]:
        """Tokens before the first turn."""
        if self.style == "plain":
            return list(self.tokenizer.encode("").ids)  # what every text begins with, if anything
        if self.style == "llama3":
            return [*self.begin(), *self.turn("system", self.llama3_system(system))]
        text = system if system is not None else SMOLLM2_SYSTEM if self.style == "smollm2" else None
        return [] if text is None else self.turn("system", text)

    def question(self, text: str, role: str = "user") -> list[int]:
        """A turn of the user, or of a tool, and the head of the answer to it."""
        if self.style == "plain":
            return self.encode(text)
        return [*self.turn(role, text), *self._head("assistant")]

    def closing(self) -> list[int]:
        """Tokens that end an answer and come before the next question."""
        if self.style == "plain":
            return []
        if self.style == "llama3":
            return [self._special("<|eot_id|>")]
        return [self._special("<|im_end|>"), *self.encode("\n")]

    def begin(self) -> list[int]:
        """Tokens before the very first turn."""
        return [self._special("<|begin_of_text|>")] if self.style == "llama3" else []

    def turn(self, role: str, text: str) -> list[int]:
        """A whole turn of `system`, `user`, `assistant` or `tool`."""
        if self.style == "llama3":
            return [*self._head(role), *self.encode(text), *self.closing()]
        return [self._special("<|im_start|>"), *self.encode(f"{role}\n{text}"), *self.closing()]

    def llama3_system(self, text: str | None) -> str:
        """Llama 3.1's system header: two dates, then the system prompt, which may be empty."""
        month = MONTHS[3 * self.today.month - 3 :][:3]
        today = f"{self.today.day:02} {month} {self.today.year}"
        dates = f"Cutting Knowledge Date: {LLAMA3_KNOWLEDGE}\nToday Date: {today}\n\n"
        return dates + (text or "")

    def encode(self, text: str) -> list[int]:
        """Plain text -> token ids. Lone surrogates, from undecodable bytes, become "?"."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self.tokenizer.encode(clean, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Token ids -> text, without control tokens."""
        return str(self.tokenizer.decode(ids))

    def _head(self, role: str) -> list[int]:
        """What comes before the text of a turn."""
        if self.style != "llama3":
            return [self._special("<|im_start|>"), *self.encode(f"{role}\n")]
        begin, end = self._special("<|start_header_id|>"), self._special("<|end_header_id|>")
        name = self.encode(LLAMA3_ROLES.get(role, role))
        return [begin, *name, end, *self.encode("\n\n")]

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise UnsupportedError(f"the tokenizer has no {token}, which its chat format needs")
        return number
