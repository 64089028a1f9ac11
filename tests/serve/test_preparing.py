"""Long requests wait for one another, one of each client; short ones wait for nobody."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("starlette")

from emulator.serve.body import RequestError
from emulator.serve.preparing import SHORT_BYTES, WAITING, Preparations, client_of


class Asked:
    """A request as far as preparations look at it."""

    def __init__(self, host: str | None = "10.0.0.1", size: int = 0) -> None:
        self.client = None if host is None else SimpleNamespace(host=host)
        self.scope = {"hardwired.bytes": size}
        self.gone = asyncio.Event()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}


def long(host: str = "10.0.0.1") -> Asked:
    return Asked(host, SHORT_BYTES + 1)


def test_one_long_request_at_a_time():
    at_once, most, lock = 0, 0, threading.Lock()
    pause = threading.Event()

    def work() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        pause.wait(0.02)
        with lock:
            at_once -= 1

    async def all_of_them() -> None:
        lanes = Preparations()
        await asyncio.gather(*(lanes.run(long(f"10.0.0.{i % 3}"), None, work) for i in range(9)))
        assert not lanes._waiting
        assert not lanes._turns

    asyncio.run(all_of_them())
    assert most == 1


def test_a_short_one_overtakes():
    begun, go = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go.wait(30)
        return "slow"

    async def both() -> None:
        lanes = Preparations()
        first = asyncio.ensure_future(lanes.run(long(), None, slow))
        await asyncio.to_thread(begun.wait, 30)
        assert await lanes.run(Asked(), None, lambda: "short") == "short"
        assert not first.done()
        go.set()
        assert await first == "slow"

    asyncio.run(both())


def test_clients_take_turns():
    """One has ten requests, another comes later with one, which is not the last."""
    order: list[str] = []

    async def crowd() -> None:
        lanes = Preparations()
        many = [lanes.run(long("10.0.0.1"), None, order.append, "many") for _ in range(10)]
        await asyncio.gather(*many, lanes.run(long("10.0.0.2"), None, order.append, "one"))

    asyncio.run(crowd())
    assert order.index("one") <= 2


def test_a_grammar_makes_a_short_one_long():
    async def threads() -> tuple[str, str]:
        lanes, name = Preparations(), lambda: threading.current_thread().name
        grammar = SimpleNamespace(response_format={"type": "json_object"})
        return await lanes.run(Asked(), None, name), await lanes.run(Asked(), grammar, name)

    short, constrained = asyncio.run(threads())
    assert not short.startswith("reader")
    assert constrained.startswith("reader")


def test_too_many_of_one_client():
    go = threading.Event()

    async def flood() -> None:
        lanes = Preparations()
        waiting = [asyncio.ensure_future(lanes.run(long(), None, go.wait)) for _ in range(WAITING)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="wait to be read") as told:
            await lanes.run(long(), None, go.wait)
        assert told.value.status == 429
        go.set()
        await asyncio.gather(*waiting)

    asyncio.run(flood())


def test_who_goes_away_waits_no_longer():
    begun, go = threading.Event(), threading.Event()
    ran: list[int] = []

    def slow() -> None:
        begun.set()
        assert go.wait(30)

    async def leave() -> None:
        lanes = Preparations()
        first = asyncio.ensure_future(lanes.run(long(), None, slow))
        await asyncio.to_thread(begun.wait, 30)
        asked = long("10.0.0.2")
        second = asyncio.ensure_future(lanes.run(asked, None, ran.append, 1))
        await asyncio.sleep(0)
        asked.gone.set()
        with pytest.raises(RequestError, match="went away"):
            await second
        go.set()
        await first
        assert not ran

    asyncio.run(leave())


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        (None, "unknown"),
    ],
)
def test_who_is_a_client(host, client):
    async def asked() -> str:
        return client_of(Asked(host))

    assert asyncio.run(asked()) == client
