"""The die view: areas to scale, light where the schedule says, what a token was chosen from."""

from __future__ import annotations

import math

import pytest

from tests.support.browser import CHROMIUM, Browser
from tests.support.page import DONE, LAST, ask, click, set_value

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")

RECTS = "[...document.querySelectorAll('#die-plan rect')]"
BOXES = f"{RECTS}.map(r => ['x', 'y', 'width', 'height'].map(n => Number(r.getAttribute(n))))"
STAGE = "document.querySelector('#die-stage').textContent"


@pytest.fixture
def die(browser):
    return opened_die(browser)


def opened_die(browser: Browser) -> Browser:
    """An answer of twelve tokens with the die view open."""
    set_value(browser, "#max-tokens", "12")
    set_value(browser, "#seed", "5")
    ask(browser, "hi")
    browser.until(DONE)
    click(browser, "Die view", LAST)
    browser.until("document.querySelectorAll('#die-facts dd').length > 3")
    return browser


def test_the_floor_plan_is_to_scale_and_without_overlap(die, server):
    report = server.get("/hardwired/die?context=21").json()
    expected = [sum(place["area_mm2"].values()) for place in report["places"]]
    boxes = die.js(BOXES)
    assert [w * h for _, _, w, h in boxes] == pytest.approx(expected, rel=0.01)
    assert sum(expected) == pytest.approx(report["area"]["mid"])
    middles = [(x + w / 2, y + h / 2) for x, y, w, h in boxes]
    for x, y, w, h in boxes:
        assert sum(x < px < x + w and y < py < y + h for px, py in middles) == 1


def test_a_token_shows_its_cycles_energy_and_eight_best(die, server):
    report = server.get("/hardwired/die?context=23").json()
    die.js("document.querySelector('#die-token').value = 3; true")
    die.js("document.querySelector('#die-token').dispatchEvent(new Event('input'))")
    die.until("document.querySelector('#die-facts dd').textContent === '3 of 12'")
    facts = die.js("[...document.querySelectorAll('#die-facts dd')].map(e => e.textContent)")
    assert facts[1].startswith(f"{report['cycles']:,} cycles".split(" ", maxsplit=1)[0])
    low, mid, high = (float(f"{report['energy'][k] * 1e6:.2g}") for k in ("low", "mid", "high"))
    assert facts[2] == f"{mid:,g} µJ ({low:,g} to {high:,g})"
    rows = die.js("[...document.querySelectorAll('#die-facts tr')].map(r => r.innerText)")
    assert len(rows) == 8
    shares = [float(row.split("\t")[-2 if row.endswith("\t") else -1].strip(" %")) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert die.js("document.querySelectorAll('#die-facts tr.chosen').length") == 1
    assert die.complaints() == []


def test_the_light_follows_the_schedule(die, server):
    """At every block's middle cycle its places shine, and of the layers only its own."""
    report = server.get("/hardwired/die?context=21").json()
    module = "import('/page/die-plan.js')"
    for stage in report["stages"]:
        for block, first, last in report["uses"][stage["uses"]]:
            middle = stage["begin"] + (first + last) / 2
            light = die.js(
                f"(async () => (await {module}).lightOf(await (await fetch("
                f"'/hardwired/die?context=21')).json(), {middle}, {middle + 0.5}))()"
            )
            for place, lit in zip(report["places"], light, strict=True):
                here = place["layer"] in (None, stage["layer"])
                if here and block in place["blocks"] and last > first:
                    assert lit > 0, (stage["stage"], block, place["name"])
                if place["layer"] is not None and stage["layer"] is None:
                    assert lit == 0, (stage["stage"], place["name"])


def test_it_plays_pauses_and_ends_with_the_last_token(fresh_browser):
    die = opened_die(fresh_browser)
    die.js("document.querySelector('#die-speed').value = '1000000'; true")
    click(die, "Play")
    die.until(f"{STAGE}.startsWith('layer') || {STAGE}.startsWith('head')")
    die.until(f"{RECTS}.some(r => Number(r.dataset.lit) > 0)")
    click(die, "Pause")
    die.js(
        wait := "new Promise(done => setTimeout(() => done(true), 300))"
    )  # for a token on its way
    still = die.js("document.querySelector('#die-progress').value")
    die.js(wait)
    assert die.js("document.querySelector('#die-progress').value") == still
    die.js("document.querySelector('#die-speed').value = '10000'; true")
    click(die, "Play")
    die.until("document.querySelector('#die-play').textContent === 'Play'")
    assert die.js("document.querySelector('#die-token').value") == "12"
    assert math.isclose(die.js("document.querySelector('#die-progress').value"), 1)
    click(die, "Close", "document.querySelector('#die')")
    assert die.js("document.querySelector('#die').open") is False
    assert die.complaints() == []
