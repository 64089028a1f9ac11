"""Writing a ROM image so that a folder under its final name is always whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import ImageError
from kernels.pack import PackedMatrix
from weights.rom import ARRAYS, FORMAT, FORMAT_VERSION, MANIFEST, TOKENIZER


@dataclass(slots=True)
class ImageWriter:
    """Collects the files of one image in a temporary folder; see `new_image`."""

    folder: Path
    files: list[dict[str, Any]] = field(default_factory=list)
    matrices: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_shard(
        self,
        file: str,
        matrices: dict[str, PackedMatrix],
        vectors: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        """Write one safetensors shard and note its hash."""
        from safetensors.numpy import save

        arrays = dict(vectors or {})
        for name, matrix in matrices.items():
            for part in ARRAYS:
                arrays[f"{name}.{part}"] = np.ascontiguousarray(getattr(matrix, part))
            self.matrices[name] = {
                "shard": file,
                "rows": matrix.rows,
                "columns": matrix.columns,
                "bits": matrix.bits,
                "group": matrix.group,
            }
        self._add_file(file, save(arrays))

    def finish(self, tokenizer_json: str, manifest: dict[str, Any]) -> None:
        """Write tokenizer.json, then rom.json: a folder without the latter is not an image."""
        self._add_file(TOKENIZER, tokenizer_json.encode())
        whole = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **manifest,
            "matrices": self.matrices,
            "files": self.files,
        }
        text = json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True)
        _write_durably(self.folder / MANIFEST, text.encode())

    def _add_file(self, name: str, data: bytes) -> None:
        _write_durably(self.folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        self.files.append({"file": name, "bytes": len(data), "sha256": digest})


@contextmanager
def new_image(folder: Path) -> Iterator[ImageWriter]:
    """A writer into a temporary neighbour of `folder`, renamed to it when all went well.

    Whatever happens, nothing half-written stays. When another process finished the same image
    first, its result is kept. Raises ImageError when the disk is full or cannot be written.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{folder.name}."
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix, suffix=".tmp"))
        yield ImageWriter(temporary)
        if not (folder / MANIFEST).exists():
            os.replace(temporary, folder)
    except OSError as error:
        where = error.filename or folder
        hint = "set HARDWIRED_HOME (or --out) to a folder that can be written, with room"
        raise ImageError(f"{where}: cannot be written: {error.strerror}; {hint}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
