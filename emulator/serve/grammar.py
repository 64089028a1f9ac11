"""Answers that follow a JSON schema or a regular expression, through llguidance's masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.serve.body import RequestError

MOST_CHARACTERS = 65_536  # of a schema or an expression
STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
LIMITS = LLParserLimits(max_grammar_size=200_000, initial_lexer_fuel=500_000)


class Grammars:
    """Makes masks over one vocabulary."""

    def __init__(self, tokenizer_json: str, config: LlamaConfig) -> None:
        self._config = config
        self.tokens = LLTokenizer(
            tokenizer_json, n_vocab=config.vocabulary, eos_token=list(config.end_ids)
        )

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
        return GrammarMask(LLMatcher(self.tokens, grammar, limits=LIMITS), self._config)

    def _checked(self, grammar: str, param: str) -> str:
        failed, messages = LLMatcher.validate_grammar_with_warnings(
            grammar, self.tokens, limits=LIMITS
        )
        if failed:
            raise RequestError(f"{param}: {messages[0]}", param=param, code="invalid_schema")
        return grammar


class GrammarMask:
    """Which tokens a grammar allows after those picked so far."""

    def __init__(self, matcher: LLMatcher, config: LlamaConfig) -> None:
        self._matcher, self._config = matcher, config
        self._bits = allocate_token_bitmask(1, config.vocabulary)  # int32[1, words]

    def allowed(self) -> NDArray[np.bool_]:
        """bool[vocabulary]; only the end tokens when the grammar is complete.

        Raises RequestError if the grammar exceeds the limits.
        """
        size = self._config.vocabulary
        if not self._matcher.is_stopped():
            fill_next_token_bitmask(self._matcher, self._bits)
            words = self._bits[0].view(np.uint8)
            free = np.unpackbits(words, bitorder="little")[:size].astype(bool)
            self._check()
            if free.any():
                return free
        end = np.zeros(size, bool)
        end[list(self._config.end_ids)] = True
        return end

    def took(self, token: int) -> None:
        """Advance by a picked token. An end token also ends the grammar."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            problem = self._matcher.get_error().partition("\n")[0]
            raise RequestError(f"the schema or expression cannot be followed: {problem}")
