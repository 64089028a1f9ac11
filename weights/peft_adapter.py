"""A LoRA adapter as PEFT saves it: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.errors import AdapterError
from emulator.fields import shown
from weights.checkpoint import LARGEST_WEIGHT, LAYER_TENSORS, sha256_file, tensor_shape
from weights.peft_config import CONFIG, MODULES, PeftConfig, read_config
from weights.safetensors_file import FLOATS, SafetensorsFile

TENSORS = "adapter_model.safetensors"
PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
NAME = re.compile(
    r"(?:base_model\.model\.)?(model\.layers\.(\d{1,4})\.(?:self_attn|mlp)\.([a-z]+_proj))"
    r"\.lora_(A|B)(?:\.[A-Za-z0-9_-]+)?\.weight",
    re.ASCII,
)
Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LowRank:
    """Adds B A to a matrix; B holds the scaling."""

    a: Float32  # [rank, columns]
    b: Float32  # [rows, rank]

    @property
    def delta(self) -> Float32:
        """float32[rows, columns]"""
        return self.b @ self.a


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter in the checkpoint's own basis."""

    name: str
    digest: str  # SHA-256 of its tensors' file
    matrices: dict[tuple[int, str], LowRank]  # by layer and our name: (3, "q")


def open_adapter(folder: Path | str, model: LlamaConfig, name: str = "") -> PeftAdapter:
    """Read and check an adapter for a model of this shape; its name is the folder's by default.

    Nothing is allocated before its size is known to fit. Raises AdapterError in one line.
    """
    folder = Path(folder)
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError) as error:
        raise AdapterError(f"{shown(str(folder))}: cannot be read: {error}") from None
    if not is_folder:
        raise AdapterError(f"{folder}: no such folder with {CONFIG} and {TENSORS}")
    config = read_config(folder, model)
    path = folder / TENSORS
    if not path.is_file():
        pickles = [name for name in PICKLES if (folder / name).exists()]
        if pickles:
            raise AdapterError(f"{folder / pickles[0]}: a pickle can run code; save safetensors")
        raise AdapterError(f"{path}: no such file")
    file = SafetensorsFile(path, AdapterError)
    tensors = _sorted(file)
    _check_complete(tensors, config, model, path)
    matrices = {
        place: _low_rank(file, parts, place, config, model) for place, parts in tensors.items()
    }
    return PeftAdapter(name or folder.resolve().name, sha256_file(path), matrices)


def _sorted(file: SafetensorsFile) -> dict[tuple[int, str], dict[str, str]]:
    """Names of the tensors by layer and matrix, then by "A" or "B", and the module's under ""."""
    found: dict[tuple[int, str], dict[str, str]] = {}
    for tensor in file.names:
        match = NAME.fullmatch(tensor)
        if match is None or match[3] not in MODULES:
            raise AdapterError(f"{file.path}: {shown(tensor)} is no LoRA of a matrix of the masks")
        module, layer, name, part = match[1], int(match[2]), MODULES[match[3]], match[4]
        if not module.endswith(LAYER_TENSORS[name]):
            raise AdapterError(f"{file.path}: {shown(tensor)} is no module of a Llama")
        parts = found.setdefault((layer, name), {"": module})
        if part in parts:
            raise AdapterError(f"{file.path}: {module} has two tensors {part}")
        parts[part] = tensor
    if not found:
        raise AdapterError(f"{file.path}: holds no tensors")
    return found


def _check_complete(
    tensors: dict[tuple[int, str], dict[str, str]],
    config: PeftConfig,
    model: LlamaConfig,
    path: Path,
) -> None:
    """Raise AdapterError for a module that the config names and the file lacks, or the reverse."""
    for (layer, name), parts in tensors.items():
        if layer >= model.layers:
            raise AdapterError(f"{path}: layer {layer}, but the model has {model.layers}")
        module = parts[""].rsplit(".", 1)[1]
        if config.targets is not None and module not in config.targets:
            raise AdapterError(f"{path}: {parts['']} is none of the config's target_modules")
        if config.layers is not None and layer not in config.layers:
            raise AdapterError(f"{path}: layer {layer} is none of the config's layers_to_transform")
        for part in ("A", "B"):
            if part not in parts:
                raise AdapterError(f"{path}: {parts['']} lacks lora_{part}")
        del name
    for layer in range(model.layers) if config.layers is None else config.layers:
        for module in config.targets or ():
            if (layer, MODULES[module]) not in tensors:
                raise AdapterError(f"{path}: layer {layer} lacks {module}, which the config names")


def _low_rank(
    file: SafetensorsFile,
    parts: dict[str, str],
    place: tuple[int, str],
    config: PeftConfig,
    model: LlamaConfig,
) -> LowRank:
    rows, columns = tensor_shape(model, place[1])
    module = parts[""]
    rank, scaling = config.rank_of(module), config.scaling_of(module)
    a = _tensor(file, parts["A"], (rank, columns))
    b = _tensor(file, parts["B"], (rows, rank))
    return LowRank(a, b * np.float32(scaling))


def _tensor(file: SafetensorsFile, name: str, shape: tuple[int, int]) -> Float32:
    kind, have, _, _ = file.entry(name)
    if have != shape:
        raise AdapterError(f"{file.path}: {name} has shape {list(have)}, not {list(shape)}")
    if kind not in FLOATS:
        raise AdapterError(f"{file.path}: {name} has type {kind}, not a float")
    with np.errstate(over="ignore"):
        values = file.float32(name)
    least, most = values.min(), values.max()
    if not (np.isfinite(least) and np.isfinite(most)):
        raise AdapterError(f"{file.path}: {name} holds values that are not finite")
    if max(-least, most) > LARGEST_WEIGHT:
        raise AdapterError(f"{file.path}: {name} holds values beyond +-{LARGEST_WEIGHT}")
    return values
