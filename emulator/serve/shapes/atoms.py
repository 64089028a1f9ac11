"""The values that the bodies of several interfaces share, with their ranges."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from emulator.chat.sampler import SEED_BITS, TEMPERATURES
from emulator.serve.body import BODY_BYTES
from emulator.serve.grammar import MOST_CHARACTERS

MOST_TOKENS = 1 << 24  # largest number of tokens that a request may name
MOST_CHOICES = 8
MOST_LOGPROBS = 20
STOPS, STOP_CHARACTERS = 16, 256
MESSAGES = 1000  # in one request
PARTS = 100  # of one message
TOOLS = 128
MOST_BIAS = 100.0  # of logit_bias
BIASES = 1024
MOST_PENALTY = 2.0  # frequency and presence, either sign
MODEL_CHARACTERS = 200
VENDOR_MODEL = "llama3.1-8B"  # the name that the vendor's clients send; the loaded model answers

Schema: TypeAlias = dict[str, Any]
Text = Annotated[str, Meta(max_length=BODY_BYTES)]
SomeText = Annotated[str, Meta(min_length=1, max_length=BODY_BYTES)]
Name = Annotated[str, Meta(max_length=MODEL_CHARACTERS)]
ModelName = Annotated[str, Meta(max_length=MODEL_CHARACTERS, examples=[VENDOR_MODEL])]
GivenModel = Annotated[
    str, Meta(min_length=1, max_length=MODEL_CHARACTERS, examples=[VENDOR_MODEL])
]
Tokens = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
Temperature = Annotated[
    float,
    Meta(
        ge=0,
        le=TEMPERATURES[1],
        extra_json_schema={"not": {"exclusiveMinimum": 0, "exclusiveMaximum": TEMPERATURES[0]}},
    ),
]
Share = Annotated[float, Meta(ge=0, le=1)]
Seed = Annotated[  # its upper end is beyond what `le` can say: `seed_of` checks it
    int, Meta(ge=-(1 << 63), extra_json_schema={"maximum": (1 << SEED_BITS) - 1})
]
StopText = Annotated[str, Meta(min_length=1, max_length=STOP_CHARACTERS)]
StopTexts = Annotated[list[StopText], Meta(max_length=STOPS)]
Choices = Annotated[int, Meta(ge=1, le=MOST_CHOICES)]
Logprobs = Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)]
Penalty = Annotated[float, Meta(ge=-MOST_PENALTY, le=MOST_PENALTY)]
Repetition = Annotated[float, Meta(ge=0.1, le=10)]
Bias = Annotated[
    dict[str, Annotated[float, Meta(ge=-MOST_BIAS, le=MOST_BIAS)]], Meta(max_length=BIASES)
]
Pattern = Annotated[str, Meta(max_length=MOST_CHARACTERS)]
Session = Annotated[str, Meta(max_length=256)]  # by which a sticky server finds a card
ToolName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class Shape(Struct, kw_only=True):
    """A body or a part of one. Fields that it does not name are ignored; null is like absent."""

    refused: ClassVar[dict[str, str]] = {}  # fields that must ask for nothing, and why


class JsonSchema(Shape, kw_only=True):
    schema: Schema | None = None
    name: Name | None = None


class ResponseFormat(Shape, kw_only=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class StreamOptions(Shape, kw_only=True):
    include_usage: bool | None = None


class Common(Shape, kw_only=True):
    """What OpenAI's and the vendor's requests share."""

    model: ModelName | None = None
    temperature: Temperature | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    guided_json: Schema | None = None
    guided_regex: Pattern | None = None
    ignore_eos: bool | None = None
    response_format: ResponseFormat | None = None
    prompt_cache_key: Session | None = None
    user: Session | None = None
