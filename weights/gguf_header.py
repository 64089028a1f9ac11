"""Check the header of a GGUF file before the `gguf` package reads it.

The package makes an object for each element that an array claims to have, and stops at the end of
the file only if that raises. So every count is checked here against the bytes present.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

from emulator.errors import CheckpointError
from emulator.fields import shown

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ARRAY, STRING = 9, 8
BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # by value type
ALIGNMENT = "general.alignment"
MAX_KEYS, MAX_TENSORS = 1 << 16, 1 << 16
MAX_ELEMENTS = 1 << 21  # of an array; the longest known, of merges, has some 300,000
MAX_NAME = 1 << 16  # bytes of a key or a tensor's name
MAX_DIMENSIONS = 4


class GgufHeader:
    """A cursor in the header. `check` raises CheckpointError for an impossible value."""

    def __init__(self, path: Path, data: bytes | memoryview) -> None:
        self._path, self._data, self._at = path, data, 0

    def check(self) -> None:
        """Walk through metadata and tensor entries, up to the first tensor's data."""
        if bytes(self._data[:4]) != MAGIC:
            raise CheckpointError(f"{self._path}: not a GGUF file")
        self._at = 4
        version = self._number("<I", "the version")
        if version not in VERSIONS:
            raise CheckpointError(
                f"{self._path}: GGUF version {version}, this program reads 2 and 3, little-endian"
            )
        tensors = self._number("<Q", "the number of tensors")
        keys = self._number("<Q", "the number of keys")
        self._most("tensors", tensors, MAX_TENSORS)
        self._most("keys", keys, MAX_KEYS)
        alignment = self._metadata(keys)
        if not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            self._damaged(f"{ALIGNMENT} is {alignment}, no power of two from 8 to 65536")
        spans = self._tensors(tensors)
        self._check_spans(spans, -(-self._at // alignment) * alignment)

    def _metadata(self, keys: int) -> int:
        """Walk through all keys; return the alignment of tensors."""
        seen: set[bytes] = set()
        alignment = 32
        for _ in range(keys):
            key = self._text("a key", MAX_NAME)
            if key in seen:
                self._damaged(f"key {_shown(key)} is there twice")
            seen.add(key)
            kind = self._number("<I", "a value's type")
            if key == ALIGNMENT.encode():
                if kind != 4:
                    self._damaged(f"{ALIGNMENT} is no 32-bit number")
                alignment = self._number("<I", ALIGNMENT)
            else:
                self._value(key, kind)
        return alignment

    def _value(self, key: bytes, kind: int) -> None:
        count = 1
        if kind == ARRAY:
            kind = self._number("<I", "an element's type")
            count = self._number("<Q", "an array's length")
            self._most(f"elements of {_shown(key)}", count, MAX_ELEMENTS)
        if kind == STRING:
            for _ in range(count):
                self._text(f"a text of {_shown(key)}", len(self._data))
        elif kind in BYTES:
            self._skip(count * BYTES[kind], f"the value of {_shown(key)}")
        else:
            self._damaged(f"{_shown(key)} has a value of type {kind}")

    def _tensors(self, count: int) -> list[tuple[int, int, str]]:
        """(offset, bytes, name) of each tensor; offsets count from the first tensor's data."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        known = {int(kind): GGML_QUANT_SIZES[kind] for kind in GGMLQuantizationType}
        spans = []
        seen: set[bytes] = set()
        for _ in range(count):
            raw = self._text("a tensor's name", MAX_NAME)
            name = _shown(raw)
            if raw in seen:
                self._damaged(f"tensor {name} is there twice")
            seen.add(raw)
            dimensions = self._number("<I", f"the dimensions of {name}")
            if not 1 <= dimensions <= MAX_DIMENSIONS:
                self._damaged(f"tensor {name} has {dimensions} dimensions")
            shape = [self._number("<Q", f"the shape of {name}") for _ in range(dimensions)]
            kind, offset = self._number("<I", "a type"), self._number("<Q", "an offset")
            if kind not in known:
                self._damaged(f"tensor {name} has unknown type {kind}")
            block, size = known[kind]
            if math.prod(shape) == 0 or shape[0] % block:
                self._damaged(f"tensor {name} has an impossible shape")
            spans.append((offset, math.prod(shape) // block * size, name))
        return spans

    def _check_spans(self, spans: list[tuple[int, int, str]], start: int) -> None:
        end, before = 0, ""
        for offset, size, name in sorted(spans):
            if start + offset + size > len(self._data):
                self._damaged(f"tensor {name} ends beyond the file")
            if offset < end:
                self._damaged(f"tensors {before} and {name} overlap")
            end, before = offset + size, name

    def _number(self, form: str, what: str) -> int:
        at = self._at
        self._skip(struct.calcsize(form), what)
        return int(struct.unpack_from(form, self._data, at)[0])

    def _text(self, what: str, most: int) -> bytes:
        length = self._number("<Q", what)
        if length > most:
            self._damaged(f"{what} claims {length} bytes")
        self._skip(length, what)
        return bytes(self._data[self._at - length : self._at])

    def _skip(self, count: int, what: str) -> None:
        if count > len(self._data) - self._at:
            self._damaged(f"the file ends in {what}")
        self._at += count

    def _most(self, what: str, count: int, most: int) -> None:
        if count > min(most, len(self._data)):  # each takes at least a byte
            self._damaged(f"{count} {what} claimed")

    def _damaged(self, reason: str) -> None:
        raise CheckpointError(f"{self._path}: truncated or damaged GGUF file: {reason}")


def check_gguf(path: Path) -> None:
    """Check the header of a file. Raises CheckpointError."""
    import mmap

    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CheckpointError(f"{path}: not a GGUF file")
            with (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
                memoryview(mapped) as data,
            ):
                GgufHeader(path, data).check()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def _shown(name: bytes) -> str:
    return shown(name.decode("utf-8", "replace"))
