"""Memory and utilisation of the GPUs that a server runs on, for Prometheus; read when it asks.

Of a GPU there is one series, whichever processes use it. Where NVIDIA's library does not say, there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from latebolt.gpu import nvml


class GpuFigures(Collector):
    """A collector.

    Args:
        numbers: of the GPUs, as in "cuda:1".
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = tuple(numbers)

    def collect(self) -> Iterable[Metric]:
        """See prometheus-client."""
        labels = ("gpu", "name")
        total = GaugeMetricFamily("latebolt_gpu_memory_bytes", "Memory of a GPU.", labels=labels)
        used = GaugeMetricFamily(
            "latebolt_gpu_memory_used_bytes", "Of it, what all programs hold.", labels=labels
        )
        busy = GaugeMetricFamily(
            "latebolt_gpu_utilisation_ratio",
            "Share of the last moments, up to a second, in which a program ran on a GPU.",
            labels=labels,
        )
        for number in self._numbers:
            gpu = nvml.gpu(number)
            if gpu is None:
                continue
            of_it = (f"cuda:{number}", gpu.name)
            total.add_metric(of_it, gpu.total)
            used.add_metric(of_it, gpu.total - gpu.free)
            if gpu.utilisation is not None:
                busy.add_metric(of_it, gpu.utilisation / 100)
        return [family for family in (total, used, busy) if family.samples]
