"""Makes hits of what a search found: reads ids, texts, metadata and places, and rates the scores."""

from __future__ import annotations

from collections.abc import Sequence

from latebolt.arrays import Float32
from latebolt.confidence import Calibration
from latebolt.hits import Hit
from latebolt.index.search.query import Found


def read_hits(found: Sequence[Found], query: Float32 | None, calibration: Calibration | None) -> list[Hit]:
    """What was found with ids, texts and metadata, which are read once a segment, and confidence.

    Args:
        query: float32 [n_query, dim]; None where words alone were asked for.
    """
    places: dict[str, list[int]] = {}
    for place, each in enumerate(found):
        places.setdefault(each.segment.name, []).append(place)
    hits: dict[int, Hit] = {}
    for some in places.values():
        documents = found[some[0]].segment.documents([found[place].row for place in some])
        for place, read in zip(some, documents, strict=True):
            score, part = found[place].score, found[place].maxsim
            rated: tuple[float | None, bool] = (None, False)
            if calibration is not None and query is not None and part is not None:
                rated = calibration.of(part, len(query))
            hits[place] = Hit(read.id, score, read.text, read.metadata or {}, read.place, *rated)
    return [hits[place] for place in range(len(found))]
