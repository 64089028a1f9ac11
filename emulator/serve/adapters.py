"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM names them.

Both ask for the server's API key, and a server without one refuses them. Folders are looked up
below `--lora-root` alone. The cards take an adapter when none of them is in the middle of an
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chip import build_stages
from emulator.errors import AdapterError, EmulatorError
from emulator.serve.adapter_folder import AdapterFolder
from emulator.serve.body import RequestError, read
from emulator.serve.cards import Card
from emulator.serve.replies import built
from emulator.serve.service import Service, service_of
from emulator.serve.shapes.adapters import Loaded, LoadRequest, Unloaded, UnloadRequest

if TYPE_CHECKING:
    from emulator.traffic.service_times import ServiceTimes
    from weights.lora import Adapter


async def load(request: Request) -> Response:
    """POST /v1/load_lora_adapter: lora_name, lora_path."""
    service, body = service_of(request), await read(request, LoadRequest)
    folder, name = service.adapter_folder, body.lora_name
    folder.check()
    if name in service.engine.chip.adapters:
        raise RequestError(f"an adapter {name} is loaded already", param="lora_name")
    adapter = await asyncio.to_thread(_told, folder, service, name, body.lora_path)
    times = await asyncio.to_thread(_times, service, adapter)
    await _between(service, lambda card: card.load(adapter, times))
    told = Loaded(message=f"adapter {name} is loaded", id=service.model_id(name))
    return JSONResponse(built(told))


async def unload(request: Request) -> Response:
    """POST /v1/unload_lora_adapter: lora_name. Answers that wait for it are refused."""
    service, body = service_of(request), await read(request, UnloadRequest)
    name = body.lora_name
    service.adapter_folder.check()
    if name not in service.engine.chip.adapters:
        raise RequestError(f"no adapter {name} is loaded", 404, "lora_name", "model_not_found")
    await _between(service, lambda card: card.drop(name))
    return JSONResponse(built(Unloaded(message=f"adapter {name} is gone")))


def _told(folder: AdapterFolder, service: Service, name: str, path: str) -> Adapter:
    try:
        return folder.read(service.image, name, path)
    except AdapterError as error:
        root = str(folder.check().resolve())  # not the client's to know
        message = str(error).replace(f"{root}/", "")
        raise RequestError(message, param="lora_path") from None


def _times(service: Service, adapter: Adapter) -> ServiceTimes | None:
    """Of its answers, where cards keep the chip's pace."""
    pace = service.engine.pace
    if pace is None or pace.reckon is None:
        return None
    return pace.reckon(build_stages(service.image, 1, adapter.matrices))


async def _between(service: Service, work: Callable[[Card], None]) -> None:
    """Do it with every card, in the host's thread. Raises RequestError for what a chip refuses."""
    try:
        await asyncio.wrap_future(service.engine.between_answers(work))
    except RequestError:
        raise
    except EmulatorError as error:
        raise RequestError(str(error), param="lora_name") from None
