"""The shape and meaning of a model, read from a checkpoint and checked."""

from emulator.config.hub import from_hub_config
from emulator.config.model import EPSILON, MAX_K, PASSES, SIZES, THETA, LlamaConfig, size
from emulator.config.rope import Linear, RopeScaling, Scaling, Yarn

__all__ = [
    "EPSILON",
    "MAX_K",
    "PASSES",
    "SIZES",
    "THETA",
    "Linear",
    "LlamaConfig",
    "RopeScaling",
    "Scaling",
    "Yarn",
    "from_hub_config",
    "size",
]
