"""How many machines a corpus wants: shards, replicas, memory, latency and work, from measured constants.

Pure. Bytes are `latebolt.cost`'s, times are interpolated between the sizes that `benchmarks/scale.py`
measured and never continued beyond them: where a shard would be larger, there are more of them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Final, NamedTuple

from latebolt.cost import Corpus, bills, ours
from latebolt.errors import InvalidInput


class Measured(NamedTuple):
    """One size of benchmarks/scale.py: a search on two threads, 2 bits, dim 128, some 60 tokens a passage."""

    tokens: int
    p50_ms: float
    p95_ms: float


# benchmarks/results/scale.json (an AMD EPYC with AVX-512 VNNI); a test holds them equal.
SEARCHES: Final = (
    Measured(635_938, 1.33, 2.20),
    Measured(6_066_832, 3.48, 4.98),
    Measured(60_477_810, 5.33, 11.32),
    Measured(604_406_405, 10.78, 18.84),
)
THREADS: Final = 2  # of each of these searches
MOST_TOKENS: Final = SEARCHES[-1].tokens  # of a shard
# Tokens of documents that a core encodes in a second, int8, benchmarks/results/encode.json (AMD EPYC).
ENCODED: Final = {"starter": 17_440.0, "multilingual": 4_580.0}
# What four shards on Ray add to a query of one server on two cores, benchmarks/results/nodes.json (AMD EPYC).
RAY_MS: Final = 19.9
PROCESS_GB: Final = 0.55  # a server with a model, benchmarks/results/memory_caps.json
_Z95: Final = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True)
class Machine:
    """What is rented or owned, all of one kind.

    Args:
        memory_gb: of it (1e9 bytes), `usable` for indexes and processes; the rest is the system's.
        cores: `busy` of their time may be spent on searches, or requests queue.
        usd_month: None where no bill is wanted.

    Raises:
        InvalidInput: a number is not above 0, or a share not within 0 and 1.
    """

    memory_gb: float = 128.0
    cores: int = 16
    usd_month: float | None = None
    usable: float = 0.85
    busy: float = 0.6

    def __post_init__(self) -> None:
        for name, value in (("memory", self.memory_gb), ("cores", self.cores)):
            if not 0 < value < math.inf:
                raise InvalidInput(f"a machine's {name} should be above 0, got {value}.")
        if self.usd_month is not None and not 0 <= self.usd_month < math.inf:
            raise InvalidInput(f"a machine's price should be 0 or more, got {self.usd_month}.")
        for name, value in (("usable", self.usable), ("busy", self.busy)):
            if not 0 < value <= 1:
                raise InvalidInput(f"{name} should be a share above 0 and at most 1, got {value}.")
        if self.room_gb <= 0:
            raise InvalidInput(
                f"a machine of {self.memory_gb:g} GB has no room for an index beside {self.searches} "
                f"processes of {PROCESS_GB} GB and the system. Take one with more memory, or fewer cores."
            )

    @property
    def searches(self) -> int:
        """Shards that are searched side by side, each on THREADS threads."""
        return max(1, self.cores // THREADS)

    @property
    def room_gb(self) -> float:
        """What is left for indexes beside a process for each of `searches`."""
        return self.memory_gb * self.usable - self.searches * PROCESS_GB


@dataclass(frozen=True)
class Wish:
    """What searches should be like.

    Args:
        queries_per_second: at the busiest time.
        p95_ms: of a search beside encoding its query; what 19 of 20 stay below.
        replicas: copies of each shard at least; 2 outlive a machine.
        overhead_ms: what scattering and gathering adds where there are several shards.

    Raises:
        InvalidInput: a number is out of range.
    """

    queries_per_second: float = 10.0
    p95_ms: float = 500.0
    replicas: int = 1
    overhead_ms: float = RAY_MS

    def __post_init__(self) -> None:
        for name, value in (("queries a second", self.queries_per_second), ("p95", self.p95_ms)):
            if not 0 < value < math.inf:
                raise InvalidInput(f"{name} should be above 0, got {value}.")
        if self.replicas < 1 or not 0 <= self.overhead_ms < math.inf:
            raise InvalidInput(
                f"there should be at least one replica and an overhead of 0 or more, got {self.replicas} "
                f"and {self.overhead_ms}."
            )


@dataclass(frozen=True)
class Plan:
    """The fewest machines that do it.

    shards: parts of the index, `replicas` of each; machines: of the kind that was given. index_gb: one copy's
    vectors, lists and texts. p50_ms, p95_ms: of a search without encoding its query, if shards are slow
    independently of each other, which is the worst case. queries_per_second: that these machines answer.
    encode_core_hours: to make the vectors once. usd_month: None without a price. limit: what decided how many
    machines there are, "memory", "processors" or "replicas".
    """

    documents: int
    tokens: int
    shards: int
    replicas: int
    machines: int
    index_gb: float
    p50_ms: float
    p95_ms: float
    queries_per_second: float
    encode_core_hours: float
    usd_month: float | None
    limit: str

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def search_ms(tokens: float) -> tuple[float, float]:
    """(p50, p95) of searching so many tokens on two threads, in ms; the smallest size's for fewer.

    Raises:
        InvalidInput: more tokens than were ever measured in one index.
    """
    if tokens > MOST_TOKENS:
        raise InvalidInput(f"{tokens:.0f} tokens are more than were measured in one index ({MOST_TOKENS}).")
    if tokens <= SEARCHES[0].tokens:
        return SEARCHES[0].p50_ms, SEARCHES[0].p95_ms
    for low, high in itertools.pairwise(SEARCHES):
        if tokens <= high.tokens:
            part = math.log(tokens / low.tokens) / math.log(high.tokens / low.tokens)
            return (
                low.p50_ms * (high.p50_ms / low.p50_ms) ** part,
                low.p95_ms * (high.p95_ms / low.p95_ms) ** part,
            )
    raise AssertionError("the last size was compared above")


def slowest_of(p50: float, p95: float, shards: int) -> tuple[float, float]:
    """(p50, p95) of the slowest of several searches side by side, each log-normal with these.

    They are taken to be slow independently of each other. In truth a query that is dear in one shard is dear
    in all of them, so this is the worst case.
    """
    sigma = math.log(p95 / p50) / _Z95
    normal = NormalDist(math.log(p50), max(sigma, 1e-9))
    return tuple(math.exp(normal.inv_cdf(share ** (1 / shards))) for share in (0.5, 0.95))  # type: ignore[return-value]


def mean_ms(p50: float, p95: float) -> float:
    """The mean of what is log-normal with these."""
    return p50 * math.exp((math.log(p95 / p50) / _Z95) ** 2 / 2)


def plan(
    corpus: Corpus,
    machine: Machine | None = None,
    wish: Wish | None = None,
    dim: int = 128,
    bits: int = 2,
    text_bytes: float = 400.0,
    tokens_per_core_second: float = ENCODED["starter"],
) -> Plan:
    """The fewest machines, then the fewest shards, with which the wish comes true.

    Args:
        dim, bits: of the vectors, which decide bytes. Times are those of 128 and 2: what is smaller is no
            slower.
        text_bytes: a document's text with its words for BM25, on disk and in the page cache.
        tokens_per_core_second: that the model encodes.
    Raises:
        InvalidInput: nothing does, whatever is spent; says what is nearest.
    """
    machine, wish = machine or Machine(), wish or Wish()
    index_gb = (sum(ours(corpus, dim, bits)) + corpus.documents * text_bytes) / 1e9
    best: tuple[tuple[int, int], Plan] | None = None
    fastest = math.inf
    for shards in _numbers_of_shards(corpus.tokens):
        p50, p95 = search_ms(corpus.tokens / shards)
        work_s = shards * THREADS * mean_ms(p50, p95) / 1e3  # of processors, for a query
        for machines, limit in _machines(machine, wish, shards, index_gb, work_s):
            # Of the copies one is asked, and machines share that work.
            rounds = math.ceil(shards / machines / machine.searches)
            added = wish.overhead_ms if shards > 1 else 0.0
            slow50, slow95 = (rounds * each + added for each in slowest_of(p50, p95, shards))
            fastest = min(fastest, slow95)
            if slow95 > wish.p95_ms:
                continue
            found = Plan(
                documents=corpus.documents,
                tokens=corpus.tokens,
                shards=shards,
                replicas=wish.replicas,
                machines=machines,
                index_gb=index_gb,
                p50_ms=slow50,
                p95_ms=slow95,
                queries_per_second=machines * machine.cores * machine.busy / work_s,
                encode_core_hours=corpus.tokens / tokens_per_core_second / 3600,
                usd_month=None if machine.usd_month is None else machines * machine.usd_month,
                limit=limit,
            )
            if best is None or (machines, shards) < best[0]:
                best = (machines, shards), found
    if best is None:
        raise InvalidInput(
            f"no number of shards brings the p95 of {corpus.documents:,} documents to {wish.p95_ms:g} ms; "
            f"the least is about {fastest:.0f} ms."
        )
    return best[1]


class StoreMachines(NamedTuple):
    """How many machines hold a store's vectors, and what finds them, in memory; GB of one copy."""

    store: str
    gb: float
    machines: int


