"""The style of chat format that a checkpoint was trained with, told in one place for all sources.

`emulator.chat.template` has a class for each style.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

PLAIN, CHATML, SMOLLM2, LLAMA3 = STYLES = ("plain", "chatml", "smollm2", "llama3")


def chat_style(name: str, tokens: Container[str]) -> str:
    """One of STYLES, from the model's name and the tokens (or the text) of its tokenizer.

    SmolLM2 is ChatML with a default system prompt, which only its name tells.
    """
    if "<|start_header_id|>" in tokens:
        return LLAMA3
    if "<|im_start|>" not in tokens:
        return PLAIN
    return SMOLLM2 if name.lower().startswith("smollm2") else CHATML


def tool_template(value: Any) -> str:
    """The chat template that speaks of tools, "" if none does.

    value: what a checkpoint calls its template: a text, or a list of objects with `name` and
        `template`, of which `tool_use` comes before `default`.
    """
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("tool_use") or named.get("default")
    return value if isinstance(value, str) and "tools" in value else ""
