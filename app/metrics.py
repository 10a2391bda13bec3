"""What Prometheus reads: counts and latencies, with labels that cannot grow without bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
PRODUCTS = 200
"""Most products with a figure of their own."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The meters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("kensor_requests", "HTTP requests", ["method", "route", "status"], registry=self.registry)
        self._seconds = Histogram("kensor_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self.registry)
        self.verdicts = Counter("kensor_verdicts", "Verdicts given", ["verdict"], registry=self.registry)
        self.verdict_seconds = Histogram(
            "kensor_verdict_seconds", "From the picture to the record", buckets=SECONDS, registry=self.registry
        )
        self.refused = Counter("kensor_inspections_refused", "Pictures that got no verdict", ["status"], registry=self.registry)
        self.answers = Counter("kensor_answers", "Answers delivered", ["grounding"], registry=self.registry)
        self._drift = Gauge(
            "kensor_drift", "1: the product's parts score higher than its normals did", ["product"], registry=self.registry
        )
        self._drift_of: set[str] = set()

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a figure that is read when Prometheus asks."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def questions(self, depths: Mapping[str, Callable[[], float]]) -> None:
        """Add how many questions each engine answers or keeps waiting, read when Prometheus asks."""
        family = Gauge("kensor_questions_depth", "Questions being answered or waiting", ["engine"], registry=self.registry)
        for engine, depth in depths.items():
            family.labels(engine).set_function(depth)

    def drift(self, product: str, drifting: bool | None) -> None:
        """Say whether a product drifts; `None`: too little is known."""
        if drifting is None:
            if product in self._drift_of:
                self._drift_of.remove(product)
                self._drift.remove(product)
        elif product in self._drift_of or len(self._drift_of) < PRODUCTS:
            self._drift_of.add(product)
            self._drift.labels(product).set(drifting)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request under its route's pattern, never under its path."""
        self._requests.labels(method if method in METHODS else "other", route, f"{status // 100}xx").inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
