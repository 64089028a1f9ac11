"""Images and checkpoints at any address that fsspec knows, copied here once.

A copy is not trusted because it is there: whoever asked for it compares its hashes with those
that came by another way (an image's own manifest, or the digest that a job carries).
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath

from emulator.errors import CheckpointError, InstallationError
from emulator.home import home
from weights.whole_folder import whole_folder

ADDRESS = "address.txt"  # in the copy's folder: where it came from


def is_remote(where: str) -> bool:
    """Whether it is an address such as s3://bucket/folder, and no path."""
    return "://" in where


def local_copy(address: str) -> Path:
    """The copy of a file or folder in the cache folder, which is made on first use.

    Raises InstallationError without fsspec or the package for the address's kind, CheckpointError
    if it cannot be read, with one line.
    """
    try:
        import fsspec
    except ImportError:
        raise InstallationError(
            f"{address}: needs fsspec: pip install distributed fsspec"
        ) from None
    folder = _folder(address)
    name = PurePosixPath(address.rstrip("/")).name
    if (folder / ADDRESS).is_file():
        return folder / name
    try:
        files, path = fsspec.url_to_fs(address)
        if not files.exists(path):
            raise CheckpointError(f"{address}: nothing there")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder, lambda made: (made / ADDRESS).is_file()) as temporary:
            files.get(path.rstrip("/"), str(temporary / name), recursive=files.isdir(path))
            (temporary / ADDRESS).write_text(address, "utf-8")
    except ImportError as error:
        raise InstallationError(f"{address}: {error}") from None
    except CheckpointError:
        raise
    except Exception as error:  # each file system has errors of its own
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{address}: cannot be copied to {folder}: {line}") from None
    return folder / name


def forget(address: str) -> None:
    """Remove a copy that is not what was wanted; the next use fetches it anew."""
    shutil.rmtree(_folder(address), ignore_errors=True)


def address_of(path: Path) -> str:
    """Where others find it: the address that it was copied from, or its own path."""
    note = path.parent / ADDRESS
    if note.is_file() and _folder(text := note.read_text("utf-8")) == path.parent:
        return text
    return str(path.resolve())


def _folder(address: str) -> Path:
    return home() / "remote" / hashlib.sha256(address.encode()).hexdigest()[:16]
