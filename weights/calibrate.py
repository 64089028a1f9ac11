"""Second moments of a matrix's inputs, which the quantiser needs, in exact arithmetic.

The inputs are the integers that the chip's own fabric reads (int8 with a scale per token). Sums of
their products stay below 2**53, so a float64 matrix product is exact in whatever order a BLAS
library adds. The same checkpoint and text therefore give the same moments on every host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.rom.pack import PackedMatrix

DEFAULT_TEXT = Path(__file__).parent / "calibration.txt"  # the Jargon File 4.4.7, public domain
INPUT_OF = {"q": "qkv", "k": "qkv", "v": "qkv", "o": "o", "gate": "gate_up", "up": "gate_up"}
INPUT_OF |= {"down": "down", "head": "head"}  # matrix -> the fabric pass whose input it reads

WEIGHT_BITS = 12  # of a token's integer weight: 127**2 * 2**24 * 2**15 tokens stay below 2**53
MAX_TOKENS = 1 << 15  # in one `add`
LOUDNESS = 64.0  # tokens within this factor of the loudest are summed together


@dataclass(slots=True)
class Moments:
    """Sum over tokens of x x', [columns, columns]."""

    columns: int
    value: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.value = np.zeros((self.columns, self.columns))

    def add(self, x: NDArray[np.int8], scale: NDArray[np.int32]) -> None:
        """Tokens int8[T, columns] with scales int32[T, 2] (mantissa, exponent).

        Scales are rounded to 12 bits relative to the loudest token. Much quieter tokens are summed
        separately, so that a massive first token does not drown them.
        """
        if len(x) > MAX_TOKENS:
            raise ValueError(f"{len(x)} tokens at once could leave 2**53; add at most {MAX_TOKENS}")
        loudness = np.ldexp(scale[:, 0].astype(np.float64), -scale[:, 1])
        while (loud := loudness.max(initial=0.0)) > 0:
            chosen = loudness > loud / LOUDNESS
            unit = loud / (1 << WEIGHT_BITS)
            weighted = x[chosen] * np.rint(loudness[chosen, None] / unit)
            sums = weighted.T @ weighted
            sums *= unit**2  # in place: a copy of 14,336 columns would take 1.6 GB
            self.value += sums
            loudness[chosen] = 0


@dataclass(slots=True)
class Signals:
    """The inputs themselves, for a worker that sums them in the same order."""

    columns: int
    windows: list[tuple[NDArray[np.int8], NDArray[np.int32]]] = field(default_factory=list)

    def add(self, x: NDArray[np.int8], scale: NDArray[np.int32]) -> None:
        """Tokens as `Moments.add` takes them."""
        self.windows.append((x.copy(), scale.copy()))

    @property
    def value(self) -> NDArray[np.float64]:
        """What `Moments` would hold, [columns, columns]."""
        moments = Moments(self.columns)
        for x, scale in self.windows:
            moments.add(x, scale)
        return moments.value


Collected = Moments | Signals
Collector = type[Moments] | type[Signals]


class Calibrator(Protocol):
    """Runs calibration text through a chip that is being compiled, one layer at a time."""

    def embed(self, table: PackedMatrix) -> None:
        """Start the residual streams with the text's embeddings."""

    def layer(
        self,
        layer: int,
        matrices: dict[str, PackedMatrix],
        vectors: dict[str, NDArray],
        into: Collector = Moments,
    ) -> dict[str, Collected]:
        """Run the next layer, number `layer`, with these masks and stored vectors.

        Returns each fabric pass's input (INPUT_OF), collected.
        """

    def head(
        self,
        gain: NDArray[np.int16] | None,
        exponent: int,
        mixer: NDArray[np.int16] | None,
        into: Collector = Moments,
    ) -> Collected:
        """Collect the head's input; gain and mixer as in a tied model's image."""

    def provenance(self) -> dict[str, object]:
        """What the moments depend on, for the image's manifest."""
