"""The rotary tables of the chip: cos and sin by position, Q1.14."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from kernels.reference import Q1_14


def frequencies(config: LlamaConfig) -> list[float]:
    """Radians a position of each pair of dimensions, Llama 3.1's scaling included.

    theta**(-2 i / head_dim) is computed in decimal: `pow` differs between hosts.
    """
    with localcontext(prec=40):
        theta = Decimal(repr(float(config.rope_theta)))
        even = range(0, config.head_dim, 2)
        base = [float(theta ** (-Decimal(i) / config.head_dim)) for i in even]
    scaling = config.rope_scaling
    if scaling is None:
        return base
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


def rope_tables(config: LlamaConfig, context: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """(cosine, sine), int16[context, head_dim / 2] each, Q1.14."""
    one = 1 << Q1_14
    table = np.empty((2, context, config.head_dim // 2), np.int16)
    for i, frequency in enumerate(frequencies(config)):
        for position in range(context):
            angle = position * frequency
            table[0, position, i] = round(math.cos(angle) * one)
            table[1, position, i] = round(math.sin(angle) * one)
    return table[0], table[1]
