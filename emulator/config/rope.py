"""How a checkpoint stretches its rotary frequencies, as Hugging Face and `rom.json` write it.

`weights.rope_table` computes the frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from emulator.config.limits import FACTOR, LENGTH, SIZES, STRETCH
from emulator.errors import UnsupportedError
from emulator.fields import Fields, shown


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's (`rope_type` "llama3"): long waves stretched, short ones kept."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True, slots=True)
class Linear:
    """Every frequency divided by one factor."""

    kind: ClassVar[str] = "linear"
    factor: float


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN (arXiv 2309.00071): a ramp between kept and stretched waves, and longer q and k."""

    kind: ClassVar[str] = "yarn"
    factor: float
    original_context: int
    beta_fast: float  # turns within the original context above which a wave is kept
    beta_slow: float  # and below which it is stretched in full
    attention_factor: float  # that cosines and sines are multiplied by
    truncate: bool  # the ramp's ends are whole dimensions


Scaling = RopeScaling | Linear | Yarn

REASONS = {
    "dynamic": "the angles grow with the text, and the keys in the KV SRAM are turned already",
    "longrope": "one of two sets of angles, by the text's length; the keys in the KV SRAM are "
    "turned already",
}
REASONS["su"] = REASONS["longrope"]  # its older name
COMMON = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
LLAMA3 = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
KEYS = {
    "default": frozenset[str](),
    "llama3": frozenset({"factor", *LLAMA3}),
    "linear": frozenset({"factor"}),
    "yarn": frozenset(
        {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow"}
        | {"attention_factor", "mscale", "mscale_all_dim", "truncate"}
    ),
}


def scaling_to_json(scaling: Scaling | None) -> dict[str, Any] | None:
    """Plain values; Llama 3.1's have no `kind`, for it was the first."""
    if scaling is None or isinstance(scaling, RopeScaling):
        return None if scaling is None else asdict(scaling)
    return {"kind": scaling.kind, **asdict(scaling)}


def scaling_from_json(source: Fields) -> Scaling:
    """Inverse of `scaling_to_json`. Raises the source's error, naming the key."""
    kind = source.values.get("kind")
    if kind == Linear.kind:
        source.exactly({"kind", "factor"})
        return Linear(source.real("factor", *STRETCH))
    if kind == Yarn.kind:
        source.exactly({"kind", *Yarn.__slots__})
        return Yarn(
            factor=source.real("factor", *STRETCH),
            original_context=source.whole("original_context", *SIZES["context"]),
            beta_fast=source.real("beta_fast", *FACTOR),
            beta_slow=source.real("beta_slow", *FACTOR),
            attention_factor=source.real("attention_factor", *LENGTH),
            truncate=source.truth("truncate"),
        )
    names = ("low_frequency_factor", "high_frequency_factor", "original_context")
    return _llama3(source, *names)


def scaling_from_hub(rope: Fields, context: int, original: int | None) -> Scaling | None:
    """The scaling of a `rope_scaling` or `rope_parameters` object, None for plain angles.

    `context` is the model's; `original` the checkpoint's own `original_max_position_embeddings`,
    which transformers reads before the object's. Raises UnsupportedError for a kind or key that
    is not known, CheckpointError for a malformed value.
    """
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if not isinstance(kind, str) or kind not in KEYS:
        why = REASONS.get(kind) if isinstance(kind, str) else None
        known = why or f"only {', '.join(KEYS)} are known"
        raise UnsupportedError(f"{rope.where}: rope_type {shown(kind)}: {known}")
    for key in sorted(set(rope.values) - COMMON - KEYS[kind]):
        if rope.has(key):
            value = shown(rope.values[key])
            raise UnsupportedError(f"{rope.where}: {key} = {value}: not known of rope_type {kind}")
    if kind == "default":
        return None
    if kind == "linear":
        return Linear(rope.real("factor", *STRETCH))
    if kind == "llama3":
        values = dict(rope.values)
        if original is not None:
            values[LLAMA3[2]] = original
        elif not rope.has(LLAMA3[2]):
            values[LLAMA3[2]] = context
        return _llama3(Fields(rope.where, values, rope.error), *LLAMA3)
    return _yarn(rope, context, original)


def _llama3(rope: Fields, low: str, high: str, original_context: str) -> RopeScaling:
    """Read the four values; the arguments are the keys of three."""
    scaling = RopeScaling(
        factor=rope.real("factor", *STRETCH),
        low_frequency_factor=rope.real(low, *FACTOR),
        high_frequency_factor=rope.real(high, *FACTOR),
        original_context=rope.whole(original_context, *SIZES["context"]),
    )
    if scaling.high_frequency_factor <= scaling.low_frequency_factor:
        rope.refuse(high, f"above {low}")
    return scaling


def _yarn(rope: Fields, context: int, original: int | None) -> Yarn:
    key = "original_max_position_embeddings"
    if original is None:
        original = rope.whole(key, *SIZES["context"]) if rope.has(key) else context
    factor = rope.real("factor", *STRETCH) if rope.has("factor") else context / original
    return Yarn(
        factor=factor,
        original_context=original,
        beta_fast=_turns(rope, "beta_fast", 32.0),
        beta_slow=_turns(rope, "beta_slow", 1.0),
        attention_factor=_attention_factor(rope, factor),
        truncate=rope.truth("truncate") if rope.has("truncate") else True,
    )


def _turns(rope: Fields, key: str, default: float) -> float:
    return rope.real(key, *FACTOR) if rope.values.get(key) else default


def _attention_factor(rope: Fields, factor: float) -> float:
    """Its own, or the paper's 0.1 ln(factor) + 1, or a ratio of two such (`mscale`)."""
    if rope.has("attention_factor"):
        return rope.real("attention_factor", *LENGTH)
    scales = [rope.real(key, 0, 100) for key in ("mscale", "mscale_all_dim") if rope.has(key)]
    if len(scales) == 2 and all(scales):
        length = longer(factor, scales[0]) / longer(factor, scales[1])
    else:
        length = longer(factor)
    if not LENGTH[0] <= length <= LENGTH[1]:
        raise UnsupportedError(
            f"{rope.where}: an attention factor of {length:.3g}: the rotary table ends at"
            f" {LENGTH[1]}"
        )
    return length


def longer(factor: float, scale: float = 1.0) -> float:
    """YaRN's length of q and k for a context that is `factor` times as long."""
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rope_object(source: Fields) -> Fields | None:
    """The object of rotary settings: `rope_scaling`, or `rope_parameters` as newer files say.

    transformers takes the older name first. Raises UnsupportedError for settings by kind of layer.
    """
    keys = ("rope_scaling", "rope_parameters")
    key = next((key for key in keys if source.values.get(key)), None)
    if key is None:
        return None
    rope = source.object(key)
    if rope.values and all(isinstance(value, Mapping) for value in rope.values.values()):
        kinds = ", ".join(map(str, rope.values))
        raise UnsupportedError(f"{rope.where}: angles by kind of layer ({kinds}) are not known")
    return rope
