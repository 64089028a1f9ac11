"""The OpenAPI description of the server, at /openapi.json.

Bodies are described from the declarations that check them (`emulator.serve.shapes`), so that the
two cannot differ.
"""

from __future__ import annotations

from typing import Any

import msgspec

from emulator import __version__
from emulator.serve.routes import ENDPOINTS

Schema = dict[str, Any]
STREAMS = ("text/event-stream", "application/x-ndjson")
CONTEXT: Schema = {"name": "context", "in": "query", "schema": {"type": "integer", "minimum": 1}}
ERRORS = ("400", "401", "403", "404", "408", "413", "422", "429", "503")


def _operation(summary: str, content: Schema | None = None, **more: Any) -> Schema:
    responses = {code: {"description": "refused, with the reason"} for code in ERRORS}
    good = {"description": summary, **({"content": content} if content else {})}
    return {"summary": summary, "responses": {"200": good, **responses}, **more}


def openapi() -> Schema:
    """The whole description, OpenAPI 3.1."""
    kinds = [kind for one in ENDPOINTS for kind in (*_listed(one.request), *_listed(one.reply))]
    bodies = list(dict.fromkeys(kinds))
    schemas, parts = msgspec.json.schema_components(
        bodies, ref_template="#/components/schemas/{name}"
    )
    found = dict(zip(bodies, schemas, strict=True))

    def content(kind: Any, streams: bool = False) -> Schema:
        schemas = [found[one] for one in _listed(kind)]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        told: Schema = {"application/json": {"schema": schema}} if schemas else {}
        streamed: Schema = {media: {} for media in STREAMS}
        return told | (streamed if streams else {})

    paths: Schema = {}
    for one in ENDPOINTS:
        if one.request is None:
            asked = {"parameters": [CONTEXT]} if one.takes_context else {}
            paths[one.path] = {"get": _operation(one.summary, content(one.reply), **asked)}
        else:
            body = {"required": True, "content": content(one.request)}
            told = content(one.reply, True)
            paths[one.path] = {"post": _operation(one.summary, told, requestBody=body)}
    about = {"title": "hardwired-llama", "version": __version__}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": {"schemas": parts}}


def _listed(kind: Any) -> list[Any]:
    """The declarations of a body: none, one, or alternatives."""
    return list(kind) if isinstance(kind, tuple) else [kind] if kind else []
