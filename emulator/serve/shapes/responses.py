"""OpenAI's /v1/responses in its text form: requests and replies."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType

from emulator.serve.shapes.atoms import (
    MESSAGES,
    TOOLS,
    Name,
    Schema,
    Session,
    Shape,
    Share,
    SomeText,
    Temperature,
    Text,
    Tokens,
    ToolName,
)
from emulator.serve.shapes.openai import Parts
from emulator.serve.shapes.replies import ChipCost, Reply

NO_STORE = "this server stores no answers: send the whole conversation as input"


class InputItem(Shape, kw_only=True):
    """A message, a call that the model made, or its result."""

    type: Literal["message", "function_call", "function_call_output"] | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Text | Parts | None = None
    call_id: Name | None = None
    name: ToolName | None = None
    arguments: Text | None = None
    output: Text | None = None


class FunctionTool(Shape, kw_only=True):
    name: ToolName
    type: Literal["function"] = "function"
    description: Text | None = None
    parameters: Schema | None = None


class NamedFunction(Shape, kw_only=True):
    name: ToolName
    type: Literal["function"] = "function"


class TextFormat(Shape, kw_only=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Name | None = None
    schema: Schema | None = None


class TextSettings(Shape, kw_only=True):
    format: TextFormat | None = None


class ResponsesRequest(Shape, kw_only=True):
    """POST /v1/responses"""

    refused: ClassVar[dict[str, str]] = {
        "previous_response_id": NO_STORE,
        "conversation": NO_STORE,
        "background": NO_STORE,
        "prompt": "this server keeps no prompts",
    }
    input: SomeText | Annotated[list[InputItem], Meta(min_length=1, max_length=MESSAGES)]
    model: Name | None = None
    instructions: Text | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    stream: bool | None = None
    text: TextSettings | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    prompt_cache_key: Session | None = None
    user: Session | None = None


class OutputText(Reply, kw_only=True):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any]


class OutputItem(Reply, kw_only=True):
    """A message, or a call."""

    id: str
    type: Literal["message", "function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] | UnsetType = UNSET
    content: list[OutputText] | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class ResponseUsage(Reply, kw_only=True):
    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int
    chip: ChipCost


class ResponseObject(Reply, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete"]
    error: None = None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool = False
    previous_response_id: None = None
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float
    usage: ResponseUsage | None
    parameters: Schema
    metadata: dict[str, str]
