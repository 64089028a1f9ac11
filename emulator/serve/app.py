"""The application: the routes of `emulator.serve.routes`, the shape of errors, and the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from emulator.errors import EmulatorError
from emulator.serve import anthropic, openai_api
from emulator.serve.access import Gate
from emulator.serve.body import RequestError
from emulator.serve.description import openapi
from emulator.serve.hosts import Hosts
from emulator.serve.replies import error_object
from emulator.serve.routes import ENDPOINTS
from emulator.serve.service import Service

PAGE = Path(__file__).with_name("page")
PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def build_app(service: Service, api_key: str | None, hosts: Hosts, patience: float) -> ASGIApp:
    """Build the application. It starts and stops the engine; the last answer has `patience` s."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.engine.start()
        await (
            service.probe().whole()
        )  # before any request: compiles the kernels, shows that the chip works
        yield
        await asyncio.to_thread(service.engine.stop, patience)

    routes: list[Route | Mount] = [
        Route(one.path, one.handler, methods=["POST" if one.request else "GET"])
        for one in ENDPOINTS
        if one.of_demo or not service.faithful
    ]
    routes += [
        Route("/v1/models/{name:path}", openai_api.model),
        Route("/openapi.json", description),
        Route("/", page),
        Mount("/page", _Page(directory=PAGE)),
    ]
    handlers: Mapping[Any, Any] = {EmulatorError: on_error, HTTPException: on_http_error}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.add_exception_handler(Exception, on_fault)
    app.state.service = service

    def count(route: str, status: int) -> None:
        service.metrics.requests.labels(route, str(status)).inc()

    return Gate(app, api_key, hosts, count)


async def on_error(request: Request, error: EmulatorError) -> Response:
    """An error that the user can fix, in the shape of the route's interface."""
    status = error.status if isinstance(error, RequestError) else 400
    headers = error.headers if isinstance(error, RequestError) else None
    path = request.url.path
    content = error_object(error)
    if path.startswith("/api/"):
        content = {"success": False, "error": str(error)}
    elif path.startswith("/v1/messages"):
        content = anthropic.error_object(error)
    elif path == "/generate" and status == 400 and getattr(error, "code", None) is None:
        place = ["body", *filter(None, [getattr(error, "param", None)])]
        content = {"detail": [{"loc": place, "msg": str(error), "type": "value_error"}]}
        status = 422
    return JSONResponse(content, status, headers)


async def on_http_error(request: Request, error: HTTPException) -> Response:
    """An unknown route, or a method that it does not allow."""
    if request.url.path.startswith("/api/"):
        return Response(b"", error.status_code, error.headers)
    told = RequestError(f"{error.detail}: see /v1/models, docs/serving.md", error.status_code)
    return JSONResponse(error_object(told), error.status_code, error.headers)


async def on_fault(request: Request, error: Exception) -> Response:
    """A bug: the log gets the traceback, the client an id to quote."""
    told = RequestError("the server failed; its log says why, under this x-request-id", 500)
    return JSONResponse(error_object(told), 500)


async def description(request: Request) -> Response:
    """GET /openapi.json"""
    return JSONResponse(openapi())


async def page(request: Request) -> Response:
    """GET /"""
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


class _Page(StaticFiles):
    """The page's own files, and nothing from elsewhere."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response
