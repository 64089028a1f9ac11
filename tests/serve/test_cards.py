"""N cards behind one engine: the simulator's policies, the chip's pace, and everybody's own bits.

Time is the test's own here: it goes on only while the engine waits, so that a paced server has to
agree with the simulation to the nanosecond, however busy this computer is.
"""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("starlette")

from emulator.board import Board
from emulator.chat.generate import generate
from emulator.chat.sampler import Sampler
from emulator.chat.template import chat_format
from emulator.chat.text_stream import TextStream
from emulator.chip import Chip
from emulator.serve.chances import Recorder
from emulator.serve.engine import Clock, Engine
from emulator.serve.jobs import Done, Job
from emulator.serve.pace import Pace
from emulator.serve.samplers import HostSampler
from emulator.silicon.spec import load_spec
from emulator.traffic.requests import LATER, NS, Requests
from emulator.traffic.server import POLICIES, simulate
from emulator.traffic.service_times import service_times
from tests.support.serve_process import until

SLOW = 1000.0
BEGIN = 1e4  # of the test's time, s


class OwnClock(Clock):
    """Time that jumps to whatever comes next: the end of a wait, or a request."""

    def __init__(self) -> None:
        self.time = BEGIN
        self.coming: list[tuple[float, Job]] = []
        self.engine: Engine | None = None

    def now(self) -> float:
        return self.time

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        end = np.inf if seconds is None else self.time + seconds
        if self.coming and self.coming[0][0] <= end:
            self.time, job = self.coming.pop(0)
            self.engine.submit([job])
        elif seconds is None:
            changed.wait(0.01)
        else:
            self.time = end


class Ended:
    """What a job said, and when it was over."""

    def __init__(self, count: int) -> None:
        self.events: list[list] = [[] for _ in range(count)]
        self._left, self._over = count, threading.Event()

    def of(self, index: int):
        def tell(event) -> None:
            self.events[index].append(event)
            if isinstance(event, Done):
                self._left -= 1
                if not self._left:
                    self._over.set()

        return tell

    def wait(self) -> None:
        assert self._over.wait(120)


@pytest.fixture(scope="module")
def times(tiny_image):
    stages = Chip(tiny_image).stages
    return service_times(stages, load_spec(), ("serial", "pipelined"), positions=tiny_image.context)


def job_of(image, prompt, tokens, tell, session="", sampler=None) -> Job:
    """Greedy, with an end that never comes early."""
    chat = chat_format(image.tokenizer_json, "plain")
    endless = HostSampler(1, 1.0, 0.0, 0, least=tokens, end_ids=image.config.end_ids)
    recorder = Recorder(sampler or endless)
    return Job(prompt, tokens, recorder, TextStream(chat.decode), tell, session)


def prompts_of(image, requests) -> list[list[int]]:
    """A prompt longer than all of its session so far goes on with it; any other begins anew."""
    chip, said = Chip(image), {}
    prompts = []
    for i, (session, length, tokens) in enumerate(
        zip(requests.session, requests.prompt, requests.output, strict=True)
    ):
        before = said.get(session, [])
        known = before if len(before) < length else []
        prompts.append([*known, *[i % 250] * (length - len(known))])
        chip.rewind(0)
        job = job_of(image, prompts[-1], tokens, lambda event: None)
        answer = generate(chip, load_spec(), job.prompt, int(tokens), job.sampler)
        said[session] = [*prompts[-1], *answer.token_ids[:-1]]
    return prompts


def traffic(times, count=40, cards=3, busy=0.8) -> Requests:
    """Poisson arrivals on the chip's own time, in nine sessions."""
    rng = np.random.default_rng(5)
    prompt, output = rng.integers(2, 40, count), rng.integers(1, 20, count)
    mean_ns = float(np.mean(times.prefill_ns(prompt) + times.decode_ns(prompt, output)))
    arrival = np.cumsum(rng.exponential(mean_ns / cards / busy, count)).astype(np.int64)
    session, none = rng.integers(0, 9, count), np.full(count, LATER)
    return Requests(arrival, prompt, output, session, none, np.zeros(count, np.int64))


def served_by_engine(image, pace, requests, policy, prompts, cards=3) -> list[Job]:
    """Send the requests at their times, `slow` times later, to a server of so many cards."""
    clock, ended = OwnClock(), Ended(len(requests))
    engine = Engine(Board(image, cards), load_spec(), len(requests), policy, pace, clock)
    jobs = []
    for i, prompt in enumerate(prompts):
        session = str(requests.session[i]) if policy == "sticky" else ""
        jobs.append(job_of(image, prompt, int(requests.output[i]), ended.of(i), session))
        clock.coming.append((BEGIN + pace.slow * int(requests.arrival_ns[i]) / NS, jobs[-1]))
    clock.engine = engine
    engine.start()
    ended.wait()
    engine.stop(30)
    assert not engine.alive
    return jobs


@pytest.fixture(scope="module")
def prompts(tiny_image, times):
    return prompts_of(tiny_image, traffic(times["serial"]))


