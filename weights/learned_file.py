"""The learned file: what turns the masks of one image into learned ones, on any host.

Learning runs in bfloat16, whose sums differ between hosts, so its result is data and no recipe:
a safetensors file that belongs to one image, whose digest it names. Applied to that image it gives
the same bytes everywhere, without torch.

    NAME.moves         uint8[n]: zlib of five moves a byte, base 3, of codes in the order of rows
    NAME.group_scale   int8[rows, groups]
    NAME.row_mantissa  uint16[rows]
    NAME.row_exponent  int8[rows]

A move is -1, 0 or +1, in levels of the alphabet. The metadata holds `learned`, a JSON object, and
`sha256`, of that object's text and of every array in the order of names.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import UsageError
from emulator.fields import Fields, object_in
from kernels.rom.pack import PackedMatrix, fault, pack_codes, tile_rows, unpack_codes
from weights.rom import RomImage
from weights.safetensors_file import SafetensorsFile

FORMAT = "hardwired-learned"
VERSION = 1
PER_BYTE = 5  # moves: 3**5 = 243
POWERS = 3 ** np.arange(PER_BYTE)
CHANGED = "its content has changed (SHA-256 differs)"


@dataclass(frozen=True, slots=True)
class Change:
    """What was learned of one matrix."""

    moves: NDArray[np.int8]  # [rows, columns], -1 to 1
    group_scale: NDArray[np.int8]  # [rows, groups]
    row_mantissa: NDArray[np.uint16]  # [rows]
    row_exponent: NDArray[np.int8]  # [rows]

    def applied(self, matrix: PackedMatrix) -> PackedMatrix:
        """Raises ValueError where a code would leave the alphabet or a value its width."""
        codes = unpack_codes(matrix.codes, matrix.rows, matrix.bits).astype(np.int16) + self.moves
        if codes.min() < 0 or codes.max() >> matrix.bits:
            raise ValueError("a move leaves the alphabet")
        changed = replace(
            matrix,
            codes=pack_codes(codes.astype(np.uint8), matrix.bits),
            group_scale=tile_rows(self.group_scale),
            row_mantissa=self.row_mantissa,
            row_exponent=self.row_exponent,
        )
        if problem := fault(changed):
            raise ValueError(problem)
        return changed


@dataclass(frozen=True, slots=True)
class Learned:
    """A learned file's content."""

    about: Mapping[str, Any]  # base (an image's digest), mix, context, and how it was learned
    changes: Mapping[str, Change]  # by the matrix's name
    digest: str = ""  # hex SHA-256; set by `save` and `load`

    def save(self, path: Path) -> Learned:
        """Write the file under a temporary name, then rename it. Raises UsageError."""
        from safetensors.numpy import save

        arrays = self._arrays()
        text = json.dumps({"format": FORMAT, "version": VERSION, **self.about}, sort_keys=True)
        digest = _digest(text, arrays)
        data = save(arrays, {"learned": text, "sha256": digest})
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
        finally:
            temporary.unlink(missing_ok=True)
        return replace(self, digest=digest)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        for name, change in self.changes.items():
            arrays[f"{name}.moves"] = _packed(change.moves)
            for part in ("group_scale", "row_mantissa", "row_exponent"):
                arrays[f"{name}.{part}"] = np.ascontiguousarray(getattr(change, part))
        return arrays


def load(path: Path) -> LearnedFile:
    """Open a learned file and check its own hash. Raises UsageError."""
    file = SafetensorsFile(path, UsageError)
    about = file.metadata
    if "learned" not in about or "sha256" not in about:
        raise UsageError(f"{path}: not a learned file")
    fields = object_in(path, about["learned"].encode(), UsageError)
    if fields.values.get("format") != FORMAT:
        raise UsageError(f"{path}: not a learned file")
    if fields.values.get("version") != VERSION:
        raise UsageError(f"{path}: a newer program's learned file; update this one")
    arrays = {name: file.view(name) for name in file.names}
    if _digest(about["learned"], arrays) != about["sha256"]:
        raise UsageError(f"{path}: {CHANGED}")
    return LearnedFile(path, fields, arrays, about["sha256"])


@dataclass(frozen=True, slots=True)
class LearnedFile:
    """An opened learned file; its arrays are views of the mapped file."""

    path: Path
    about: Fields
    arrays: Mapping[str, NDArray[Any]]
    digest: str

    def check(self, image: RomImage) -> None:
        """Raise UsageError unless it was learned from this image."""
        base = self.about.text("base")
        if base != image.digest:
            raise UsageError(
                f"{self.path}: learned from the masks {base[:8]}, and these are "
                f"{image.digest[:8]} ({image.folder})"
            )

    def matrix(self, name: str, base: PackedMatrix) -> PackedMatrix:
        """The learned masks of a matrix. Raises UsageError where the file does not fit it."""
        groups = base.columns // base.group
        moves = self._part(name, "moves", np.uint8, None)
        change = Change(
            self._moves(name, moves, base.rows, base.columns),
            self._part(name, "group_scale", np.int8, (base.rows, groups)),
            self._part(name, "row_mantissa", np.uint16, (base.rows,)),
            self._part(name, "row_exponent", np.int8, (base.rows,)),
        )
        try:
            return change.applied(base)
        except ValueError as error:
            raise UsageError(f"{self.path}: {name}: {error}") from None

    def _part(self, name: str, part: str, kind: Any, shape: tuple[int, ...] | None) -> NDArray[Any]:
        return self._array(f"{name}.{part}", kind, shape)

    def _array(self, name: str, kind: Any, shape: tuple[int, ...] | None) -> NDArray[Any]:
        array = self.arrays.get(name)
        if array is None:
            raise UsageError(f"{self.path}: {name} is missing")
        if array.dtype != kind or (shape or array.shape[:1]) != array.shape:
            raise UsageError(f"{self.path}: {name} is {array.dtype}{list(array.shape)}")
        return array

    def _moves(
        self, name: str, packed: NDArray[np.uint8], rows: int, columns: int
    ) -> NDArray[np.int8]:
        size = -(-rows * columns // PER_BYTE)
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(packed.tobytes(), size + 1)  # never more, whatever it claims
        except zlib.error:
            data = b""
        found = np.frombuffer(data, np.uint8)
        if found.size != size or found.max(initial=0) >= 3**PER_BYTE:
            raise UsageError(f"{self.path}: {name}.moves does not unpack to its codes")
        moves = np.empty((size, PER_BYTE), np.int8)
        for k in range(PER_BYTE):
            moves[:, k] = found // POWERS[k] % 3
        return moves.reshape(-1)[: rows * columns].reshape(rows, columns) - np.int8(1)


def _packed(moves: NDArray[np.int8]) -> NDArray[np.uint8]:
    flat = moves.reshape(-1) + np.int8(1)
    padded = np.ones(-(-flat.size // PER_BYTE) * PER_BYTE, np.uint8)
    padded[: flat.size] = flat
    data = (padded.reshape(-1, PER_BYTE) @ POWERS.astype(np.uint8)).astype(np.uint8)
    return np.frombuffer(zlib.compress(data.tobytes(), 6), np.uint8)


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    sums = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        sums.update(f"\n{name} {array.dtype} {list(array.shape)}\n".encode())
        sums.update(np.ascontiguousarray(array).data)
    return sums.hexdigest()
