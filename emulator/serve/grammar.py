"""Answers that follow a JSON schema or a regular expression, through llguidance's masks.

Whatever a grammar makes llguidance do happens in a process of the grammar's own.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.errors import UnsupportedError
from emulator.serve.body import RequestError
from emulator.serve.grammar_process import Follower, Nursery, cannot_follow

MOST_CHARACTERS = 65_536  # of a schema or an expression
STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
KEPT = 4  # processes of grammars that nobody uses now
REMEMBERED = 256  # grammars that were refused


class Grammars:
    """Makes masks over one vocabulary. All methods may be called from any thread."""

    def __init__(self, tokenizer_json: str, config: LlamaConfig) -> None:
        self._config = config
        ends = list(config.end_ids)
        if not ends:
            raise UnsupportedError("a model without an end token cannot be served")
        try:
            self.tokens = LLTokenizer(tokenizer_json, n_vocab=config.vocabulary, eos_token=ends)
        except Exception as error:  # of Rust, as the tokenizers library's
            raise UnsupportedError(f"the tokenizer cannot be served: {error}") from None
        self._nursery = Nursery(tokenizer_json, config.vocabulary, ends)
        self._building = threading.Lock()  # one at a time: a second core is the chip's
        self._kept: OrderedDict[str, Follower] = OrderedDict()  # by content, the oldest first
        self._refused: OrderedDict[str, str] = OrderedDict()  # and why

    @property
    def vocabulary(self) -> int:
        return self._config.vocabulary

    def json_schema(self, schema: Mapping[str, Any], param: str) -> str:
        """The grammar of a schema. Raises RequestError if it is invalid or too large."""
        try:
            text = json.dumps(schema)
            if len(text) > MOST_CHARACTERS:
                raise RequestError(f"{param}: more than {MOST_CHARACTERS:,} characters", 400, param)
            grammar = LLMatcher.grammar_from_json_schema(text, defaults=STYLE)  # type: ignore[arg-type]
        except (ValueError, RecursionError) as problem:
            raise RequestError(f"{param}: {problem}", param=param) from None
        return self._checked(grammar, param)

    def checked_schema(self, schema: Mapping[str, Any], param: str) -> str:
        """The JSON text of a schema, for a `%json` rule. Raises RequestError as `json_schema`."""
        self.json_schema(schema, param)
        return json.dumps({**schema, "x-guidance": STYLE})

    def lark(self, text: str, param: str) -> str:
        """A grammar in Lark's notation. Raises RequestError if it is too large."""
        return self._checked(LLMatcher.grammar_from_lark(text), param)

    def regex(self, pattern: str, param: str) -> str:
        """The grammar of a regular expression. Raises RequestError if it is invalid."""
        return self._checked(LLMatcher.grammar_from_regex(pattern), param)

    def mask(self, grammar: str) -> GrammarMask:
        """A mask for one answer; `grammar` comes from `json_schema` or `regex`."""
        return GrammarMask(self, grammar, self._config)

    def at_hand(self, grammar: str) -> Follower | None:
        """The process that built a grammar, if it is kept."""
        return self._kept.get(grammar)

    def again(self, grammar: str) -> Follower:
        """A process for a grammar that could be built before; its own has gone."""
        self._kept.pop(grammar, None)
        return Follower(self._nursery, grammar)

    def _checked(self, grammar: str, param: str) -> str:
        """The grammar, once it was built. Raises RequestError for one that cannot be."""
        with self._building:
            problem = self._refused.get(grammar)
            if problem is None and grammar not in self._kept:
                follower = Follower(self._nursery, grammar)
                problem = follower.problem
                if problem:
                    self._refused[grammar] = problem
                else:
                    self._kept[grammar] = follower
            for known, most in ((self._kept, KEPT), (self._refused, REMEMBERED)):
                if grammar in known:
                    known.move_to_end(grammar)
                if len(known) > most:
                    known.popitem(last=False)
        if problem:
            raise RequestError(f"{param}: {problem}", param=param, code="invalid_schema")
        return grammar


class GrammarMask:
    """Which tokens a grammar allows after those picked so far."""

    def __init__(self, grammars: Grammars, grammar: str, config: LlamaConfig) -> None:
        self._grammars, self._grammar, self._config = grammars, grammar, config
        self._follower = grammars.at_hand(grammar)  # held, so that it lives until then
        self._answer: int | None = None  # its number with the follower
        self._took: list[int] = []  # since the last mask

    def __del__(self) -> None:
        if self._answer is not None and self._follower is not None:
            self._follower.end(self._answer)

    def allowed(self) -> NDArray[np.bool_]:
        """bool[vocabulary]; only the end tokens when the grammar is complete.

        Raises RequestError if the grammar exceeds the limits.
        """
        size = self._config.vocabulary
        bits = self._step()
        if bits is not None:
            words = np.frombuffer(bits, np.uint8)
            free = np.unpackbits(words, count=size, bitorder="little").astype(bool)
            if free.any():
                return free
        end = np.zeros(size, bool)
        end[list(self._config.end_ids)] = True
        return end

    def took(self, token: int) -> None:
        """Advance by a picked token. An end token also ends the grammar."""
        self._took.append(token)

    def _step(self) -> bytes | None:
        try:
            return self._asked()
        except EOFError:
            if self._answer is not None:  # it broke off in the middle of this answer
                raise cannot_follow() from None
        self._follower = None  # it had nothing to do for long, and went: once more
        try:
            return self._asked()
        except EOFError:
            raise cannot_follow() from None

    def _asked(self) -> bytes | None:
        if self._follower is None:
            self._follower = self._grammars.again(self._grammar)
        number = self._follower.number() if self._answer is None else self._answer
        bits = self._follower.step(number, self._took)
        self._answer, self._took = number, []
        return bits
