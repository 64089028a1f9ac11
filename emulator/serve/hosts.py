"""Which host names the server answers to, so that no foreign web page can use it.

The name evil.example may resolve to 127.0.0.1 (DNS rebinding). The browser then treats requests to
this server as same-origin, but `Host` still says evil.example. `Origin` reveals a page of another
site that posts to http://127.0.0.1.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import Scope

from emulator.errors import UsageError
from emulator.serve.body import RequestError

NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", re.ASCII)


class Hosts:
    """The host names of a server bound to `address`.

    They are `localhost`, every loopback address, its own `host`, and `more`. A server bound to
    another address cannot know its names, so it answers to all unless `more` lists them.

    Raises UsageError for an invalid name.
    """

    def __init__(self, address: str, host: str, more: list[str]) -> None:
        for name in more:
            if not _is_address(name) and not NAME.fullmatch(name.lower()):
                raise UsageError(f"--allow-host must be a name without scheme and port: {name!r}")
        self._any = not _is_loopback(address) and not more
        self._names = {"localhost", address, *(name.lower() for name in (host, *more))}

    def check(self, scope: Scope) -> None:
        """Raise RequestError 403 if `Host` or `Origin` is not one of our names."""
        headers = dict(scope["headers"])
        if self._any:
            return
        if b"host" in headers and not self._ours("//" + headers[b"host"].decode("latin-1")):
            raise RequestError(
                "this server does not answer to that host name: start it with --allow-host NAME",
                403,
                code="host_not_allowed",
            )
        if b"origin" in headers and not self._ours(headers[b"origin"].decode("latin-1")):
            raise RequestError(
                "pages of that origin may not use this server: start it with --allow-host NAME",
                403,
                code="origin_not_allowed",
            )

    def _ours(self, url: str) -> bool:
        try:
            name = (urlsplit(url).hostname or "").removesuffix(".")
        except ValueError:
            return False
        return name in self._names or _is_loopback(name)


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ip_address(text).is_loopback
