"""What the service counts, for Prometheus."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one process; they live in a registry of their own."""

    def __init__(self, queue_length: Callable[[], float]):
        self.registry = CollectorRegistry()
        about: dict[str, Any] = {"namespace": "redraft", "registry": self.registry}
        self.requests = Counter("requests", "Requests by route and status", ["route", "status"], **about)
        self.seconds = Histogram("request_seconds", "Time to answer", ["route"], buckets=SECONDS, **about)
        self.queue = Gauge("queue_length", "Requests that wait for the engine", **about)
        self.queue.set_function(queue_length)
        self.wait = Histogram("queue_wait_seconds", "Time in the queue", buckets=SECONDS, **about)
        self.batch = Histogram("batch_size", "Requests a batch", buckets=SIZES, **about)
        self.padding = Counter("batch_padding", "Rows computed for nobody, to fill a batch's shape", **about)
        self.decode = Histogram("decode_seconds", "Time of a batch in the engine", buckets=SECONDS, **about)
        self.processor = Counter("decode_processor_seconds", "Processor time of the engine's thread in lists", **about)
        self.stages = Histogram("stage_seconds", "Time by stage of a request", ["stage"], buckets=SECONDS, **about)
        self.short = Counter("short_lists", "Lists with fewer items than asked for", **about)
        self.rejected = Counter("rejections", "Requests turned away, by reason", ["reason"], **about)
        self.reloads = Counter("reloads", "Models put in place, by kind", ["kind"], **about)
        self.events = Counter("events", "Events by outcome", ["outcome"], **about)

    def text(self) -> bytes:
        """Everything in Prometheus's text form."""
        return generate_latest(self.registry)
