"""A checkpoint of any kind, told by its path."""

from __future__ import annotations

from pathlib import Path

from emulator.errors import CheckpointError
from weights.checkpoint import Checkpoint
from weights.gguf_source import GgufCheckpoint
from weights.safetensors_source import SafetensorsCheckpoint


def open_checkpoint(path: Path) -> Checkpoint:
    """A GGUF file or a hub folder with safetensors.

    Raises CheckpointError: for a path that does not exist, with the command that brings one.
    """
    try:
        if path.is_dir():
            return SafetensorsCheckpoint(path)
        if path.exists():
            return GgufCheckpoint(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    hub = str(path) if len(path.parts) == 2 and not path.is_absolute() else "ORGANISATION/MODEL"
    raise CheckpointError(
        f"{path}: no such GGUF file or safetensors folder; "
        f"download one with: hf download {hub} --local-dir {path.name}"
    )
