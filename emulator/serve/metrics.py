"""The metrics that Prometheus reads at /metrics: counts and times, never any text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from emulator.serve.engine import Engine, Job

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
        gauge("chip_busy", "Whether the chip is at work", lambda: int(engine.busy))
        engine.on_done = self._done

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _done(self, job: Job) -> None:
        answer = job.answer
        self._answers.labels("cancelled" if job.cancelled else answer.reason).inc()
        self._tokens.labels("prompt").inc(answer.prompt_tokens)
        self._tokens.labels("prompt_cached").inc(job.cached)
        self._tokens.labels("completion").inc(len(answer.token_ids))
        self._chip.observe(answer.chip_seconds)
        self._host.observe(answer.host_seconds)
        self._queued.observe(job.started_at - job.queued_at)
        if job.first_token_at:
            self._first.observe(job.first_token_at - job.queued_at)
