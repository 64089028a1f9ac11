"""One chip, one queue: everybody's tokens are those they would get alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("starlette")

from emulator.blocks.wires import Wires
from emulator.board import Board
from emulator.chat.answer import INTERRUPTED, MAX_TOKENS
from emulator.chat.generate import generate
from emulator.chat.sampler import Sampler
from emulator.chat.template import chat_format
from emulator.chat.text_stream import TextStream
from emulator.chip import Chip
from emulator.errors import ImageError
from emulator.serve.body import RequestError
from emulator.serve.chances import Recorder
from emulator.serve.engine import Engine
from emulator.serve.jobs import Done, Job, Piece
from emulator.serve.samplers import HostSampler
from emulator.silicon.spec import load_spec

PROMPTS = [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 9, 9], [7], [1, 2, 3], [200, 3] * 9]


class SlowBoard(Board):
    """A board that waits before each pass until the test lets it go on."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.go, self.begun = threading.Event(), threading.Event()
        self.broken = False

    def forward(self, runs):
        self.begun.set()
        assert self.go.wait(30)
        if self.broken:
            raise ZeroDivisionError("on purpose")
        return super().forward(runs)


class Heard:
    """A job and the events it gave."""

    def __init__(self, image, prompt, tokens=8, sampler=None) -> None:
        chat = chat_format(image.tokenizer_json, "plain")
        self.events: list[Piece | Done] = []
        self.over = threading.Event()
        recorder = Recorder(sampler or Sampler())
        self.job = Job(prompt, tokens, recorder, TextStream(chat.decode), self.tell)

    def tell(self, event) -> None:
        self.events.append(event)
        if isinstance(event, Done):
            self.over.set()

    def wait(self) -> Heard:
        assert self.over.wait(60)
        return self

    @property
    def error(self):
        return self.events[-1].error


@pytest.fixture
def engine(tiny_image):
    engine = Engine(SlowBoard(tiny_image, 1), load_spec(), places=4)
    engine.start()
    yield engine
    engine.board.go.set()
    engine.stop(30)
    assert not engine.alive


def alone(image, prompt, sampler=None) -> tuple[list[int], dict[str, int], str]:
    answer = generate(Chip(image), load_spec(), prompt, 8, sampler)
    return answer.token_ids, dict(answer.cycles), answer.logits_sha256


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(8, 1.5, 7)], ids=["greedy", "chance"])
def test_tokens_cycles_and_logits_are_those_of_a_chip_of_ones_own(tiny_image, engine, sampler):
    """Though prompts share beginnings, which are not run again, and follow one another."""
    engine.board.go.set()
    known = []
    for prompt in PROMPTS:
        heard = Heard(tiny_image, prompt, sampler=sampler)
        engine.submit([heard.job])
        heard.wait()
        answer = heard.job.answer
        found = answer.token_ids, dict(answer.cycles), answer.logits_sha256
        assert found == alone(tiny_image, prompt, sampler)
        assert heard.events[-2].tokens == len(answer.token_ids)
        known.append(heard.job.cached)
    assert known[1] >= 2
    assert known[3] == 0


def test_jobs_of_many_threads_do_not_mix(tiny_image, engine):
    engine.board.go.set()
    engine.places = 100
    jobs = [Heard(tiny_image, PROMPTS[i % 6], sampler=Sampler(8, 1, i)) for i in range(24)]
    threads = [threading.Thread(target=engine.submit, args=([heard.job],)) for heard in jobs]
    for thread in threads:
        thread.start()
    for i, heard in enumerate(jobs):
        expected, *_ = alone(tiny_image, PROMPTS[i % 6], Sampler(8, 1, i))
        assert heard.wait().job.answer.token_ids == expected


def test_a_long_prompt_in_passes_gives_the_logits_of_one_pass(tiny_image, monkeypatch):
    whole = alone(tiny_image, PROMPTS[5])
    monkeypatch.setattr("emulator.chat.generate.PASS", 4)
    assert alone(tiny_image, PROMPTS[5]) == whole


