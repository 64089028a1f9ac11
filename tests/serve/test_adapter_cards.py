"""Adapters on several cards: loaded on all or none, dropped between answers, nobody else's keys."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("starlette")

from emulator.board import Board
from emulator.chat.generate import generate
from emulator.chip import Chip, build_stages
from emulator.errors import AdapterError
from emulator.images.adapters import load_adapters
from emulator.serve.body import RequestError
from emulator.serve.die import die_report
from emulator.serve.engine import Engine
from emulator.serve.jobs import Done, Job
from emulator.serve.pace import Pace
from emulator.silicon.spec import load_spec
from emulator.traffic.requests import NS
from emulator.traffic.server import simulate
from emulator.traffic.service_times import ServiceTimes, service_times
from tests.serve.test_cards import BEGIN, SLOW, Ended, OwnClock, job_of, job_sampler, traffic
from tests.support.adapters import write_adapter
from weights.lora import Adapter

TOKENS = 4  # of each answer


@pytest.fixture(scope="module")
def adapters(tiny_image, tiny_checkpoint, tmp_path_factory) -> tuple[Adapter, Adapter, Adapter]:
    """Called one, two and one again."""
    base, model = tmp_path_factory.mktemp("cards"), tiny_image.config
    folders = [
        write_adapter(base / "a" / "one", model, 2, strength=2.0),
        write_adapter(base / "two", model, 1, ("q", "down"), strength=3.0),
        write_adapter(base / "b" / "one", model, 1, ("v", "o"), strength=4.0),
    ]
    return tuple(load_adapters(tiny_image, [str(f)], tiny_checkpoint)[0] for f in folders)


def alone(image, adapter: Adapter | None, prompt: list[int]) -> list[int]:
    """The answer of a chip that has never seen another prompt or adapter."""
    chip = Chip(image, adapters=[adapter] if adapter else [])
    chip.use(adapter.name if adapter else "")
    return generate(chip, load_spec(), prompt, TOKENS, job_sampler(image)).token_ids


class Asked:
    """An engine over tiny chips, and its jobs by hand."""

    def __init__(self, image, adapters=(), cards: int = 2, policy: str = "sticky") -> None:
        self.image = image
        self.engine = Engine(Board(image, cards, adapters=adapters), load_spec(), 100, policy)
        self.told: list[Ended] = []

    def ask(self, adapter: str, prompt: list[int], session: str = "") -> Job:
        self.told.append(Ended(1))
        job = job_of(self.image, prompt, TOKENS, self.told[-1].of(0), session)
        job.adapter = adapter
        self.engine.submit([job])
        return job

    def wait(self) -> list[Done]:
        """The last event of every job so far."""
        for told in self.told:
            told.wait()
        return [told.events[0][-1] for told in self.told]

    def now(self, work) -> None:
        self.engine.between_answers(work).result(30)

    def stop(self) -> None:
        self.engine.stop(30)
        assert not self.engine.alive


@pytest.fixture
def asked(tiny_image, adapters):
    """Two sticky cards with adapters one and two."""
    server = Asked(tiny_image, adapters[:2])
    server.engine.start()
    yield server
    server.stop()


def test_sticky_sessions_with_adapters(tiny_image, adapters, asked):
    """Four sessions on two cards go on with their own keys and values, each with its bits."""
    by_name = {"": None, "one": adapters[0], "two": adapters[1]}
    names = ["one", "", "two", "one"]
    prompts = [[i, 7, 8] for i in range(4)]
    for turn in range(3):
        jobs = [asked.ask(names[i], prompts[i], f"s{i}") for i in range(4)]
        asked.wait()
        assert {job.card for job in jobs} == {0, 1}
        for i, job in enumerate(jobs):
            assert job.answer.token_ids == alone(tiny_image, by_name[names[i]], prompts[i])
            assert (job.cached > 0) == (turn > 0)
            prompts[i] = [*prompts[i], *job.answer.token_ids, turn]


def test_a_session_that_changes_its_adapter_begins_anew(tiny_image, adapters, asked):
    prompt = [3, 1, 4, 1, 5]
    for name, adapter in (("one", adapters[0]), ("two", adapters[1]), ("", None)):
        job = asked.ask(name, prompt, "s")
        asked.wait()
        assert job.cached == 0
        assert job.answer.token_ids == alone(tiny_image, adapter, prompt)


def test_another_adapter_under_the_same_name_gets_no_kept_keys(tiny_image, adapters):
    """Not those in the chip, and not those of a session that was set aside."""
    asked, prompt = Asked(tiny_image, adapters[:1], cards=1), [2, 7, 1, 8]
    asked.engine.start()
    for session in ("aside", "in the chip"):
        asked.ask("one", prompt, session)
    asked.wait()
    asked.now(lambda card: card.drop("one"))
    asked.now(lambda card: card.load(adapters[2]))
    longer = [*prompt, 9]
    jobs = [asked.ask("one", longer, session) for session in ("aside", "in the chip")]
    asked.wait()
    right = alone(tiny_image, adapters[2], longer)
    assert right != alone(tiny_image, adapters[0], longer)
    for job in jobs:
        assert (job.cached, job.answer.token_ids) == (0, right)
    asked.stop()


def test_an_adapter_that_goes_while_an_answer_waits_for_it(tiny_image, adapters):
    """That answer is refused with 404; the others are what they would be alone."""
    asked = Asked(tiny_image, adapters[:2])
    names = ["one", "two", "", "one", "two", "one"]
    jobs = [asked.ask(name, [5, i], f"s{i}") for i, name in enumerate(names)]
    gone = asked.engine.between_answers(lambda card: card.drop("one"))
    asked.engine.start()
    gone.result(30)
    by_name = {"": None, "two": adapters[1]}
    for name, job, done in zip(names, jobs, asked.wait(), strict=True):
        if name == "one":
            assert isinstance(done.error, RequestError)
            assert (done.error.status, job.answer.token_ids) == (404, [])
        else:
            assert done.error is None
            assert job.answer.token_ids == alone(tiny_image, by_name[name], job.prompt)
    assert [list(card.chip.adapters) for card in asked.engine.cards] == [["two"]] * 2
    asked.stop()


def test_every_card_loads_or_none(tiny_image, adapters, asked):
    """One of the name of another is refused, even where two were asked for at once."""
    with pytest.raises(AdapterError, match="one is loaded already"):
        asked.now(lambda card: card.load(adapters[2]))
    for card in asked.engine.cards:
        assert card.chip.adapters == {"one": adapters[0], "two": adapters[1]}
    asked.now(lambda card: card.drop("one"))
    asked.now(lambda card: card.load(adapters[2]))
    for card in asked.engine.cards:
        assert card.chip.adapters == {"two": adapters[1], "one": adapters[2]}


def times_of(image, adapter: Adapter | None) -> ServiceTimes:
    stages = build_stages(image, 1, adapter.matrices if adapter else None)
    return service_times(stages, load_spec(), ("serial",), positions=image.context)["serial"]


def test_the_chips_pace_with_an_adapter(tiny_image, adapters):
    """Each token is given when a simulated chip with the adapter's cycles would have given it."""
    plain, adapted = times_of(tiny_image, None), times_of(tiny_image, adapters[1])
    assert (adapted.token[1:] > plain.token[1:]).all()
    pace, spec = Pace(plain, SLOW), load_spec()
    requests = traffic(adapted, count=12, cards=2)
    clock, ended, board = OwnClock(), Ended(len(requests)), Board(tiny_image, 2)
    clock.engine = Engine(board, spec, len(requests), "one-queue", pace, clock)
    for card in clock.engine.cards:
        card.load(adapters[1], adapted)
    assert board.chips[0].context > int((requests.prompt + requests.output).max())
    jobs = []
    for i in range(len(requests)):
        prompt, count = [i] * int(requests.prompt[i]), int(requests.output[i])
        jobs.append(job_of(tiny_image, prompt, count, ended.of(i)))
        jobs[-1].adapter = "two"
        clock.coming.append((BEGIN + SLOW * int(requests.arrival_ns[i]) / NS, jobs[-1]))
    clock.engine.start()
    ended.wait()
    clock.engine.stop(30)
    simulated = simulate(requests, adapted, 2, "one-queue")
    for name, column in {
        "first": [job.first_token_at for job in jobs],
        "last": [job.done_at for job in jobs],
    }.items():
        found = np.rint((np.array(column) - BEGIN) / SLOW * NS)
        assert np.abs(found - getattr(simulated, f"{name}_ns")).max() <= 1, name


def test_the_die_view_of_a_chip_with_an_adapter(tiny_image, adapters):
    chip = Chip(tiny_image, adapters=adapters[:1])
    plain = die_report(chip.stages, load_spec(), 1)
    chip.use("one")
    assert die_report(chip.stages, load_spec(), 1)["cycles"] > plain["cycles"]
