"""The Stanford library's surface, without the library: its own README runs, on the built-in model.

tests/frameworks holds the same surface to the library itself.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from latebolt import Encoder, Index
from latebolt.adapters.stanford import (
    BadArgument,
    Checkpoint,
    ColBERTConfig,
    Collection,
    Indexer,
    IndexUpdater,
    Queries,
    Ranking,
    Run,
    RunConfig,
    Searcher,
    folders,
)
from latebolt.errors import (
    IndexExists,
    IndexNotFound,
    InvalidInput,
    ModelError,
    ModelMismatch,
    RuntimeUnavailable,
)
from latebolt.index.filters import tree

PASSAGES = [
    "a cat sleeps on the sofa",
    "Berlin is the capital of Germany",
    "the dog barks at night",
    "zip files hold other files",
]


@pytest.fixture(autouse=True)
def experiments(tmp_path, monkeypatch):
    """Every test is a run of its own."""
    monkeypatch.chdir(tmp_path)
    with Run().context(RunConfig(root=str(tmp_path / "experiments"), experiment="default", name="run")):
        yield tmp_path / "experiments"


@pytest.fixture
def searcher(encoder):
    Indexer(encoder, ColBERTConfig(nbits=2)).index("animals", PASSAGES)
    return Searcher("animals", checkpoint=encoder)


def test_the_library_s_readme(experiments, tmp_path):
    (tmp_path / "collection.tsv").write_text("".join(f"{i}\t{text}\n" for i, text in enumerate(PASSAGES)))
    (tmp_path / "queries.dev.small.tsv").write_text("11\tcapital of Germany\n4\tbarking dogs\n")

    with Run().context(RunConfig(nranks=1, experiment="msmarco")):
        config = ColBERTConfig(nbits=2, root=str(experiments))
        indexer = Indexer(checkpoint="starter", config=config)
        path = indexer.index(name="msmarco.nbits=2", collection=str(tmp_path / "collection.tsv"))

    with Run().context(RunConfig(nranks=1, experiment="msmarco")):
        config = ColBERTConfig(root=str(experiments))
        searcher = Searcher(index="msmarco.nbits=2", config=config)
        queries = Queries(str(tmp_path / "queries.dev.small.tsv"))
        ranking = searcher.search_all(queries, k=3)
        saved = ranking.save("msmarco.nbits=2.ranking.tsv")

    assert path == str(experiments / "msmarco/indexes/msmarco.nbits=2") == indexer.get_index()
    assert [ranked[0][:2] for ranked in ranking.todict().values()] == [(1, 1), (2, 1)]
    assert saved.startswith(str(experiments / "msmarco")) and Ranking(saved).todict()[11][0][0] == 1
    assert json.loads((tmp_path / f"{saved}.meta").read_text())["provenance"]["k"] == 3
    # Others of latebolt's tools read the index too.
    assert [hit.id for hit in Index.open(path).search("capital of Germany", k=1)] == ["1"]


def test_texts_become_arrays():
    checkpoint = Checkpoint("starter", colbert_config=ColBERTConfig(root="experiments"))
    queries = checkpoint.queryFromText(["a house", "what is the population of Berlin"], bsize=2)
    assert queries.dtype == np.float32 and queries.shape[::2] == (2, 128) and not queries[0, 4:].any()
    (padded,) = checkpoint.docFromText(["a house", "a house on the hill"], bsize=2)
    assert padded.shape == (2, 7, 128) and padded[0, :4].any(axis=1).all() and not padded[0, 4:].any()
    flat, lengths = checkpoint.docFromText(["a house", "a house on the hill"], bsize=2, keep_dims="flatten")
    assert flat.shape == (11, 128) and lengths == [4, 7]
    np.testing.assert_array_equal(flat[4:], padded[1])
    matrices = checkpoint.docFromText(["a house", "a house on the hill"], keep_dims=False)
    assert [len(matrix) for matrix in matrices] == [4, 7]
    assert "torch" not in sys.modules


def test_lengths_and_width_are_the_config_s():
    config = ColBERTConfig(dim=64, query_maxlen=6, doc_maxlen=8)
    checkpoint = Checkpoint("starter", config)
    text = "the population of Berlin and other cities of Germany"
    assert checkpoint.queryFromText([text]).shape == (1, 6, 64)
    assert checkpoint.docFromText([text]).shape == (1, 8, 64)
    assert checkpoint.queryFromText([text], full_length_search=True).shape == (1, 11, 64)
    checkpoint.query_tokenizer.query_maxlen = 7
    checkpoint.doc_tokenizer.doc_maxlen = 9
    assert checkpoint.queryFromText([text]).shape[1] == 7
    assert checkpoint.docFromText([text]).shape[1] == 9
    assert (checkpoint.query_tokenizer.query_maxlen, checkpoint.doc_tokenizer.doc_maxlen) == (7, 9)


def test_pooling_keeps_fewer_rows(encoder):
    text = "the population of Berlin and other cities of Germany is counted every year"
    (whole,) = [len(encoder.encode_documents([text])[0])]
    checkpoint = Checkpoint(encoder)
    _, lengths = checkpoint.docFromText(
        [text], bsize=1, keep_dims="flatten", pool_factor=2, protected_tokens=1
    )
    assert lengths == [1 + -(-(whole - 1) // 2)]
    Indexer(encoder, ColBERTConfig(pool_factor=2)).index("pooled", [text])
    with Index.open("experiments/default/indexes/pooled", encoder) as index:
        info = index.info()
        assert info["tokens"] == lengths[0] < whole and info["pool_factor"] == 2
        index.add([text], ids=["7"])  # by whichever door
        assert index.info()["tokens"] == 2 * lengths[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.queryFromText("one"), AssertionError, "list or tuple"),
        (lambda c: c.docFromText("one"), AssertionError, "list or tuple"),
        (lambda c: c.docFromText(["a"], keep_dims="flatten"), AssertionError, "needs bsize"),
        (lambda c: c.docFromText(["a"], keep_dims="flat"), AssertionError, "keep_dims"),
        (lambda c: c.docFromText(["a"], clustering_mode="kmeans"), AssertionError, "hierarchical"),
        (lambda c: c.queryFromText([1]), InvalidInput, r"texts?\[0\]|queries\[0\]"),
        (lambda c: c.queryFromText(["a"], context=["b"]), InvalidInput, "context"),
        (lambda c: Checkpoint(c.encoder, ColBERTConfig(dim=100)), ModelError, "dim 100"),
        (lambda c: Checkpoint(c.encoder, ColBERTConfig(doc_maxlen=9000)), InvalidInput, "9000"),
        (
            lambda c: Checkpoint(c.encoder, ColBERTConfig(attend_to_mask_tokens=True)),
            InvalidInput,
            "attend_to",
        ),
        (lambda c: Checkpoint(c.encoder, tensors="jax"), InvalidInput, "numpy"),
    ],
)
def test_bad_input_of_a_checkpoint(encoder, call, error, message):
    with pytest.raises(error, match=message):
        call(Checkpoint(encoder))


def test_tensors_need_torch(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeUnavailable, match="pip install torch"):
        Checkpoint(encoder, tensors="torch")


def test_search_gives_pids_ranks_and_scores(searcher, encoder):
    pids, ranks, scores = searcher.search("capital of Germany", k=3)
    assert pids[0] == 1 and ranks == [1, 2, 3] and scores == sorted(scores, reverse=True)
    assert {type(pid) for pid in pids} == {int} and {type(score) for score in scores} == {float}
    expected = encoder.rerank("capital of Germany", PASSAGES)[0].score
    assert scores[0] == pytest.approx(expected, abs=0.01)
    pids, ranks, _ = searcher.search("capital of Germany", k=10)  # ranks end where passages do
    assert sorted(pids) == [0, 1, 2, 3] and ranks == [1, 2, 3, 4]
    assert searcher.dense_search(searcher.encode("capital of Germany"), k=2)[0] == pids[:2]
    assert len(searcher.search("")[0]) == 4  # the library takes an empty query too


def test_a_filter_is_asked_until_k_have_passed(searcher, monkeypatch):
    from latebolt.adapters.stanford import searching

    everyone = searcher.search("capital of Germany")[0]
    monkeypatch.setattr(searching, "_CANDIDATES", 1)
    monkeypatch.setattr(searching, "_MORE", 2)
    asked = []

    def even(pids):
        assert pids.dtype == np.int32
        asked.append(len(pids))
        return pids[pids % 2 == 0]

    assert searcher.search("capital of Germany", k=2, filter_fn=even)[0] == [
        p for p in everyone if p % 2 == 0
    ]
    assert asked == [2, 4]  # and not 1: fewer than k cannot be enough
    assert searcher.search("x", filter_fn=lambda pids: pids[:0]) == ([], [], [])
    ranking = searcher.search_all({"q": "capital of Germany"}, filter_fn=lambda pids: [3])
    assert [pid for pid, _, _ in ranking.todict()["q"]] == [3]
    with pytest.raises(AssertionError, match="whole numbers"):
        searcher.search("x", filter_fn=lambda pids: ["a"])


def test_given_pids_are_all_that_is_scored(searcher):
    whole = dict(zip(*searcher.search("capital of Germany")[::2], strict=True))
    pids, ranks, scores = searcher.search("capital of Germany", pids=[3, 0])
    assert sorted(pids) == [0, 3] and ranks == [1, 2]
    assert scores == pytest.approx([whole[pid] for pid in pids], abs=1e-4)
    assert searcher.search("x", pids=[]) == ([], [], [])
    assert searcher.search("x", pids=np.array([2]), k=1)[0] == [2]
    ranking = searcher.search_all({"a": "cat", "b": "dog"}, qid_to_pids={"a": [1], "b": None})
    assert [len(ranked) for _, ranked in ranking.items()] == [1, 4]
    for wrong in ([4], [-1]):
        with pytest.raises(IndexError, match=r"0\.\.3"):
            searcher.search("x", pids=wrong)


def test_more_pids_than_a_written_filter_may_hold(searcher, monkeypatch):
    monkeypatch.setattr(tree, "MOST_VALUES", 2)
    assert sorted(searcher.search("capital of Germany", pids=range(4))[0]) == [0, 1, 2, 3]


def test_search_all_is_search(searcher):
    queries = {"a": "capital of Germany", 7: "barking dogs"}
    ranking = searcher.search_all(queries, k=2)
    for qid, text in queries.items():
        assert ranking.todict()[qid] == list(zip(*searcher.search(text, k=2), strict=True))
    assert ranking.tolist()[0] == ("a", *ranking.todict()["a"][0])
    with pytest.raises(AssertionError, match="dict"):
        searcher.search_all(["capital"])


def test_overwrite_says_what_happens_to_an_index(encoder, experiments):
    indexer = Indexer(encoder)
    path = indexer.index("i", PASSAGES)
    with pytest.raises(AssertionError, match="is there already"):
        indexer.index("i", PASSAGES[:1])
    with pytest.raises(IndexExists):
        indexer.index("i", PASSAGES[:1])
    assert indexer.index("i", PASSAGES[:1], overwrite="reuse") == path and len(Index.open(path)) == 4
    indexer.index("i", [*PASSAGES, "one more"], overwrite="resume")
    assert len(Index.open(path)) == 5 and len(Searcher("i", encoder).collection) == 5
    for overwrite in (True, "force_silent_overwrite"):
        indexer.index("i", PASSAGES[:2], overwrite=overwrite)
        assert len(Index.open(path)) == 2
    assert any(name.endswith("manifest.json") for name in indexer.erase())
    with pytest.raises(FileNotFoundError, match="no finished index"):
        Searcher("i", encoder)
    (experiments / "default/indexes/i").mkdir()
    (experiments / "default/indexes/i/thesis.doc").write_text("dear")
    with pytest.raises(IndexExists, match=r"thesis\.doc"):
        indexer.index("i", PASSAGES, overwrite=True)
    assert (experiments / "default/indexes/i/thesis.doc").exists()
    for name, overwrite in (("j", "yes"), ("../j", False), ("/j", False), ("", False)):
        with pytest.raises(AssertionError):
            indexer.index(name, PASSAGES, overwrite=overwrite)
    with pytest.raises(AssertionError, match="int"):
        indexer.index("j", 5)
    with pytest.raises(InvalidInput, match="nbits"):
        Indexer(encoder, ColBERTConfig(nbits=3)).index("k", PASSAGES)


def test_resume_goes_on_where_a_crash_ended(encoder, monkeypatch):
    monkeypatch.setattr(folders, "COMMIT_PASSAGES", 2)
    whole, calls = Index.add, []

    def crashing(self, *args, **kwargs):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(Index, "add", crashing)
    indexer = Indexer(encoder)
    with pytest.raises(KeyboardInterrupt):
        indexer.index("i", PASSAGES)
    monkeypatch.setattr(Index, "add", whole)
    with pytest.raises(IndexNotFound, match="resume"):  # half an index is none
        Searcher("i", encoder)
    encoded = []
    monkeypatch.setattr(
        Encoder, "encode_documents", lambda self, texts, *a, real=Encoder.encode_documents, **k: (
            encoded.extend(texts), real(self, texts, *a, **k))[1]
    )  # fmt: skip
    path = indexer.index("i", PASSAGES, overwrite="resume")
    assert encoded == PASSAGES[2:]  # nothing twice
    assert [(e.id, e.text) for e in Index.open(path).documents()] == [
        (str(i), text) for i, text in enumerate(PASSAGES)
    ]
    assert list(Searcher("i", encoder).collection) == PASSAGES


def test_an_updater_changes_the_searcher_first_and_then_the_index(searcher, encoder):
    updater = IndexUpdater(searcher.config, searcher, encoder)
    assert updater.add(["Paris is the capital of France", "a lamp"]) == [4, 5]
    pids, _, scores = searcher.search("capital of France", k=1)
    assert pids == [4] and searcher.collection[4].startswith("Paris")
    assert scores == pytest.approx([encoder.rerank("capital of France", [searcher.collection[4]])[0].score])
    assert searcher.search("lamp", pids=[5, 0], k=1)[0] == [5]
    updater.remove([1, 5])
    found = searcher.search("capital of Germany")[0]
    assert sorted(found) == [0, 2, 3, 4]
    assert searcher.search("capital", pids=[1, 2])[0] == [2]
    others = Searcher("animals", encoder)
    assert sorted(others.search("capital")[0]) == [0, 1, 2, 3]  # not on disk yet
    updater.persist_to_disk()
    later = Searcher("animals", encoder)
    assert later.search("capital of Germany")[0] == found == searcher.search("capital of Germany")[0]
    assert IndexUpdater(None, later, encoder).add(["new"]) == [6]  # a pid is never given twice
    with pytest.raises(IndexError):
        later.collection[1]


def test_bad_input_of_an_updater(searcher, encoder):
    with pytest.raises(ValueError, match="Invalid PIDs"):
        IndexUpdater(None, searcher).remove([0, 99])
    assert len(searcher.search("x")[0]) == 4  # none is removed then
    with pytest.raises(ValueError, match="checkpoint"):
        IndexUpdater(None, searcher).add(["a"])
    with pytest.raises(ModelMismatch, match="other vectors"):
        IndexUpdater(None, searcher, encoder.with_dim(64))
    with pytest.raises(ModelMismatch):
        Searcher("animals", encoder.with_dim(64), config=ColBERTConfig(dim=64))


def test_a_searcher_loads_the_model_its_index_was_made_with():
    Indexer("starter", ColBERTConfig(dim=64, doc_maxlen=40)).index("narrow", PASSAGES)
    searcher = Searcher("narrow")
    assert searcher.encode(["a house"]).shape == (1, 4, 64)
    assert searcher.checkpoint.doc_tokenizer.doc_maxlen == 40
    searcher.configure(query_maxlen=5)
    assert searcher.encode("what is the capital of Germany").shape == (1, 5, 64)
    assert Searcher("narrow", index_root="experiments/default/indexes").search("cat", k=1)[0] == [0]


def test_what_was_given_overrides_and_the_run_overrides_that():
    low, high = ColBERTConfig(nbits=2, doc_maxlen=100), ColBERTConfig(doc_maxlen=200)
    made = ColBERTConfig.from_existing(low, None, high)
    assert (made.nbits, made.doc_maxlen, made.query_maxlen) == (2, 200, 32)
    assert set(made.assigned) == {"nbits", "doc_maxlen"}
    assert made.configure(nbits=4, nope=1) == {"nope"} and made.nbits == 4
    with pytest.raises(InvalidInput, match="nope"):
        made.set("nope", 1)
    with pytest.raises(TypeError, match="nope"):
        ColBERTConfig(nope=1)
    made.save("c.json")
    with pytest.raises(AssertionError):
        made.save("c.json")
    again, unknown = ColBERTConfig.from_path("c.json")
    assert (again.nbits, unknown) == (4, set())


def test_runs_are_nested(experiments):
    with Run().context(RunConfig(experiment="outer", nranks=4)):
        with Run().context(RunConfig(experiment="inner")):
            assert (Run().experiment, Run().nranks, Run().config.name) == ("inner", 4, "run")
            assert Run().index_root_ == str(experiments / "inner/indexes/") + "/"
        assert Run().experiment == "outer"
        with pytest.raises(ValueError, match="over"), Run().context(RunConfig(experiment="inner")):
            raise ValueError("over")
        assert Run().experiment == "outer"
        with Run().open("notes.txt", "w") as file:
            file.write("ü")
        assert Run().open("notes.txt").read() == "ü"
        with pytest.raises(AssertionError, match="already"):
            Run().open("notes.txt", "w")
        with Run().context(RunConfig(overwrite=True)):
            Run().open("notes.txt", "w").close()
    with pytest.raises(AttributeError):
        _ = Run().nothing


def test_files_of_the_library(tmp_path):
    collection = Collection.cast(["one", "two"])
    path = collection.save("c.tsv")
    assert list(Collection.cast(path)) == ["one", "two"] and len(collection) == 2
    titled = tmp_path / "titled.tsv"
    titled.write_text("id\tpassage\ttitle\n1\ttext\tName\n")
    assert list(Collection(str(titled))) == ["title | passage", "Name | text"]
    for bad in ("0\tone\n2\ttwo\n", "0\tone\nnothing\n"):
        titled.write_text(bad)
        with pytest.raises(AssertionError, match="line 2"):
            Collection(str(titled))
    with pytest.raises(NotImplementedError):
        Collection("passages.jsonl")
    queries = Queries.cast({3: "what", "x": {"question": "who", "answers": ["me"]}})
    assert list(queries) == [(3, "what"), ("x", "who")] and queries.qas()["x"]["answers"] == ["me"]
    saved = Queries(data={3: "what"}).save("q.tsv")
    assert dict(Queries(saved).items()) == {3: "what"}
    qas = queries.save_qas("q.json")
    assert Queries.cast(qas)["x"] == "who"
    for bad in ("1\ta\n1\tb\n", "1\ta\nb\tc\n"):
        titled.write_text(bad)
        with pytest.raises(BadArgument, match="line 2"):
            Queries(str(titled))
    flat = Ranking.cast([(1, 5, 1, 2.5), (1, 6, 2, 1.0), (2, 5, 1, True)])
    assert flat.todict() == {1: [[5, 1, 2.5], [6, 2, 1.0]], 2: [[5, 1, True]]}
    saved = flat.save("r.tsv")
    assert Ranking(saved).tolist() == [(1, 5, 1, 2.5), (1, 6, 2, 1.0), (2, 5, 1, 1)]
    for name in ("r.txt", "r.tsv"):
        with pytest.raises(AssertionError):
            flat.save(name)
    for kind in (Collection, Ranking, Queries):
        with pytest.raises(AssertionError):
            kind.cast(5)
