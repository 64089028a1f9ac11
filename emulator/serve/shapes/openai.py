"""OpenAI's requests: chat completions, completions, embeddings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from emulator.serve.shapes.atoms import (
    MESSAGES,
    PARTS,
    TOOLS,
    Bias,
    Choices,
    Common,
    Logprobs,
    Name,
    Penalty,
    Repetition,
    Schema,
    Shape,
    Share,
    SomeText,
    Text,
    Tokens,
    ToolName,
)

NOT_HERE = "this server cannot do that"
PROMPTS = 16  # in one request to /v1/completions or /v1/embeddings
TokenId = Annotated[int, Meta(ge=0)]


class Part(Shape, kw_only=True):
    text: Text
    type: Literal["text", "input_text", "output_text"] = "text"


Parts = Annotated[list[Part], Meta(min_length=1, max_length=PARTS)]


class CalledFunction(Shape, kw_only=True):
    name: ToolName
    arguments: Text = "{}"  # JSON


class ToolCall(Shape, kw_only=True):
    function: CalledFunction
    id: Name | None = None
    type: Literal["function"] | None = None


class ChatMessage(Shape, kw_only=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Parts | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=TOOLS)] | None = None
    tool_call_id: Name | None = None
    name: Name | None = None


Messages = Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES)]


class Function(Shape, kw_only=True):
    name: ToolName
    description: Text | None = None
    parameters: Schema | None = None


class ToolOffer(Shape, kw_only=True):
    function: Function
    type: Literal["function"] = "function"


Tools = Annotated[list[ToolOffer], Meta(max_length=TOOLS)]


class ChosenFunction(Shape, kw_only=True):
    name: ToolName


class ToolChoice(Shape, kw_only=True):
    function: ChosenFunction
    type: Literal["function"] = "function"


class V1(Common, kw_only=True):
    """What the completions under /v1 share."""

    refused: ClassVar[dict[str, str]] = {"suffix": NOT_HERE, "audio": NOT_HERE}
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    min_tokens: Tokens | None = None
    top_p: Share | None = None
    top_k: Tokens | None = None
    n: Choices | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Repetition | None = None
    logit_bias: Bias | None = None


class ChatRequest(V1, kw_only=True):
    """POST /v1/chat/completions"""

    refused: ClassVar[dict[str, str]] = {
        **V1.refused,
        "functions": "superseded: send tools instead",
    }
    messages: Messages
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None


class CompletionRequest(V1, kw_only=True):
    """POST /v1/completions"""

    prompt: (
        SomeText
        | Annotated[
            list[SomeText | TokenId | list[TokenId]], Meta(min_length=1, max_length=1 << 16)
        ]
    )
    logprobs: bool | Logprobs | None = None
    echo: bool | None = None
    best_of: Choices | None = None


class EmbeddingRequest(Shape, kw_only=True):
    """POST /v1/embeddings"""

    input: (
        SomeText
        | Annotated[
            list[SomeText | TokenId | list[TokenId]], Meta(min_length=1, max_length=1 << 16)
        ]
    )
    model: Name | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Any = None
