"""What the tests of the page share: fields, questions, stored conversations, made-up streams."""

from __future__ import annotations

import json
from typing import Any

from tests.support.browser import Browser

LAST = "document.querySelector('#turns li:last-child.assistant')"
IDLE = "document.querySelector('#stop').hidden"
DONE = f"{IDLE} && {LAST} !== null && {LAST}.querySelector('.under, .error') !== null"


def set_value(browser: Browser, selector: str, value: str) -> None:
    """Choose a setting, as a user would in the dialog."""
    browser.js(
        f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
        f"e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); return true; }})()"
    )


def ask(browser: Browser, text: str) -> None:
    browser.type("#question", text)
    browser.press_enter()


def click(browser: Browser, name: str, inside: str = "document") -> None:
    """Press the first visible button that bears this name."""
    found = f"[...{inside}.querySelectorAll('button')].find(b => b.offsetParent && \
        (b.textContent === {json.dumps(name)} || b.ariaLabel === {json.dumps(name)}))"
    browser.js(f"({found}).click()")


def turns(browser: Browser) -> list[dict[str, Any]]:
    """The current conversation as the page keeps it."""
    return browser.js("JSON.parse(localStorage.getItem('hardwired.chats'))[0].turns")  # type: ignore[no-any-return]


def stored(browser: Browser, url: str, *turns: dict[str, Any]) -> None:
    """Open the page with a conversation that it once kept."""
    chats = json.dumps([{"id": "1", "title": "kept", "turns": turns}])
    browser.js(f"localStorage.setItem('hardwired.chats', {json.dumps(chats)}); true")
    browser.open(url)
    browser.until(f"document.querySelectorAll('#turns li').length === {len(turns)}")


def next_answer(browser: Browser, text: str) -> None:
    """Make the next answer say `text`, in some 40 pieces, through the page's own reader."""
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "chip": {"tokens_per_second": 1, "seconds": 1, "cycles": 1},
        "host": {"queue_seconds": 0, "seconds": 1},
    }
    size = max(1, len(text) // 40)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    events: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": piece}}], "chip": {"tokens": 1, "seconds": 0}}
        for piece in pieces
    ]
    events.append({"choices": [], "usage": usage})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    browser.js(
        "(() => { const real = window.fetch; window.fetch = (path, options) => {"
        "if (!path.includes('completions')) return real(path, options); window.fetch = real;"
        f"return Promise.resolve(new Response({json.dumps(body)})); }}; return true; }})()"
    )
