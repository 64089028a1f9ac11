"""The shape of a dense Llama: what a checkpoint says about itself, checked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from emulator.errors import CheckpointError, UnsupportedError


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's stretching of the rotary frequencies (`rope_type` "llama3")."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Shapes and constants of one model; widths count values."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    context: int  # positions the checkpoint was trained for
    rms_epsilon: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool  # embedding and head share one table
    bos_id: int | None
    end_ids: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Weights of the model, a shared table counted once."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.ffn + 2 * self.hidden
        tables = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return self.layers * layer + tables + self.hidden

    def to_json(self) -> dict[str, Any]:
        """Plain values for `rom.json`; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LlamaConfig:
        """Inverse of `to_json`. Raises CheckpointError for missing or unknown keys."""
        expected = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or set(data) != expected:
            raise CheckpointError("the model description does not have the expected keys")
        scaling = data["rope_scaling"]
        try:
            values = {
                **data,
                "rope_scaling": RopeScaling(**scaling) if scaling else None,
                "end_ids": tuple(data["end_ids"]),
            }
        except TypeError as error:
            raise CheckpointError(f"the model description is malformed: {error}") from None
        return cls(**values).checked()

    def checked(self) -> LlamaConfig:
        """The same object, or the first rule it breaks as CheckpointError or UnsupportedError."""
        limits = {
            "hidden": 65536,
            "layers": 1024,
            "heads": 1024,
            "kv_heads": 1024,
            "head_dim": 1024,
            "ffn": 1 << 20,
            "vocabulary": 1 << 24,
            "context": 1 << 24,
        }
        for name, limit in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
                raise CheckpointError(f"{name} must be a whole number from 1 to {limit}: {value!r}")
        for name in ("rms_epsilon", "rope_theta"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
                raise CheckpointError(f"{name} must be a positive number: {value!r}")
        for token in (*self.end_ids, *([] if self.bos_id is None else [self.bos_id])):
            if not isinstance(token, int) or not 0 <= token < self.vocabulary:
                raise CheckpointError(f"special token {token!r} is outside the vocabulary")
        if self.heads % self.kv_heads:
            raise CheckpointError(f"{self.heads} heads cannot share {self.kv_heads} KV heads")
        for name in ("hidden", "head_dim", "ffn"):
            if getattr(self, name) % 32:
                raise UnsupportedError(f"{name} must be a multiple of 32: {getattr(self, name)}")
        if self.head_dim & (self.head_dim - 1):
            raise UnsupportedError(f"head_dim must be a power of two: {self.head_dim}")
        return self


def from_hub_config(config: dict[str, Any]) -> LlamaConfig:
    """A Hugging Face `config.json` -> LlamaConfig.

    Raises UnsupportedError, naming the field, for anything but a dense Llama, and
    CheckpointError for a missing or malformed field.
    """
    if not isinstance(config, dict):
        raise CheckpointError("config.json does not hold an object")
    kind = config.get("model_type")
    if kind != "llama":
        raise UnsupportedError(f"model_type {kind!r}: only 'llama' can be compiled")
    refused = {
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "hidden_act": ("silu", None),
        "sliding_window": (None,),
        "num_local_experts": (None,),
    }
    for name, allowed in refused.items():
        if config.get(name) not in allowed:
            raise UnsupportedError(f"{name} = {config[name]!r}: this chip has no such block")
    try:
        heads = config["num_attention_heads"]
        end = config.get("eos_token_id")
        end = [] if end is None else end if isinstance(end, list) else [end]
        return LlamaConfig(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            ffn=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            rms_epsilon=config["rms_norm_eps"],
            rope_theta=_rope(config).get("rope_theta") or config.get("rope_theta", 10000.0),
            rope_scaling=_rope_scaling(_rope(config)),
            tied=bool(config.get("tie_word_embeddings", False)),
            bos_id=config.get("bos_token_id"),
            end_ids=tuple(end),
        ).checked()
    except KeyError as error:
        raise CheckpointError(f"config.json lacks {error.args[0]!r}") from None
    except (TypeError, ZeroDivisionError) as error:
        raise CheckpointError(f"config.json is malformed: {error}") from None


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings: `rope_scaling`, or `rope_parameters` as newer files call it."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_scaling(rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise UnsupportedError(f"rope_type {kind!r}: only 'default' and 'llama3' are known")
    return RopeScaling(
        factor=float(rope["factor"]),
        low_frequency_factor=float(rope["low_freq_factor"]),
        high_frequency_factor=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )
