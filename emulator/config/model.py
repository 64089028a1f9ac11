"""The shape of a dense, decoder-only model, checked: a Llama, or a family with other blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from emulator.config.limits import EPSILON, MAX_BLOCK, MAX_K, SIZES, THETA, size
from emulator.config.rope import Scaling, scaling_from_json, scaling_to_json
from emulator.errors import CheckpointError, UnsupportedError
from emulator.fields import Fields
from emulator.fixedpoint import power_of_two_block

__all__ = ["EPSILON", "MAX_K", "PASSES", "SIZES", "THETA", "LlamaConfig", "size"]

PASSES = ("qkv", "o", "gate_up", "down")  # of the weight fabric in a layer; each may have biases
SILU, GELU, GELU_TANH, RELU2 = ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu2")


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
    rope_scaling: Scaling | None
    tied: bool  # embedding and head share one table
    bos_id: int | None
    end_ids: tuple[int, ...]
    # What other families have; the defaults are a Llama's, and `to_json` leaves them out.
    activation: str = SILU  # of the gate, one of ACTIVATIONS
    biases: tuple[str, ...] = ()  # passes whose outputs have a bias, of PASSES in their order
    head_norm: bool = False  # an RMSNorm with a gain for each head of q and k, before RoPE
    rotary_dim: int | None = None  # first values of a head that turn; None: all
    window: int | None = None  # positions that a token attends to, in the layers `windowed`
    windowed: tuple[int, ...] = ()
    unrotated: tuple[int, ...] = ()  # layers without RoPE

    @property
    def parameters(self) -> int:
        """Number of weights; a shared table counts once."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.ffn + 2 * self.hidden
        layer += sum(self.pass_outputs(name) for name in self.biases)
        layer += 2 * self.head_dim if self.head_norm else 0
        tables = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return self.layers * layer + tables + self.hidden

    @property
    def turning(self) -> int:
        """Values of a head that RoPE turns."""
        return self.rotary_dim or self.head_dim

    @property
    def is_plain(self) -> bool:
        """Whether a Llama's blocks are all it needs, alike in every layer."""
        return all(getattr(self, f.name) == f.default for f in _optional())

    def window_of(self, layer: int) -> int | None:
        """Positions that a token attends to in a layer; None for all."""
        return self.window if layer in self.windowed else None

    def pass_outputs(self, name: str) -> int:
        """Outputs of one of PASSES, all its matrices together."""
        return {
            "qkv": (self.heads + 2 * self.kv_heads) * self.head_dim,
            "o": self.hidden,
            "gate_up": 2 * self.ffn,
            "down": self.hidden,
        }[name]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `rom.json`; `from_json` reads them back."""
        own = {**asdict(self), "rope_scaling": scaling_to_json(self.rope_scaling)}
        for item in _optional():
            if own[item.name] == item.default:
                del own[item.name]
        return own

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LlamaConfig:
        """Inverse of `to_json`. Raises CheckpointError or UnsupportedError, naming the key."""
        source = Fields("model", data, CheckpointError)
        optional = {item.name for item in _optional()}
        names = {item.name for item in fields(cls)}
        source.exactly((names - optional) | (optional & set(data)))
        vocabulary = source.whole("vocabulary", *SIZES["vocabulary"])
        rotary = source.object("rope_scaling") if source.has("rope_scaling") else None
        last = source.whole("layers", *SIZES["layers"]) - 1

        def layers(key: str) -> tuple[int, ...]:
            return source.wholes(key, 0, last) if source.has(key) else ()

        return cls(
            **{name: source.whole(name, *limits) for name, limits in SIZES.items()},
            rms_epsilon=source.real("rms_epsilon", *EPSILON),
            rope_theta=source.real("rope_theta", *THETA),
            rope_scaling=scaling_from_json(rotary) if rotary is not None else None,
            tied=source.truth("tied"),
            bos_id=source.whole("bos_id", 0, vocabulary - 1) if source.has("bos_id") else None,
            end_ids=source.wholes("end_ids", 0, vocabulary - 1),
            activation=source.text("activation") if source.has("activation") else SILU,
            biases=tuple(source.texts("biases")) if source.has("biases") else (),
            head_norm=source.truth("head_norm") if source.has("head_norm") else False,
            rotary_dim=source.whole("rotary_dim", 2, 1024) if source.has("rotary_dim") else None,
            window=source.whole("window", 1, SIZES["context"][1]) if source.has("window") else None,
            windowed=layers("windowed"),
            unrotated=layers("unrotated"),
        ).checked()

    def checked(self) -> LlamaConfig:
        """Return the same object after checking the rules between its values.

        Raises CheckpointError or UnsupportedError for the first broken rule.
        """
        if self.heads % self.kv_heads:
            raise CheckpointError(f"{self.heads} heads cannot share {self.kv_heads} KV heads")
        if self.head_dim < 16 or self.head_dim % 16:
            raise UnsupportedError(f"head_dim must be a multiple of 16: {self.head_dim}")
        widths = {"hidden": self.hidden, "heads * head_dim": self.heads * self.head_dim}
        for name, value in (widths | {"ffn": self.ffn}).items():
            if value < 32 or value % 32:
                raise UnsupportedError(f"{name} must be a multiple of 32: {value}")
            if name != "heads * head_dim" and power_of_two_block(value) > MAX_BLOCK:
                raise UnsupportedError(
                    f"{name} = {value} needs a Hadamard transform of {power_of_two_block(value)}"
                    f" values; the chip's hold {MAX_BLOCK}"
                )
        if self.activation not in ACTIVATIONS:
            raise UnsupportedError(f"activation {self.activation!r}: there is no table of it")
        if self.biases != tuple(name for name in PASSES if name in self.biases):
            raise CheckpointError(f"biases must be some of {', '.join(PASSES)}, in that order")
        if self.turning % 2 or self.turning > self.head_dim:
            raise UnsupportedError(
                f"{self.turning} of {self.head_dim} values of a head cannot turn in pairs"
            )
        if (self.window is None) != (not self.windowed):
            raise CheckpointError("a window belongs to layers, and windowed layers have one")
        for layers in (self.windowed, self.unrotated):
            if sorted(set(layers)) != list(layers) or any(i >= self.layers for i in layers):
                raise CheckpointError(f"layers must rise and be below {self.layers}: {layers}")
        return self


def _optional() -> list[Any]:
    """The fields that have a Llama's value unless they are given."""
    return [item for item in fields(LlamaConfig) if item.default is not MISSING]
