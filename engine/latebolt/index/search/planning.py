"""Decides how a segment is searched, and how hard: everything exactly, or the best by centroids first.

Pure functions of counts and of measured costs. Hits have to be the same on one thread and on many, alone
and in a batch, for k = 1 and for k = 10: so neither threads nor a clock nor k itself (only its level) have
a say. Costs are work of one thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from latebolt.codec.kmeans import default_n_centroids

Way = Literal["exact", "pruned"]

# Up to so many hits the same candidates are looked at; above, the next power of two decides.
LEAST_LEVEL: Final = 32
# Documents of the first round: at least so many, as a round has a price of its own; and so many for a hit of
# the level.
FIRST_ROUND: Final = 256
PER_HIT: Final = 4
# For up to so many query tokens, whose best documents stand far behind by centroids, the first round is twice
# as large: the second half is nearly always needed.
FEW_TOKENS: Final = 16
# From so many query tokens on, the later half of the first round may already show that the best stay.
MANY: Final = 8
# A search may end when the later half of what it scored left so many of the best documents as they were: so
# many over the query's tokens, within a half of a level and two of them.
STABLE_TOKENS: Final = 640
# Centroids for fewer tokens than there are fit badly: the first round grows with the shortage, up to so much.
MOST_MISFIT: Final = 8
# Query tokens that are scored at half the price of 16: in half the registers, or with lanes that share the
# dimensions.
FEW_LANES: Final = 8
# A pruned search ends at so many documents, and at so many times the root of their number: what a query of
# one word takes among millions is bounded.
MOST_DOCUMENTS, MOST_ROOTS = 16_384, 64
# Documents scored beyond the first round: so many times the root of their number, over the query tokens.
ROUNDS_A_ROOT: Final = 50


# By lists, whose ranking is nearer to that of exact scores: documents of the first round for a hit of the
# level, of which as many as the level have to stay as they were, and at most. The first round grows with the
# lists, from so many entries of one on, up to so many documents a hit: coarse lists say less of a document.
LISTED_PER_HIT, MOST_LISTED_PER_HIT = 32, 256
SHORT_LIST, MOST_FIRST_PER_HIT = 75, 64
# Lists that are visited: so many over the query's tokens for each of them, within bounds. Few tokens have to
# tell many documents apart.
LISTS: Final = 5120
LEAST_LISTS, MOST_LISTS = 96, 1280
# Up to so many query tokens lists rank alone: then they are many a token, and exact scores half as dear. With
# more tokens what lists bring up is ranked by centroids, too, which halves the lists and the first round.
LISTS_ALONE: Final = 8
OLD_LISTS: Final = 48  # of the codec's centroids, which are longer


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of work of one thread, and what exact scoring may cost.

    Measured on a server with AVX-512 VNNI, 2 bits; 4 bits take the same, 1 bit a tenth more. What decides is
    mostly their ratio, which other processors share.

    Args:
        exact_token, exact_product: of scoring a token exactly; for each of it, and for each of the products
            of its dimensions with the query's lanes (8 or 16, or its tokens rounded up to 32).
        centroid_token, centroid_lane: of ranking a token by its centroid; for each of it, and a lane.
        pruned: of a pruned search beside that.
        budget: exact scoring that costs no more over the whole index is always done: 3 ms, which a server
            with all threads at work can give.
        ratio: so is what costs at most so many times the pruned search.
    """

    exact_token: float = 1.5
    exact_product: float = 5e-3
    centroid_token: float = 0.15
    centroid_lane: float = 0.017
    pruned: float = 300_000
    budget: float = 3_000_000
    ratio: float = 1.0


COSTS: Final = Costs()

# Where AMX multiplies 16 tokens at once, exact scoring takes a third: 6.5 ns a token of 128 dimensions and 32
# lanes by a prototype on a Xeon (the kernel itself has not been timed on one), of which most is unpacking and
# maxima. Then all is scored, too, where that costs half as much again as a pruned search, which may miss one.
_TILED_TOKEN, _TILED_PRODUCT, _TILED_RATIO = 1.6, 0.2, 1.5


def costs(in_tiles: bool) -> Costs:
    """What is measured, or what it is where residual codes are scored in tiles (`kernels.isa.in_tiles`)."""
    if not in_tiles:
        return COSTS
    return replace(
        COSTS,
        exact_token=_TILED_TOKEN * COSTS.exact_token,
        exact_product=_TILED_PRODUCT * COSTS.exact_product,
        ratio=_TILED_RATIO * COSTS.ratio,
    )


class Work(NamedTuple):
    """What a query meets in one segment.

    n_query, dim: the query's tokens and their width; bits: of the codes, 0 where nothing is cheaper than
    exact scoring. n_tokens, n_documents: those that a filter leaves (documents, not passages). n_centroids:
    of the codec. share: of the tokens that the whole search may find, those here; n_stored: tokens of the
    segment without a filter.
    """

    n_query: int
    dim: int
    bits: int
    n_tokens: int
    n_documents: int
    n_centroids: int
    n_stored: int
    share: float


