"""Hugging Face checkpoints in a local folder: config.json, tokenizer.json, safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig, from_hub_config
from emulator.config.factors import Factors, factors_from_hub
from emulator.errors import CheckpointError
from emulator.fields import Fields, read_bytes, read_object, shown
from weights.chat_style import chat_style, default_instructions, default_template, tool_template
from weights.checkpoint import Origin, Provenance, file_record, files_digest
from weights.fused import fused_part
from weights.safetensors_file import SafetensorsFile

MAX_JSON_BYTES = 64 << 20
TOKENIZER_CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
INDEX = "model.safetensors.index.json"


class SafetensorsCheckpoint:
    """A folder with one or more safetensors shards. Raises CheckpointError for any other.

    `origin` is the hub commit that the folder was downloaded from, if any.
    """

    def __init__(self, folder: Path | str, origin: Origin | None = None) -> None:
        self.folder, self.origin = Path(folder), origin
        self._files = {name: SafetensorsFile(self.folder / name) for name in self._shard_names()}
        self._where: dict[str, SafetensorsFile] = {}
        for name, file in self._files.items():
            for tensor in file.names:
                if tensor in self._where:
                    raise CheckpointError(f"{self.folder}: tensor {shown(tensor)} is in two shards")
                self._where[tensor] = file
                self._check_place(tensor, name)

    @property
    def where(self) -> Path:
        """The folder."""
        return self.folder

    @cached_property
    def config(self) -> LlamaConfig:
        """Shapes from config.json; end tokens also from generation_config.json, if present."""
        config = from_hub_config(self._json("config.json").values, str(self.folder / "config.json"))
        key = "eos_token_id"
        more: tuple[int, ...] = ()
        if (self.folder / "generation_config.json").exists():
            generation = self._json("generation_config.json")
            if generation.has(key):
                more = generation.wholes(key, 0, config.vocabulary - 1)
        return replace(config, end_ids=tuple(dict.fromkeys((*config.end_ids, *more))))

    @cached_property
    def factors(self) -> Factors:
        """Of config.json."""
        path = self.folder / "config.json"
        return factors_from_hub(dict(self._json(path.name).values), str(path))

    @cached_property
    def tokenizer_json(self) -> str:
        """The folder's tokenizer.json, in ASCII, since UTF-8 cannot encode a lone surrogate."""
        return json.dumps(self._json("tokenizer.json").values)

    @property
    def chat_style(self) -> str:
        """One of `weights.chat_style.STYLES`."""
        return chat_style(self.name, self.tokenizer_json, self._template)

    @property
    def chat_instructions(self) -> str:
        """Of the checkpoint's own chat template."""
        return default_instructions(self._template)

    @property
    def _template(self) -> str:
        """The checkpoint's own chat template, or ""."""
        if (self.folder / TEMPLATE).is_file():
            data = read_bytes(self.folder / TEMPLATE, MAX_JSON_BYTES, CheckpointError)
            return data.decode("utf-8", "replace")
        if (self.folder / TOKENIZER_CONFIG).is_file():
            return default_template(self._json(TOKENIZER_CONFIG).values.get("chat_template"))
        return ""

    @property
    def chat_template(self) -> str:
        """The template that speaks of tools, from its own file or tokenizer_config.json, or ""."""
        path = self.folder / TEMPLATE
        if path.is_file():
            data = read_bytes(path, MAX_JSON_BYTES, CheckpointError)
            return tool_template(data.decode("utf-8", "replace"))
        if (self.folder / TOKENIZER_CONFIG).is_file():
            return tool_template(self._json(TOKENIZER_CONFIG).values.get("chat_template"))
        return ""

    @property
    def name(self) -> str:
        """The repository's name without its owner, or the folder's."""
        return self.origin.repository.split("/")[1] if self.origin else self.folder.resolve().name

    @property
    def size_bytes(self) -> int:
        """Size of all shards."""
        return sum((self.folder / name).stat().st_size for name in self._files)

    def provenance(self) -> Provenance:
        """Name and all files with their hashes, which are computed once.

        Raises CheckpointError for a file that is not what the hub states.
        """
        return self._provenance

    @cached_property
    def digest(self) -> str:
        """One SHA-256 for all files, from the hub's stated hashes if it states all."""
        names, stated = self._hashed_files(), self._stated()
        if all(name in stated for name in names):
            return files_digest({name: stated[name] for name in names})
        return files_digest({name: sha256 for name, _, sha256 in self.provenance().files})

    @cached_property
    def _provenance(self) -> Provenance:
        files = tuple(file_record(self.folder / name) for name in self._hashed_files())
        for name, _, sha256 in files:
            if sha256 != self._stated().get(name, sha256):
                path = (self.folder / name).resolve()
                raise CheckpointError(
                    f"{name}: its SHA-256 is not the one that the hub states, so it is damaged or "
                    f"another file; delete {path} and run again, which downloads it again"
                )
        unknown = "as its source states"
        if (origin := self.origin) is None:
            return Provenance(self.name, unknown, files)
        license = origin.license or unknown
        return Provenance(self.name, license, files, origin.repository, origin.commit)

    def _hashed_files(self) -> list[str]:
        """Shards, and other files with a stated hash."""
        return sorted(set(self._files) | set(self._stated()))

    def _stated(self) -> Mapping[str, str]:
        return self.origin.sha256 if self.origin else {}

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor as float32; of tensors stored as one, its rows."""
        part = fused_part(self.config, name)
        if part is not None and name not in self._where and part[0] in self._where:
            stored, rows = part
            return self._where[stored].float32(stored)[rows]
        file = self._where.get(name)
        if file is None:
            raise CheckpointError(f"{self.folder}: no tensor {name} in any shard")
        return file.float32(name)

    def _check_place(self, tensor: str, shard: str) -> None:
        """Raise CheckpointError if the index says that a tensor is elsewhere, or nowhere."""
        if self._index and self._index.get(tensor) != shard:
            place = shown(self._index.get(tensor, "no shard"))
            raise CheckpointError(
                f"{self.folder}: tensor {shown(tensor)} is in {shard}; {INDEX} says {place}"
            )

    def _shard_names(self) -> list[str]:
        self._index: dict[str, str] = {}
        names = ["model.safetensors"]
        if (self.folder / INDEX).exists():
            weight_map = self._json(INDEX).object("weight_map")
            self._index = {tensor: weight_map.file_name(tensor) for tensor in weight_map.values}
            names = sorted(set(self._index.values()))
        for name in names:
            if not (self.folder / name).is_file():
                raise CheckpointError(f"{self.folder}: shard {name!r} is missing")
        return names

    def _json(self, name: str) -> Fields:
        return read_object(self.folder / name, MAX_JSON_BYTES, CheckpointError)
