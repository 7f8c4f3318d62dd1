"""RAGatouille's `RAGPretrainedModel` over latebolt: change `ragatouille` to this in an import, and code runs.

Source of the surface: ragatouille 0.0.9.post2, https://github.com/AnswerDotAI/RAGatouille.

What differs, on purpose:

- A model is what `Encoder.load` takes ("starter", an exported folder, a hub id) or an `Encoder`. Training
  stays with RAGatouille, and `latebolt export` brings a trained checkpoint here.
- An index is latebolt's own folder, below the same root/colbert/indexes/name; passages, ids and metadata
  are in it, in one commit. Nothing waits before it deletes, and nothing is printed.
- Chunks are cut by the model's own tokens, without llama-index; see `sentence_splitter`.
- Ranks begin at 1 in every method, as RAGatouille documents them (its `rerank` begins at 0).
- A k above the number of documents gives them all, where RAGatouille's `rerank` gives None.
- Searching or changing an index that is not there raises, where RAGatouille gives None.
- `doc_ids` holds for several queries too, metadata come with the results of each, scores never count padding.
- `bsize`, `use_faiss`, `force_fast` and `verbose` are accepted and change nothing, but for a progress bar.
"""

from __future__ import annotations

from latebolt.adapters.ragatouille.model import RAGPretrainedModel
from latebolt.adapters.ragatouille.splitting import sentence_splitter

__all__ = ["RAGPretrainedModel", "sentence_splitter"]
