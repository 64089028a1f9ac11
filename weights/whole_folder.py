"""Write a folder that exists under its name only when it is complete.

Files are written to a hidden folder beside it, `.NAME.<16 hex digits>.tmp`, which is renamed when
all is on disk. The writer holds a lock (flock) on it, which the operating system drops when the
process dies. So a hidden folder that can be locked was abandoned: the next writer of NAME continues
it if the digits match, and removes it otherwise.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator.errors import WorkersLostError

try:
    import fcntl
except ImportError:  # not POSIX: without locks no folder is known to be stale, so none is removed
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole_folder(
    folder: Path, finished: Callable[[Path], bool], key: str | None = None
) -> Iterator[Path]:
    """Yield a folder to write to; rename it to `folder` at the end, or remove it after an error.

    `key`, 16 hex digits, is a hash of all that determines the content. The folder stays after a
    kill, a keyboard interrupt or the loss of all workers, and the next writer with the same key
    gets it.
    If another process was first and `folder` is `finished`, its result is kept.
    Raises OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and not finished(folder) and any(folder.iterdir()):  # now, not after hours
        raise FileExistsError(errno.EEXIST, "other files are there", str(folder))
    temporary, lock = _locked_neighbour(folder, key)
    _remove_stale(folder)
    keep = False
    try:
        try:
            yield temporary
        except (KeyboardInterrupt, WorkersLostError):
            keep = key is not None
            raise
        sync_folder(temporary)
        try:
            os.rename(temporary, folder)  # the system refuses if `folder` exists and is not empty
        except OSError:
            if not finished(folder):
                raise
        sync_folder(folder.parent)
    finally:
        if not keep:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk. Only POSIX can open folders; others skip this."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked_neighbour(folder: Path, key: str | None) -> tuple[Path, int | None]:
    """A hidden folder beside `folder`, and the descriptor that holds its lock, if locks exist.

    It is new and empty, or the abandoned one with this key.
    """
    while True:
        path = folder.parent / f".{folder.name}.{key or secrets.token_hex(8)}.tmp"
        path.mkdir(exist_ok=key is not None and fcntl is not None)  # as open as the umask says
        key = None  # if a running writer holds it, the second try makes a new one
        if fcntl is None:
            return path, None
        lock = _lock(path)
        if lock is None:
            continue  # another process locked it: its writer, or one that removes stale folders
        if path.exists():
            return path, lock
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None if it cannot be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_stale(folder: Path) -> None:
    """Remove what killed writers of `folder` left: hidden folders that can be locked."""
    if fcntl is None:
        return
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{16}}\.tmp")
    for path in folder.parent.iterdir():
        if name.fullmatch(path.name) and (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
