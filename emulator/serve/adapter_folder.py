"""Where a running server may take adapters from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.fields import shown
from emulator.images.adapters import checkpoint_of, read_adapter
from emulator.serve.body import RequestError

if TYPE_CHECKING:
    from weights.lora import Adapter
    from weights.rom import RomImage


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """Where a running server finds adapters, and what their gains come from."""

    root: Path | None = None
    checkpoint: Path | None = None
    has_key: bool = False

    def check(self) -> Path:
        """The root. Raises RequestError 403 where adapters cannot be loaded by request."""
        if not self.has_key:
            raise RequestError("adapters are loaded only by a server with --api-key", 403)
        if self.root is None:
            raise RequestError("adapters are loaded only by a server with --lora-root", 403)
        return self.root

    def read(self, image: RomImage, name: str, path: str) -> Adapter:
        """Read and quantise. Raises AdapterError or RequestError."""
        from weights.lora import adapter_for

        root = self.check().resolve()
        try:
            folder = (root / path).resolve()
        except (OSError, ValueError, RuntimeError):
            raise RequestError(f"lora_path {shown(path)} is no path", param="lora_path") from None
        if root != folder and root not in folder.parents:
            raise RequestError("lora_path leads out of --lora-root", param="lora_path")
        adapter = read_adapter(image, str(folder), name)
        return adapter_for(image, checkpoint_of(image, self.checkpoint), adapter)
