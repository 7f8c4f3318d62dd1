"""Encodes texts with the library that a checkpoint was made for. A program of its own: run by another Python
where the library lives in another environment, it imports nothing of latebolt.

python reference_library.py LIBRARY CHECKPOINT < TEXTS.json > VECTORS.npz
    TEXTS.json: {"query": [...], "document": [...]}
    VECTORS.npz: query_values, document_values float32 [tokens, dim]; query_lengths, document_lengths int64
    [texts]; library, a string
"""

from __future__ import annotations

import gc
import importlib.metadata
import io
import json
import os
import sys
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # compared on the CPU, as the graphs are
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def sentence_transformers(checkpoint: str, texts: dict[str, list[str]]) -> dict[str, list[Any]]:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(checkpoint, device="cpu")
    settings: dict[str, Any] = {"convert_to_numpy": True, "show_progress_bar": False, "batch_size": 4}
    return {
        "query": model.encode_query(texts["query"], **settings),
        "document": model.encode_document(texts["document"], **settings),
    }


def pylate(checkpoint: str, texts: dict[str, list[str]]) -> dict[str, list[Any]]:
    from pylate import models

    model = models.ColBERT(checkpoint, device="cpu")
    settings: dict[str, Any] = {"show_progress_bar": False, "batch_size": 4}
    return {kind: model.encode(some, is_query=kind == "query", **settings) for kind, some in texts.items()}


def colbert_ai(checkpoint: str, texts: dict[str, list[str]]) -> dict[str, list[Any]]:
    from colbert.infra import ColBERTConfig
    from colbert.modeling.checkpoint import Checkpoint
    from colbert.modeling.colbert import ColBERT

    # A model's scores want an extension in C++, which takes torch half a minute to compile; vectors do not.
    ColBERT.loaded_extensions = True
    model = Checkpoint(checkpoint, colbert_config=ColBERTConfig(), verbose=0)
    queries = model.queryFromText(texts["query"], bsize=4, to_cpu=True)
    [documents] = model.docFromText(texts["document"], bsize=4, keep_dims=False)
    return {"query": list(queries), "document": documents}


LIBRARIES = {"sentence-transformers": sentence_transformers, "pylate": pylate, "colbert-ai": colbert_ai}


def main(library: str, checkpoint: str) -> None:
    """Read texts from stdin, write vectors to stdout; what the library prints goes to stderr."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    gc.disable()  # it would walk through all that is loaded, again and again: a fifth of the time
    texts = json.load(sys.stdin)
    found = LIBRARIES[library](checkpoint, texts)
    import numpy as np

    arrays: dict[str, Any] = {"library": f"{library} {importlib.metadata.version(library)}"}
    for kind, vectors in found.items():
        rows = [np.asarray(each, dtype=np.float32) for each in vectors]
        arrays[f"{kind}_lengths"] = np.array([len(each) for each in rows], np.int64)
        arrays[f"{kind}_values"] = np.concatenate(rows)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    out.write(buffer.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
