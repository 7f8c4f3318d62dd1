"""Adds nDCG@10 on a collection to a parity report, measured with the runtime on the folder just written."""

from __future__ import annotations

from pathlib import Path

import msgspec

from latebolt.encoder.encoder import Encoder
from latebolt.evaluate import late_run, measure, read_collection
from latebolt_export.judge.parity import GraphParity, Report

PRECISIONS = ("fp32", "int8")  # float16 is made for GPUs, and its cosine tells enough


def with_ndcg(report: Report, model: Path, folder: Path) -> Report:
    """The report with nDCG@10 of every head in `PRECISIONS`.

    Args:
        model: a model folder, complete but for its report.
        folder: a collection in BEIR layout.
    Raises:
        InvalidInput: the collection cannot be read.
        RuntimeUnavailable: ir-measures is not installed.
    """
    collection = read_collection(folder)
    precisions = dict(report.precisions)
    for precision in [name for name in PRECISIONS if name in precisions]:
        heads = {}
        for dim, head in precisions[precision].heads.items():
            encoder = Encoder.load(model, precision, int(dim))
            queries = encoder.encode_queries(list(collection.queries.values()))
            documents = encoder.encode_documents(list(collection.documents.values()))
            run, _ = late_run(collection, queries, documents, bits=32)
            ndcg = measure(run, collection.qrels)["nDCG@10"]
            heads[dim] = msgspec.structs.replace(head, ndcg=ndcg)
        graph: GraphParity = precisions[precision]
        precisions[precision] = msgspec.structs.replace(graph, heads=heads)
    return msgspec.structs.replace(report, precisions=precisions, collection=collection.name)
