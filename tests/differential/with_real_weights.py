"""Saves a model of real weights with sentence-transformers 6, no setting a default, and lets it rank.

python -m differential.with_real_weights ENCODER HEAD COLLECTION.json OUT

COLLECTION.json holds "documents" and "queries" by id. OUT/model is the saved model, OUT/scores.npy what the
library's own reading of it gives: float32 [queries, documents].
"""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.base.modules.dense import Dense
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

VECTORS = "token_embeddings"
WORDS = ["the", "a", "of", "to", "is", "and", "in"]


def build(encoder: Path, head: Path) -> MultiVectorEncoder:
    """The encoder with its trained head, which is given a bias as well."""
    weight = load_file(head)["linear.weight"]
    dense = Dense(
        weight.shape[1],
        weight.shape[0],
        bias=True,
        activation_function=torch.nn.Identity(),
        module_input_name=VECTORS,
    )
    generator = torch.Generator().manual_seed(0)
    dense.linear.weight.data = weight.float()
    dense.linear.bias.data = 0.1 * weight.std() * torch.randn(len(weight), generator=generator)
    expansion = {"strategy": "fixed", "attend": True, "token": "[MASK]", "length": 24}
    modules = [
        Transformer(str(encoder), query_length=24, document_length=72, query_expansion=expansion),
        MultiVectorMask(skiplist_words=[*string.punctuation, *WORDS], skiplist_tasks=["query", "document"]),
        dense,
        Normalize(module_input_name=VECTORS),
    ]
    prompts = {"query": "what python function does this: ", "document": "python documentation of "}
    return MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu")


def main(encoder: Path, head: Path, collection: Path, out: Path) -> None:
    torch.set_num_threads(1)
    build(encoder, head).save_pretrained(str(out / "model"), create_model_card=False)
    saved = MultiVectorEncoder(str(out / "model"), device="cpu")
    told = json.loads(collection.read_text())
    queries = saved.encode_query(list(told["queries"].values()), show_progress_bar=False)
    documents = saved.encode_document(list(told["documents"].values()), show_progress_bar=False)
    np.save(out / "scores.npy", np.asarray(saved.similarity(queries, documents), np.float32))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
