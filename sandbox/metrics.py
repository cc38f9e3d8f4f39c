"""What a sandbox counts and measures, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from sandbox.verdict import Outcome

_QUEUE_S = (0.001, 0.01, 0.1, 1, 10, 60)
_RUN_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 20, 60)
_OVERHEAD_S = (0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.05, 0.1, 1)


class Metrics:
    """Counters and histograms of one sandbox; safe to use from many threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._verdicts = Counter(
            "code_align_sandbox_verdicts",
            "Verdicts by outcome",
            ["outcome"],
            registry=self._registry,
        )
        self._broken = Counter(
            "code_align_sandbox_broken_slots", "Slots that broke", registry=self._registry
        )
        self._shared = Counter(
            "code_align_sandbox_shared_runs",
            "Requests answered by an equal one that was under way",
            registry=self._registry,
        )
        self._queue = Histogram(
            "code_align_sandbox_queue_seconds",
            "Waiting for a slot",
            buckets=_QUEUE_S,
            registry=self._registry,
        )
        self._run = Histogram(
            "code_align_sandbox_run_seconds",
            "One run on a slot, from request to reply",
            buckets=_RUN_S,
            registry=self._registry,
        )
        self._overhead = Histogram(
            "code_align_sandbox_overhead_seconds",
            "One run on a slot, without the time of its tests",
            buckets=_OVERHEAD_S,
            registry=self._registry,
        )

    def verdict(self, outcome: Outcome) -> None:
        """Count one verdict."""
        self._verdicts.labels(outcome.value).inc()

    def broke(self) -> None:
        """Count a slot that broke."""
        self._broken.inc()

    def shared(self) -> None:
        """Count a request that took another's verdict."""
        self._shared.inc()

    def ran(self, queue_s: float, run_s: float, tests_s: float) -> None:
        """Measure one run: seconds it waited, seconds it took, seconds of those in its tests."""
        self._queue.observe(queue_s)
        self._run.observe(run_s)
        self._overhead.observe(max(0.0, run_s - tests_s))

    def text(self) -> str:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry).decode()
