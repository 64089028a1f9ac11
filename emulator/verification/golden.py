"""Golden results by image: what a run of a fixed prompt gives, and on which image.

An image is known by its digest: the SHA-256 of its `rom.json`, which holds that of all other files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.fields import read_object
from emulator.silicon.spec import load_spec
from emulator.timing.schedule import token_cycles
from weights.rom import RomImage

GOLDEN = Path(__file__).with_name("golden.json")
MAX_BYTES = 1 << 20
PROMPT_TOKENS = 24
CONTEXTS = (1, 1024)  # positions at which a token's cycles are compared


def golden_prompt(vocabulary: int, count: int = PROMPT_TOKENS) -> list[int]:
    """Token ids from all over the vocabulary, without a tokenizer: 7919 is a prime."""
    return [(11 + 7919 * i) % vocabulary for i in range(count)]


def image_name(image: RomImage) -> str:
    """What stays when a checkpoint is compiled anew."""
    return f"{image.manifest['checkpoint']['name']}, mix {image.manifest['mix']}"


def array_digest(array: NDArray[Any]) -> str:
    """Hex SHA-256 of an array's values, little-endian, last axis fastest."""
    kind = array.dtype.newbyteorder("<")
    return hashlib.sha256(np.ascontiguousarray(array, kind).tobytes()).hexdigest()


def logits_digest(chip: Chip) -> str:
    """Hash of int32[T, vocabulary], the logits of every token of the golden prompt in one pass."""
    chip.rewind(0)
    count = min(PROMPT_TOKENS, chip.context)
    tokens = golden_prompt(chip.image.config.vocabulary, count)
    return array_digest(chip.forward(tokens, all_logits=True).logits)


def cycles(chip: Chip) -> dict[str, int]:
    """Cycles of one token on the preset chip, at each of CONTEXTS that the image has."""
    spec = load_spec()
    contexts = [n for n in CONTEXTS if n <= chip.context]
    return {
        str(n): sum(token_cycles(chip.stages, spec, n, with_head=True).values()) for n in contexts
    }


def recorded(image: RomImage, path: Path = GOLDEN) -> dict[str, Any] | None:
    """The golden entry of an image, or None. Raises UsageError for a file that is none."""
    entries = read_object(path, MAX_BYTES, UsageError)
    if not entries.has(image.digest):
        return None
    entry = entries.object(image.digest)
    entry.text("logits")
    entry.object("cycles")
    return dict(entry.values)


def recorded_twin(image: RomImage, path: Path = GOLDEN) -> str | None:
    """Digest of an entry of the same name, which another `rom.json` has. Raises UsageError."""
    entries, name = read_object(path, MAX_BYTES, UsageError).values, image_name(image)
    same = (k for k, v in entries.items() if isinstance(v, dict) and v.get("image") == name)
    return next(same, None)


def record(image: RomImage, chip: Chip, path: Path = GOLDEN) -> dict[str, Any]:
    """Enter what this machine computes; an older entry of the same checkpoint and mix goes.

    Raises UsageError when the file cannot be written.
    """
    name = image_name(image)
    entry = {"image": name, "logits": logits_digest(chip), "cycles": cycles(chip)}
    old = read_object(path, MAX_BYTES, UsageError).values if path.exists() else {}
    kept = {k: v for k, v in old.items() if not isinstance(v, dict) or v.get("image") != name}
    text = json.dumps({**kept, image.digest: entry}, indent=1, sort_keys=True)
    try:
        path.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    return entry
