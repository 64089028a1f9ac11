"""Vector files: arrays of integers as fixed-width hexadecimal text, and an index beside them.

A `.hex` file has comment lines that begin with `//`, then words in two's complement, the most
significant digit first, all of one width: a Verilog `$readmemh` loads it as it is. The index,
`vector.json`, says role, shape and width of each. docs/vectors.md is the format's contract.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import UsageError
from emulator.fields import Fields, read_object
from emulator.verification.golden import array_digest

FORMAT = "hardwired-vectors"
FORMAT_VERSION = 1
INDEX = "vector.json"
ROLES = ("in", "rom", "memory", "out", "memory_out")
TYPES = {name: np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "int64")}
MAX_INDEX_BYTES = 1 << 20
MAX_DIMENSIONS = 4


@dataclass(slots=True)
class Vector:
    """One block's stimulus and response: arrays by role and name, and plain numbers."""

    block: str
    layer: int | None
    parameters: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, dict[str, NDArray[Any]]] = field(
        default_factory=lambda: {role: {} for role in ROLES}
    )


def write_vector(folder: Path | str, vector: Vector) -> None:
    """Write the files of one block to a new or empty folder. Raises UsageError when it cannot."""
    folder = Path(folder)
    signals = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for role, arrays in vector.arrays.items():
            for name, array in arrays.items():
                file = f"{role}.{name}.hex"
                (folder / file).write_text(_text(role, name, array), "ascii")
                signals.append(
                    {
                        "role": role,
                        "name": name,
                        "type": array.dtype.name,
                        "bits": 8 * array.dtype.itemsize,
                        "shape": list(array.shape),
                        "file": file,
                        "sha256": array_digest(array),
                    }
                )
        index = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "block": vector.block,
            "layer": vector.layer,
            "parameters": vector.parameters,
            "signals": signals,
        }
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", "ascii")
    except OSError as error:
        where = error.filename or folder
        raise UsageError(f"{where}: cannot be written: {error.strerror}") from None


def read_vector(folder: Path | str) -> Vector:
    """Read what `write_vector` wrote. Raises UsageError in one line for anything else."""
    folder = Path(folder)
    path = folder / INDEX
    index = read_object(path, MAX_INDEX_BYTES, UsageError)
    if index.values.get("format") != FORMAT:
        raise UsageError(f"{path}: no index of vectors")
    index.whole("format_version", FORMAT_VERSION, FORMAT_VERSION)
    numbers = index.object("parameters")
    layer = index.whole("layer", 0, 1 << 16) if index.has("layer") else None
    parameters = {key: numbers.whole(key, -(1 << 62), 1 << 62) for key in numbers.values}
    vector = Vector(index.text("block"), layer, parameters)
    for signal in index.objects("signals"):
        role, name = signal.text("role"), signal.text("name")
        if role not in ROLES:
            signal.refuse("role", f"one of {', '.join(ROLES)}")
        vector.arrays[role][name] = _read_array(folder, signal)
    return vector


def _text(role: str, name: str, array: NDArray[Any]) -> str:
    """One line of words a row of the last axis."""
    size = array.dtype.itemsize
    rows = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
    rows = rows.reshape(-1, array.shape[-1])
    lines = [row.tobytes().hex(" ", size) for row in rows]
    shape = ", ".join(map(str, array.shape))
    head = f"// {role} {name}: {array.dtype.name}[{shape}], last axis fastest"
    return "\n".join([head, *lines]) + "\n"


def _read_array(folder: Path, signal: Fields) -> NDArray[Any]:
    kind = TYPES.get(signal.text("type"))
    if kind is None:
        signal.refuse("type", f"one of {', '.join(TYPES)}")
    shape = signal.wholes("shape", 1, 1 << 32)
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        signal.refuse("shape", f"1 to {MAX_DIMENSIONS} sizes")
    path = folder / signal.file_name("file")
    digits = 2 * kind.itemsize
    try:
        if path.stat().st_size < math.prod(shape) * digits:  # before anything is taken
            raise UsageError(f"{path}: too short for {list(shape)} words of {digits} digits")
        lines = path.read_text("ascii").splitlines()
        words = " ".join(line for line in lines if not line.startswith("//")).split()
        if any(len(word) != digits for word in words):
            raise UsageError(f"{path}: words must have {digits} digits")
        data = bytes.fromhex("".join(words))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: no hexadecimal words: {error}") from None
    if len(words) != math.prod(shape):
        raise UsageError(f"{path}: {len(words)} words, not {list(shape)}")
    array = np.frombuffer(data, kind.newbyteorder(">")).astype(kind).reshape(shape)
    if array_digest(array) != signal.text("sha256"):
        raise UsageError(f"{path}: its content has changed (SHA-256 differs)")
    return array
