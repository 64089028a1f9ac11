"""Replies in OpenAI's shapes, plus what only an emulator knows."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from emulator.chat.tools import Call, CallForm
from emulator.errors import EmulatorError
from emulator.serve.body import RequestError
from emulator.serve.chances import TokenChances
from emulator.serve.logprobs import chat_logprobs, text_logprobs
from emulator.serve.options import Options
from emulator.serve.service import Choice, Service
from emulator.serve.shapes import replies as shape
from emulator.serve.turn import call_in, parts

DONE = "data: [DONE]\n\n"


@dataclass(slots=True)
class Reply:
    """The reply to one request, in one object or in chunks.

    `prefixes` are echoed prompts, one for each prompt; `form` is that of calls, if any may come.
    """

    service: Service
    options: Options
    choices: list[Choice]
    chat: bool
    prefixes: list[str] = field(default_factory=list)
    form: CallForm | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: list[str]) -> dict[str, Any]:
        """The object of a reply that was not streamed."""
        choices: list[Any] = []
        for i, (choice, text) in enumerate(zip(self.choices, texts, strict=True)):
            choices.append(
                self._chat_choice(i, choice, text) if self.chat else self._text(i, choice, text)
            )
        kind: Any = shape.ChatCompletion if self.chat else shape.Completion
        values = {"choices": choices, "usage": self.usage(), "parameters": self._parameters()}
        return dict(built(kind(**self._frame(""), **values)))

    async def stream(self, include_usage: bool) -> AsyncIterator[str]:
        """Yield server-sent events: every choice in turn, then the usage if asked for."""
        try:
            for i, choice in enumerate(self.choices):
                prefix, finish = self._prefix(i), ""
                opening = {"role": "assistant", "content": prefix} if self.chat else prefix
                yield self._event(i, opening, extra={"parameters": self._parameters()})
                async for part in parts(choice, self.form):
                    if part is None:
                        yield ": waiting\n\n"
                    elif isinstance(part, Call):
                        finish = "tool_calls"
                        yield self._event(i, {"tool_calls": [built(_made(part, 0))]})
                    elif part.text or part.chances:
                        chip = {"tokens": part.tokens, "seconds": part.chip_seconds}
                        delta = {"content": part.text} if self.chat else part.text
                        yield self._event(i, delta, part.chances, {"chip": chip})
                finish = finish or choice.finish_reason
                yield self._event(i, {} if self.chat else "", finish=finish)
        except EmulatorError as error:
            yield sse(error_object(error))
        else:
            if include_usage:
                frame = self._frame(".chunk") | {"choices": []}
                yield sse(frame | {"usage": built(self.usage())})
        yield DONE

    def usage(self) -> shape.Usage:
        """Tokens of all choices, counting each prompt once, with chip and host time."""
        jobs = [choice.job for choice in self.choices]
        prompts = jobs[:: self.options.choices]
        prompt = sum(len(job.prompt) for job in prompts)
        completion = sum(len(job.answer.token_ids) for job in jobs)
        cycles = sum((Counter(job.answer.cycles) for job in jobs), Counter[str]())
        first = jobs[0]
        return shape.Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=shape.CachedTokens(
                cached_tokens=sum(job.told_cached for job in prompts)
            ),
            chip=shape.ChipCost(
                cycles=sum(cycles.values()),
                cycles_by_block=dict(cycles),
                seconds=sum(job.answer.chip_seconds for job in jobs),
                ttft_seconds=first.answer.prefill_cycles / first.answer.clock_hz,
                tokens_per_second=first.answer.tokens_per_second,
            ),
            host=shape.HostCost(
                queue_seconds=first.started_at - first.queued_at,
                ttft_seconds=max(0.0, first.first_token_at - first.queued_at),
                seconds=sum(job.answer.host_seconds for job in jobs),
                drafted=sum(job.answer.drafted for job in jobs),
                accepted=sum(job.answer.accepted for job in jobs),
            ),
        )

    def _chat_choice(self, index: int, choice: Choice, text: str) -> shape.ChatChoice:
        call = call_in(text, self.form)
        message = shape.AnswerMessage(content=None if call else self._prefix(index) + text)
        if call is not None:
            message.tool_calls = [_made(call)]
        return shape.ChatChoice(
            index=index,
            message=message,
            logprobs=self._chances(choice.chances) if call is None else None,
            finish_reason="tool_calls" if call else choice.finish_reason,
        )

    def _text(self, index: int, choice: Choice, text: str) -> shape.TextChoice:
        return shape.TextChoice(
            index=index,
            text=self._prefix(index) + text,
            logprobs=self._chances(choice.scored + choice.chances),
            finish_reason=choice.finish_reason,
        )

    def _prefix(self, index: int) -> str:
        return self.prefixes[index // self.options.choices] if self.prefixes else ""

    def _parameters(self) -> dict[str, Any]:
        return self.options.to_json()

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
        choice |= {"logprobs": built(self._chances(chances or [])), "finish_reason": finish}
        return sse(self._frame(".chunk") | {"choices": [choice]} | (extra or {}))

    def _frame(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": f"chat.completion{kind}" if self.chat else "text_completion",
            "created": self.created,
            "model": self.service.model_id(self.options.adapter),
            "system_fingerprint": self.service.fingerprint,
        }

    def _chances(self, chances: list[TokenChances]) -> Any:
        if self.options.logprobs is None or not chances:
            return None
        tokens = self.service.grammars.tokens
        return chat_logprobs(tokens, chances) if self.chat else text_logprobs(tokens, chances)


def _made(call: Call, index: int | msgspec.UnsetType = msgspec.UNSET) -> shape.MadeCall:
    arguments = json.dumps(dict(call.arguments))
    made = shape.MadeFunction(name=call.name, arguments=arguments)
    return shape.MadeCall(index=index, id=call.id, function=made)


def built(value: Any) -> Any:
    """A declared reply as JSON values."""
    return msgspec.to_builtins(value)


def sse(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def error_object(error: EmulatorError) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    status = error.status if isinstance(error, RequestError) else 400
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    detail = shape.ErrorDetail(
        message=str(error),
        type=kind,
        param=getattr(error, "param", None),
        code=getattr(error, "code", None),
    )
    return dict(built(shape.ErrorReply(error=detail)))