@pytest.mark.parametrize(
    ("policy", "hypothesis"), [*((p, "serial") for p in POLICIES), ("one-queue", "pipelined")]
)
def test_paced_cards_do_what_the_simulator_says(tiny_image, times, prompts, policy, hypothesis):
    """Start, first and last token of each request, on the same card."""
    requests = traffic(times[hypothesis])
    jobs = served_by_engine(tiny_image, Pace(times[hypothesis], SLOW), requests, policy, prompts)
    simulated = simulate(requests, times[hypothesis], 3, policy)
    found = {
        "start": [job.started_at for job in jobs],
        "first": [job.first_token_at for job in jobs],
        "last": [job.done_at for job in jobs],
    }
    for name, column in found.items():
        ns = np.rint((np.array(column) - BEGIN) / SLOW * NS)
        expected = getattr(simulated, f"{name}_ns")
        assert np.abs(ns - expected).max() <= 1, name
    assert [job.card for job in jobs] == simulated.card.tolist()
    assert (simulated.cached.sum() > 0) == (policy == "sticky")  # it did keep some


@pytest.mark.parametrize("policy", POLICIES)
def test_an_answer_has_the_bits_it_would_have_alone(tiny_image, policy):
    """Whatever the other cards do, and whoever was on the card before."""
    rng = np.random.default_rng(2)
    prompts = [[7, i % 3, *rng.integers(0, 9, 1 + i)] for i in range(18)]
    samplers = [Sampler(8, 1.2, i) if i % 2 else Sampler() for i in range(18)]
    ended = Ended(18)
    jobs = [
        job_of(tiny_image, prompts[i], 9, ended.of(i), f"s{i % 5}", samplers[i]) for i in range(18)
    ]
    engine = Engine(Board(tiny_image, 3), load_spec(), 18, policy)
    engine.submit(jobs)
    engine.start()
    ended.wait()
    engine.stop(30)
    assert {job.card for job in jobs} == {0, 1, 2}
    for job, prompt, sampler in zip(jobs, prompts, samplers, strict=True):
        alone = generate(Chip(tiny_image), load_spec(), prompt, 9, sampler)
        assert job.answer.token_ids == alone.token_ids
        assert job.answer.logits_sha256 == alone.logits_sha256
        assert job.answer.cycles == alone.cycles


def test_prompts_in_pieces_have_the_bits_of_whole_ones(tiny_image, monkeypatch):
    """Cards that work side by side share every pass."""
    monkeypatch.setattr("emulator.serve.pieces.PASS", 10)
    ended = Ended(2)
    jobs = [job_of(tiny_image, [i, *range(40)], 4, ended.of(i)) for i in range(2)]
    seen: list[list[int]] = []

    class Watched(Board):
        def forward(self, runs):
            seen.append([len(run.tokens) for run in runs])
            return super().forward(runs)

    engine = Engine(Watched(tiny_image, 2), load_spec(), 2)
    engine.submit(jobs)
    engine.start()
    ended.wait()
    engine.stop(30)
    assert seen.count([5, 5]) == 8
    assert seen.count([1, 1]) == 4  # the prompts' last tokens, then three of each answer
    for i, job in enumerate(jobs):
        alone = generate(Chip(tiny_image), load_spec(), [i, *range(40)], 4, job_sampler(tiny_image))
        assert job.answer.logits_sha256 == alone.logits_sha256


def job_sampler(image):
    return HostSampler(1, 1.0, 0.0, 0, least=4, end_ids=image.config.end_ids)


def test_who_hangs_up_frees_a_card_that_holds_back_the_rest(tiny_image, times):
    """The second request would have waited for hours."""
    ended = Ended(2)
    pace = Pace(times["serial"], 1e9)
    engine = Engine(Board(tiny_image, 1), load_spec(), 2, pace=pace)
    first, second = (job_of(tiny_image, [1, 2, i], 5, ended.of(i)) for i in range(2))
    engine.start()
    engine.submit([first, second])
    until(lambda: first.done_at > 0)
    assert second.started_at == 0
    assert engine.busy == 1
    assert not engine.computing
    engine.cancel(first)
    until(lambda: second.started_at > 0)
    assert second.started_at - second.queued_at < 60
    engine.stop(0.1)
    assert not engine.alive


def test_a_computer_that_is_too_slow_says_so_once(tiny_image, times, caplog):
    class Slow(Board):
        def forward(self, runs):
            time.sleep(0.05)
            return super().forward(runs)

    ended = Ended(2)
    engine = Engine(Slow(tiny_image, 1), load_spec(), 2, pace=Pace(times["serial"]))
    engine.submit([job_of(tiny_image, [1, 2, i], 5, ended.of(i)) for i in range(2)])
    engine.start()
    ended.wait()
    engine.stop(30)
    (line,) = (record.getMessage() for record in caplog.records if "--slow" in record.getMessage())
    assert "answers come late" in line
