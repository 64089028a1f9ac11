"""The shape of a dense Llama, read from a checkpoint and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from emulator.errors import CheckpointError, UnsupportedError
from emulator.fields import Fields, shown
from emulator.fixedpoint import power_of_two_block

MAX_K = 8  # ids that the chip's top-k search hands out: HC1's API takes topk from 1 to 8
SIZES = {  # least and largest value
    "hidden": (1, 65536),
    "layers": (1, 1024),
    "heads": (1, 1024),
    "kv_heads": (1, 1024),
    "head_dim": (1, 1024),
    "ffn": (1, 1 << 20),
    "vocabulary": (MAX_K, 1 << 24),
    "context": (1, 1 << 24),
}
EPSILON = (1e-12, 1.0)  # hidden * epsilon * 2**32 is added to a sum of squares below 2**46
THETA = (1.0, 1e15)
MAX_BLOCK = 1 << 15  # a Hadamard transform of 16-bit mantissas then fits int32


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How Llama 3.1 stretches the rotary frequencies (`rope_type` "llama3")."""

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
        """Number of weights; a shared table counts once."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.ffn + 2 * self.hidden
        tables = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return self.layers * layer + tables + self.hidden

    def to_json(self) -> dict[str, Any]:
        """Plain values for `rom.json`; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LlamaConfig:
        """Inverse of `to_json`. Raises CheckpointError or UnsupportedError, naming the key."""
        source = Fields("model", data, CheckpointError)
        source.exactly({f.name for f in fields(cls)})
        vocabulary = source.whole("vocabulary", *SIZES["vocabulary"])
        scaling = None
        if source.has("rope_scaling"):
            names = ("low_frequency_factor", "high_frequency_factor", "original_context")
            scaling = _scaling(source.object("rope_scaling"), *names)
        return cls(
            **{name: source.whole(name, *limits) for name, limits in SIZES.items()},
            rms_epsilon=source.real("rms_epsilon", *EPSILON),
            rope_theta=source.real("rope_theta", *THETA),
            rope_scaling=scaling,
            tied=source.truth("tied"),
            bos_id=source.whole("bos_id", 0, vocabulary - 1) if source.has("bos_id") else None,
            end_ids=source.wholes("end_ids", 0, vocabulary - 1),
        ).checked()

    def checked(self) -> LlamaConfig:
        """Return the same object after checking the rules between its values.

        Raises CheckpointError or UnsupportedError for the first broken rule.
        """
        if self.heads % self.kv_heads:
            raise CheckpointError(f"{self.heads} heads cannot share {self.kv_heads} KV heads")
        for name in ("hidden", "head_dim", "ffn"):
            value = getattr(self, name)
            if value < 32 or value % 32:
                raise UnsupportedError(f"{name} must be a multiple of 32: {value}")
            if power_of_two_block(value) > MAX_BLOCK:
                raise UnsupportedError(
                    f"{name} = {value} needs a Hadamard transform of {power_of_two_block(value)}"
                    f" values; the chip's hold {MAX_BLOCK}"
                )
        if self.head_dim & (self.head_dim - 1):
            raise UnsupportedError(f"head_dim must be a power of two: {self.head_dim}")
        return self


def size(source: Fields, name: str, key: str, default: int | None = None) -> int:
    """Read one of SIZES under the file's `key`; the default if the file lacks it."""
    if default is not None and not source.has(key):
        return default
    return source.whole(key, *SIZES[name])


def from_hub_config(config: Mapping[str, Any], where: str = "config.json") -> LlamaConfig:
    """A Hugging Face `config.json` -> LlamaConfig; `where` names the file in messages.

    Raises UnsupportedError, naming the field, for anything but a dense Llama, and
    CheckpointError for a missing or malformed field.
    """
    kind = config.get("model_type")
    if kind != "llama":
        raise UnsupportedError(f"{where}: model_type {shown(kind)}: only 'llama' can be compiled")
    refused = {
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "hidden_act": ("silu", None),
        "sliding_window": (None,),
        "num_local_experts": (None,),  # as Mixtral's
        "num_experts": (None,),
        "n_routed_experts": (None,),
        "partial_rotary_factor": (None, 1, 1.0),
        "qk_norm": (False, None),
        "use_qk_norm": (False, None),
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
        "quantization_config": (None,),  # weights that are not plain floats
    }
    for name, allowed in refused.items():
        if config.get(name) not in allowed:
            value = shown(config[name])
            raise UnsupportedError(f"{where}: {name} = {value}: this chip has no such block")
    source = Fields(where, config, CheckpointError)
    hidden, heads = (
        size(source, "hidden", "hidden_size"),
        size(source, "heads", "num_attention_heads"),
    )
    vocabulary = size(source, "vocabulary", "vocab_size")
    bos, eos = "bos_token_id", "eos_token_id"
    # Rotary settings are `rope_scaling`, or `rope_parameters` as newer files call them.
    rope = next(
        (source.object(k) for k in ("rope_parameters", "rope_scaling") if source.has(k)), None
    )
    theta = next((f for f in (rope, source) if f is not None and f.has("rope_theta")), None)
    return LlamaConfig(
        hidden=hidden,
        layers=size(source, "layers", "num_hidden_layers"),
        heads=heads,
        kv_heads=size(source, "kv_heads", "num_key_value_heads", heads),
        head_dim=size(source, "head_dim", "head_dim", hidden // heads),
        ffn=size(source, "ffn", "intermediate_size"),
        vocabulary=vocabulary,
        context=size(source, "context", "max_position_embeddings"),
        rms_epsilon=source.real("rms_norm_eps", *EPSILON),
        rope_theta=theta.real("rope_theta", *THETA) if theta is not None else 10000.0,
        rope_scaling=_hub_scaling(rope) if rope is not None else None,
        tied=source.truth("tie_word_embeddings") if source.has("tie_word_embeddings") else False,
        bos_id=source.whole(bos, 0, vocabulary - 1) if source.has(bos) else None,
        end_ids=source.wholes(eos, 0, vocabulary - 1) if source.has(eos) else (),
    ).checked()


def _hub_scaling(rope: Fields) -> RopeScaling | None:
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise UnsupportedError(
            f"{rope.where}: rope_type {shown(kind)}: only 'default' and 'llama3' are known"
        )
    return _scaling(rope, "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def _scaling(rope: Fields, low: str, high: str, original_context: str) -> RopeScaling:
    """Read the four values; the arguments are the keys of three."""
    scaling = RopeScaling(
        factor=rope.real("factor", 1, 1e6),
        low_frequency_factor=rope.real(low, 1e-3, 1e6),
        high_frequency_factor=rope.real(high, 1e-3, 1e6),
        original_context=rope.whole(original_context, *SIZES["context"]),
    )
    if scaling.high_frequency_factor <= scaling.low_frequency_factor:
        rope.refuse(high, f"above {low}")
    return scaling
