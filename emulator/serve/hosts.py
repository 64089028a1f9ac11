"""Names that a server on this computer answers to, so that no foreign web page can use it.

A page of evil.example may have its name resolve to 127.0.0.1 (DNS rebinding): its requests then
count as its own in the browser, but `Host` still names evil.example. A page that only posts to
http://127.0.0.1 from elsewhere is told by `Origin`.
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
    """Names by which a server bound to `address` may be called: `localhost` and every loopback
    address, its own `host`, and `more`. Bound elsewhere, it has names that it cannot know, and
    answers to all, unless `more` says which.

    Raises UsageError for a name that is none.
    """

    def __init__(self, address: str, host: str, more: list[str]) -> None:
        for name in more:
            if not _is_address(name) and not NAME.fullmatch(name.lower()):
                raise UsageError(f"--allow-host must be a name without scheme and port: {name!r}")
        self._any = not _is_loopback(address) and not more
        self._names = {"localhost", address, *(name.lower() for name in (host, *more))}

    def check(self, scope: Scope) -> None:
        """Raises RequestError 403 for a `Host` or an `Origin` that is not one of ours."""
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
