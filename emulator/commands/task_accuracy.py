"""`eval --tasks`: how many questions the chip answers as it should, and as the original does."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from emulator.terminal.table import table

if TYPE_CHECKING:
    from weights.checkpoint import Checkpoint
    from weights.rom import RomImage


def task_accuracy(args: argparse.Namespace, image: RomImage, source: Checkpoint) -> int:
    """Print the shares of right answers by kind."""
    from emulator.chat.template import chat_of
    from emulator.chip import Chip
    from emulator.quality.evaluate import Models
    from emulator.quality.float_model import FloatModel
    from emulator.quality.tasks import evaluate_tasks, items_that_ship
    from emulator.terminal.progress import progress

    items = items_that_ship()
    models = Models(FloatModel.of_checkpoint(source), FloatModel.of_image(image), Chip(image))
    with progress("answering", "questions", 60) as show:
        show(0, len(items))
        found = evaluate_tasks(models, chat_of(image), items, show)
    report = {"schema": 1, "bits_per_weight": image.bits_per_weight, "tasks": found}
    if args.json:
        print(json.dumps(report))
        return 0
    rows = [
        [
            kind,
            str(one["items"]),
            *(f"{100 * one[key]:.1f}" for key in ("reference", "masks", "chip", "same")),
        ]
        for kind, one in found.items()
    ]
    head = ["kind", "questions", "original right, %", "masks, %", "chip, %", "chip as original, %"]
    print(f"{image.bits_per_weight:.3f} bits a weight\n\n{table(head, rows)}")
    return 0
