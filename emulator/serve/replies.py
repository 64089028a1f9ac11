"""Replies in OpenAI's shapes, plus what only an emulator knows."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from emulator.errors import EmulatorError
from emulator.serve.body import RequestError
from emulator.serve.options import Options
from emulator.serve.samplers import TokenChances
from emulator.serve.service import Choice, Service

DONE = "data: [DONE]\n\n"


@dataclass(slots=True)
class Reply:
    """The reply to one request, in one object or in chunks; `prefix` is an echoed prompt."""

    service: Service
    options: Options
    choices: list[Choice]
    chat: bool
    prefix: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: list[str]) -> dict[str, Any]:
        """The object of a reply that was not streamed."""
        choices = []
        for i, (choice, text) in enumerate(zip(self.choices, texts, strict=True)):
            said = self.prefix + text
            shape = {"message": {"role": "assistant", "content": said, "refusal": None}}
            choices.append(
                {"index": i}
                | (shape if self.chat else {"text": said})
                | {"logprobs": self._logprobs(choice.chances)}
                | {"finish_reason": choice.finish_reason}
            )
        return self._frame(choices, "") | {"usage": self.usage(), **self._extra()}

    async def stream(self, include_usage: bool) -> AsyncIterator[str]:
        """Yield server-sent events: every choice in turn, then the usage if asked for."""
        try:
            for i, choice in enumerate(self.choices):
                opening = {"role": "assistant", "content": self.prefix}
                yield self._event(i, opening if self.chat else self.prefix, extra=self._extra())
                async for piece in choice.pieces():
                    if piece is None:
                        yield ": waiting\n\n"
                    elif piece.text or piece.chances:
                        chip = {"tokens": piece.tokens, "seconds": piece.chip_seconds}
                        delta = {"content": piece.text} if self.chat else piece.text
                        yield self._event(i, delta, piece.chances, {"chip": chip})
                yield self._event(i, {} if self.chat else "", finish=choice.finish_reason)
        except EmulatorError as error:
            yield sse(error_object(error))
        else:
            if include_usage:
                yield sse(self._frame([], ".chunk") | {"usage": self.usage()})
        yield DONE

    def usage(self) -> dict[str, Any]:
        """Tokens of all choices, counting each prompt once, with chip and host time."""
        jobs = [choice.job for choice in self.choices]
        prompts = jobs[:: self.options.choices]
        prompt = sum(len(job.prompt) for job in prompts)
        completion = sum(len(job.answer.token_ids) for job in jobs)
        cycles = sum((Counter(job.answer.cycles) for job in jobs), Counter[str]())
        first = jobs[0]
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(job.cached for job in prompts)},
            "chip": {
                "cycles": sum(cycles.values()),
                "cycles_by_block": dict(cycles),
                "seconds": sum(job.answer.chip_seconds for job in jobs),
                "ttft_seconds": first.answer.prefill_cycles / first.answer.clock_hz,
                "tokens_per_second": first.answer.tokens_per_second,
                "estimate": True,
            },
            "host": {
                "queue_seconds": first.started_at - first.queued_at,
                "ttft_seconds": max(0.0, first.first_token_at - first.queued_at),
                "seconds": sum(job.answer.host_seconds for job in jobs),
            },
        }

    def _extra(self) -> dict[str, Any]:
        return {"parameters": self.options.to_json()}

    def _event(
        self,
        index: int,
        delta: dict[str, Any] | str,
        chances: list[TokenChances] | None = None,
        extra: dict[str, Any] | None = None,
        finish: str | None = None,
    ) -> str:
        choice: dict[str, Any] = {"index": index}
        choice |= {"delta": delta} if self.chat else {"text": delta}
        choice |= {"logprobs": self._logprobs(chances or []), "finish_reason": finish}
        return sse(self._frame([choice], ".chunk") | (extra or {}))

    def _frame(self, choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": f"chat.completion{kind}" if self.chat else "text_completion",
            "created": self.created,
            "model": self.service.model_id(self.options.adapter),
            "system_fingerprint": self.service.fingerprint,
            "choices": choices,
        }

    def _logprobs(self, chances: list[TokenChances]) -> dict[str, Any] | None:
        if self.options.logprobs is None or not chances:
            return None
        if self.chat:
            return {"content": [self._token(one) for one in chances], "refusal": None}
        return {
            "tokens": [self._text(one.token) for one in chances],
            "token_logprobs": [one.logprob for one in chances],
            "top_logprobs": [{self._text(i): p for i, p in one.top} for one in chances],
        }

    def _token(self, one: TokenChances) -> dict[str, Any]:
        top = [self._entry(token, logprob) for token, logprob in one.top]
        return self._entry(one.token, one.logprob) | {"top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        raw = list(self.service.grammars.tokens.decode_bytes([token]))
        return {"token": self._text(token), "logprob": logprob, "bytes": raw}

    def _text(self, token: int) -> str:
        return self.service.grammars.tokens.decode_bytes([token]).decode("utf-8", "replace")


def sse(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def error_object(error: EmulatorError) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    status = error.status if isinstance(error, RequestError) else 400
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {
        "error": {
            "message": str(error),
            "type": kind,
            "param": getattr(error, "param", None),
            "code": getattr(error, "code", None),
        }
    }
