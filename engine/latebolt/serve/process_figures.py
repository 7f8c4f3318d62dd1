"""`process_*` of several processes, as prometheus-client has them of one: a series each, told apart by ids.

Sums would be wrong: of memory because processes share it, of counters because a process that ends takes its
share away, of descriptors because each has a limit of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector


class ProcessFigures(Collector):
    """A collector of processes of this user.

    Args:
        processes: their ids; one that has ended is passed over.
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes

    def collect(self) -> Iterable[Metric]:
        """See prometheus-client."""
        families: dict[str, Metric] = {}
        for process in self._processes():
            for one in ProcessCollector(pid=partial(int, process), registry=None).collect():
                family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for sample in one.samples:
                    family.add_sample(sample.name, {**sample.labels, "pid": str(process)}, sample.value)
        return families.values()
