"""A model of real weights ranks as it does in the library that saved it, whatever its settings."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from differential.asking import ask, need_sentence_transformers_6
from latebolt import Encoder, TokenVectors, contract, maxsim
from latebolt.contract import TextRules
from latebolt.corpus.stdlib import read_stdlib
from latebolt.evaluate import Collection, measure
from latebolt.evaluate.measures import ranking_of
from latebolt_export import export_model, recipe, starter
from latebolt_export.judge import parity

pytestmark = pytest.mark.slow

DOCUMENTS, EVERY = 80, 2  # every second document is asked for
TIE = 1e-4  # scores that are closer may change places


@pytest.fixture(scope="module")
def collection() -> Collection:
    """Functions of the standard library, less the first line of their documentation, which asks for them."""
    parted: dict[str, tuple[str, str]] = {}
    for document in read_stdlib():
        _, summary, *rest = [*document.text.split("\n"), ""]
        if document.metadata["kind"] == "function" and len(summary) > 25 and len(" ".join(rest)) > 100:
            parted.setdefault(summary, (document.id, "\n".join(rest)))
    step = len(parted) // DOCUMENTS
    kept = list(parted.items())[::step][:DOCUMENTS]
    documents = {id_: text for _, (id_, text) in kept}
    queries = {id_: summary for summary, (id_, _) in kept[::EVERY]}
    return Collection("stdlib", documents, queries, {id_: {id_: 1} for id_ in queries})


@pytest.fixture(scope="module")
def ranked(collection, tmp_path_factory) -> tuple[np.ndarray, Path]:
    """(the library's scores, float32 [queries, documents]; our export of what it saved)."""
    python, out = need_sentence_transformers_6(), tmp_path_factory.mktemp("real")
    if not importlib.util.find_spec(starter.MODULE):
        pytest.skip(f"needs the weights of {starter.PACKAGE}")
    texts = {"documents": collection.documents, "queries": collection.queries}
    (out / "collection.json").write_text(json.dumps(texts))
    with recipe.data_file(starter.HEAD) as head:
        ask(python, "with_real_weights", out, starter.weights_folder(), head, out / "collection.json", out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "TEXTS", 8)  # the report's figures are not what is looked at
        export_model(out / "model", out / "made", precisions=("fp32",))
    return np.load(out / "scores.npy"), out / "made"


@pytest.fixture(scope="module")
def documents(ranked, collection) -> TokenVectors:
    return Encoder.load(ranked[1]).encode_documents(list(collection.documents.values()))


def scores(made: Path, collection: Collection, documents: TokenVectors) -> np.ndarray:
    queries = Encoder.load(made).encode_queries(list(collection.queries.values()))
    return np.stack([maxsim(query, documents) for query in queries])


def ndcg(found: np.ndarray, collection: Collection) -> float:
    names = list(collection.documents)
    run = {query: ranking_of(row, names) for query, row in zip(collection.queries, found, strict=True)}
    return measure(run, collection.qrels)["nDCG@10"]


def test_ndcg_and_rankings_are_the_librarys(ranked, collection, documents):
    theirs, made = ranked
    ours = scores(made, collection, documents)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert ndcg(ours, collection) == pytest.approx(ndcg(theirs, collection), abs=1e-3)
    for mine, other in zip(ours, theirs, strict=True):
        in_my_order = other[np.argsort(-mine, kind="stable")]
        assert np.diff(in_my_order).max() < TIE


def test_the_collection_tells_right_rules_from_defaults(ranked, collection, documents, tmp_path):
    """Were prompt, length and expansion not read, it would show."""
    theirs, made = ranked
    plain = shutil.copytree(made, tmp_path / "plain")
    told = contract.read(made)
    contract.write(msgspec.structs.replace(told, query=TextRules(32)), plain)
    found = scores(plain, collection, documents)
    assert abs(ndcg(found, collection) - ndcg(theirs, collection)) > 5e-3
