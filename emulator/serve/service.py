"""What all endpoints share: the model, the engine, and its answers as events of this loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from emulator.chat.answer import END, STOP
from emulator.chat.generate import Reader
from emulator.chat.jinja_template import JinjaTemplate, TemplateError, template_tokens
from emulator.chat.messages import TOOL, Message, chat_tokens
from emulator.chat.template import ChatFormat
from emulator.chat.text_stream import TextStream
from emulator.chat.tools import CallForm, Tool, call_form, knows_tools, tools_text
from emulator.errors import ContextError
from emulator.serve.adapter_folder import AdapterFolder
from emulator.serve.body import RequestError, unless_gone
from emulator.serve.chances import PromptChances, Recorder, TokenChances
from emulator.serve.engine import Engine
from emulator.serve.grammar import Grammars
from emulator.serve.jobs import Done, Job, Piece
from emulator.serve.mask_files import MaskFiles
from emulator.serve.metrics import Metrics
from emulator.serve.options import Options
from emulator.serve.preparing import Preparations, client_of
from emulator.serve.shapes.atoms import VENDOR_MODEL
from emulator.silicon.spec import ChipSpec
from weights.rom import RomImage

WAITING_SECONDS = 15.0  # between keep-alive messages to a client whose answer waits
T = TypeVar("T")


class Choice:
    """One answer on its way from the host's thread to a client of this event loop."""

    def __init__(
        self,
        job_parts: tuple[list[int], int, Recorder, TextStream],
        session: str = "",
        reader: Reader | None = None,
        client: str = "",
    ) -> None:
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Done] = asyncio.Queue()

        def tell(event: Piece | Done) -> None:
            try:
                loop.call_soon_threadsafe(self._events.put_nowait, event)
            except RuntimeError:  # the loop is closed, so no client is left
                self.job.cancelled = True

        self.job = Job(*job_parts, tell, session, reader, client)
        self.chances: list[TokenChances] = []

    async def pieces(self) -> AsyncIterator[Piece | None]:
        """Yield pieces when they are due, and None while waiting. Raises the job's error."""
        while True:
            try:
                event = await asyncio.wait_for(self._events.get(), WAITING_SECONDS)
            except asyncio.TimeoutError:
                yield None
                continue
            while (early := event.due - time.monotonic()) > WAITING_SECONDS:
                await asyncio.sleep(WAITING_SECONDS)
                yield None
            if early > 0:  # the chip would not have given it yet
                await asyncio.sleep(early)
            if isinstance(event, Done):
                if event.error is not None:
                    raise event.error
                return
            self.chances += event.chances
            yield event

    async def whole(self) -> str:
        """Wait for the whole answer; return its text."""
        async for _ in self.pieces():
            pass
        return self.job.stream.text

    @property
    def scored(self) -> list[TokenChances]:
        """Of the prompt's tokens, if they were asked for; complete with the answer."""
        reader = self.job.reader
        return reader.taken if isinstance(reader, PromptChances) else []

    @property
    def finish_reason(self) -> Literal["stop", "length"]:
        """Why the answer ended, as OpenAI names it."""
        return "stop" if self.job.answer.reason in (END, STOP) else "length"


