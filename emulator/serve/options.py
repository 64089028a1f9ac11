"""The effective options of an answer, and the names of those that the chip cannot apply."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from emulator.chat.sampler import SEED_BITS, TEMPERATURES, Picker, Sampler
from emulator.config import MAX_K
from emulator.serve.body import refuse
from emulator.serve.grammar import Grammars
from emulator.serve.penalties import NO_PENALTIES, Penalties
from emulator.serve.samplers import HostSampler
from emulator.serve.shapes.atoms import Common, ResponseFormat
from emulator.serve.shapes.openai import ChatRequest, CompletionRequest
from emulator.serve.shapes.vendor import GenerateRequest


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
    session: str = ""  # by which a sticky server finds the card that keeps its KV
    penalties: Penalties = NO_PENALTIES
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
        return [name for name, used in beyond.items() if used] + self.penalties.used

    def sampler(
        self, choice: int, grammars: Grammars, end_ids: tuple[int, ...], prompt: Sequence[int] = ()
    ) -> Picker:
        """The sampler of one choice, with the seed `seed + choice`, for an answer to `prompt`."""
        seed = (self.seed + choice) % (1 << SEED_BITS)
        if not self.host_options:
            return Sampler() if self.greedy else Sampler(self.top_k, self.temperature, seed)
        return HostSampler(
            self.top_k,
            self.top_p,
            self.temperature,
            seed,
            None if self.grammar is None else grammars.mask(self.grammar),
            self.max_tokens if self.ignore_end else self.least_tokens,
            end_ids=end_ids,
            bias=self.penalties.over(prompt, grammars.vocabulary) if self.penalties.used else None,
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


def openai_options(
    body: ChatRequest | CompletionRequest, most_tokens: int, grammars: Grammars
) -> Options:
    """The options of /v1; see `pick_width` for what is picked from."""
    top_p = 1.0 if body.top_p is None else body.top_p
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    penalties = Penalties.of(
        body.frequency_penalty,
        body.presence_penalty,
        body.repetition_penalty,
        body.logit_bias,
        grammars.vocabulary,
    )
    if isinstance(body, ChatRequest):
        logprobs = chat_logprobs(body)
    else:
        logprobs = text_logprobs(body.logprobs)
    return replace(
        common_options(body, limit_of(limit, most_tokens)),
        top_k=pick_width(body.top_k, body.temperature, top_p),
        top_p=top_p,
        choices=body.n or 1,
        logprobs=logprobs,
        least_tokens=min(body.min_tokens or 0, most_tokens),
        grammar=constraint(body, grammars),
        penalties=penalties,
    )


def vendor_options(body: GenerateRequest, most_tokens: int, grammars: Grammars) -> Options:
    """The options of the vendor's /generate; topk is 1 to 8, by default 1."""
    return replace(
        common_options(body, limit_of(body.max_output_tokens, most_tokens)),
        top_k=body.topk or 1,
        logprobs=chat_logprobs(body),
        least_tokens=min(body.min_output_tokens or 0, most_tokens),
        grammar=constraint(body, grammars),
    )


def common_options(body: Common, max_tokens: int) -> Options:
    """What OpenAI's and the vendor's interfaces share."""
    return Options(
        max_tokens=max_tokens,
        temperature=temperature_of(body.temperature),
        seed=seed_of(body.seed),
        stop=stops_of(body.stop),
        ignore_end=bool(body.ignore_eos),
        session=body.prompt_cache_key or body.user or "",
    )


def pick_width(top_k: int | None, temperature: float | None, top_p: float) -> int:
    """How many tokens to pick from.

    Without top_k, a temperature alone samples the chip's eight best tokens, a top_p below 1 the
    nucleus of the whole vocabulary; with neither, the answer is greedy.
    """
    if top_k is not None:
        return top_k
    if top_p < 1:
        return 0
    return 1 if temperature is None else MAX_K


def temperature_of(value: float | None, name: str = "temperature") -> float:
    """1 if there is none. Raises RequestError for one between 0 and the sampler's least."""
    if value is not None and 0 < value < TEMPERATURES[0]:
        refuse(name, f"0, or from {TEMPERATURES[0]} to {TEMPERATURES[1]:g}", value)
    return 1.0 if value is None else float(value)


def seed_of(value: int | None, name: str = "seed") -> int:
    """The seed in 64 bits; without one, draw one, which the reply reports."""
    most = (1 << SEED_BITS) - 1
    if value is not None and value > most:
        refuse(name, f"a whole number from {-(1 << 63)} to {most}", value)
    return (secrets.randbits(32) if value is None else value) % (1 << SEED_BITS)


def stops_of(value: str | list[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def limit_of(value: int | None, most_tokens: int) -> int:
    """A token limit: at most the server's own, which 0 or no value selects."""
    return min(value or most_tokens, most_tokens)


def chat_logprobs(body: ChatRequest | GenerateRequest) -> int | None:
    if body.top_logprobs and not body.logprobs:
        refuse("top_logprobs", "used with logprobs: true", body.top_logprobs)
    return (body.top_logprobs or 0) if body.logprobs else None


def text_logprobs(value: bool | int | None) -> int | None:
    """`logprobs` of /v1/completions, a number (or true or false)."""
    if isinstance(value, bool):
        return 0 if value else None
    return value


def constraint(body: Common, grammars: Grammars) -> str | None:
    """The grammar of `response_format`, or of the vendor's own fields."""
    if grammar := format_grammar(body.response_format, grammars):
        return grammar
    if body.guided_json is not None:
        return grammars.json_schema(body.guided_json, "guided_json")
    return grammars.regex(body.guided_regex, "guided_regex") if body.guided_regex else None


def format_grammar(
    wanted: ResponseFormat | None,
    grammars: Grammars,
    where: str = "response_format.json_schema.schema",
) -> str | None:
    """The grammar of `response_format`; None for plain text."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return grammars.json_schema({"type": "object"}, "response_format")
    schema = (wanted.json_schema.schema if wanted.json_schema else None) or {}
    return grammars.json_schema(schema, where)
