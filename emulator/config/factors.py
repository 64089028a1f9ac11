"""Constants that a family multiplies signals by: they fold into weights, so no block knows them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emulator.config.limits import FACTOR, SIZES
from emulator.config.model import LlamaConfig
from emulator.errors import CheckpointError
from emulator.fields import Fields


@dataclass(frozen=True, slots=True)
class Factors:
    """What Granite and Gemma multiply; a Llama's are all 1."""

    embedding: float = 1.0  # rows that enter the residual stream
    residual: float = 1.0  # what attention and feed-forward add to it
    logits: float = 1.0  # the head's outputs are divided by it
    scores: float | None = None  # of q . k, in the place of 1 / sqrt(head_dim)
    gain_offset: float = 0.0  # a norm's gain is its tensor and this

    def of(self, name: str, config: LlamaConfig) -> float:
        """That of the tensor with our short name, as `weights.checkpoint` calls it."""
        if name == "embedding":
            return self.embedding
        if name in ("o", "down", "o_bias", "down_bias"):
            return self.residual
        if name in ("q", "q_bias") and self.scores is not None:
            return self.scores * math.sqrt(config.head_dim)
        if name == "head":
            return 1 / self.logits
        if name == "norm" and config.tied:  # the head's table is the embedding's, with its factor
            return 1 / (self.logits * self.embedding)
        return 1.0

    def offset(self, name: str) -> float:
        """What is added to the tensor first."""
        return self.gain_offset if name in ("norm", "attn_norm", "ffn_norm") else 0.0


def factors_from_hub(config: dict[str, object], where: str) -> Factors:
    """The factors of a Hugging Face `config.json`. Raises CheckpointError for a malformed one."""
    source = Fields(where, config, CheckpointError)
    if config.get("model_type") == "gemma":
        hidden = source.whole("hidden_size", *SIZES["hidden"])
        return Factors(embedding=math.sqrt(hidden), gain_offset=1.0)
    if config.get("model_type") != "granite":
        return Factors()

    def factor(key: str) -> float:
        return source.real(key, *FACTOR) if source.has(key) else 1.0

    return Factors(
        embedding=factor("embedding_multiplier"),
        residual=factor("residual_multiplier"),
        logits=factor("logits_scaling"),
        scores=factor("attention_multiplier"),
    )
