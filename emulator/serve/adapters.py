"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM names them.

Both ask for the server's API key, and a server without one refuses them. Folders are looked up
below `--lora-root` alone. The chip takes an adapter between two answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.errors import AdapterError, EmulatorError
from emulator.fields import PLAIN_NAME
from emulator.serve.adapter_folder import AdapterFolder
from emulator.serve.body import Body, RequestError, read_body
from emulator.serve.service import Service, service_of

if TYPE_CHECKING:
    from weights.lora import Adapter

PATH_CHARACTERS = 1000


async def load(request: Request) -> Response:
    """POST /v1/load_lora_adapter: lora_name, lora_path."""
    service, body = service_of(request), await read_body(request)
    folder, name = service.adapter_folder, _name(body)
    folder.check()
    if name in service.engine.chip.adapters:
        raise RequestError(f"an adapter {name} is loaded already", param="lora_name")
    path = body.text("lora_path", PATH_CHARACTERS)
    if not path:
        raise RequestError("lora_path: the adapter's folder, below --lora-root", param="lora_path")
    adapter = await asyncio.to_thread(_told, folder, service, name, path)
    await _between(service, lambda: service.engine.chip.load(adapter))
    return JSONResponse({"message": f"adapter {name} is loaded", "id": service.model_id(name)})


async def unload(request: Request) -> Response:
    """POST /v1/unload_lora_adapter: lora_name. Answers that wait for it are refused."""
    service, body = service_of(request), await read_body(request)
    name = _name(body)
    service.adapter_folder.check()
    if name not in service.engine.chip.adapters:
        raise RequestError(f"no adapter {name} is loaded", 404, "lora_name", "model_not_found")
    await _between(service, lambda: service.engine.chip.drop(name))
    return JSONResponse({"message": f"adapter {name} is gone"})


def _told(folder: AdapterFolder, service: Service, name: str, path: str) -> Adapter:
    try:
        return folder.read(service.image, name, path)
    except AdapterError as error:
        root = str(folder.check().resolve())  # not the client's to know
        message = str(error).replace(f"{root}/", "")
        raise RequestError(message, param="lora_path") from None


async def _between(service: Service, work: Callable[[], None]) -> None:
    """Do it in the chip's thread. Raises RequestError for what the chip refuses."""
    try:
        await asyncio.wrap_future(service.engine.between_jobs(work))
    except RequestError:
        raise
    except EmulatorError as error:
        raise RequestError(str(error), param="lora_name") from None


def _name(body: Body) -> str:
    name = body.text("lora_name", 200)
    if not PLAIN_NAME.fullmatch(name):
        raise RequestError("lora_name: letters, digits, and - _ . between", param="lora_name")
    return name
