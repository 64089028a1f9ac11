"""A folder that is there under its name as a whole, or not at all.

Files are written to a hidden neighbour, `.NAME.<16 hex digits>.tmp`, which is renamed when all is
on disk. Its writer holds a lock (flock) on it, which the kernel drops when the process dies: a
neighbour that can be locked was left behind, and the next writer of NAME takes it away, or goes
on with it where it was to become the same.
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

try:
    import fcntl
except ImportError:  # not POSIX: without locks nothing can be called stale, so nothing is removed
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole_folder(
    folder: Path, finished: Callable[[Path], bool], key: str | None = None
) -> Iterator[Path]:
    """A folder to write to; renamed to `folder` at the end, or removed after an error.

    `key`, of 16 hex digits, stands for all that decides its content. Work that was killed or
    interrupted from the keyboard stays, and the next writer with the same key gets its folder.
    When another process was first and `folder` is `finished`, its result is kept.
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
        except KeyboardInterrupt:
            keep = key is not None
            raise
        sync_folder(temporary)
        try:
            os.rename(temporary, folder)  # onto a folder that is not empty: refused by the system
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
    """Flush a folder's entries to disk; elsewhere than on POSIX folders cannot be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked_neighbour(folder: Path, key: str | None) -> tuple[Path, int | None]:
    """A neighbour, and the descriptor that holds its lock (None without locks).

    It is new and empty, or the one with the key, which somebody left.
    """
    while True:
        path = folder.parent / f".{folder.name}.{key or secrets.token_hex(8)}.tmp"
        path.mkdir(exist_ok=key is not None and fcntl is not None)  # as open as the umask says
        key = None  # a second try, if it is somebody's at work, is a new one
        if fcntl is None:
            return path, None
        lock = _lock(path)
        if lock is None:
            continue  # between the two lines above another process took it for a stale one
        if path.exists():
            return path, lock
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None when it is held or cannot be had."""
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
    """Take away what killed writers of `folder` left: neighbours whose lock nobody holds."""
    if fcntl is None:
        return
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{16}}\.tmp")
    for path in folder.parent.iterdir():
        if name.fullmatch(path.name) and (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
