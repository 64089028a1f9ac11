"""A checkpoint with an adapter merged into it: what a new set of masks would hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.config.factors import Factors
from weights.checkpoint import Checkpoint, Provenance, hub_name
from weights.peft_adapter import PeftAdapter


@dataclass(frozen=True, slots=True)
class Merged:
    """Reads as the checkpoint does, with B A added; the product runs in a fixed order."""

    source: Checkpoint
    adapter: PeftAdapter

    @property
    def config(self) -> LlamaConfig:
        return self.source.config

    @property
    def tokenizer_json(self) -> str:
        return self.source.tokenizer_json

    @property
    def chat_style(self) -> str:
        return self.source.chat_style

    @property
    def chat_template(self) -> str:
        return self.source.chat_template

    @property
    def chat_instructions(self) -> str:
        return self.source.chat_instructions

    @property
    def factors(self) -> Factors:
        return self.source.factors

    @property
    def where(self) -> Path:
        """The base's: whoever opens it sees no adapter."""
        return self.source.where

    @property
    def name(self) -> str:
        return f"{self.source.name}+{self.adapter.name}"

    def provenance(self) -> Provenance:
        """The checkpoint's, and the adapter's file beside its own."""
        base = self.source.provenance()
        file = (f"{self.adapter.name}/adapter_model.safetensors", 0, self.adapter.digest)
        return replace(base, name=self.name, files=(*base.files, file))

    @property
    def digest(self) -> str:
        text = f"{self.source.digest} {self.adapter.digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    def tensor(self, name: str) -> NDArray[np.float32]:
        tensor = self.source.tensor(name)
        for (layer, matrix), low in self.adapter.matrices.items():
            if name == hub_name(matrix, layer):
                tensor = tensor.copy()
                for r in range(len(low.a)):  # one rank after another: no library's order of sums
                    tensor += low.b[:, r : r + 1] * low.a[r]
        return tensor
