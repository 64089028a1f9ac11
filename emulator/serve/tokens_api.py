"""Counts and ids of tokens before anything is asked: /tokenize, /detokenize, /tokenizer_info."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.serve.body import RequestError, read, refuse
from emulator.serve.prompts import read_messages, text_tokens
from emulator.serve.replies import built
from emulator.serve.service import Service, service_of
from emulator.serve.shapes.tokens import (
    Detokenized,
    DetokenizeRequest,
    Tokenized,
    TokenizeRequest,
    TokenizerInfo,
)
from emulator.serve.tools import offered


async def tokenize(request: Request) -> Response:
    """POST /tokenize"""
    service, body = service_of(request), await read(request, TokenizeRequest)
    service.check_model(body.model)
    tokens = await service.preparations.run(request, body, _tokens, service, body)
    told = Tokenized(count=len(tokens), max_model_len=service.context, tokens=tokens)
    return JSONResponse(built(told))


def _tokens(service: Service, body: TokenizeRequest) -> list[int]:
    """The text's tokens; the name of a control token, alone, is that token."""
    if body.messages is not None:
        messages = read_messages(body.messages, "messages")
        return service.chat_prompt(messages, offered(body.tools), any_length=True)
    if body.prompt is None:
        raise RequestError("prompt or messages must be given", param="prompt")
    control = service.chat.tokenizer.token_to_id(body.prompt)
    if control is not None and control in service.chat.tokenizer.get_added_tokens_decoder():
        return [int(control)]
    if body.add_special_tokens is False:
        return service.chat.encode(body.prompt)
    return text_tokens(service.chat, body.prompt)


async def detokenize(request: Request) -> Response:
    """POST /detokenize"""
    service, body = service_of(request), await read(request, DetokenizeRequest)
    service.check_model(body.model)
    vocabulary = service.image.config.vocabulary
    if any(token >= vocabulary for token in body.tokens):
        refuse("tokens", f"ids from 0 to {vocabulary - 1}", max(body.tokens))
    text = await service.preparations.run(request, body, service.chat.decode, body.tokens)
    return JSONResponse(built(Detokenized(prompt=text)))


async def tokenizer_info(request: Request) -> Response:
    """GET /tokenizer_info"""
    service = service_of(request)
    config = service.image.config
    eos = service.token_text(config.end_ids[0]) if config.end_ids else None
    info = TokenizerInfo(
        tokenizer_class="PreTrainedTokenizerFast",
        vocab_size=config.vocabulary,
        model_max_length=service.context,
        bos_token=None if config.bos_id is None else service.token_text(config.bos_id),
        eos_token=eos,
        pad_token=eos,
        chat_template=service.template.source if service.template else None,
    )
    return JSONResponse(built(info))
