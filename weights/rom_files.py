"""The files of a ROM image: the manifest, and the plain files that it lists and hashes."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emulator.errors import ImageError
from emulator.fields import Fields, object_in, read_bytes, shown
from weights.chat_style import STYLES
from weights.checkpoint import sha256_file

FORMAT = "hardwired-rom"
FORMAT_VERSION = 4
MANIFEST = "rom.json"
SEAL = "manifest_sha256"  # key of the manifest's own hash; see `sealed`
TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"  # of a model whose template speaks of tools
NOTICE = "NOTICE"  # of a model whose licence asks for one
TABLES = "tables.safetensors"
MAX_MANIFEST_BYTES = 16 << 20
AGAIN = "delete the image and compile it again"
CHANGED = "its content has changed (SHA-256 differs)"


def sealed(values: Mapping[str, Any]) -> bytes:
    """The text of a manifest, which holds its own SHA-256 under SEAL.

    The hash covers the file's bytes except its own 64 digits, so spaces and order count, and a
    reader need not write JSON as we do. It covers the whole image, since the manifest holds the
    hash of every other file.
    """

    def text(seal: str) -> bytes:
        return json.dumps({**values, SEAL: seal}, indent=1, sort_keys=True).encode()

    return text(hashlib.sha256(text("")).hexdigest())


def read_manifest(folder: Path) -> Fields:
    """Read `rom.json`; check format, version and its own hash. Raises ImageError."""
    path = folder / MANIFEST
    try:
        plain = stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        raise ImageError(f"{folder}: not a ROM image: no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be read: {error}") from None
    if not plain:
        raise ImageError(f"{path}: cannot be read: a link or no file")
    data = read_bytes(path, MAX_MANIFEST_BYTES, ImageError)
    manifest = object_in(path, data, ImageError)
    if manifest.values.get("format") != FORMAT:
        raise ImageError(f"{path}: not a ROM image of this program")
    version = manifest.values.get("format_version")
    if version != FORMAT_VERSION:
        raise ImageError(
            f"{path}: format version {shown(version)}, this program reads {FORMAT_VERSION}; "
            f"{AGAIN}, or update the program"
        )
    seal = manifest.text(SEAL)
    if not re.fullmatch("[0-9a-f]{64}", seal):
        manifest.refuse(SEAL, "64 hexadecimal digits")
    # Remove them once: the same digits inserted elsewhere would be a change.
    if hashlib.sha256(data.replace(seal.encode(), b"", 1)).hexdigest() != seal:
        raise ImageError(f"{path}: {CHANGED}; {AGAIN}")
    for key in ("tool", "mix", "chat_style"):
        _check_line(manifest, key)
    if manifest.text("chat_style") not in STYLES:
        manifest.refuse("chat_style", f"one of {', '.join(STYLES)}")
    manifest.object("rotation")
    checkpoint = manifest.object("checkpoint")
    for key in ("name", "license"):
        _check_line(checkpoint, key)
    files = checkpoint.values.get("files")
    kinds = [str, int, str]
    if not isinstance(files, list) or any(
        not isinstance(file, list) or [type(part) for part in file] != kinds for file in files
    ):
        checkpoint.refuse("files", "a list of [name, bytes, SHA-256]")
    return manifest


def _check_line(source: Fields, key: str) -> None:
    """Refuse a text that a terminal would not show as it is, such as one with a line break."""
    if not source.text(key).isprintable():
        source.refuse(key, "one line of printable text")


def checked_files(folder: Path, manifest: Fields, check_hashes: bool) -> list[str]:
    """Names of the listed files, after a check that each is a plain file in the folder itself.

    With `check_hashes`, lengths and contents are compared too, two files at a time.
    Raises ImageError.
    """
    entries = manifest.objects("files")
    names = [entry.file_name("file") for entry in entries]
    for needed in (TOKENIZER, TABLES):
        if needed not in names:
            raise ImageError(f"{folder / MANIFEST}: files does not list {needed}; {AGAIN}")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda entry: _check(folder, entry, check_hashes), entries))
    return names


def _check(folder: Path, entry: Fields, check_hashes: bool) -> None:
    path = folder / entry.file_name("file")
    length, digest = entry.whole("bytes", 0, 1 << 62), entry.text("sha256")
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: a link or a folder, not a file; {AGAIN}")
        if not check_hashes:
            return
        if status.st_size != length:
            raise ImageError(f"{path}: {status.st_size} bytes instead of {length}; {AGAIN}")
        if sha256_file(path) != digest:
            raise ImageError(f"{path}: {CHANGED}; {AGAIN}")
    except FileNotFoundError:
        raise ImageError(f"{path}: missing; {AGAIN}") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