def stores(
    corpus: Corpus, machine: Machine | None = None, wish: Wish | None = None, dim: int = 128, bits: int = 2
) -> list[StoreMachines]:
    """Machines by bytes alone, of each store that `latebolt.cost` knows; nothing is said of their speed.

    Qdrant's are without the 1.5 of its guide, which is in its favour.
    """
    machine, wish = machine or Machine(), wish or Wish()
    found = []
    for bill in bills(corpus, (dim,), (bits,)):
        machines = max(wish.replicas, math.ceil(wish.replicas * bill.bytes / 1e9 / machine.room_gb))
        found.append(StoreMachines(bill.store, bill.bytes / 1e9, machines))
    return found


def _numbers_of_shards(tokens: int) -> list[int]:
    """From the fewest that are no larger than what was measured: each twice as many, down to shards of the
    smallest size."""
    fewest = max(1, math.ceil(tokens / MOST_TOKENS))
    found = [fewest]
    while tokens / found[-1] > SEARCHES[0].tokens and len(found) < 32:
        found.append(found[-1] * 2)
    return found


def _machines(
    machine: Machine, wish: Wish, shards: int, index_gb: float, work_s: float
) -> list[tuple[int, str]]:
    """Numbers of machines that hold all copies and have the processors, each with what decides it: the
    fewest, and, where shards would wait for one another there, as many as let them all run at once."""
    by = {
        "memory": math.ceil(wish.replicas * index_gb / machine.room_gb),
        "processors": math.ceil(wish.queries_per_second * work_s / (machine.cores * machine.busy)),
        "replicas": wish.replicas,  # two copies on one machine die together
    }
    limit = max(by, key=lambda name: by[name])
    fewest = by[limit]
    together = math.ceil(shards / machine.searches)
    return [(fewest, limit)] + ([(together, "processors")] if together > fewest else [])
