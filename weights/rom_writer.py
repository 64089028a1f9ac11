"""Write a ROM image so that a folder under its final name is always complete."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import ImageError
from kernels.rom.pack import PackedMatrix
from weights.checkpoint import file_record
from weights.rom import ARRAYS
from weights.rom_files import FORMAT, FORMAT_VERSION, MANIFEST, NOTICE, TEMPLATE, TOKENIZER, sealed
from weights.whole_folder import whole_folder

JOURNAL = "journal.jsonl"  # in an unfinished folder


@dataclass(slots=True)
class ImageWriter:
    """Collects the files of one image in a temporary folder; see `new_image`.

    A journal in that folder has a line for every finished shard, so that the next writer finds
    what an interrupted one finished.
    """

    folder: Path
    files: list[dict[str, Any]] = field(default_factory=list)
    matrices: dict[str, dict[str, Any]] = field(default_factory=dict)
    _found: dict[str, dict[str, Any]] = field(init=False)  # file -> its line of the journal

    def __post_init__(self) -> None:
        self._found = _whole_shards(self.folder)
        for path in self.folder.iterdir():  # written in part, or to be written again
            if path.name not in (JOURNAL, *self._found):
                path.unlink()

    def reuse(self, file: str) -> bool:
        """Whether the complete shard exists already; if so, it counts as added."""
        if (line := self._found.get(file)) is None:
            return False
        self.files.append(line["entry"])
        self.matrices |= line["matrices"]
        return True

    def add_shard(
        self,
        file: str,
        matrices: dict[str, PackedMatrix],
        vectors: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        """Write one safetensors shard and note its hash."""
        from safetensors.numpy import save

        arrays, described = dict(vectors or {}), {}
        for name, matrix in matrices.items():
            for part in ARRAYS:
                arrays[f"{name}.{part}"] = np.ascontiguousarray(getattr(matrix, part))
            described[name] = {
                "shard": file,
                "rows": matrix.rows,
                "columns": matrix.columns,
                "bits": matrix.bits,
                "group": matrix.group,
            }
        self._add_file(file, save(arrays))
        self.matrices |= described
        line = json.dumps({"entry": self.files[-1], "matrices": described})
        with _writing(self.folder), (self.folder / JOURNAL).open("a") as journal:
            journal.write(line + "\n")  # not flushed to disk: a lost line costs a shard's time

    def finish(
        self,
        tokenizer_json: str,
        manifest: dict[str, Any],
        notice: str = "",
        chat_template: str = "",
    ) -> None:
        """Write the texts, then rom.json, without which a folder is not an image."""
        self._add_file(TOKENIZER, tokenizer_json.encode())
        for name, text in ((TEMPLATE, chat_template), (NOTICE, notice)):
            if text:
                self._add_file(name, text.encode())
        whole = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **manifest,
            "matrices": self.matrices,
            "files": self.files,
        }
        (self.folder / JOURNAL).unlink(missing_ok=True)
        _write_durably(self.folder / MANIFEST, sealed(whole))

    def _add_file(self, name: str, data: bytes) -> None:
        _write_durably(self.folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        self.files.append({"file": name, "bytes": len(data), "sha256": digest})


def _whole_shards(folder: Path) -> dict[str, dict[str, Any]]:
    """Journal lines by file, for the files that exist with the noted length and SHA-256."""
    found = {}
    try:
        lines = (folder / JOURNAL).read_text("utf-8").splitlines()
        for line in map(json.loads, lines):
            entry = line["entry"]
            path = folder / entry["file"]
            expected = (path.name, entry["bytes"], entry["sha256"])
            if path.is_file() and file_record(path) == expected and line["matrices"]:
                found[path.name] = line
    except (OSError, ValueError, LookupError, TypeError):  # none, or its last line was cut
        pass
    return found


@contextmanager
def new_image(folder: Path, key: str | None = None) -> Iterator[ImageWriter]:
    """A writer of the image `folder`, which appears only when it is complete.

    `key`, 16 hex digits, is a hash of all that determines the image. With a key, an interrupted
    writer leaves its finished shards under a hidden name to the next one; without, nothing stays.
    If another process finished the same image first, its result is kept.
    Raises ImageError if the disk is full or cannot be written.
    """
    with ExitStack() as stack:
        with _writing(folder):
            temporary = stack.enter_context(
                whole_folder(folder, lambda path: (path / MANIFEST).exists(), key)
            )
            writer = ImageWriter(temporary)
        yield writer
        with _writing(folder):
            stack.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an OSError inside into an ImageError that says what cannot be written."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or path
        hint = "set HARDWIRED_HOME (or --out) to a folder that can be written, with room"
        raise ImageError(f"{where}: cannot be written: {error.strerror}; {hint}") from None


def _write_durably(path: Path, data: bytes) -> None:
    with _writing(path), path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
