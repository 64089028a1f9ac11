"""Which tensors get how many bits."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.errors import UsageError
from kernels.pack import CODE_BITS
from weights.checkpoint import LAYER_MATRICES

CLASSES = (*LAYER_MATRICES, "embedding", "head")


@dataclass(frozen=True, slots=True)
class Mix:
    """Bits by tensor class, written "3,v=6,k=6": a base width, then exceptions."""

    text: str
    base: int
    exceptions: tuple[tuple[str, int], ...]

    def bits(self, name: str) -> int:
        """Code bits of the tensors of class `name`."""
        return dict(self.exceptions).get(name, self.base)

    @classmethod
    def parse(cls, text: str) -> Mix:
        """Raises UsageError, naming the part, for anything but widths of 3, 4 or 6."""
        base, *rest = [part.strip() for part in text.split(",")]
        exceptions = []
        for part in rest:
            name, _, width = part.partition("=")
            if name not in CLASSES:
                raise UsageError(f"mix {text!r}: {name!r} is none of {', '.join(CLASSES)}")
            exceptions.append((name, _width(text, width)))
        return cls(text, _width(text, base), tuple(exceptions))


def _width(text: str, width: str) -> int:
    if width not in {str(bits) for bits in CODE_BITS}:
        raise UsageError(f"mix {text!r}: a code has 3, 4 or 6 bits, not {width!r}")
    return int(width)
