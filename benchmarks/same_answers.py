"""Do shards answer as the index that they were split from, on real collections?

Every query in every mode, with a filter and without, k = 10, from the index and from shard sets of it: ids,
scores to the bit and confidence are compared. Rows say how many answers were compared and how many differed.
Needs the collections at LATEBOLT_DATA.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from harness import arguments, data_folder, record
from latebolt import Encoder, Hit, Index
from latebolt.evaluate import read_collection
from latebolt.sharding import ShardedIndex, split

COLLECTIONS = {"cosqa": "starter", "squad": "starter", "pubmedqa": "starter", "jsquad": "multilingual"}
SHARDS = (2, 4, 7)
MODES = ("late", "bm25", "hybrid")
DOCUMENTS, QUERIES = 1500, 60


def told(hits: list[Hit]) -> list[tuple[Any, ...]]:
    """What is compared of an answer."""
    return [(hit.id, hit.score, hit.confidence, hit.metadata) for hit in hits]


def main() -> None:
    """A row a collection."""
    options = arguments(__doc__)
    rows = []
    names = [name for name in COLLECTIONS if (data_folder() / name).is_dir()]
    for name in names[:2] if options.quick else names:
        collection, encoder = read_collection(data_folder() / name), Encoder.load(COLLECTIONS[name])
        documents = list(collection.documents.items())[: 40 if options.quick else DOCUMENTS]
        queries = list(collection.queries.values())[: 5 if options.quick else QUERIES]
        filters = (None, f"n >= {len(documents) // 2}")
        with tempfile.TemporaryDirectory() as folder:
            whole = Index.create(Path(folder, "whole"), encoder)
            whole.add(
                [t for _, t in documents],
                [i for i, _ in documents],
                [{"n": n} for n in range(len(documents))],
            )
            answers = different = 0
            for shards in SHARDS:
                split(whole.path, Path(folder, str(shards)), shards)
                with ShardedIndex.open(Path(folder, str(shards)), encoder) as index:
                    for mode in MODES:
                        for where in filters:
                            pairs = zip(
                                whole.search_many(queries, 10, where, mode=mode),
                                index.search_many(queries, 10, where, mode=mode),
                                strict=True,
                            )
                            for one, other in pairs:
                                answers += 1
                                different += told(one) != told(other)
            whole.close()
        row = {"collection": name, "documents": len(documents), "queries": len(queries)}
        rows.append({**row, "answers compared": answers, "different": different})
    assert not any(row["different"] for row in rows), rows
    record("same_answers", rows, quick=options.quick)


if __name__ == "__main__":
    main()
