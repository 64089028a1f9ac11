"""Web pages of other origins can neither read nor use a server on this computer."""

from __future__ import annotations

import pytest

from emulator.errors import UsageError
from emulator.serve.hosts import Hosts
from tests.support.refusals import refused
from tests.support.serve_process import MESSAGES, serving, until

PATHS = ("/", "/page/page.js", "/health", "/v1/models", "/openapi.json", "/nowhere")


@pytest.fixture(scope="module")
def server(served_image):
    with serving(served_image, "--allow-host", "Chip.example") as server:
        yield server


@pytest.mark.parametrize("path", PATHS)
def test_a_rebound_name_reads_nothing(server, path):
    """evil.example resolves to 127.0.0.1 by now; its page asks for what it takes for its own."""
    reply = server.get(path, headers={"host": f"evil.example:{server.port}"})
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "host_not_allowed"
    assert "--allow-host" in reply.json()["error"]["message"]
    ident = reply.headers["x-request-id"]
    until(lambda: any((line["id"], line["status"]) == (ident, 403) for line in server.log()))
    assert "evil" not in "".join(server.lines)


OWN = (
    "localhost LOCALHOST:8017 localhost. 127.0.0.1 127.1.2.3:1 [::1]:8017 [::1] chip.example "
    "CHIP.example:443"
)
ALIKE = (
    "localhost.evil.example 127.0.0.1.evil.example evil.example#localhost localhost@evil.example "
    "10.0.0.1 0.0.0.0 2130706433 x.chip.example [::2]:8017 [::1"
)


@pytest.mark.parametrize("host", OWN.split())
def test_names_of_its_own(server, host):
    assert server.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["", *ALIKE.split()])
def test_names_that_only_look_so(server, host):
    assert server.get("/v1/models", headers={"host": host}).status_code in (400, 403)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example"]
)
def test_a_page_from_elsewhere_cannot_have_the_chip_work(server, origin):
    """A form may post text anywhere without asking; the answer would be hidden, the work done."""
    before = server.metric('tokens_total{kind="prompt"}')
    headers = {"origin": origin, "content-type": "text/plain"}
    reply = server.post("/v1/chat/completions", {"messages": MESSAGES}, headers=headers)
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "origin_not_allowed"
    assert server.metric('tokens_total{kind="prompt"}') == before


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://chip.example"])
def test_pages_of_its_own_may_ask(server, origin):
    body = {"messages": MESSAGES, "max_tokens": 1}
    reply = server.post("/v1/chat/completions", body, headers={"origin": origin})
    assert reply.status_code == 200
    assert "access-control-allow-origin" not in reply.headers  # nor may another port read it


def test_a_preflight_promises_nothing(server):
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    for origin in ("http://evil.example", "http://localhost:3000"):
        headers = {"origin": origin, **asked}
        reply = server.http.options("/v1/chat/completions", headers=headers)
        assert reply.status_code in (403, 405)
        assert not [name for name in reply.headers if name.startswith("access-control")]


def scope(**headers: str) -> dict:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "headers": pairs}


def test_beyond_this_computer_every_name_may_be_its_own():
    Hosts("0.0.0.0", "0.0.0.0", []).check(scope(host="desk.lan:8017", origin="http://desk.lan"))


def test_the_name_it_was_bound_by_is_its_own():
    Hosts("127.0.0.1", "desk", []).check(scope(host="desk:8017"))


def test_names_that_are_told_hold_beyond_this_computer_too():
    hosts = Hosts("0.0.0.0", "0.0.0.0", ["desk.lan"])
    hosts.check(scope(host="desk.lan:8017", origin="http://desk.lan:8017"))
    with pytest.raises(Exception, match="host name"):
        hosts.check(scope(host="evil.example"))


@pytest.mark.parametrize("name", ["http://a", "a:80", "", "*", "a b", "a/", "-a"])
def test_names_that_are_none(name):
    refused(UsageError, "--allow-host", lambda: Hosts("127.0.0.1", "127.0.0.1", [name]))
