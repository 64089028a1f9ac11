"""Requests and replies about adapters, by the names that vLLM's server gave these routes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from emulator.fields import PLAIN_NAME
from emulator.serve.shapes.atoms import Shape
from emulator.serve.shapes.replies import Reply

PATH_CHARACTERS, NAME_CHARACTERS = 1000, 200
AdapterName = Annotated[str, Meta(pattern=f"^{PLAIN_NAME.pattern}$", max_length=NAME_CHARACTERS)]


class LoadRequest(Shape, kw_only=True):
    """POST /v1/load_lora_adapter"""

    lora_name: AdapterName
    lora_path: Annotated[str, Meta(min_length=1, max_length=PATH_CHARACTERS)]


class UnloadRequest(Shape, kw_only=True):
    """POST /v1/unload_lora_adapter"""

    lora_name: AdapterName


class Loaded(Reply, kw_only=True):
    message: str
    id: str


class Unloaded(Reply, kw_only=True):
    message: str
