"""LoRA adapters for an image: the norms' gains come from the checkpoint that it was made from.

The gains are folded into the masks and not kept beside them, and A has to be folded as the masks
were.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import AdapterError, CheckpointError
from emulator.fields import PLAIN_NAME, shown

if TYPE_CHECKING:
    from weights.checkpoint import Checkpoint
    from weights.lora import Adapter
    from weights.peft_adapter import PeftAdapter
    from weights.rom import RomImage

HASHED_BYTES = 1 << 30  # a larger checkpoint is told by its shape, since hashing takes its time


def checkpoint_of(image: RomImage, path: Path | str | None = None) -> Checkpoint:
    """The checkpoint that the image was made from: `path`, the embedded one, or that of the hub.

    Raises CheckpointError where there is none, or where it is another.
    """
    from emulator.images.embedded import FILE, small_checkpoint
    from weights.sources import open_checkpoint

    made_from = image.manifest["checkpoint"]
    name, files = made_from["name"], made_from["files"]
    if path is None:
        if [file[0] for file in files] == [FILE]:
            path = small_checkpoint()
        elif made_from.get("repository"):
            path = f"{made_from['repository']}@{made_from['commit']}"
        else:
            raise CheckpointError(f"the image was made from {name}; give --checkpoint")
    source = open_checkpoint(path)
    fits = source.config == image.config
    if fits and sum(file[1] for file in files) < HASHED_BYTES:
        have = sorted(digest for _, _, digest in source.provenance().files)
        fits = have == sorted(file[2] for file in files)
    if not fits:
        raise CheckpointError(f"the image was made from {name}, not {path}; give --checkpoint")
    return source


def read_adapter(image: RomImage, where: str, name: str = "") -> PeftAdapter:
    """Open "DIR" or "NAME=DIR", checked against the image's shape. Raises AdapterError."""
    from weights.peft_adapter import open_adapter

    given, equals, folder = where.partition("=")
    if equals and not Path(where).is_dir():
        name, where = given, folder
    adapter = open_adapter(Path(where), image.config, name)
    if not PLAIN_NAME.fullmatch(adapter.name):
        raise AdapterError(f"an adapter cannot be called {shown(adapter.name)}; write NAME=DIR")
    return adapter


def load_adapters(
    image: RomImage, where: list[str], checkpoint: Path | str | None = None
) -> list[Adapter]:
    """Read and quantise adapters for an image. Raises AdapterError or CheckpointError."""
    from weights.lora import adapter_for

    read = [read_adapter(image, one) for one in where]
    names = [adapter.name for adapter in read]
    for name in names:
        if names.count(name) > 1:
            raise AdapterError(f"two adapters are called {name}; write NAME=DIR")
    source = checkpoint_of(image, checkpoint)
    return [adapter_for(image, source, adapter) for adapter in read]