class Effort(NamedTuple):
    """How hard a pruned search looks, in documents.

    first: scored in the first round; half: scored at least before the later half, where that ends the rounds
    by leaving the best `stable` as they were; wanted: of the best, must be found; most: scored at most.
    """

    first: int
    half: int
    wanted: int
    stable: int
    most: int


class Plan(NamedTuple):
    """How a segment is searched, and why, in words; what both ways are taken to cost, in ms of one thread."""

    way: Way
    why: str
    exact_ms: float
    pruned_ms: float


def level(k: int) -> int:
    """The k that candidates are looked for: those of a smaller one do not depend on k."""
    return max(LEAST_LEVEL, 1 << (k - 1).bit_length())


def effort(work: Work, k: int) -> Effort:
    """How hard to look for the k best."""
    wanted = level(k)
    stable = min(2 * LEAST_LEVEL, max(LEAST_LEVEL // 2, STABLE_TOKENS // max(work.n_query, 1)))
    least = least_documents(work, wanted)
    return Effort(
        2 * least if work.n_query <= FEW_TOKENS else least,
        least if work.n_query < MANY else least // 2,
        wanted,
        stable * wanted // LEAST_LEVEL,
        max(MOST_DOCUMENTS, MOST_ROOTS * math.isqrt(work.n_documents), 4 * PER_HIT * wanted),
    )


def ranks_by_both(n_query: int) -> bool:
    """Whether what lists bring up is ranked by centroids, too."""
    return n_query > LISTS_ALONE


def effort_by_lists(k: int, a_list: float, n_query: int) -> Effort:
    """How hard to look for the k best among the documents that lists, of so many entries, bring up."""
    wanted = level(k)
    first = int(min(LISTED_PER_HIT * max(a_list / SHORT_LIST, 1), MOST_FIRST_PER_HIT) * wanted)
    first = first // 2 if ranks_by_both(n_query) else first
    return Effort(first, first // 2, wanted, wanted, MOST_LISTED_PER_HIT * wanted)


def lists_to_visit(work: Work, of_centroids: bool = False) -> int:
    """Lists that each query token visits: as many times more as a filter leaves fewer documents.

    Args:
        of_centroids: the lists are of the codec's centroids, as segments of earlier versions have them.
    """
    n = min(max(LISTS // max(work.n_query, 1), LEAST_LISTS), MOST_LISTS)
    n = OLD_LISTS if of_centroids else n // 2 if ranks_by_both(work.n_query) else n
    return math.ceil(n * work.n_stored / max(work.n_tokens, 1))


def least_documents(work: Work, wanted: int) -> int:
    """Documents that are scored at least before the best `wanted` may be known."""
    misfit = default_n_centroids(work.n_stored) / max(work.n_centroids, 1)
    least = max(FIRST_ROUND, math.isqrt(work.n_documents), PER_HIT * wanted)
    return int(least * min(max(misfit, 1), MOST_MISFIT))


def expected_documents(work: Work) -> float:
    """About how many documents a pruned search scores exactly: more for few query tokens, whose best
    documents stand far behind by centroids."""
    rounds = ROUNDS_A_ROOT * math.sqrt(work.n_documents) / max(work.n_query, 1)
    return min(least_documents(work, level(1)) + rounds, effort(work, 1).most, work.n_documents)


def decide(work: Work, costs: Costs = COSTS) -> Plan:
    """Which way a segment is searched. It does not depend on k."""
    lanes = 16 if work.n_query <= 16 else -(-work.n_query // 32) * 32
    products = work.dim * (FEW_LANES if work.n_query <= FEW_LANES else lanes)
    token = costs.exact_token + costs.exact_product * products * (1.1 if work.bits == 1 else 1)
    exact = work.n_tokens * token
    if not work.bits:
        return Plan("exact", "these vectors have no cheaper ranking", exact / 1e6, exact / 1e6)
    scored = expected_documents(work) / max(work.n_documents, 1) * exact
    ranked = work.n_tokens * (costs.centroid_token + costs.centroid_lane * lanes)
    pruned = costs.pruned + ranked + scored
    if exact <= costs.budget * work.share:
        why = f"all {work.n_tokens} tokens take about {exact / 1e6:.1f} ms of one thread"
        return Plan("exact", why, exact / 1e6, pruned / 1e6)
    why = f"all take about {exact / pruned:.1f} times a pruned search of {work.n_query} query tokens"
    return Plan("exact" if exact <= costs.ratio * pruned else "pruned", why, exact / 1e6, pruned / 1e6)
