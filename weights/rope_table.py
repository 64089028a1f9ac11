"""The rotary tables of the chip: cos and sin by position, Q1.14."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from emulator.config import Linear, LlamaConfig, RopeScaling, Yarn
from kernels.reference import Q1_14


def frequencies(config: LlamaConfig) -> list[float]:
    """Radians a position of each pair of dimensions that turns, scaling included.

    theta**(-2 i / n) is computed in decimal: `pow` differs between hosts.
    """
    turning = config.turning
    with localcontext(prec=40):
        theta = Decimal(repr(float(config.rope_theta)))
        even = range(0, turning, 2)
        base = [float(theta ** (-Decimal(i) / turning)) for i in even]
    scaling = config.rope_scaling
    if isinstance(scaling, Linear):
        return [frequency / scaling.factor for frequency in base]
    if isinstance(scaling, Yarn):
        return _yarn(base, scaling, config.rope_theta)
    return base if scaling is None else _llama3(base, scaling)


def _llama3(base: list[float], scaling: RopeScaling) -> list[float]:
    low_wavelength = scaling.original_context / scaling.low_frequency_factor
    high_wavelength = scaling.original_context / scaling.high_frequency_factor
    stretched = []
    for frequency in base:
        wavelength = 2 * math.pi / frequency
        if wavelength < high_wavelength:  # short waves stay
            stretched.append(frequency)
        elif wavelength > low_wavelength:  # long waves are stretched in full
            stretched.append(frequency / scaling.factor)
        else:
            span = scaling.high_frequency_factor - scaling.low_frequency_factor
            turns = scaling.original_context / wavelength
            smooth = (turns - scaling.low_frequency_factor) / span
            stretched.append((1 - smooth) * frequency / scaling.factor + smooth * frequency)
    return stretched


def _yarn(base: list[float], scaling: Yarn, theta: float) -> list[float]:
    """A ramp over the dimensions: kept before `low`, stretched in full from `high` on."""
    turning = 2 * len(base)

    def dimension(turns: float) -> float:
        """The pair of dimensions that turns so often within the original context."""
        waves = scaling.original_context / (turns * 2 * math.pi)
        return turning * math.log(waves) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, turning - 1)
    span = high - low or 0.001  # no ramp: a step
    stretched = []
    for i, frequency in enumerate(base):
        ramp = min(max((i - low) / span, 0), 1)
        stretched.append(frequency / scaling.factor * ramp + frequency * (1 - ramp))
    return stretched


def length(config: LlamaConfig) -> float:
    """What a point's distance from the origin is multiplied by as it turns; 1 but for YaRN."""
    return config.rope_scaling.attention_factor if isinstance(config.rope_scaling, Yarn) else 1.0


def rope_tables(config: LlamaConfig, context: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """(cosine, sine), int16[context, turning / 2] each, Q1.14."""
    one = (1 << Q1_14) * length(config)
    table = np.empty((2, context, config.turning // 2), np.int16)
    for i, frequency in enumerate(frequencies(config)):
        for position in range(context):
            angle = position * frequency
            table[0, position, i] = round(math.cos(angle) * one)
            table[1, position, i] = round(math.sin(angle) * one)
    return table[0], table[1]
