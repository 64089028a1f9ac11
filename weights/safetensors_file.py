"""Memory-mapped views of a safetensors file, after a check of everything its header claims.

The library's own NumPy reader copies, but a ROM image must stay mapped.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import CheckpointError
from emulator.fields import is_whole, parse_json, shown

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_DIMENSIONS = 8  # NumPy allows 32 or 64, by version; no weight has more than 4
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # raw bits; see `float32`
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U16": np.uint16,
    "U8": np.uint8,
}
PIECE = 1 << 20  # values read at a time
FLOATS = ("F64", "F32", "F16", "BF16")


class SafetensorsFile:
    """Views of one file. Raises `error` (CheckpointError by default) if it is damaged."""

    def __init__(self, path: Path | str, error: type[Exception] = CheckpointError) -> None:
        self.path = path = Path(path)
        self._error = error
        try:
            size = path.stat().st_size
            self._raw = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise error(f"{path}: cannot be read: {reason}") from None
        self.metadata: dict[str, str] = {}
        self._entries = self._read_header(size)

    @property
    def names(self) -> list[str]:
        """Names of the tensors in the file."""
        return list(self._entries)

    def entry(self, name: str) -> tuple[str, tuple[int, ...], int, int]:
        """Type, shape, and first and last byte of a tensor, without reading it."""
        return self._entries[name]

    def view(self, name: str) -> NDArray[Any]:
        """The tensor as a read-only view of the mapped file; BF16 as its raw uint16."""
        kind, shape, begin, end = self._entries[name]
        return self._raw[begin:end].view(DTYPES[kind]).reshape(shape)

    def float32(self, name: str) -> NDArray[np.float32]:
        """Copy a floating-point tensor to a new float32 array; release its mapped pages."""
        kind, shape, begin, end = self._entries[name]
        if kind not in FLOATS:
            raise self._error(f"{self.path}: tensor {name} has type {kind}, not a float")
        values = self.view(name).reshape(-1)
        result = np.empty(values.size, np.float32)
        for start in range(0, values.size, PIECE):
            piece = slice(start, start + PIECE)
            if kind == "BF16":  # the upper half of a float32
                np.left_shift(values[piece], 16, out=result.view(np.uint32)[piece], dtype=np.uint32)
            else:
                result[piece] = values[piece]
        self._let_go(begin, end)
        return result.reshape(shape)

    def _let_go(self, begin: int, end: int) -> None:
        """Release mapped pages, which count as our memory; the system may still cache them."""
        mapped = getattr(self._raw, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            begin -= begin % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def _read_header(self, size: int) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
        if size < 8:
            raise self._error(f"{self.path}: truncated: {size} bytes")
        length = int(self._raw[:8].view("<u8")[0])
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise self._error(f"{self.path}: truncated, or not a safetensors file")
        try:
            raw = bytes(self._raw[8 : 8 + length])
            if raw[:1] != b"{":  # the format's own rule; json.loads would also guess UTF-16
                raise ValueError
            header: dict[str, Any] = parse_json(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            raise self._error(f"{self.path}: damaged header, or not a safetensors file") from None
        self.metadata = self._checked_metadata(header.get("__metadata__", {}))
        entries = {}
        start = 8 + length
        for name, entry in header.items():
            if name != "__metadata__":
                entries[name] = self._check_entry(name, entry, start, size)
        end, before = start, ""
        for name, (_, _, first, last) in sorted(entries.items(), key=lambda e: e[1][2:]):
            if first < end and first < last:
                raise self._error(f"{self.path}: tensors {before!r} and {name!r} overlap")
            if first > end:
                raise self._error(
                    f"{self.path}: {first - end} bytes before {name!r} belong to none"
                )
            end, before = max(end, last), name
        if end != size:
            raise self._error(f"{self.path}: {size - end} bytes after the last tensor")
        return entries

    def _checked_metadata(self, values: Any) -> dict[str, str]:
        if not isinstance(values, dict) or any(not isinstance(v, str) for v in values.values()):
            raise self._error(f"{self.path}: __metadata__ is no object of texts")
        return values

    def _check_entry(
        self, name: str, entry: Any, start: int, size: int
    ) -> tuple[str, tuple[int, ...], int, int]:
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = [*shape, begin, end]
            if any(not is_whole(n) or n < 0 for n in numbers):
                raise ValueError
            if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise self._error(f"{self.path}: tensor {name!r} has a malformed entry") from None
        if not isinstance(kind, str) or kind not in DTYPES:
            raise self._error(f"{self.path}: tensor {name!r} has unknown type {shown(kind)}")
        expected = math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
        if end - begin != expected:
            raise self._error(f"{self.path}: tensor {name!r}: offsets do not fit its shape")
        if start + end > size:
            raise self._error(f"{self.path}: truncated: tensor {name!r} ends beyond the file")
        if math.prod(max(n, 1) for n in shape) > size:  # empty, yet too large for NumPy
            raise self._error(f"{self.path}: tensor {name!r} has an impossible shape")
        return kind, tuple(shape), start + begin, start + end
