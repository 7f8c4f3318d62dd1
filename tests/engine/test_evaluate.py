"""Retrieval on real text: the quality that the README promises, and the reading of collections."""

from __future__ import annotations

import json

import numpy as np
import pytest

from latebolt import maxsim
from latebolt.cli.stdlib_corpus import read_stdlib
from latebolt.codec.residual import ResidualCodec
from latebolt.errors import InvalidInput
from latebolt.evaluate import evaluate, read_collection

# The least nDCG@10 by dim, at 2 bits, over 1,500 questions spread over the collection.
SQUAD = {128: 0.90, 64: 0.88}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("dim", SQUAD)
def test_squad(collections, dim):
    pytest.importorskip("ir_measures")
    *_, row = evaluate(collections / "squad", dims=[dim], bits=[2], max_queries=1500)
    assert row["bits"] == 2 and row["nDCG@10"] >= SQUAD[dim], row


def test_a_docstring_is_found_by_its_summary(encoder):
    """Real text on every machine: the first sentence of a docstring finds the docstring's rest."""
    documents = [d for d in read_stdlib() if d.text.count("\n\n") >= 1 and d.metadata["kind"] == "function"]
    documents = documents[:: max(1, len(documents) // 250)][:250]
    summaries = [d.text.split("\n", 1)[1].split("\n\n")[0] for d in documents]
    bodies = [d.text.split("\n\n", 1)[1] for d in documents]
    vectors = encoder.encode_documents(bodies)
    codec = ResidualCodec.train(vectors.values, 2)
    columns = codec.encode(vectors.values)
    queries = encoder.encode_queries(summaries)

    def reciprocal_rank(score) -> float:
        scored = [score(query) for query in queries]
        return float(np.mean([1 / (1 + (scores > scores[i]).sum()) for i, scores in enumerate(scored)]))

    exact = reciprocal_rank(lambda query: maxsim(query, vectors))
    assert exact > 0.6, exact  # 0.03 by chance
    coded = reciprocal_rank(lambda query: codec.scorer(query).exact(columns, vectors.offsets))
    assert coded > exact - 0.015, (coded, exact)


def write(folder, name, *lines):
    (folder / name).write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )


def test_reading_a_collection(tmp_path):
    write(tmp_path, "corpus.jsonl", {"_id": "d", "title": "T", "text": "body"})
    write(tmp_path, "queries.jsonl", {"_id": "q", "text": "?"}, {"_id": "unjudged", "text": "?"})
    write(tmp_path, "qrels.tsv", "query-id\tcorpus-id\tscore", "q\td\t2")
    found = read_collection(tmp_path)
    assert (
        found.documents == {"d": "T body"} and found.queries == {"q": "?"} and found.qrels == {"q": {"d": 2}}
    )


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("corpus.jsonl", "{", r"corpus\.jsonl:1"),
        ("corpus.jsonl", '{"text": "a"}', "_id"),
        ("qrels.tsv", "q d 1", r"qrels\.tsv:1"),
        ("qrels.tsv", "other\td\t1", "judges none"),
    ],
)
def test_a_broken_collection_is_named(tmp_path, name, line, message):
    write(tmp_path, "corpus.jsonl", {"_id": "d", "text": "body"})
    write(tmp_path, "queries.jsonl", {"_id": "q", "text": "?"})
    write(tmp_path, "qrels.tsv", "q\td\t1")
    write(tmp_path, name, line)
    with pytest.raises(InvalidInput, match=message):
        read_collection(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="no such folder"):
        read_collection(tmp_path / "x")
    with pytest.raises(InvalidInput, match="corpus"):
        read_collection(tmp_path)
