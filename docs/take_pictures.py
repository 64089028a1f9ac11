"""Take docs/die-view.png: the page's die view while it replays a real answer.

    PYTHONPATH=. python docs/take_pictures.py [SERVER]

SERVER is the address of a running `serve`, http://127.0.0.1:8017 if left out. Needs Chromium.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.browser import Browser
from tests.support.page import DONE, LAST, ask, click, set_value

OUTPUT = Path(__file__).with_name("die-view.png")
QUESTION = "What is the capital of France?"
TOKEN, INTO_IT_S = 4, 4.5  # of the answer; seconds at a million times slower


def main(server: str) -> None:
    with TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.theme("dark")
            browser.size(1180, 760)
            browser.open(server)
            set_value(browser, "#top-k", "1")
            set_value(browser, "#max-tokens", "60")
            ask(browser, QUESTION)
            browser.until(DONE, 120)
            click(browser, "Die view", LAST)
            browser.until("document.querySelectorAll('#die-facts dd').length > 3")
            move = "(e => { e.value = %d; e.dispatchEvent(new Event('input')); return true; })"
            browser.js(f"{move % TOKEN}(document.querySelector('#die-token'))")
            browser.until(
                f"document.querySelector('#die-facts dd').textContent.startsWith('{TOKEN} ')"
            )
            set_value(browser, "#die-speed", "1000000")
            click(browser, "Play")
            time.sleep(INTO_IT_S)
            browser.screenshot(OUTPUT)
        finally:
            browser.close()
    print(OUTPUT)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8017")
