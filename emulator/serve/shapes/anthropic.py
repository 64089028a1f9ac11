"""Anthropic's requests and replies of /v1/messages, as its API reference names the fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from emulator.serve.shapes.atoms import (
    MESSAGES,
    PARTS,
    TOOLS,
    GivenModel,
    Name,
    Schema,
    Shape,
    Share,
    StopTexts,
    Text,
    Tokens,
    ToolName,
)
from emulator.serve.shapes.replies import ChipCost, Reply


class Block(Shape, kw_only=True):
    """A text, a call that the model made, or its result."""

    type: Literal["text", "tool_use", "tool_result"]
    text: Text | None = None
    id: Name | None = None
    name: ToolName | None = None
    input: Schema | None = None
    tool_use_id: Name | None = None
    content: Text | Annotated[list[Block], Meta(max_length=PARTS)] | None = None


Blocks = Annotated[list[Block], Meta(max_length=PARTS)]


class AnthropicMessage(Shape, kw_only=True):
    role: Literal["user", "assistant"]
    content: Text | Blocks


class AnthropicTool(Shape, kw_only=True):
    name: ToolName
    description: Text | None = None
    input_schema: Schema | None = None


class AnthropicChoice(Shape, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None


class CountRequest(Shape, kw_only=True):
    """POST /v1/messages/count_tokens"""

    model: GivenModel
    messages: Annotated[list[AnthropicMessage], Meta(min_length=1, max_length=MESSAGES)]
    system: Text | Blocks | None = None
    tools: Annotated[list[AnthropicTool], Meta(max_length=TOOLS)] | None = None
    tool_choice: AnthropicChoice | None = None


class MessagesRequest(CountRequest, kw_only=True):
    """POST /v1/messages"""

    max_tokens: Annotated[int, Meta(ge=1, le=1 << 24)]
    stop_sequences: StopTexts | None = None
    temperature: Share | None = None
    top_k: Tokens | None = None
    top_p: Share | None = None
    stream: bool | None = None


class TokenCount(Reply, kw_only=True):
    input_tokens: int


class MadeBlock(Reply, kw_only=True):
    type: Literal["text", "tool_use"]
    text: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    input: dict[str, Any] | UnsetType = UNSET


class MessageUsage(Reply, kw_only=True):
    input_tokens: int
    output_tokens: int
    chip: ChipCost | UnsetType = UNSET


class MadeMessage(Reply, kw_only=True):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[MadeBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: MessageUsage
