"""economics.toml: complete, graded, and refused when it is not."""

from __future__ import annotations

import pytest

from emulator.economics.constants import ECONOMICS, GRADES, load_economics
from emulator.economics.draws import drawn
from emulator.errors import UsageError

TEXT = ECONOMICS.read_text("utf-8")


def test_every_constant_says_what_it_is():
    economics = load_economics()
    assert len(economics.constants) > 30
    for key, c in economics.constants.items():
        low, high = c.range
        assert low <= c.value <= high, key
        assert c.unit, key
        assert c.grade in GRADES, key
        assert len(c.source) > 10, key
        assert c.date.startswith("202"), key
    for price in economics.prices:
        assert price.grade in GRADES
        assert price.source


GLUE = 'glue = { value = 1, unit = "$", range = [1, 1], grade = "read", source = "x", date = "y" }'
PRICE = 'price = { value = 9346, unit = "$"'
CHANGES = {
    "another unit": (PRICE, 'price = { value = 9346, unit = "EUR"', "unit 'EUR', not '$'"),
    "above its range": (PRICE, 'price = { value = 93460, unit = "$"', "outside its range"),
    "below its range": (PRICE, 'price = { value = 1, unit = "$"', "outside its range"),
    "no number": (PRICE, 'price = { value = "much", unit = "$"', "finite numbers"),
    "not a number": (PRICE, 'price = { value = nan, unit = "$"', "finite numbers"),
    "a range turned round": ("[7000, 12000]", "[12000, 7000]", "makes no sense"),
    "a range of one": ("[7000, 12000]", "[7000]", "finite numbers"),
    "another grade": ('grade = "second-hand", source = "7 nm', 'grade = "sure", source = "7 nm',
                      "'sure' is none of"),
    "no source": ('source = "7 nm, a table of 2020; N6 is unpublished"', 'source = ""', "source"),
    "one key more": (PRICE, 'price = { value = 9346, colour = 1, unit = "$"', "exactly"),
    "an unknown constant": ("board = {", "glue = {", "card.board is missing"),
    "one constant more": ("[nre]\n", f"[nre]\n{GLUE}\n", "nre.glue is unknown"),
    "a bare number": ("[card]\n", "[card]\nglue = 3\n", "card.glue must hold"),
    "a missing constant": ("board = {", "bored = {", "card.board is missing"),
    "not TOML": ("[wafer]", "[wafer", "not TOML"),
    "a price of nothing": ("out = 0.04", "out = 0", "positive $ per M"),
    "a price without a name": ('name = "DeepInfra"\n', "", "a price holds"),
    "rows too short": ("[128, 2048, 22714], ", "[128, 2048], ", "throughput.H100"),
    "a rate below nothing": ("[128, 2048, 22714], ", "[128, 2048, -1], ", "throughput.H100"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path, name):
    old, new, said = CHANGES[name]
    assert old in TEXT
    path = tmp_path / "costs.toml"
    path.write_text(TEXT.replace(old, new, 1), "utf-8")
    with pytest.raises(UsageError) as caught:
        load_economics(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"x" * (2 << 20)])
def test_no_such_file_at_all(tmp_path, content):
    path = tmp_path / "costs.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"costs\.toml"):
        load_economics(path)


def test_let():
    economics = load_economics().let("nre.volume", 50_000)
    assert economics.constants["nre.volume"].range == (50_000, 50_000)
    with pytest.raises(UsageError, match="1000 to 100000 cards"):
        load_economics().let("nre.volume", 5)
    with pytest.raises(UsageError, match=r"nre\.base"):
        load_economics().let("nre.bass", 5)


def test_draws_stay_in_their_ranges_and_peak_at_the_value():
    economics = load_economics()
    known = drawn(economics, 20_000, 1)
    for key, constant in economics.constants.items():
        low, high = constant.range
        slack = 1e-9 * high
        assert known[key].min() >= low - slack, key
        assert known[key].max() <= high + slack, key
        if low < constant.value < high:
            assert 0 < (known[key] < constant.value).mean() < 1, key
    # triangular: the share below the peak is where the peak lies in the range
    busy = economics.constants["server.most_busy"]
    share = (busy.value - busy.range[0]) / (busy.range[1] - busy.range[0])
    assert (known["server.most_busy"] < busy.value).mean() == pytest.approx(share, abs=0.01)


def test_the_same_seed_draws_the_same():
    economics = load_economics()
    one, again, other = (drawn(economics, 100, seed) for seed in (1, 1, 2))
    for key in economics.constants:
        assert one[key].tobytes() == again[key].tobytes()
    assert one["wafer.price"].tobytes() != other["wafer.price"].tobytes()


def test_a_known_constant_does_not_move_the_draws_of_others():
    free = drawn(load_economics(), 100, 1)
    known = drawn(load_economics().let("nre.volume", 5000), 100, 1)
    assert known["wafer.price"].tobytes() == free["wafer.price"].tobytes()
    assert set(known["nre.volume"]) == {5000.0}
