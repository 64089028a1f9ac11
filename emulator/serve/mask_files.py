"""Whether the mapped files of an image are as long as they were when it was opened.

A file that is cut while it is mapped ends the process by SIGBUS at the next read beyond its end,
without a word. So its length is looked at before each pass; what is cut within one still kills.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from weakref import finalize

from emulator.errors import ImageError
from weights.rom import RomImage


class MaskFiles:
    """Lengths of an image's files, which stay open: to ask by path takes ten times as long."""

    def __init__(self, image: RomImage) -> None:
        """Raises OSError for a file that is gone."""
        opened = ExitStack()
        finalize(self, opened.close)
        self._files = [
            (
                path := image.folder / str(one["file"]),
                opened.enter_context(path.open("rb")).fileno(),
                int(one["bytes"]),
            )
            for one in image.manifest.get("files", [])
        ]

    def check(self) -> None:
        """Raise ImageError, naming the file, if one is shorter. A deleted one stays mapped."""
        for path, descriptor, size in self._files:
            if (now := os.fstat(descriptor).st_size) < size:
                raise ImageError(
                    f"{path}: cut to {now:,} of {size:,} bytes while it was in use; make the image "
                    "again, and replace an image by a folder, never in place"
                )
