"""/v1/embeddings: the mean of the last hidden states, which nobody trained for that use."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.blocks.wires import Wires
from emulator.serve.body import read, refuse
from emulator.serve.openai_api import note_jobs
from emulator.serve.options import Options
from emulator.serve.preparing import client_of
from emulator.serve.prompts import prompt_count, prompt_lists, text_lengths
from emulator.serve.replies import Reply, built
from emulator.serve.service import Service, service_of, whole
from emulator.serve.shapes.openai import EmbeddingRequest
from emulator.serve.shapes.replies import Embedding, EmbeddingList, EmbeddingUsage

POOLING = (
    "mean over all tokens of the last hidden state, normed without the norm's gain, in the "
    "chip's rotated basis (which changes no angle), divided by its length; not trained for this use"
)


@dataclass(slots=True)
class PromptMean:
    """The mean of a prompt's last hidden states; it reads the passes of the prompt."""

    _sum: NDArray[np.float64] | None = field(default=None)

    def __call__(self, wires: Wires) -> None:
        """Add the residual stream of a pass, int32[T, hidden] Q15.16, each token normed."""
        states = wires.residual.astype(np.float64)
        size = np.sqrt(np.square(states).mean(axis=1, keepdims=True))
        total = (states / np.maximum(size, 1.0)).sum(axis=0)
        self._sum = total if self._sum is None else self._sum + total

    def vector(self) -> NDArray[np.float32]:
        """float32[hidden] of length 1 (or 0, if every state is 0)."""
        assert self._sum is not None
        length = float(np.linalg.norm(self._sum))
        return (self._sum / (length or 1.0)).astype(np.float32)


async def embeddings(request: Request) -> Response:
    """POST /v1/embeddings"""
    service, body = service_of(request), await read(request, EmbeddingRequest)
    adapter = service.check_model(body.model)
    hidden = service.image.config.hidden
    if body.dimensions not in (None, hidden):
        refuse("dimensions", f"{hidden}, the model's own", body.dimensions)
    prompts = await service.prepared(
        request, body, _prompts, service, body, count=prompt_count(body.input)
    )
    for prompt in prompts:
        service.check_prompt(prompt, "input")
    options = Options(max_tokens=0, adapter=adapter)
    choices = service.ask(prompts, options, lambda prompt: PromptMean(), client_of(request))
    note_jobs(request, choices)
    await whole(request, choices)
    data = []
    for i, choice in enumerate(choices):
        assert isinstance(choice.job.reader, PromptMean)
        vector = choice.job.reader.vector()
        told: list[float] | str = vector.tolist()
        if body.encoding_format == "base64":
            told = base64.b64encode(vector.astype("<f4").tobytes()).decode()
        data.append(Embedding(index=i, embedding=told))
    usage = Reply(service, options, choices, chat=False).usage()
    tokens = usage.prompt_tokens
    cost = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens, chip=built(usage.chip))
    reply = EmbeddingList(data=data, model=service.model_id(adapter), pooling=POOLING, usage=cost)
    return JSONResponse(built(reply))


def _prompts(service: Service, body: EmbeddingRequest) -> list[list[int]]:
    service.check_length(text_lengths(body.input), "input")
    return prompt_lists(service.chat, service.image.config, body.input, "input")
