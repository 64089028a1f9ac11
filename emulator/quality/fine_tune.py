"""How far a chip is from a fine-tuned model in float32, on the end of the text that ships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.chat.template import chat_format
from emulator.chip import Chip
from emulator.quality.evaluate import Distance, chip_logits, log_softmax
from emulator.quality.float_model import FloatModel
from emulator.text import read_text
from weights.calibrate import DEFAULT_TEXT
from weights.checkpoint import Checkpoint

WINDOW = 256  # tokens


@dataclass(frozen=True, slots=True)
class FineTune:
    """What the model says of a text."""

    tokens: list[int]
    log_p: np.ndarray

    @classmethod
    def of(cls, source: Checkpoint) -> FineTune:
        chat = chat_format(source.tokenizer_json, source.chat_style)
        length = min(WINDOW, source.config.context)
        tokens = chat.encode(read_text(DEFAULT_TEXT)[-8 * WINDOW :])[:length]
        return cls(tokens, log_softmax(FloatModel.of_checkpoint(source).forward(tokens)))

    def distance(self, chip: Chip) -> dict[str, Any]:
        """Of the positions that the chip has."""
        tokens, distance = self.tokens[: chip.context], Distance()
        chip.rewind(0)
        distance.add(self.log_p[: len(tokens)], log_softmax(chip_logits(chip, tokens)))
        return distance.report()
