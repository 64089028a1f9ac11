"""The requests of the vendor's /generate and of its demo."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from emulator.config import MAX_K
from emulator.serve.shapes.atoms import (
    MOST_TOKENS,
    Common,
    Logprobs,
    ModelName,
    Name,
    Seed,
    Shape,
    SomeText,
    StopText,
    StopTexts,
    Temperature,
    Text,
    Tokens,
)
from emulator.serve.shapes.openai import Messages, ToolChoice, Tools

ChipWidth = Annotated[int, Meta(ge=1, le=MAX_K)]


class GenerateRequest(Common, kw_only=True):
    """POST /generate"""

    prompt: SomeText | Messages
    topk: ChipWidth | None = None
    max_output_tokens: Tokens | None = None
    min_output_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    echo: bool | None = None
    tools: Tools | None = None
    tool_choice: Name | ToolChoice | None = None


class Attachment(Shape, kw_only=True):
    name: Annotated[str, Meta(max_length=1000)] | None = None
    content: Text | None = None


class FaithfulOptions(Shape, kw_only=True):
    """What the real demo reads of `chatOptions`."""

    selectedModel: ModelName | None = None  # noqa: N815
    systemPrompt: Text | None = None  # noqa: N815
    topK: ChipWidth | None = None  # noqa: N815


class ChatOptions(Shape, kw_only=True):
    selectedModel: ModelName | None = None  # noqa: N815
    systemPrompt: Text | None = None  # noqa: N815
    topK: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] | None = None  # noqa: N815
    temperature: Temperature | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    max_tokens: Tokens | None = None
    ignore_eos: bool | None = None


class DemoRequest(Shape, kw_only=True):
    """POST /api/chat, as the demo's page sends it"""

    messages: Messages
    chatOptions: ChatOptions  # noqa: N815
    attachment: Attachment | None = None


class FaithfulRequest(Shape, kw_only=True):
    """The same, as a faithful server reads it"""

    messages: Messages
    chatOptions: FaithfulOptions  # noqa: N815
    attachment: Attachment | None = None
