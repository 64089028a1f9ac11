"""Open a checkpoint of any kind by its path or its name on the hub."""

from __future__ import annotations

from pathlib import Path
from socket import gethostname

from emulator.errors import CheckpointError
from weights.checkpoint import Checkpoint
from weights.gguf_source import GgufCheckpoint
from weights.hub import KNOWN, Repository, fetch
from weights.remote import forget, is_remote, local_copy
from weights.safetensors_source import SafetensorsCheckpoint


def open_checkpoint(where: Path | str) -> Checkpoint:
    """Open a GGUF file, a folder with safetensors, or a hub repository, which is downloaded.

    An address that fsspec knows (s3://..., also file://...) is copied to the cache folder first.

    Raises CheckpointError; for anything else, its message lists the known names.
    """
    if is_remote(str(where)):
        where = local_copy(str(where))
    path = Path(where)
    try:
        if path.is_dir():
            return SafetensorsCheckpoint(path)
        if path.exists():
            return GgufCheckpoint(path)
    except (OSError, ValueError) as error:  # a name that no file can have
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if repository := Repository.named(str(where)):
        return fetch(repository)
    raise CheckpointError(
        f"{path}: no GGUF file, folder with safetensors or hub repository (owner/repo); "
        f"known names: {', '.join(KNOWN)}"
    )


def checkpoint_at(where: str, digest: str) -> Checkpoint:
    """Open this computer's copy of a checkpoint that another one named, by path or address.

    Raises CheckpointError unless its files have the hashes that `digest` stands for.
    """
    source = open_checkpoint(where)
    if source.digest != digest and is_remote(where):
        forget(where)
        source = open_checkpoint(where)
    if source.digest != digest:
        raise CheckpointError(f"{where}: the copy on {gethostname()} is another checkpoint")
    return source