@dataclass(slots=True)
class Service:
    """Cards and the model in their masks, ready for requests."""

    name: str
    image: RomImage
    chat: ChatFormat
    spec: ChipSpec
    engine: Engine
    most_tokens: int
    faithful: bool = False
    template: JinjaTemplate | None = None  # the checkpoint's own, if its image keeps one
    adapter_folder: AdapterFolder = field(default_factory=AdapterFolder)
    form: CallForm = field(init=False)  # in which the model calls functions
    grammars: Grammars = field(init=False)
    metrics: Metrics = field(init=False)
    preparations: Preparations = field(default_factory=Preparations)
    fingerprint: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.grammars = Grammars(self.image.tokenizer_json, self.image.config)
        self.metrics = Metrics(self.engine)
        self.engine.check_masks = MaskFiles(self.image).check
        self.form = call_form(str(self.image.manifest["chat_style"]))
        if self.template is not None and not knows_tools(self.template.source, self.form):
            self.template = None
        self.fingerprint = f"rom-{self.image.digest[:12]}"

    @property
    def context(self) -> int:
        return self.engine.chip.context

    @property
    def end_ids(self) -> tuple[int, ...]:
        return self.image.config.end_ids

    def token_text(self, token: int) -> str:
        """The text of a token, that of a control token too."""
        return str(self.chat.tokenizer.id_to_token(token) or "")

    def check_model(self, name: str | None) -> str:
        """The adapter that `name` asks for, "" for the model in the masks alone.

        Raises RequestError 404 for a name that is neither.
        """
        if name in (None, "", self.name, VENDOR_MODEL):
            return ""
        adapter = str(name).removeprefix(f"{self.name}:")
        if adapter in self.engine.chip.adapters:
            return adapter
        message = f"the model {name!r} does not exist; this chip holds {self.name!r}"
        raise RequestError(message, 404, "model", "model_not_found")

    def model_id(self, adapter: str = "") -> str:
        """What clients call the model with this adapter."""
        return f"{self.name}:{adapter}" if adapter else self.name

    async def prepared(
        self, request: Request, body: object, work: Callable[..., T], *args: Any, count: int = 1
    ) -> T:
        """`work(*args)`, which reads a request of `count` answers, in its turn.

        Raises RequestError as `Engine.check_room` and `Preparations.run` do.
        """
        self.engine.check_room(count, client_of(request))  # before anything is done for it
        return await self.preparations.run(request, body, work, *args)

    def chat_prompt(
        self, messages: list[Message], tools: Sequence[Tool] = (), any_length: bool = False
    ) -> list[int]:
        """The tokens of a conversation's next answer.

        The checkpoint's own template says how tools and their results are told; without one that
        speaks of tools, the system prompt lists them. Raises RequestError for a template that
        fails, and, unless `any_length`, for messages that cannot fit the context.
        """
        if not any_length:
            self.check_length([sum(len(message.text) for message in messages)], "messages")
        if self.template is not None and (
            tools or any(m.calls or m.role == TOOL for m in messages)
        ):
            try:
                return template_tokens(self.template, self.chat, messages, tools)
            except TemplateError as error:
                raise RequestError(f"messages: {error}", param="messages") from None
        told = tools_text(tools, self.form) if tools else ""
        return chat_tokens(self.chat, messages, self.form, told)

    def check_length(self, lengths: Iterable[int], param: str) -> None:
        """Raise RequestError if a text of so many characters cannot fit, whatever its tokens."""
        if self.chat.longest_token is None:  # a token may stand for any text
            return
        longest, most = max(lengths, default=0), self.context * self.chat.longest_token
        if longest > most:
            raise RequestError(
                f"a text of {longest:,} characters leaves no room in {self.context} positions",
                param=param,
                code="context_length_exceeded",
            )

    def check_prompt(self, prompt: list[int], param: str) -> None:
        """Raise RequestError if the prompt is empty or leaves no room for an answer."""
        if not prompt:
            raise RequestError(f"{param} has no tokens", param=param)
        if len(prompt) >= self.context:
            raise RequestError(
                f"a prompt of {len(prompt)} tokens leaves no room in {self.context} positions",
                param=param,
                code="context_length_exceeded",
            )

    def ask(
        self,
        prompts: list[list[int]],
        options: Options,
        reader_of: Callable[[list[int]], Reader] | None = None,
        client: str = "",
    ) -> list[Choice]:
        """Queue every choice of every prompt, in this order. Raises RequestError 429 or 503.

        `reader_of` makes what reads every position of a prompt; `client` has its share of places.
        """
        self.engine.check_room(len(prompts) * options.choices, client)
        choices = [
            Choice(
                self._job_parts(prompt, options, i),
                options.session,
                reader_of and reader_of(prompt),
                client,
            )
            for prompt in prompts
            for i in range(options.choices)
        ]
        for choice in choices:
            choice.job.adapter = options.adapter
        self.engine.submit([choice.job for choice in choices])
        return choices

    def cancel(self, choices: list[Choice]) -> None:
        """Cancel those of the choices that are not done."""
        for choice in choices:
            self.engine.cancel(choice.job)

    def probe(self) -> Choice:
        """Have a card make one token now, which takes none of the chip's paced time."""
        parts = self._job_parts(self.engine.probe_prompt(), Options(max_tokens=1), 0)
        choice = Choice(parts, "")
        choice.job.paced = False
        choice.job.adapter = self.engine.chip.adapter  # whose keys and values it keeps
        self.engine.submit([choice.job])
        return choice

    def _job_parts(
        self, prompt: list[int], options: Options, choice: int
    ) -> tuple[list[int], int, Recorder, TextStream]:
        picker = options.sampler(choice, self.grammars, self.end_ids, prompt)
        stream = TextStream(self.chat.decode, options.stop)
        return prompt, options.max_tokens, Recorder(picker, options.logprobs), stream


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def whole(request: Request, choices: list[Choice]) -> list[str]:
    """The texts of all choices. If the client disconnects or one fails, cancel them all."""
    try:
        return await unless_gone(request, _whole(choices))
    except ContextError as error:
        raise RequestError(str(error), code="context_length_exceeded") from None
    finally:
        service_of(request).cancel(choices)


async def _whole(choices: list[Choice]) -> list[str]:
    return [await choice.whole() for choice in choices]


class AnswerStream(StreamingResponse):
    """A response that streams while the chip works; when it ends, its jobs leave the queue."""

    def __init__(
        self, service: Service, choices: list[Choice], content: AsyncIterator[str], media: str
    ) -> None:
        headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
        super().__init__(content, media_type=media, headers=headers)
        self._service, self._choices = service, choices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._service.cancel(self._choices)
