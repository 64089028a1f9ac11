"""The signals between blocks: each one's format and shape, declared once.

T = tokens of this pass. An int32 signal is Q15.16; an int8 vector travels with its scale,
int32[..., 2] = (16-bit mantissa, exponent). docs/datapath.md is the contract.
"""

# ruff: noqa: RUF009  (`_wire` makes a dataclass field)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.config import MAX_K

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]


class Format(Enum):
    """How a signal's values are to be read."""

    TOKEN_ID = "token id"  # int64
    Q15_16 = "Q15.16"  # int32
    INT8 = "int8"  # value * scale; -127 to 127
    SCALE = "scale"  # int32[..., 2]: mantissa of 16 bits, exponent
    SUM = "sum"  # int64: a row's accumulator, below 2**44 in size

    @property
    def dtype(self) -> np.dtype[Any]:
        if self in (Format.TOKEN_ID, Format.SUM):
            return np.dtype(np.int64)
        return np.dtype(np.int8 if self is Format.INT8 else np.int32)


@dataclass(frozen=True, slots=True)
class Signal:
    """What a wire carries; a size is a number, one of `LlamaConfig`, "T", "columns" or "rows"."""

    format: Format
    axes: tuple[str | int, ...]

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The axes as numbers. Raises KeyError for a size that `sizes` lacks."""
        return tuple(n if isinstance(n, int) else sizes[n] for n in self.axes)


def _wire(kind: Format, *axes: str | int) -> Any:
    """A field of `Wires` that is empty until a block writes it."""
    return field(
        default_factory=lambda: np.empty(0, kind.dtype), metadata={"signal": Signal(kind, axes)}
    )


def _unset() -> Int64:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class Wires:
    """Every named signal of one pass through the chip."""

    tokens: Int64 = field(metadata={"signal": Signal(Format.TOKEN_ID, ("T",))})
    start: int  # position of the first token
    all_logits: bool  # the head runs for every token, not only for the last
    # Where several sequences share a pass (`emulator.board`), these are given; else they follow.
    positions: Int64 = field(default_factory=_unset)  # [T], of each token in its sequence
    rows: Int64 = field(default_factory=_unset)  # [T], where the KV SRAM holds each token
    wanted: Int64 = field(default_factory=_unset)  # tokens that the head runs for
    residual: Int32 = _wire(Format.Q15_16, "T", "hidden")  # saturating
    x: Int8 = _wire(Format.INT8, "T", "columns")  # what a weight fabric's matrices multiply
    x_scale: Int32 = _wire(Format.SCALE, "T", 2)
    sums: Int64 = _wire(Format.SUM, "T", "rows")  # of a fabric's matrices, where an adapter adds
    q: Int32 = _wire(Format.Q15_16, "T", "heads", "head_dim")
    k: Int32 = _wire(Format.Q15_16, "T", "kv_heads", "head_dim")
    v: Int32 = _wire(Format.Q15_16, "T", "kv_heads", "head_dim")
    q8: Int8 = _wire(Format.INT8, "T", "heads", "head_dim")  # after R3
    q8_scale: Int32 = _wire(Format.SCALE, "T", "heads", 2)  # holds log2(e) / sqrt(head_dim)
    gate: Int32 = _wire(Format.Q15_16, "T", "ffn")
    up: Int32 = _wire(Format.Q15_16, "T", "ffn")
    delta: Int32 = _wire(Format.Q15_16, "T", "hidden")  # what a sublayer adds
    logits: Int32 = _wire(Format.Q15_16, "T", "vocabulary")  # T is 1 unless `all_logits`
    top: Int64 = _wire(Format.TOKEN_ID, MAX_K)  # of the largest logits, largest first

    def __post_init__(self) -> None:
        if self.positions.size == 0:
            count = self.tokens.size
            self.positions = self.rows = np.arange(self.start, self.start + count)
            self.wanted = np.arange(0 if self.all_logits else count - 1, count)

    @classmethod
    def carrying(cls, tokens: int, start: int, signals: Arrays) -> Wires:
        """Wires of `tokens` tokens that carry these signals alone; all logits are wanted.

        Raises TypeError for a signal that does not exist.
        """
        ids = signals.get("tokens", np.zeros(tokens, np.int64))
        others = {name: array for name, array in signals.items() if name != "tokens"}
        return cls(ids.astype(np.int64), start, True, **others)


SIGNALS: dict[str, Signal] = {
    wire.name: wire.metadata["signal"] for wire in fields(Wires) if "signal" in wire.metadata
}
