"""Read the header of a GGUF file, every count checked against the bytes present.

The `gguf` package makes an object for each element that an array claims to have, 700 bytes and
10 us for one of a byte, and stops at the end of the file only if that raises. Here a value stays in
the file until it is asked for, and then takes what it takes as a list.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.errors import CheckpointError
from emulator.fields import shown

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ARRAY, STRING = 9, 8
SCALARS = {  # NumPy's types by value type; 7 is a truth
    **{0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4"},
    **{7: "u1", 10: "<u8", 11: "<i8", 12: "<f8"},
}
TRUTH = 7
ALIGNMENT = "general.alignment"
MAX_KEYS, MAX_TENSORS = 1 << 16, 1 << 16
MAX_ELEMENTS = 1 << 21  # of all arrays; the most known, of Gemma 3, have 1.3 million
MAX_NAME = 1 << 16  # bytes of a key or a tensor's name
MAX_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies: `shape` begins with the dimension that varies fastest."""

    name: str
    kind: int  # number of a GGML type
    shape: tuple[int, ...]
    begin: int  # in the file
    size: int  # bytes


Span = tuple[int, int, str, int, tuple[int, ...]]  # offset, bytes, name, type, shape


class GgufHeader:
    """A cursor in the header. `read` raises CheckpointError for an impossible value."""

    def __init__(self, path: Path, data: bytes | memoryview) -> None:
        self._path, self._data, self._at = path, data, 0
        self._elements = 0  # of all arrays so far
        self.values: dict[str, tuple[int, int, int]] = {}  # type, count (-1: no array), position
        self.tensors: dict[str, TensorEntry] = {}

    def read(self) -> None:
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
        start = -(-self._at // alignment) * alignment
        self._check_spans(spans, start)
        for offset, size, name, kind, shape in spans:
            self.tensors[name] = TensorEntry(name, kind, shape, start + offset, size)

    def value(self, key: str) -> Any:
        """A value of the metadata as a plain one: a number, a text, or a list of those.

        Raises KeyError, and CheckpointError for a text that is not UTF-8.
        """
        kind, count, self._at = self.values[key]
        if kind == STRING:
            texts = [self._decoded(key) for _ in range(max(count, 1))]
            return texts[0] if count < 0 else texts
        values = np.frombuffer(self._data, SCALARS[kind], max(count, 1), self._at)
        listed = values.astype(bool).tolist() if kind == TRUTH else values.tolist()
        return listed[0] if count < 0 else listed

    def _decoded(self, key: str) -> str:
        try:
            return self._text(key, len(self._data)).decode()
        except UnicodeDecodeError:
            raise CheckpointError(f"{self._path}: {shown(key)} is damaged: not UTF-8") from None

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
                self.values[ALIGNMENT] = (kind, -1, self._at)
                alignment = self._number("<I", ALIGNMENT)
            else:
                self._value(key, kind)
        return alignment

    def _value(self, key: bytes, kind: int) -> None:
        count, is_array = 1, kind == ARRAY
        if is_array:
            kind = self._number("<I", "an element's type")
            count = self._number("<Q", "an array's length")
            self._elements += count
            self._most(f"elements of {_shown(key)}", self._elements, MAX_ELEMENTS)
        try:
            self.values[key.decode()] = (kind, count if is_array else -1, self._at)
        except UnicodeDecodeError:
            self._damaged(f"key {_shown(key)} is not UTF-8")
        if kind == STRING:
            what = f"a text of {_shown(key)}"
            for _ in range(count):
                self._skip(self._length(what, len(self._data)), what)
        elif kind in SCALARS:
            size = np.dtype(SCALARS[kind]).itemsize
            self._skip(count * size, f"the value of {_shown(key)}")
        else:
            self._damaged(f"{_shown(key)} has a value of type {kind}")

    def _tensors(self, count: int) -> list[Span]:
        """Each tensor; offsets count from the first tensor's data."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        known = {int(kind): GGML_QUANT_SIZES[kind] for kind in GGMLQuantizationType}
        spans = []
        seen: set[bytes] = set()
        for _ in range(count):
            raw = self._text("a tensor's name", MAX_NAME)
            name = raw.decode("utf-8", "replace")
            if raw in seen:
                self._damaged(f"tensor {shown(name)} is there twice")
            seen.add(raw)
            dimensions = self._number("<I", "the dimensions of a tensor")
            if not 1 <= dimensions <= MAX_DIMENSIONS:
                self._damaged(f"tensor {shown(name)} has {dimensions} dimensions")
            shape = [self._number("<Q", "the shape of a tensor") for _ in range(dimensions)]
            kind, offset = self._number("<I", "a type"), self._number("<Q", "an offset")
            if kind not in known:
                self._damaged(f"tensor {shown(name)} has unknown type {kind}")
            block, size = known[kind]
            if math.prod(shape) == 0 or shape[0] % block:
                self._damaged(f"tensor {shown(name)} has an impossible shape")
            spans.append((offset, math.prod(shape) // block * size, name, kind, tuple(shape)))
        return spans

    def _check_spans(self, spans: list[Span], start: int) -> None:
        end, before = 0, ""
        for offset, size, name, _, _ in sorted(spans):
            if start + offset + size > len(self._data):
                self._damaged(f"tensor {shown(name)} ends beyond the file")
            if offset < end:
                self._damaged(f"tensors {shown(before)} and {shown(name)} overlap")
            end, before = offset + size, name

    def _number(self, form: str, what: str) -> int:
        at = self._at
        self._skip(struct.calcsize(form), what)
        return int(struct.unpack_from(form, self._data, at)[0])

    def _text(self, what: str, most: int) -> bytes:
        length = self._length(what, most)
        self._skip(length, what)
        return bytes(self._data[self._at - length : self._at])

    def _length(self, what: str, most: int) -> int:
        length = self._number("<Q", what)
        if length > most:
            self._damaged(f"{what} claims {length} bytes")
        return length

    def _skip(self, count: int, what: str) -> None:
        if count > len(self._data) - self._at:
            self._damaged(f"the file ends in {what}")
        self._at += count

    def _most(self, what: str, count: int, most: int) -> None:
        if count > min(most, len(self._data)):  # each takes at least a byte
            self._damaged(f"{count} {what} claimed")

    def _damaged(self, reason: str) -> None:
        raise CheckpointError(f"{self._path}: truncated or damaged GGUF file: {reason}")


def _shown(name: bytes) -> str:
    return shown(name.decode("utf-8", "replace"))
