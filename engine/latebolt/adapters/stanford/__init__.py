"""The Stanford ColBERT library's surface over latebolt: change `colbert` to this in an import, and code runs.

`from colbert import Indexer, Searcher`, `from colbert.infra import Run, RunConfig, ColBERTConfig` and
`from colbert.data import Queries, Collection, Ranking` are imports from here (or from `.infra`, `.data`).
Source of the surface: colbert-ai 0.2.22, https://github.com/stanford-futuredata/ColBERT.

What differs, on purpose:

- A model is what `Encoder.load` takes ("starter", an exported folder, a hub id) or an `Encoder`. Training
  stays with colbert-ai, and `latebolt export` brings a trained checkpoint here.
- Arrays are NumPy's; `tensors="torch"` on `Checkpoint` and `Searcher` gives torch tensors.
- An index is latebolt's own folder, below the same root/experiment/indexes/name. Nothing waits 20 seconds
  before it deletes, and only a latebolt index is ever deleted.
- `nranks`, `gpus`, `amp`, batch sizes, k-means iterations and the settings of a search (`ncells`, `ndocs`,
  `centroid_score_threshold`) are accepted and change nothing: one process uses all its cores, and a search
  looks at more documents until more of them change nothing.
- What the library refuses by an assertion raises an error with a message, which is an AssertionError too.
- `search` gives as many ranks as passages, also where fewer than k qualify.
"""

from __future__ import annotations

from latebolt.adapters.stanford.checkpoint import Checkpoint
from latebolt.adapters.stanford.data import Collection, Queries, Ranking
from latebolt.adapters.stanford.indexing import Indexer
from latebolt.adapters.stanford.infra import BadArgument, ColBERTConfig, Run, RunConfig
from latebolt.adapters.stanford.searching import Searcher
from latebolt.adapters.stanford.updating import IndexUpdater

__all__ = [
    "BadArgument",
    "Checkpoint",
    "ColBERTConfig",
    "Collection",
    "IndexUpdater",
    "Indexer",
    "Queries",
    "Ranking",
    "Run",
    "RunConfig",
    "Searcher",
]
