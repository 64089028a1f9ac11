"""Tokens of a conversation. What a user types is text, never a control token."""

from __future__ import annotations

from tokenizers import Tokenizer

from emulator.errors import UnsupportedError

SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def read_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Raises UnsupportedError for a `tokenizer.json` that the library does not take."""
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the Rust library raises plain Exception
        raise UnsupportedError(f"tokenizer.json is malformed or unknown: {error}") from None


class ChatFormat:
    """ChatML (SmolLM2's and others') over a `tokenizer.json`."""

    def __init__(self, tokenizer_json: str, style: str) -> None:
        self.tokenizer = read_tokenizer(tokenizer_json)
        self.tokenizer.encode_special_tokens = True  # "<|im_end|>" in a message is only text
        self.style = style

    def opening(self, system: str | None) -> list[int]:
        """Tokens before the first turn."""
        text = system if system is not None else SMOLLM2_SYSTEM if self.style == "smollm2" else None
        return [] if text is None or self.style == "plain" else self._turn("system", text)

    def question(self, text: str) -> list[int]:
        """A user's turn, and the head of the answer to it."""
        if self.style == "plain":
            return self.encode(text)
        answer = [self._special("<|im_start|>"), *self.encode("assistant\n")]
        return [*self._turn("user", text), *answer]

    def closing(self) -> list[int]:
        """Tokens that end an answer and come before the next question."""
        if self.style == "plain":
            return []
        return [self._special("<|im_end|>"), *self.encode("\n")]

    def encode(self, text: str) -> list[int]:
        """Plain text -> token ids. Lone surrogates, from undecodable bytes, become "?"."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self.tokenizer.encode(clean, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Token ids -> text, without control tokens."""
        return str(self.tokenizer.decode(ids))

    def _turn(self, role: str, text: str) -> list[int]:
        begin = self._special("<|im_start|>")
        return [begin, *self.encode(f"{role}\n{text}"), *self.closing()]

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise UnsupportedError(f"the tokenizer has no {token}, which its chat format needs")
        return number
