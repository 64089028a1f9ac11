"""Which tensors get how many bits."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from emulator.errors import UsageError
from kernels.rom.widths import CODE_BITS, CODE_BITS_TEXT
from weights.checkpoint import LAYER_MATRICES

CLASSES = (*LAYER_MATRICES, "embedding", "head")
SHOWN = 3  # exceptions of layers and single tensors that people are shown one by one
PLACE = re.compile(r"(?:(\d{1,4})\.)?([a-z]+)|(\d{1,4})")  # 7.down, down or 7


@dataclass(frozen=True, slots=True)
class Mix:
    """Bits by tensor, written "3,v=6,0=6,29.down=4": a base width, then exceptions.

    An exception names a class of tensors, a layer, or a tensor of one layer; the narrower one
    wins, and a class wins over a layer.
    """

    text: str
    base: int
    exceptions: dict[str, int]

    def bits(self, name: str, layer: int | None = None) -> int:
        """Code bits of tensor `name`, of a layer where it is one of LAYER_MATRICES."""
        for place in (f"{layer}.{name}", name, str(layer)):
            if place in self.exceptions:
                return self.exceptions[place]
        return self.base

    @property
    def tag(self) -> str:
        """The text for use in a file name: itself, or a hash where it is long."""
        if len(self.text) <= 40:
            return self.text
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def short(self) -> str:
        """The text for people: base and classes, and how many layers and tensors differ."""
        base, *rest = self.text.split(",")
        classes = [part for part in rest if part.partition("=")[0] in CLASSES]
        others = len(rest) - len(classes)
        shown = ",".join([base, *classes])
        return f"{shown} and {others} exceptions" if others > SHOWN else self.text

    @classmethod
    def parse(cls, text: str) -> Mix:
        """Raises UsageError, naming the part, for a width that is none of CODE_BITS."""
        base, *rest = text.replace(" ", "").split(",")
        exceptions: dict[str, int] = {}
        for part in rest:
            place, _, width = part.partition("=")
            match = PLACE.fullmatch(place)
            if match is None or (match[2] and match[2] not in CLASSES):
                known = ", ".join(CLASSES)
                raise UsageError(f"mix {text!r}: {place!r} is no layer and none of {known}")
            if place in exceptions:
                raise UsageError(f"mix {text!r}: {place!r} appears twice")
            exceptions[place] = _width(text, width)
        return cls(",".join([base, *rest]), _width(text, base), exceptions)


def _width(text: str, width: str) -> int:
    if width not in {str(bits) for bits in CODE_BITS}:
        raise UsageError(f"mix {text!r}: a code has {CODE_BITS_TEXT} bits, not {width!r}")
    return int(width)
