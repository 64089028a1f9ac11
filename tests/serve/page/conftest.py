"""A server with the tiny model, and the page open in a browser that remembers nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser
from tests.support.serve_process import Server, serving

OWN = ("data:", "about:", "blob:")


@pytest.fixture(scope="package")
def server(served_image):
    with serving(served_image) as server:
        yield server


@pytest.fixture(scope="package")
def chromium(server, tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(server, chromium):
    """The page as a newcomer on a desk sees it."""
    chromium.size(1000, 740)
    chromium.open(server.url)
    chromium.js("localStorage.clear(); sessionStorage.clear(); true")
    yield from opened(chromium, server)


@pytest.fixture
def fresh_browser(server, tmp_path):
    """A browser of its own: one that has seen many pages may draw no more frames."""
    browser = Browser(tmp_path / "profile")
    try:
        yield from opened(browser, server)
    finally:
        browser.close()


def opened(browser: Browser, server: Server) -> Iterator[Browser]:
    """With the page loaded; afterwards it shows that nothing was asked of any other host."""
    browser.events.clear()
    browser.open(server.url)
    browser.until("document.querySelector('#about').textContent.includes('tiny')")
    yield browser
    assert all(url.startswith((server.url, *OWN)) for url in browser.requested())
