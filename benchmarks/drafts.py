"""Answers with drafts and without, alternating: what they save, and that nothing else changes.

    python -m benchmarks.drafts [--json] [--draft IMAGE] [--tokens 160]

Two tasks for the small model: an editing task, whose answer repeats most of the prompt, and plain
questions. Greedy; prompt lookup, and the image of --draft.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from benchmarks.load import Load
from emulator.chat.answer import Answer
from emulator.chat.drafts import DraftChip, Drafts, Lookup
from emulator.chat.generate import generate
from emulator.chat.template import chat_of
from emulator.chip import Chip
from emulator.silicon.spec import load_spec
from weights.rom import open_image

LETTER = """Dear Mr Baker, thank you for your letter of the third of May. We have looked at the
roof of the old mill and found that eleven tiles are broken and two gutters are blocked. Our men can
begin on Monday morning at eight, and the work will take three days. The price is four hundred and
twenty pounds, which includes the scaffold. Please let us know by Friday whether this suits you."""
TASKS = {
    "editing": [f"Repeat this letter word for word, but write Thursday for Friday.\n\n{LETTER}"],
    "questions": [
        "Why is the sky blue?",
        "Write a short story about a fox and a bridge.",
        "How do I bake bread at home?",
    ],
}
Maker = Callable[[], Drafts | None]


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0], models=False)
    parser.add_argument("--draft", type=Path, metavar="IMAGE")
    parser.add_argument("--tokens", type=int, default=160, help="of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    common.use_threads(args.threads)
    makers: dict[str, Maker] = {"none": lambda: None, "lookup": lambda: Drafts(Lookup())}
    rows, load = list[dict[str, Any]](), Load()
    with common.image_of("smollm2", 0) as image:
        chip, spec, chat = Chip(image), load_spec(), chat_of(image)
        if args.draft:
            guesser = Chip(open_image(args.draft), chip.context)
            makers["image"] = lambda: Drafts(DraftChip(guesser, image.config.vocabulary))

        def answer(prompt: list[int], make: Maker) -> Answer:
            chip.resume(prompt)
            cached = chip.position
            return generate(chip, spec, prompt, args.tokens, cached=cached, drafts=make())

        for task, texts in TASKS.items():
            seconds: dict[str, list[float]] = {name: [] for name in makers}
            counts = {name: (0, 0) for name in makers}
            for text in texts:
                prompt = [*chat.opening(None), *chat.question(text)]
                expected = answer(prompt, makers["none"])
                best: dict[str, list[float]] = {name: [] for name in makers}
                for _ in range(args.rounds):
                    for name, make in makers.items():
                        found = load.round(lambda make=make, p=prompt: answer(p, make))  # type: ignore[misc]
                        assert found.logits_sha256 == expected.logits_sha256
                        assert found.cycles == expected.cycles
                        best[name].append(found.host_seconds)
                        last = counts[name]
                        counts[name] = last[0] + found.drafted, last[1] + found.accepted
                for name, values in best.items():
                    seconds[name].append(statistics.median(values))
            for name in makers:
                drafted, accepted = counts[name]
                rows.append(
                    {
                        "task": task,
                        "drafts": name,
                        "s": sum(seconds[name]),
                        "times_as_fast": sum(seconds["none"]) / sum(seconds[name]),
                        "drafted": drafted,
                        "accepted": accepted / drafted if drafted else 0.0,
                    }
                )
    common.show("drafts", rows, args.json, **load.told())


if __name__ == "__main__":
    main()
