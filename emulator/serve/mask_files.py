"""Whether the mapped files of an image are as long as they were when it was opened.

A file that is cut while it is mapped ends the process by SIGBUS at the next read beyond its end,
without a word. So its length is looked at before each pass; what is cut within one still kills.
"""

from __future__ import annotations

import os
from pathlib import Path

from emulator.errors import ImageError
from weights.rom import RomImage


class MaskFiles:
    """Lengths of an image's files."""

    def __init__(self, image: RomImage) -> None:
        files = image.manifest.get("files", [])
        self._bytes = {image.folder / str(one["file"]): int(one["bytes"]) for one in files}

    def check(self) -> None:
        """Raise ImageError, naming the file, if one is shorter. A deleted one stays mapped."""
        for path, size in self._bytes.items():
            if (now := _size(path, size)) < size:
                raise ImageError(
                    f"{path}: cut to {now:,} of {size:,} bytes while it was in use; make the image "
                    "again, and replace an image by a folder, never in place"
                )


def _size(path: Path, deleted: int) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return deleted
