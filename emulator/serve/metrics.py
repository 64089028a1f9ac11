"""The metrics that Prometheus reads at /metrics: counts and times, never any text."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from emulator.serve.cards import Card
from emulator.serve.engine import Engine
from emulator.serve.jobs import Job

CONTENT_TYPE = CONTENT_TYPE_LATEST
CHIP_SECONDS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1)
HOST_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The metrics of one server."""

    def __init__(self, engine: Engine) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"hardwired_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"hardwired_{name}", what, buckets=buckets, registry=registry)

        def gauge(name: str, what: str, value: object) -> None:
            Gauge(f"hardwired_{name}", what, registry=registry).set_function(value)  # type: ignore[arg-type]

        self.requests = counter("requests", "HTTP requests answered", "route", "status")
        self._answers = counter("answers", "Answers by why they ended", "reason")
        self._tokens = counter("tokens", "Tokens through the chip", "kind")
        self._chip = histogram("chip_seconds", "Chip time of an answer, estimated", CHIP_SECONDS)
        self._host = histogram("host_seconds", "Host time of an answer, measured", HOST_SECONDS)
        self._queued = histogram("queue_seconds", "Wait of an answer for the chip", HOST_SECONDS)
        self._first = histogram("first_token_seconds", "From queue to first token", HOST_SECONDS)
        gauge("queue_waiting", "Answers that wait for the chip", lambda: engine.waiting)
        gauge("queue_places", "Answers that may wait", lambda: engine.places)
        gauge("chip_busy", "Cards at work", lambda: engine.busy)
        gauge("cards", "Cards of this server", lambda: len(engine.cards))
        self._by_card = counter("card_answers", "Answers by card", "card")
        self._card_tokens = counter("card_tokens", "Tokens through a card", "card", "kind")
        self._card_busy = counter("card_busy_seconds", "Time of a card with an answer", "card")
        self._gauges_by_card(engine)
        engine.on_done = self._done

    def _gauges_by_card(self, engine: Engine) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"hardwired_card_{name}", what, ["card"], registry=self._registry)

        busy = gauge("busy", "Whether the card has an answer in hand")
        waiting = gauge("waiting", "Answers that wait for this card alone")
        held = gauge("kv_tokens", "Tokens whose keys and values are in the card's KV SRAM")
        for card in engine.cards:
            label = str(card.number)
            busy.labels(label).set_function(partial(_is_busy, card))
            waiting.labels(label).set_function(partial(engine.waiting_before, card.number))
            held.labels(label).set_function(partial(getattr, card.chip, "position"))

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _done(self, job: Job) -> None:
        answer, card = job.answer, str(job.card)
        reason = "cancelled" if job.cancelled else "failed" if job.failed else answer.reason
        self._answers.labels(reason).inc()
        self._by_card.labels(card).inc()
        self._card_busy.labels(card).inc(max(0.0, job.done_at - job.started_at))
        for tokens, kind in (
            (answer.prompt_tokens, "prompt"),
            (len(answer.token_ids), "completion"),
        ):
            self._tokens.labels(kind).inc(tokens)
            self._card_tokens.labels(card, kind).inc(tokens)
        self._tokens.labels("prompt_cached").inc(job.cached)
        self._tokens.labels("drafted").inc(answer.drafted)
        self._tokens.labels("draft_accepted").inc(answer.accepted)
        self._chip.observe(answer.chip_seconds)
        self._host.observe(answer.host_seconds)
        self._queued.observe(job.started_at - job.queued_at)
        if job.first_token_at:
            self._first.observe(job.first_token_at - job.queued_at)


def _is_busy(card: Card) -> int:
    return int(card.job is not None)
