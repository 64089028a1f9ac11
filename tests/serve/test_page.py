"""The page, in a real browser: asking, streaming, stopping, history, errors, both themes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, Browser
from tests.support.serve_process import serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")

LAST = "document.querySelector('#turns li:last-child.assistant')"
IDLE = "document.querySelector('#stop').hidden"
DONE = f"{IDLE} && {LAST} !== null && {LAST}.querySelector('.under, .error') !== null"


@pytest.fixture(scope="module")
def server(served_image):
    with serving(served_image) as server:
        yield server


@pytest.fixture
def browser(server, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(server.url)
        browser.until("document.querySelector('#about').textContent.includes('tiny')")
        yield browser
        assert all(url.startswith((server.url, "data:", "about:")) for url in browser.requested())
    finally:
        browser.close()


def set_value(browser, selector, value) -> None:
    browser.js(
        f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
        f"e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); return true; }})()"
    )


def ask(browser, text: str) -> None:
    browser.type("#question", text)
    browser.press_enter()


def test_an_answer_with_its_speed_bars_and_history(browser, server):
    set_value(browser, "#max-tokens", "12")
    ask(browser, "hi")
    browser.until(DONE)
    expected = server.chat(max_tokens=12)["choices"][0]["message"]["content"]
    assert browser.js(f"{LAST}.querySelector('.said').textContent") == expected
    line = browser.js(f"{LAST}.querySelector('.under').textContent")
    assert "tok/s" in line
    assert "cycles (estimate)" in line
    assert "21 + 12 tokens" in line
    browser.js(f"{LAST}.querySelector('details').open = true")
    rows = f"{LAST}.querySelectorAll('tbody tr')"
    browser.until(f"{rows}.length > 8")
    report = server.get("/hardwired/cycles?context=21").json()["cycles_by_block"]
    blocks = browser.js(f"[...{rows}].map(r => r.cells[0].textContent)")
    assert blocks[0] == max(report, key=report.get)
    widths = browser.js(f"[...{rows}].map(r => r.querySelector('.bar div').offsetWidth)")
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]

    ask(browser, "more")
    browser.until(f"{DONE} && document.querySelectorAll('#turns li').length === 4")
    texts = "[...document.querySelectorAll('.said')].map(e => e.textContent)"
    before = browser.js(texts)
    browser.open(server.url)
    browser.until("document.querySelectorAll('#turns li').length === 4")
    assert browser.js(texts) == before
    assert browser.complaints() == []


def test_a_suggestion_is_asked_with_a_click(browser):
    set_value(browser, "#max-tokens", "5")
    suggestion = browser.js("document.querySelector('#empty button').textContent")
    browser.js("document.querySelector('#empty button').click()")
    browser.until(DONE)
    assert browser.js("document.querySelector('.user .said').textContent") == suggestion
    assert browser.js("document.querySelector('#empty').hidden")


def test_stop_ends_a_slow_answer_and_keeps_it(browser):
    """77 us of chip time as 77 s, in many pieces; `until` waits for 30 s at most."""
    for name, value in {"max-tokens": "200", "top-k": "8", "seed": "3"}.items():
        set_value(browser, f"#{name}", value)
    set_value(browser, "#pace", "slow")
    set_value(browser, "#times", "1000000")
    ask(browser, "hi")
    browser.until(f"!{IDLE} && {LAST} && {LAST}.querySelector('.said').textContent.length > 0")
    browser.js("document.querySelector('#stop').click()")
    browser.until(IDLE)
    assert browser.js(f"{LAST}.querySelector('.under') !== null")


def test_stop_before_the_first_token(browser):
    browser.type("#question", "hi")
    browser.js("document.querySelector('#ask').requestSubmit()")
    browser.js("document.querySelector('#ask').requestSubmit() || true")
    browser.until(DONE)
    count = browser.js("document.querySelectorAll('#turns li').length")
    assert count == 2  # a second click asks nothing
    click = "document.querySelector('#stop').click()"
    browser.type("#question", "again")
    browser.js(f"document.querySelector('#ask').requestSubmit(); {click}")
    browser.until(f"{DONE} && document.querySelectorAll('#turns li').length === 4")
    assert browser.js(f"{LAST}.querySelector('.error').textContent") == "Stopped."


def test_a_refusal_is_shown(browser):
    browser.type("#question", "x" * 400)
    browser.press_enter()
    error = browser.until(f"{LAST} && {LAST}.querySelector('.error')?.textContent")
    assert "leaves no room in 256 positions" in error


def test_chats_and_settings_are_kept_apart(browser, server):
    set_value(browser, "#max-tokens", "5")
    set_value(browser, "#system", "be")
    ask(browser, "one")
    browser.until(DONE)
    browser.js("document.querySelector('#new').click()")
    assert browser.js("document.querySelectorAll('#turns li').length") == 0
    browser.open(server.url)
    assert browser.js("document.querySelector('#system').value") == "be"
    titles = browser.js("[...document.querySelector('#chats').options].map(o => o.text)")
    assert "one" in titles


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(1, 2, 3)", as WCAG 2 defines it."""
    parts = [int(n) / 255 for n in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_both_themes_on_a_desk_and_on_a_phone(browser, tmp_path, theme, width):
    """No sideways scrolling, every control has a name and is large enough to touch, and text
    stands out from its ground. PICTURES=folder keeps the screenshots."""
    browser.theme(theme)
    browser.size(width, 740)
    set_value(browser, "#max-tokens", "12")
    ask(browser, "hi")
    browser.until(DONE)
    browser.js(f"{LAST}.querySelector('details').open = true")
    browser.until(f"{LAST}.querySelectorAll('tbody tr').length > 8")
    browser.js("document.querySelector('#settings').open = true")
    assert browser.js("document.documentElement.scrollWidth") <= width
    nameless = "[...document.querySelectorAll('button, select, input, textarea')].filter(e => \
        !e.textContent && !e.labels?.length && !e.ariaLabel).map(e => e.id)"
    assert browser.js(nameless) == []
    small = "[...document.querySelectorAll('button, select')].filter(e => \
        e.offsetHeight && e.offsetHeight < 24).map(e => e.id)"
    assert browser.js(small) == []
    for selector, ground in {
        "#about": "body",
        ".assistant .said": ".assistant",
        ".under": ".assistant",
        ".user .said": ".user .said",
        "#send": "#send",
    }.items():
        text = luminance(
            browser.js(f"getComputedStyle(document.querySelector('{selector}')).color")
        )
        under = luminance(
            browser.js(f"getComputedStyle(document.querySelector('{ground}')).backgroundColor")
        )
        high, low = max(text, under), min(text, under)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector
    folder = Path(os.environ.get("PICTURES", tmp_path))
    assert browser.screenshot(folder / f"{theme}-{width}.png").startswith(b"\x89PNG")