def test_a_full_queue_says_when_to_come_back(tiny_image, engine):
    running = Heard(tiny_image, [1])
    engine.submit([running.job])
    assert engine.board.begun.wait(30)
    engine.submit([Heard(tiny_image, [1]).job for _ in range(3)])
    with pytest.raises(RequestError, match="4 places and 3") as caught:
        engine.submit([Heard(tiny_image, [1]).job for _ in range(2)])
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    assert engine.waiting == 3


def test_a_cancelled_job_frees_its_place_or_the_chip(tiny_image, engine):
    running, waiting, last = (Heard(tiny_image, [1, 2]) for _ in range(3))
    engine.submit([running.job, waiting.job, last.job])
    assert engine.board.begun.wait(30)
    engine.cancel(waiting.job)
    assert waiting.over.is_set()
    assert engine.waiting == 1
    engine.cancel(running.job)
    engine.board.go.set()
    assert running.wait().job.answer.reason == INTERRUPTED
    assert len(running.job.answer.token_ids) <= 1
    assert last.wait().job.answer.token_ids == alone(tiny_image, [1, 2])[0]


def test_a_draining_engine_finishes_what_it_began_and_refuses_the_rest(tiny_image, engine):
    running, waiting = Heard(tiny_image, [1, 2]), Heard(tiny_image, [3])
    engine.submit([running.job, waiting.job])
    assert engine.board.begun.wait(30)
    engine.drain()
    assert waiting.wait().error.status == 503
    with pytest.raises(RequestError, match="shutting down"):
        engine.submit([Heard(tiny_image, [4]).job])
    engine.board.go.set()
    assert running.wait().error is None
    assert running.job.answer.reason == MAX_TOKENS


def test_a_fault_costs_one_job_only(tiny_image, engine):
    engine.board.go.set()
    engine.board.broken = True
    failed = Heard(tiny_image, [1, 2, 3])
    engine.submit([failed.job])
    assert failed.wait().error.status == 500
    engine.board.broken = False
    fine = Heard(tiny_image, [1, 2, 3])
    engine.submit([fine.job])
    assert fine.wait().job.answer.token_ids == alone(tiny_image, [1, 2, 3])[0]


def wires_of(tiny_image, prompt) -> Wires:
    return Chip(tiny_image).forward(prompt)


@pytest.mark.parametrize("k", [2, 5, 8])
def test_the_hosts_sampler_agrees_with_the_chips_where_both_can(tiny_image, k):
    chip = Chip(tiny_image)
    for seed in range(40):
        chip.rewind(0)
        wires = chip.forward([seed, 3])
        mine = HostSampler(k, 1.0, 0.7, seed).pick(wires)
        assert mine == Sampler(k, 0.7, seed).pick(wires)


def test_a_small_nucleus_is_the_best_token_and_a_whole_one_is_everything(tiny_image):
    wires = wires_of(tiny_image, [5, 6])
    logits = wires.logits[-1]
    picks = {HostSampler(0, 1e-6, 2.0, seed).pick(wires) for seed in range(30)}
    assert picks == {int(np.argmax(logits))}
    narrow = {HostSampler(0, 0.3, 2.0, seed).pick(wires) for seed in range(200)}
    wide = {HostSampler(0, 0.99, 2.0, seed).pick(wires) for seed in range(200)}
    assert 1 < len(narrow) < len(wide)
    assert len(wide) > 20


def test_a_mask_and_a_least_length_keep_tokens_out(tiny_image):
    wires = wires_of(tiny_image, [5, 6])
    best = [int(i) for i in np.argsort(-wires.logits[-1].astype(int), kind="stable")[:3]]

    class Mask:
        def __init__(self):
            self.free = np.ones(wires.logits.shape[1], bool)
            self.free[best[0]] = False
            self.seen = []

        def allowed(self):
            return self.free

        def took(self, token):
            self.seen.append(token)

    mask = Mask()
    sampler = HostSampler(1, 1, 1, 0, mask, least=1, end_ids=(best[1],))
    assert [sampler.pick(wires), sampler.pick(wires)] == [best[2], best[1]]
    assert mask.seen == [best[2], best[1]]


