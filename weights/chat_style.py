"""The style of chat format that a checkpoint was trained with, told in one place for all sources.

`emulator.chat.template` has a class for each style.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

PLAIN, CHATML, SMOLLM2, SMOLLM3, LLAMA3, LLAMA2 = OLDER = (
    *("plain", "chatml", "smollm2", "smollm3", "llama3", "llama2"),
)
QWEN2, QWEN25, QWEN3, MISTRAL, MISTRAL3, TEKKEN = NEWER = (
    *("qwen2", "qwen2.5", "qwen3", "mistral", "mistral-v3", "tekken"),
)
STYLES = (*OLDER, *NEWER)
QWEN2_SYSTEM = "You are a helpful assistant."
QWEN25_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
INSTRUCTIONS = re.compile(r'"(You are a helpful AI assistant named SmolLM[^"]*?)(?:\\n)*"')
BYTE_LEVEL = ("ByteLevel", "Ġthe")  # in a tokenizer's text, or among its tokens


def chat_style(name: str, tokens: Container[str], template: str = "") -> str:
    """One of STYLES, from the model's name, its tokenizer and its own chat template.

    `tokens` are those of the tokenizer, or its whole text. Formats with the same tokens differ by
    their default system prompt, which a template has word by word; without one, the name tells.
    """
    named = name.lower()
    if "<|start_header_id|>" in tokens:
        return LLAMA3
    if "<|im_start|>" in tokens:
        return SMOLLM2 if named.startswith("smollm2") else _chatml(named, template)
    if "<<SYS>>" in template or (not template and named.startswith("llama-2")):
        return LLAMA2
    if "[INST]" in tokens:
        return TEKKEN if any(sign in tokens for sign in BYTE_LEVEL) else MISTRAL3
    if "[INST]" in template or (not template and named.startswith("mistral-7b-instruct")):
        return MISTRAL
    return PLAIN


def _chatml(named: str, template: str) -> str:
    if QWEN25_SYSTEM in template or (not template and "qwen2.5" in named):
        return QWEN25
    if "Reasoning Mode:" in template or (not template and "smollm3" in named):
        return SMOLLM3
    if "enable_thinking" in template or (not template and "qwen3" in named):
        return QWEN3
    if QWEN2_SYSTEM in template or (not template and "qwen2" in named):
        return QWEN2
    return CHATML


def default_instructions(template: str) -> str:
    """What SmolLM3's template tells a model that thinks and has no system prompt; "" for others."""
    return max(INSTRUCTIONS.findall(template), key=len, default="")


def default_template(value: Any) -> str:
    """A checkpoint's chat template: a text, or the default one of a list; "" for anything else."""
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else ""


def tool_template(value: Any) -> str:
    """The chat template that speaks of tools, "" if none does.

    value: what a checkpoint calls its template: a text, or a list of objects with `name` and
        `template`, of which `tool_use` comes before `default`.
    """
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("tool_use") or named.get("default")
    return value if isinstance(value, str) and "tools" in value else ""
