"""What a model says is shown as Markdown and never as HTML of its own."""

from __future__ import annotations

import pytest

from tests.support.browser import CHROMIUM
from tests.support.page import DONE, LAST, ask, click, next_answer, stored

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")

MARKDOWN = """A **bold** word and `code`.

```python
print("<b>1 & 2</b>")
```

| block | cycles |
| --- | --- |
| rope | 12 |

1. one
2. [two](https://example.org/a)
"""
HOSTILE = """<script>window.hit = 1</script>
<img src=x onerror="window.hit = 2"><svg onload="window.hit = 3">
<iframe src="javascript:parent.hit=4">

[a](javascript:window.hit=5) [b](JaVaScRiPt:window.hit=6) [c](data:text/html,<script>hit=7</script>)
[d](&#106;avascript:window.hit=8) [e](vbscript:hit) <javascript:window.hit=9> [f](/hardwired/about)
![x](https://evil.example/leak.png "t") ![y](javascript:window.hit=10)

<a href="javascript:window.hit=11" onclick="window.hit=12">z</a>
<style>body { display: none }</style>
<math><mtext><table><mglyph><style><img src=x onerror="window.hit=13">

```html" onmouseover="window.hit=14
<script>window.hit = 15</script>
```

| a | <img src=x onerror=window.hit=16>
|---|
| broken | row | with | too | many
|
"""
SAID = f"{LAST}.querySelector('.said')"
ELEMENTS = {
    *("P", "BR", "HR", "EM", "STRONG", "S", "CODE", "PRE", "BLOCKQUOTE", "UL", "OL", "LI", "A"),
    *("H1", "H2", "H3", "H4", "H5", "H6", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD"),
    *("DIV", "SPAN", "BUTTON"),  # the page's own, around code and tables
}


def test_markdown_is_shown_and_code_is_copied_as_it_was_said(browser):
    next_answer(browser, MARKDOWN)
    ask(browser, "hi")
    browser.until(DONE)
    assert browser.js(f"{SAID}.querySelector('strong').textContent") == "bold"
    assert browser.js(f"{SAID}.querySelector('pre').textContent") == 'print("<b>1 & 2</b>")\n'
    assert browser.js(f"{SAID}.querySelector('.code-bar span').textContent") == "python"
    assert browser.js(f"{SAID}.querySelectorAll('td')[1].textContent") == "12"
    link = browser.js(f"(a => [a.href, a.target, a.rel])({SAID}.querySelector('ol a'))")
    assert link == ["https://example.org/a", "_blank", "noopener noreferrer nofollow"]
    copied = "navigator.clipboard.writeText = async (text) => { window.copied = text; }; true"
    browser.js(copied)
    click(browser, "Copy", SAID)
    browser.until("window.copied !== undefined")
    assert browser.js("window.copied") == 'print("<b>1 & 2</b>")\n'
    browser.js("window.copied = undefined; true")
    click(browser, "Copy", f"{LAST}.querySelector('.acts')")
    assert browser.until("window.copied") == MARKDOWN
    assert browser.complaints() == []


@pytest.mark.parametrize("way", ["streamed", "stored"])
def test_injected_script_does_not_run(browser, server, way):
    """Streamed through the reader, every half-finished text is rendered too."""
    if way == "streamed":
        next_answer(browser, HOSTILE)
        ask(browser, "hi")
        browser.until(DONE)
    else:
        stored(browser, server.url, {"role": "assistant", "text": HOSTILE, "usage": None})
    browser.js(f"for (const e of {SAID}.querySelectorAll('*')) e.click?.(); true")
    browser.js("new Promise(done => setTimeout(() => done(true), 300))")
    assert browser.js("window.hit === undefined && document.body.offsetHeight > 0")
    assert set(browser.js(f"[...{SAID}.querySelectorAll('*')].map(e => e.tagName)")) <= ELEMENTS
    names = browser.js(f"[...{SAID}.querySelectorAll('*')].flatMap(e => e.getAttributeNames())")
    assert set(names) <= {"class", "type", "href", "title", "target", "rel"}
    links = browser.js(f"[...{SAID}.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))")
    assert all(link.startswith(("https:", "http:", "mailto:")) for link in links)
    assert "<script>window.hit = 1</script>" in browser.js(f"{SAID}.textContent")
    assert browser.complaints() == []  # nor did the content policy have to step in


LONG = {
    "a million backticks": "`" * 1_000_000,
    "backticks that never match": " ".join("`" * n for n in range(1, 280)),
    "open brackets": "[" * 40_000,
    "quotes in quotes": ">" * 40_000,
    "a table of a thousand columns": "|" * 1000 + "\n" + "|-" * 1000 + "\n" + "|" * 30_000,
    "emphasis that never closes": "*a _b " * 6_000,
}


def test_long_and_broken_markdown_does_not_hang_the_page(browser, server):
    """`until` gives up after 30 s; open brackets, the slowest, take about one."""
    for name, text in LONG.items():
        stored(browser, server.url, {"role": "assistant", "text": text})
        assert browser.js(f"{SAID}.textContent.length") > 0 or ">" in name + text, name
        assert browser.js("document.querySelector('#send').hidden === false"), name


def test_what_a_user_writes_is_shown_as_written(browser, server):
    text = "**not bold** <b>x</b>\n\n- y"
    stored(browser, server.url, {"role": "user", "text": text})
    assert browser.js("document.querySelector('.user .said').textContent") == text
    assert browser.js("document.querySelector('.user .said').children.length") == 0
