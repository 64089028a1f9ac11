"""The cache folder of images, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import ImageError
from emulator.home import HOME_VARIABLE, home

if TYPE_CHECKING:
    from weights.hub import Repository


def is_image(folder: Path | str) -> bool:
    """Whether the folder holds an image. Raises ImageError if access is denied."""
    folder = Path(folder)
    from weights.rom_files import MANIFEST

    try:
        return (folder / MANIFEST).is_file()
    except OSError as error:
        raise unreadable(folder, error) from None


def unreadable(path: Path, error: OSError) -> ImageError:
    """The error for a cache folder that cannot be read, with what to do."""
    hint = f"set {HOME_VARIABLE} to a folder of your own"
    return ImageError(f"{path}: cannot be read: {error.strerror}; {hint}")


def listed_image(name: str) -> Path | None:
    """Folder of the image called `name` in the cache folder, or None."""
    folder = home() / name
    return folder if Path(name).name == name and is_image(folder) else None


def images_of(repository: Repository) -> list[Path]:
    """Images made from a hub repository, latest first; only from its commit if one is named.

    Not those with an adapter merged into the masks, whose name tells it.
    """
    from weights.rom_files import MANIFEST, read_manifest

    found = []
    for folder in home().iterdir() if home().is_dir() else ():
        if folder.name.startswith(".") or not is_image(folder):
            continue
        try:
            made_of = read_manifest(folder).object("checkpoint").values
        except ImageError:
            continue
        commit = str(made_of.get("commit"))
        same = repository.revision == "main" or commit.startswith(repository.revision)
        same = same and made_of.get("name") == repository.name.split("/")[1]
        if made_of.get("repository") == repository.name and same:
            found.append(folder)
    return sorted(found, key=lambda folder: (folder / MANIFEST).stat().st_mtime, reverse=True)
