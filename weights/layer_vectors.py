"""A layer's biases and head gains as the chip holds them: Q15.16, and int16 with an exponent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from kernels.reference import FRACTION
from weights.checkpoint import BIAS, HEAD_GAINS, layer_vectors, tensor_shape

Float32 = NDArray[np.float32]
GainCodes = tuple[NDArray[np.int16], int]  # a gain, and the exponent that its values share
GAIN_EXPONENT = (-16, 64)  # a gain's codes have up to 15 bits, so gains from 2**-64 to 2**31
EXPONENTS = "gain_exponents"  # int8[2], of q's gain and of k's


def gain_codes(gain: Float32) -> GainCodes:
    """A gain as int16 and a shared exponent: gain ~ code * 2**-exponent."""
    largest = float(np.abs(gain).max())
    exponent = min(15 - int(np.frexp(largest)[1]), GAIN_EXPONENT[1]) if largest > 0 else 0
    codes = np.clip(np.rint(np.ldexp(gain.astype(np.float64), exponent)), -32767, 32767)
    return codes.astype(np.int16), exponent


def stored(vectors: dict[str, Float32]) -> dict[str, NDArray]:
    """Folded biases and gains by name -> what the image holds of them."""
    arrays: dict[str, NDArray] = {}
    exponents = []
    for name, values in vectors.items():
        if name in HEAD_GAINS:
            arrays[name], exponent = gain_codes(values)
            exponents.append(exponent)
        else:
            fixed = np.rint(np.ldexp(values.astype(np.float64), FRACTION))
            arrays[name] = np.clip(fixed, -(2**31), 2**31 - 1).astype(np.int32)
    if exponents:
        arrays[EXPONENTS] = np.array(exponents, np.int8)
    return arrays


def real(arrays: dict[str, NDArray]) -> dict[str, Float32]:
    """The real numbers that stored vectors stand for."""
    vectors = {}
    for name, array in arrays.items():
        if name in HEAD_GAINS:
            exponent = int(arrays[EXPONENTS][tuple(HEAD_GAINS).index(name)])
            vectors[name] = np.ldexp(array.astype(np.float32), -exponent)
        elif name.endswith(BIAS):
            vectors[name] = np.ldexp(array.astype(np.float64), -FRACTION).astype(np.float32)
    return vectors


def layout(config: LlamaConfig) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Type and shape of every vector of a layer, by name."""
    found: dict[str, tuple[type, tuple[int, ...]]] = {}
    for name in layer_vectors(config):
        kind = np.int16 if name in HEAD_GAINS else np.int32
        found[name] = kind, tensor_shape(config, name)
    if config.head_norm:
        found[EXPONENTS] = np.int8, (2,)
    return found


def of_layer(vectors: dict[str, NDArray], layer: int) -> dict[str, NDArray]:
    """Of an image's vectors, "layers.3.q_bias", those of one layer by their short names."""
    stem = f"layers.{layer}."
    return {name.removeprefix(stem): a for name, a in vectors.items() if name.startswith(stem)}