def test_log_probabilities_add_up(tiny_image):
    wires = wires_of(tiny_image, [5, 6])
    recorder = Recorder(Sampler(), 319)
    token = recorder.pick(wires)
    (kept,) = recorder.taken()
    assert recorder.taken() == []
    assert kept.token == token == kept.top[0][0]
    assert kept.logprob == kept.top[0][1]
    total = sum(np.exp(logprob) for _, logprob in kept.top)
    assert 0.99 < total < 1
    assert [p for _, p in kept.top] == sorted((p for _, p in kept.top), reverse=True)


def test_an_unwanted_answer_ends_between_the_passes_of_its_prompt(tiny_image, monkeypatch):
    monkeypatch.setattr("emulator.chat.generate.PASS", 2)
    chip, left = Chip(tiny_image), iter([True, True, False])
    answer = generate(chip, load_spec(), [1] * 9, 5, should_continue=lambda: next(left))
    assert (answer.token_ids, answer.reason, chip.position) == ([], INTERRUPTED, 4)


def of_client(heard: Heard, client: str) -> Heard:
    heard.job.client = client
    return heard


def test_one_client_has_half_of_the_places(tiny_image, engine):
    running = Heard(tiny_image, [1])
    engine.submit([running.job])
    assert engine.board.begun.wait(30)
    two = [of_client(Heard(tiny_image, [1]), "one").job for _ in range(2)]
    engine.submit(two)
    with pytest.raises(RequestError, match="one client has at most 2 of 4 places, and 2") as caught:
        engine.submit([of_client(Heard(tiny_image, [1]), "one").job])
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    with pytest.raises(RequestError, match="and 0 of its"):
        engine.check_room(3, "another")
    engine.submit([of_client(Heard(tiny_image, [1]), "another").job])
    engine.cancel(two[0])
    engine.submit([of_client(Heard(tiny_image, [1]), "one").job])


def test_clients_take_turns(tiny_image, engine):
    """Who comes later with one question does not wait for all that another has queued."""
    engine.places = 20
    running = Heard(tiny_image, [1])
    engine.submit([running.job])
    assert engine.board.begun.wait(30)
    many = [of_client(Heard(tiny_image, [1], tokens=1), "many") for _ in range(5)]
    one = of_client(Heard(tiny_image, [1], tokens=1), "one")
    engine.submit([heard.job for heard in many])
    engine.submit([one.job])
    engine.board.go.set()
    for heard in (*many, one):
        heard.wait()
    ends = [heard.job.done_at for heard in many]
    assert ends == sorted(ends)  # the order of one client's own is kept
    assert one.job.done_at < ends[1]


class Panic(BaseException):
    """As a panic of a Rust library: no Exception."""


@pytest.mark.parametrize("why", ["panic", "masks"])
def test_when_the_thread_dies_everybody_is_told(tiny_image, why, caplog):
    """A panic, or masks that were cut: jobs end, new ones are refused, the owner hears of it."""
    engine = Engine(SlowBoard(tiny_image, 1), load_spec(), places=4)
    died = threading.Event()
    engine.on_death = died.set

    def cut() -> None:
        raise ImageError("layer-000.safetensors: cut to 5 bytes")

    def panic(token: int) -> str:
        raise Panic("slice index")

    running, waiting = Heard(tiny_image, [1]), Heard(tiny_image, [2])
    if why == "masks":
        engine.check_masks = cut
    else:
        running.job.stream.feed = panic
    engine.start()
    engine.board.go.set()
    with caplog.at_level("CRITICAL"):
        engine.submit([running.job])
        if why == "panic":
            assert running.over.wait(60)
        assert died.wait(60)
    assert running.wait().error.status == 500
    assert engine.died
    assert not engine.alive or engine._thread.join(30) is None
    assert "the chip's thread died" in caplog.text
    with pytest.raises(RequestError, match="the emulator stopped"):
        engine.submit([waiting.job])
    engine.stop(1)


def test_out_of_memory_ends_one_answer(tiny_image, engine):
    def fails(token: int) -> str:
        raise MemoryError

    failed, fine = Heard(tiny_image, [1]), Heard(tiny_image, [2])
    failed.job.stream.feed = fails
    engine.board.go.set()
    engine.submit([failed.job])
    assert failed.wait().error.status == 503
    engine.submit([fine.job])
    assert fine.wait().error is None
