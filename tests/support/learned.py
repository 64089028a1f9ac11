"""A learned file for an image, by chance: half of the codes stay, scales change a little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kernels.rom.pack import unpack_codes, untile_rows
from weights.learned_file import Change, Learned, LearnedFile, load
from weights.rom import RomImage


def changes(image: RomImage) -> dict[str, Change]:
    """Moves within the alphabet, and scales of a learned image."""
    rng, found = np.random.default_rng(3), {}
    for name, m in image.matrices.items():
        codes = unpack_codes(m.codes, m.rows, m.bits).astype(int)
        moves = rng.choice([-1, 0, 0, 1], codes.shape)
        moves = np.clip(codes + moves, 0, (1 << m.bits) - 1) - codes
        groups = untile_rows(m.group_scale, m.rows)
        scale = np.where(groups == 0, 0, np.clip(groups - np.sign(groups), -127, 127))
        mantissa = np.maximum(m.row_mantissa, 1 << 15) if m.row_mantissa.all() else m.row_mantissa
        found[name] = Change(
            moves.astype(np.int8), scale.astype(np.int8), mantissa, m.row_exponent.copy()
        )
    return found


def write_learned_file(image: RomImage, path: Path, **about: Any) -> LearnedFile:
    """Write a learned file of an image; `about` replaces what it says of itself."""
    told = {"base": image.digest, "mix": image.manifest["mix"], "context": image.context, **about}
    Learned(told, changes(image)).save(path)
    return load(path)
