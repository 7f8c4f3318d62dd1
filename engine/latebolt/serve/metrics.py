"""Metrics for Prometheus. With several processes they are kept in files and added up when somebody asks.

Writing one never fails, whatever the library or its files do (a full disk, for one): a figure that is lost is
logged once, and no request or thread is lost with it.
`PROMETHEUS_MULTIPROC_DIR` has to be set before this module is imported; `process` sees to it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from latebolt.serve import log
from latebolt.serve.process_figures import ProcessFigures

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"

disable_created_metrics()  # when each series began is nobody's question

_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_TOKENS: Final = (1, 8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048, 8192)
# Files of figures that hold while their process runs.
_LIVE: Final = re.compile(r"gauge_livesum_(?P<process>[0-9]+)\.db")

REQUESTS = Counter("latebolt_requests", "Requests answered.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "latebolt_request_seconds", "From the first byte to the last.", ["route"], buckets=_SECONDS
)
IN_FLIGHT = Gauge(
    "latebolt_requests_in_flight", "Requests worked on or waiting.", multiprocess_mode="livesum"
)
ERRORS = Counter("latebolt_errors", "Answers that are no result, by their code.", ["code"])
DISCONNECTED = Counter("latebolt_disconnected", "Requests whose client left before the answer.")
OUT_OF_DESCRIPTORS = Counter(
    "latebolt_out_of_descriptors_seconds", "About the seconds in which no file could be opened."
)
STAGE_SECONDS = Histogram(
    "latebolt_stage_seconds",
    "queue: until a request's first text is taken; encode: until its last is done; search; write; answer.",
    ["stage"],
    buckets=_SECONDS,
)
QUEUE_TEXTS = Gauge(
    "latebolt_queue_texts", "Texts waiting for the encoder.", ["lane"], multiprocess_mode="livesum"
)
QUEUE_TOKENS = Gauge(
    "latebolt_queue_tokens", "Tokens waiting for the encoder.", ["lane"], multiprocess_mode="livesum"
)
BATCH_TOKENS = Histogram(
    "latebolt_batch_tokens", "Tokens that a thread of the encoder took at a time.", buckets=_TOKENS
)
BATCH_REQUESTS = Histogram(
    "latebolt_batch_requests",
    "Requests whose texts were taken together.",
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32),
)
TOKENS = Counter("latebolt_tokens", "Tokens taken through the graph.", ["lane"])
TRUNCATED = Counter("latebolt_truncated_texts", "Texts whose end the model did not read.", ["lane"])
UNREAD_SCRIPT = Counter(
    "latebolt_unread_script_additions", "Additions with most texts in a script that the model does not read."
)
CACHE_HITS = Counter("latebolt_cache_hits", "Texts whose vectors were known.")
CACHE_MISSES = Counter("latebolt_cache_misses", "Texts whose vectors were not known.")
CACHE_BYTES = Gauge("latebolt_cache_bytes", "Memory of known vectors.", multiprocess_mode="livesum")
INDEXES = Gauge(
    "latebolt_indexes",
    "Indexes by their state: ready, newer_format, damaged, foreign, unreadable, other_model or incomplete.",
    ["state"],
    multiprocess_mode="mostrecent",
)
DOCUMENTS = Gauge("latebolt_documents", "Documents of an index.", ["index"], multiprocess_mode="mostrecent")
JOBS = Counter("latebolt_jobs", "Jobs that ended, by how.", ["state"])
_gpus: Collector | None = None  # figures of GPUs, where the server runs on some

READY = Gauge("latebolt_ready", "Processes whose model has answered.", multiprocess_mode="livesum")


def count(figure: Counter, *labels: object, by: float = 1) -> None:
    """Add to a series."""
    try:
        _of(figure, *labels).inc(by)
    except Exception as error:  # noqa: BLE001 - see above, as in the two below
        _lost(type(error).__name__)


def observe(figure: Histogram, value: float, *labels: object) -> None:
    """Enter a value into a series."""
    try:
        _of(figure, *labels).observe(value)
    except Exception as error:  # noqa: BLE001
        _lost(type(error).__name__)


def show(figure: Gauge, value: float, *labels: object) -> None:
    """Set a series."""
    try:
        _of(figure, *labels).set(value)
    except Exception as error:  # noqa: BLE001
        _lost(type(error).__name__)


def forget(figure: Gauge, *labels: object) -> None:
    """Let go of a series. With several processes their files keep it, and `exposition` leaves it out."""
    if MULTIPROCESS not in os.environ:
        with contextlib.suppress(KeyError):
            figure.remove(*labels)
        _of.cache_clear()


@functools.cache
def _of(figure: Gauge | Counter | Histogram, *labels: object) -> Any:
    """A figure's series; looked up once, since prometheus-client takes longer for it than for counting."""
    return figure.labels(*labels) if labels else figure


@functools.cache
def _lost(error: str) -> None:
    log.event("figures lost", logging.ERROR, error=error)


def exposition(indexes: Collection[str]) -> bytes:
    """All metrics, in the text format of Prometheus.

    Args:
        indexes: names of those that there are. Series of another one are left out, whichever process keeps
            them.
    """
    registry = CollectorRegistry()
    registry.register(_Present(collected, indexes))
    return generate_latest(registry)


def collected() -> Iterable[Metric]:
    """All metrics, as objects."""
    yield from _registry().collect()
    if _gpus is not None:
        yield from _gpus.collect()


def show_gpus(numbers: Collection[int]) -> None:
    """From now on there are figures of these GPUs, too."""
    from latebolt.serve.gpu_figures import GpuFigures  # only where there is a GPU

    global _gpus
    _gpus = GpuFigures(tuple(numbers))


def _registry() -> CollectorRegistry:
    if MULTIPROCESS not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    registry.register(ProcessFigures(_processes))
    return registry


def _processes() -> set[int]:
    """The processes of the server: this one, those beside it that keep figures, and who minds them."""
    parent = multiprocessing.parent_process()
    beside = (_LIVE.fullmatch(path.name) for path in Path(os.environ[MULTIPROCESS]).iterdir())
    others = {int(name["process"]) for name in beside if name is not None}
    return others | {os.getpid()} | (set() if parent is None or parent.pid is None else {parent.pid})


class _Present(Collector):
    """What another collector has, without the series of indexes that are gone."""

    def __init__(self, collect: Callable[[], Iterable[Metric]], indexes: Collection[str]) -> None:
        self._collect, self._kept = collect, {None, *indexes}

    def collect(self) -> Iterator[Metric]:
        """See prometheus-client."""
        for metric in self._collect():
            kept = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            kept.samples = [each for each in metric.samples if each.labels.get("index") in self._kept]
            yield kept


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the time of a block to a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        observe(STAGE_SECONDS, time.perf_counter() - start, name)
