"""An image and a learned file -> the learned image, the same bytes on every host."""

from __future__ import annotations

import hashlib
from pathlib import Path

from emulator import __version__
from weights.checkpoint import LAYER_MATRICES
from weights.learned_file import LearnedFile
from weights.rom import RomImage
from weights.rom_files import NOTICE, SEAL, TABLES
from weights.rom_writer import new_image

OF_A_FILE = ("format", "format_version", "matrices", "files", SEAL)  # keys that the writer sets


def write_learned(base: RomImage, learned: LearnedFile, folder: Path) -> None:
    """Write the image `folder`: the base's with codes and scales as learned.

    Raises UsageError if the file was learned from another image, or a matrix does not fit it;
    nothing half-written stays.
    """
    learned.check(base)
    key = hashlib.sha256(f"{__version__} {base.digest} {learned.digest}".encode()).hexdigest()
    layers = range(base.config.layers)
    shards = {
        f"layer-{i:03}.safetensors": [f"layers.{i}.{n}" for n in LAYER_MATRICES] for i in layers
    }
    shards[TABLES] = ["embedding"] if base.config.tied else ["embedding", "head"]
    with new_image(folder, key[:16]) as writer:
        for file, names in shards.items():
            if writer.reuse(file):
                continue
            matrices = {name: learned.matrix(name, base.matrices[name]) for name in names}
            stem = names[0].rpartition(".")[0]  # "layers.0", or nothing for the tables
            vectors = {
                name: vector
                for name, vector in base.vectors.items()
                if name.rpartition(".")[0] == stem
            }
            writer.add_shard(file, matrices, vectors)
        manifest = {k: v for k, v in base.manifest.items() if k not in OF_A_FILE}
        manifest |= {
            "quantiser": "learned",
            "learned": {"sha256": learned.digest, "base": base.digest},
        }
        notice = base.folder / NOTICE
        text = notice.read_text("utf-8") if notice.is_file() else ""
        writer.finish(base.tokenizer_json, manifest, text, base.chat_template)
