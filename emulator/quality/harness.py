"""The chip as a model of EleutherAI's evaluation harness (lm_eval 0.4).

    python -m emulator.quality.harness run --model hardwired --model_args image=DIR --tasks ...

registers the model and passes all arguments to the harness's own command line. `model_args` may
also be `model=NAME`, like --model of the other commands, and name workers (`workers=4` or
`workers=tcp://HOST:PORT`), which share the requests. Users install the harness themselves, so
it is imported only where it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.chat.template import chat_of
from emulator.chip import Chip
from emulator.errors import ContextError, EmulatorError, UsageError
from emulator.quality.elsewhere import Address, image_address, image_at
from emulator.quality.evaluate import chip_logits, log_softmax
from emulator.workers.pool import Workers, in_order, open_workers
from weights.rom import RomImage

BATCH = 32  # requests of a worker's job
MOST_TOKENS = 256  # of a generated answer, if the task gives no number


class Scorer:
    """Log-likelihoods and greedy answers of a chip, as the harness defines them.

    A request is any object with `args`. A text without context is scored after the BOS token, or
    after the first end token if the model has no BOS token.
    """

    def __init__(self, image: RomImage) -> None:
        self.chip = Chip(image)
        self.chat = chat_of(image)
        config = image.config
        self.prefix = config.end_ids[0] if config.bos_id is None else config.bos_id
        self.end_ids = set(config.end_ids)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """For each pair: (ln p of the continuation, whether all its tokens are the likeliest).

        A context that does not fit loses its first tokens. Raises ContextError if the continuation
        alone does not fit.
        """
        return [self._pair(*self.split(*request.args)) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """ln p of whole texts, by windows as long as the chip's context; each token counts once.

        The first window begins with the prefix token. The last window is a full one too, so that
        its tokens have as much context as possible.
        """
        return [self._rolling(self.chat.encode(request.args[0])) for request in requests]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Greedy answers, up to an end token, a text in `until`, or `max_gen_toks` tokens.

        Raises UsageError for sampling, which the harness's seeds do not control.
        """
        return [self._answer(*request.args) for request in requests]

    def split(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of the context and of the continuation, which gets the spaces between them."""
        whole = self.chat.encode(context + continuation)
        before = self.chat.encode(context.rstrip())
        if self.chip.image.config.bos_id is not None or not before:
            whole, before = [self.prefix, *whole], [self.prefix, *before]
        return whole[: len(before)], whole[len(before) :]

    def _pair(self, before: list[int], after: list[int]) -> tuple[float, bool]:
        if len(after) > self.chip.context:
            raise ContextError(
                f"{len(after)} tokens to score do not fit the chip's {self.chip.context} positions"
            )
        if not after:
            return 0.0, True
        fed = (before + after)[:-1][-self.chip.context :]
        log_p = self._log_p(fed, len(after))
        chosen = np.take_along_axis(log_p, np.array(after)[:, None], axis=-1)
        return float(chosen.sum()), bool((log_p.argmax(axis=-1) == after).all())

    def _rolling(self, tokens: list[int]) -> float:
        room, total = self.chip.context, 0.0
        fed = [self.prefix, *tokens]
        for start in range(0, len(tokens), room):
            end = min(start + room, len(tokens))
            total += self._pair(fed[max(0, end - room) : start + 1], tokens[start:end])[0]
        return total

    def _answer(self, context: str, options: Mapping[str, Any]) -> str:
        if options.get("do_sample") and options.get("temperature", 1) != 0:
            raise UsageError("the harness's answers are greedy here; set do_sample=False")
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        most = int(options.get("max_gen_toks", MOST_TOKENS))
        if not 0 < most < self.chip.context:
            raise UsageError(f"max_gen_toks {most} is not 1 to {self.chip.context - 1}")
        before, spaces = self.split(context, "")
        return self._greedy((before + spaces)[-(self.chip.context - most) :], stops, most)

    def _greedy(self, tokens: list[int], stops: list[str], most: int) -> str:
        answer: list[int] = []
        text = ""
        for token in self._likeliest(tokens, most):
            if token in self.end_ids:
                break
            answer.append(token)
            text = self.chat.decode(answer)
            places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
            if places:
                return text[: min(places)]
        return text

    def _likeliest(self, tokens: list[int], most: int) -> Iterator[int]:
        """Yield `most` tokens, each the chip's first choice."""
        fed = self._rest(tokens, 1)
        for _ in range(most):
            token = int(self.chip.forward(fed).top[0])
            yield token
            fed = [token]

    def _log_p(self, tokens: list[int], last: int) -> NDArray[np.float64]:
        """ln p [last, vocabulary] at the last positions of the tokens."""
        rest = self._rest(tokens, last)
        logits = chip_logits(self.chip, rest)
        return log_softmax(logits[-last:])

    def _rest(self, tokens: list[int], last: int) -> list[int]:
        """The tokens still to run, at least the `last` ones; the KV SRAM holds those before.

        So the choices of a question share its tokens. The bits are the same either way.
        """
        return tokens[self.chip.resume(tokens, last) :]


@dataclass(frozen=True, slots=True)
class Request:
    """What a worker needs of one of the harness's requests."""

    args: tuple[Any, ...]


def answers_of(
    workers: Workers | None, image: RomImage, method: str, requests: list[Any]
) -> list[Any]:
    """Answers of a `Scorer` method in the order of the requests, a job for every BATCH of them.

    Neighbours stay together, since the choices of a question share its tokens in the KV SRAM.
    """
    where = image_address(image)
    batches = (
        (where, method, [Request(request.args) for request in requests[at : at + BATCH]])
        for at in range(0, len(requests), BATCH)
    )
    return [answer for batch in in_order(workers, answers_at, batches) for answer in batch]


def answers_at(where: Address, method: str, requests: list[Request]) -> list[Any]:
    """A worker's part of `answers_of`."""
    answers: list[Any] = getattr(_scorer_at(where), method)(requests)
    return answers


@lru_cache(maxsize=1)
def _scorer_at(where: Address) -> Scorer:
    return Scorer(image_at(where))


@cache
def model_class() -> type[Any]:
    """The harness's model over `Scorer`, registered as "hardwired". Needs lm_eval."""
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model

    class HardwiredLM(LM):  # type: ignore[misc]
        """Takes `image=DIR` or `model=NAME`; ignores what else the harness passes."""

        def __init__(
            self,
            image: str | None = None,
            model: str | None = None,
            workers: str | None = None,
            **_: Any,
        ) -> None:
            from emulator.images.make import image_folder
            from emulator.images.recipe import EMBEDDED
            from weights.rom import open_image

            super().__init__()
            folder = Path(image) if image else image_folder(model or EMBEDDED)
            self.image, self.workers = open_image(folder), str(workers) if workers else None
            self.scorer = None if workers else Scorer(self.image)

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return self._all("loglikelihood", requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            return self._all("loglikelihood_rolling", requests)

        def generate_until(self, requests: list[Any]) -> list[str]:
            return self._all("generate_until", requests)

        def _all(self, method: str, requests: list[Any]) -> list[Any]:
            if self.workers is None:
                answers: list[Any] = getattr(self.scorer, method)(requests)
                return answers
            with open_workers(self.workers) as workers:
                return answers_of(workers, self.image, method, requests)

    register_model("hardwired")(HardwiredLM)
    return HardwiredLM


def main() -> None:
    """Run the harness's command line, with the chip as one more model."""
    from lm_eval.__main__ import cli_evaluate

    model_class()
    try:
        cli_evaluate()
    except EmulatorError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
