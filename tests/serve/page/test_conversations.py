"""The page, in a real browser: asking, streaming, stopping, history, errors, both themes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM
from tests.support.page import DONE, IDLE, LAST, ask, click, set_value, turns

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")


def test_an_answer_with_its_speed_bars_and_history(browser, server):
    set_value(browser, "#max-tokens", "12")
    set_value(browser, "#top-k", "1")
    ask(browser, "hi")
    browser.until(DONE)
    expected = server.chat(max_tokens=12)["choices"][0]["message"]["content"]
    assert turns(browser)[-1]["text"] == expected
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
    for name, value in {
        "max-tokens": "200",
        "top-k": "8",
        "temperature": "0.5",
        "seed": "3",
    }.items():
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
    click(browser, "New chat")
    assert browser.js("document.querySelectorAll('#turns li').length") == 0
    click(browser, "New chat")  # an empty one is not begun twice
    browser.open(server.url)
    assert browser.js("document.querySelector('#system').value") == "be"
    assert titles(browser) == ["New chat", "one"] or titles(browser) == ["one"]
    click(browser, "one")
    assert browser.js("document.querySelectorAll('#turns li').length") == 2


def titles(browser) -> list[str]:
    return browser.js("[...document.querySelectorAll('#chats .chat')].map(e => e.textContent)")


def test_a_deleted_chat_can_be_brought_back(browser):
    set_value(browser, "#max-tokens", "5")
    ask(browser, "keep me")
    browser.until(DONE)
    click(browser, "Delete keep me")
    assert titles(browser) == ["New chat"]
    click(browser, "Undo")
    assert "keep me" in titles(browser)
    assert browser.js("document.querySelectorAll('#turns li').length") == 2


def test_another_answer_takes_the_place_of_the_last(browser):
    set_value(browser, "#max-tokens", "12")
    set_value(browser, "#seed", "1")
    set_value(browser, "#temperature", "2")
    ask(browser, "hi")
    browser.until(DONE)
    first = turns(browser)[-1]
    set_value(browser, "#seed", "2")
    click(browser, "Regenerate", LAST)
    browser.until(f"{DONE} && {LAST}.textContent.includes('seed 2')")
    question, second = turns(browser)
    assert question["text"] == "hi"
    assert second["text"] != first["text"]
    assert second["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
    line = browser.js(f"{LAST}.querySelector('.under').textContent")
    assert "seed 2" in line


def test_the_old_answer_stays_when_no_other_comes(browser):
    set_value(browser, "#max-tokens", "5")
    ask(browser, "hi")
    browser.until(DONE)
    first = turns(browser)[-1]["text"]
    set_value(browser, "#temperature", "77")  # refused
    click(browser, "Regenerate", LAST)
    browser.until("document.querySelector('#status').textContent.includes('The old answer stays')")
    assert turns(browser)[-1]["text"] == first
    assert browser.js(f"{LAST}.querySelector('.under') !== null")


def test_a_changed_question_is_asked_again(browser):
    """The last one in its place, an earlier one in a conversation of its own: nothing is lost."""
    set_value(browser, "#max-tokens", "5")
    for number, question in enumerate(("one", "two"), 1):
        ask(browser, question)
        browser.until(f"{DONE} && document.querySelectorAll('#turns li').length === {2 * number}")
    change(browser, 1, "two, please")
    browser.until(f"{DONE} && document.querySelectorAll('#turns li').length === 4")
    assert [turn["text"] for turn in turns(browser)[::2]] == ["one", "two, please"]
    change(browser, 0, "zero")
    browser.until(f"{DONE} && document.querySelectorAll('#turns li').length === 2")
    assert [turn["text"] for turn in turns(browser)[::2]] == ["zero"]
    assert titles(browser) == ["zero", "one"]
    click(browser, "one")
    assert browser.js("document.querySelectorAll('#turns li').length") == 4


def change(browser, which: int, text: str) -> None:
    """Edit the question of this number, as a user would."""
    click(browser, "Edit", f"document.querySelectorAll('#turns .user')[{which}]")
    browser.js("document.querySelector('.edit textarea').value = ''; true")
    browser.type(".edit textarea", text)
    browser.press_enter()
    browser.until("document.querySelector('.edit') === null")


def test_the_sidebar_folds_away_on_a_phone_and_the_composer_has_one_row(browser, server):
    browser.size(390, 740)
    browser.open(server.url)
    side = "document.querySelector('#side').offsetWidth"
    assert browser.js(side) == 0
    click(browser, "Conversations")
    assert 200 < browser.js(side) < 390
    assert browser.js("document.querySelector('#menu').ariaExpanded") == "true"
    browser.js("document.querySelector('#shade').click()")
    assert browser.js(side) == 0
    tops = "[...document.querySelectorAll('#ask .row > *')].filter(e => e.offsetWidth > 1)"
    middles = browser.js(f"{tops}.map(e => e.offsetTop + e.offsetHeight / 2)")
    assert len(middles) == 3  # attach, message, send
    assert max(middles) - min(middles) < 3
    assert browser.js("document.querySelector('#ask').offsetHeight") < 70
    browser.size(1000, 740)
    browser.open(server.url)
    assert browser.js(side) > 200
    click(browser, "Conversations")
    assert browser.js(side) == 0
    browser.open(server.url)
    assert browser.js(side) == 0  # as it was left


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(1, 2, 3)", as WCAG 2 defines it."""
    parts = [int(n) / 255 for n in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 390])
def test_both_themes_on_a_desk_and_on_a_phone(fresh_browser, tmp_path, theme, width):
    """No sideways scrolling, every control has a name and is large enough to touch, and text
    stands out from its ground. PICTURES=folder keeps the screenshots."""
    browser = fresh_browser
    browser.theme(theme)
    browser.size(width, 740)
    set_value(browser, "#max-tokens", "12")
    ask(browser, "hi")
    browser.until(DONE)
    browser.js(f"{LAST}.querySelector('details').open = true")
    browser.until(f"{LAST}.querySelectorAll('tbody tr').length > 8")
    assert browser.js("document.documentElement.scrollWidth") <= width
    nameless = "[...document.querySelectorAll('button, select, input, textarea')].filter(e => \
        !e.textContent.trim() && !e.labels?.length && !e.ariaLabel).map(e => e.id)"
    assert browser.js(nameless) == []
    small = "[...document.querySelectorAll('button, select')].filter(e => \
        e.offsetHeight && e.offsetHeight < 24).map(e => e.id)"
    assert browser.js(small) == []
    for selector, ground in {
        "#about": "#side",
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
    for opened in ("Die view", "Settings"):
        click(browser, opened)
        dialog = "document.querySelector('dialog[open]')"
        box = f"(d => [d.scrollWidth - d.clientWidth, d.offsetWidth])({dialog})"
        over, wide = browser.js(box)
        assert over <= 0, opened
        assert wide <= width, opened
        browser.screenshot(folder / f"{theme}-{width}-{opened.split()[0].lower()}.png")
        click(browser, "Close", "document.querySelector('dialog[open]')")
