"""Ollama's requests and replies, as its own API document names the fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from emulator.serve.shapes.atoms import (
    MESSAGES,
    TOOLS,
    GivenModel,
    Name,
    Penalty,
    Repetition,
    Schema,
    Seed,
    Shape,
    Share,
    StopText,
    StopTexts,
    Temperature,
    Text,
    Tokens,
    ToolName,
)
from emulator.serve.shapes.openai import Tools
from emulator.serve.shapes.replies import Reply


class OllamaOptions(Shape, kw_only=True):
    """What counts of a request's `options`; the others are about memory and machines."""

    temperature: Temperature | None = None
    top_k: Tokens | None = None
    top_p: Share | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    num_predict: Annotated[int, Meta(ge=-2, le=1 << 24)] | None = None  # below 1: no limit
    repeat_penalty: Repetition | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None


class OllamaRequest(Shape, kw_only=True):
    """What /api/generate and /api/chat share. Without `stream` they stream."""

    model: GivenModel
    stream: bool | None = None
    options: OllamaOptions | None = None
    format: Literal["", "json"] | Schema | None = None


class OllamaGenerate(OllamaRequest, kw_only=True):
    """POST /api/generate"""

    prompt: Text | None = None
    system: Text | None = None
    raw: bool | None = None


class OllamaFunction(Shape, kw_only=True):
    name: ToolName
    arguments: Schema | None = None


class OllamaCall(Shape, kw_only=True):
    function: OllamaFunction


class OllamaMessage(Shape, kw_only=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    tool_calls: Annotated[list[OllamaCall], Meta(max_length=TOOLS)] | None = None
    tool_name: Name | None = None


class OllamaChat(OllamaRequest, kw_only=True):
    """POST /api/chat with `model`"""

    messages: Annotated[list[OllamaMessage], Meta(min_length=1, max_length=MESSAGES)]
    tools: Tools | None = None


class OllamaShow(Shape, kw_only=True):
    """POST /api/show"""

    model: GivenModel | None = None
    name: GivenModel | None = None  # its older name


class Version(Reply, kw_only=True):
    version: str


class Details(Reply, kw_only=True):
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str
    parent_model: str = ""


class Tag(Reply, kw_only=True):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(Reply, kw_only=True):
    models: list[Tag]


class Shown(Reply, kw_only=True):
    modelfile: str
    parameters: str
    template: str
    license: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class MadeOllamaFunction(Reply, kw_only=True):
    name: str
    arguments: Schema


class MadeOllamaCall(Reply, kw_only=True):
    function: MadeOllamaFunction


class SaidMessage(Reply, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str
    tool_calls: list[MadeOllamaCall] | UnsetType = UNSET


class Ended(Reply, kw_only=True):
    """Of both kinds of answers. Durations are in ns: `total` is measured, the others are the
    chip's (estimate)."""

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class Generated(Ended, kw_only=True):
    response: str


class Chatted(Ended, kw_only=True):
    message: SaidMessage
