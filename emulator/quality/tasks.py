"""Questions with four answers each, by kind: does the chip choose as well as the original?

An answer's score is the mean log-probability of its tokens after the question, and the first answer
of an item is right. The items ship, hand-made, so that a change of the masks can be judged without
a network; EleutherAI's harness (`emulator.quality.harness`) has the public tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.chat.template import ChatFormat
from emulator.chip import Chip
from emulator.quality.evaluate import Models, chip_logits, log_softmax

ITEMS = Path(__file__).with_name("tasks.jsonl")
PARTIES = ("reference", "masks", "chip")

Logits = Callable[[list[int]], NDArray]  # tokens -> [tokens, vocabulary]
Progress = Callable[[int, int], None]  # (items done, items in all)


@dataclass(frozen=True, slots=True)
class Item:
    """A text and its continuations, of which the first is right."""

    kind: str
    text: str
    choices: tuple[str, ...]


def items_that_ship() -> list[Item]:
    lines = map(json.loads, ITEMS.read_text("utf-8").splitlines())
    return [Item(line["kind"], line["text"], tuple(line["choices"])) for line in lines]


def choose(logits: Logits, chat: ChatFormat, item: Item) -> int:
    """Number of the likeliest choice; of equals the first."""
    text = chat.begin() + chat.encode(item.text)
    scores = []
    for choice in item.choices:
        answer = chat.encode(choice)
        log_p = log_softmax(logits(text + answer)[len(text) - 1 : -1])
        scores.append(float(log_p[np.arange(len(answer)), answer].mean()))
    return int(np.argmax(scores))


def evaluate_tasks(
    models: Models, chat: ChatFormat, items: list[Item], progress: Progress | None = None
) -> dict[str, dict[str, float]]:
    """By kind and over all: the share of items that each party gets right, and `same`.

    same: the share in which the chip chooses as the original does, right or wrong.
    """
    answers = np.empty((len(items), len(PARTIES)), np.int64)
    parties = models.reference.forward, models.masks.forward, _of(models.chip)
    for number, item in enumerate(items):
        answers[number] = [choose(party, chat, item) for party in parties]
        if progress is not None:
            progress(number + 1, len(items))
    kinds = np.array([item.kind for item in items])
    names = list(dict.fromkeys(kinds.tolist()))
    return {
        name: _shares(answers if name == "all" else answers[kinds == name])
        for name in (*names, "all")
    }


def _of(chip: Chip) -> Logits:
    def logits(tokens: list[int]) -> NDArray:
        chip.rewind(0)
        return chip_logits(chip, tokens)

    return logits


def _shares(answers: NDArray[np.int64]) -> dict[str, float]:
    right = (answers == 0).mean(axis=0).tolist()
    same = float((answers[:, 0] == answers[:, -1]).mean())
    return {"items": len(answers), **dict(zip(PARTIES, right, strict=True)), "same": same}
