"""Read a request's options, check every field, and name those that the chip cannot apply."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from emulator.chat.sampler import SEED_BITS, TEMPERATURES, Picker, Sampler
from emulator.config import MAX_K
from emulator.serve.body import Body
from emulator.serve.grammar import MOST_CHARACTERS, Grammars
from emulator.serve.samplers import HostSampler

MOST_TOKENS = 1 << 24  # largest number of tokens that a request may name
MOST_CHOICES = 8
MOST_LOGPROBS = 20
STOPS, STOP_CHARACTERS = 16, 256
NOT_HERE = "this server cannot do that"


@dataclass(frozen=True, slots=True)
class Options:
    """Effective parameters of an answer. top_k 0 means no limit, temperature 0 means greedy."""

    max_tokens: int
    top_k: int = 1
    top_p: float = 1.0
    temperature: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    choices: int = 1
    logprobs: int | None = None  # most likely tokens beside the picked one
    least_tokens: int = 0
    ignore_end: bool = False
    grammar: str | None = None
    adapter: str = ""  # name of the LoRA adapter that answers

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1

    @property
    def host_options(self) -> list[str]:
        """Names of the options that the host's sampler applies because the chip's cannot."""
        beyond = {
            "top_k": not self.greedy and not 1 <= self.top_k <= MAX_K,
            "top_p": not self.greedy and self.top_p < 1,
            "constraint": self.grammar is not None,
            "min_tokens": self.least_tokens > 0,
            "ignore_eos": self.ignore_end,
        }
        return [name for name, used in beyond.items() if used]

    def sampler(self, choice: int, grammars: Grammars, end_ids: tuple[int, ...]) -> Picker:
        """The sampler of one choice, with the seed `seed + choice`."""
        seed = (self.seed + choice) % (1 << SEED_BITS)
        if not self.host_options:
            return Sampler() if self.greedy else Sampler(self.top_k, self.temperature, seed)
        mask = None if self.grammar is None else grammars.mask(self.grammar)
        least = self.max_tokens if self.ignore_end else self.least_tokens
        return HostSampler(
            self.top_k, self.top_p, self.temperature, seed, mask, least, end_ids=end_ids
        )

    def to_json(self) -> dict[str, Any]:
        """The parameters as a reply reports them."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": 0.0 if self.greedy else self.temperature,
            "top_k": 1 if self.greedy else self.top_k,
            "top_p": 1.0 if self.greedy else self.top_p,
            "seed": self.seed,
            "stop": list(self.stop),
            "host_options": self.host_options,
        }


def openai_options(body: Body, most_tokens: int, grammars: Grammars, chat: bool) -> Options:
    """Read the options of /v1.

    Without top_k, a temperature alone samples the chip's eight best tokens, a top_p below 1 the
    nucleus of the whole vocabulary; with neither, the answer is greedy.
    """
    for name in ("tools", "functions"):
        body.lack(name, "this server knows no tools")
    for name in ("presence_penalty", "frequency_penalty", "logit_bias", "suffix", "audio"):
        body.lack(name, NOT_HERE)
    options = common_options(body, most_tokens, "max_tokens")
    if body.has("max_completion_tokens"):
        options = replace(options, max_tokens=_limit(body, "max_completion_tokens", most_tokens))
    top_p = body.real("top_p", 0, 1, 1.0)
    wants_chance = body.has("temperature") or top_p < 1
    default_k = (0 if top_p < 1 else MAX_K) if wants_chance else 1
    return replace(
        options,
        top_k=body.whole("top_k", 0, MOST_TOKENS, default_k),
        top_p=top_p,
        choices=body.whole("n", 1, MOST_CHOICES, 1),
        logprobs=_chat_logprobs(body) if chat else _text_logprobs(body),
        least_tokens=body.whole("min_tokens", 0, most_tokens, 0),
        grammar=_format(body, grammars) or _guided(body, grammars),
    )


def vendor_options(body: Body, most_tokens: int, grammars: Grammars) -> Options:
    """Read the options of the vendor's /generate; topk is 1 to 8, by default 1."""
    body.lack("tools", "this server knows no tools")
    return replace(
        common_options(body, most_tokens, "max_output_tokens"),
        top_k=body.whole("topk", 1, MAX_K, 1),
        logprobs=_chat_logprobs(body),
        least_tokens=body.whole("min_output_tokens", 0, most_tokens, 0),
        grammar=_format(body, grammars) or _guided(body, grammars),
    )


def common_options(body: Body, most_tokens: int, limit: str) -> Options:
    """Read what all interfaces share. Without a seed, draw one, which the reply reports."""
    temperature = body.real("temperature", 0, TEMPERATURES[1], 1.0)
    if 0 < temperature < TEMPERATURES[0]:
        body.refuse("temperature", f"0, or from {TEMPERATURES[0]} to {TEMPERATURES[1]:g}")
    return Options(
        max_tokens=_limit(body, limit, most_tokens),
        temperature=temperature,
        seed=body.whole("seed", -(1 << 63), (1 << SEED_BITS) - 1, secrets.randbits(32))
        % (1 << SEED_BITS),
        stop=body.texts("stop", STOPS, STOP_CHARACTERS),
        ignore_end=body.truth("ignore_eos"),
    )


def _limit(body: Body, key: str, most_tokens: int) -> int:
    """Read a token limit: at most the server's own, which 0 or no value selects."""
    return min(body.whole(key, 0, MOST_TOKENS, 0) or most_tokens, most_tokens)


def _chat_logprobs(body: Body) -> int | None:
    top = body.whole("top_logprobs", 0, MOST_LOGPROBS, 0)
    if top and not body.truth("logprobs"):
        body.refuse("top_logprobs", "used with logprobs: true")
    return top if body.truth("logprobs") else None


def _text_logprobs(body: Body) -> int | None:
    """Read `logprobs` of /v1/completions, a number (or true or false)."""
    if isinstance(body.values.get("logprobs"), bool):
        return 0 if body.truth("logprobs") else None
    return body.whole("logprobs", 0, MOST_LOGPROBS, 0) if body.has("logprobs") else None


def _format(body: Body, grammars: Grammars) -> str | None:
    """The grammar of `response_format`."""
    wanted = body.object("response_format")
    kind = wanted.text("type", 40, "text")
    if kind == "json_object":
        return grammars.json_schema({"type": "object"}, "response_format")
    if kind == "json_schema":
        schema = wanted.object("json_schema").object("schema")
        return grammars.json_schema(schema.values, "response_format.json_schema.schema")
    if kind != "text":
        wanted.refuse("type", "text, json_object or json_schema")
    return None


def _guided(body: Body, grammars: Grammars) -> str | None:
    """The grammar of the vendor's own fields."""
    if body.has("guided_json"):
        return grammars.json_schema(body.object("guided_json").values, "guided_json")
    pattern = body.text("guided_regex", MOST_CHARACTERS)
    return grammars.regex(pattern, "guided_regex") if pattern else None
