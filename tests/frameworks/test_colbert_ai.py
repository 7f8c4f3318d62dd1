"""The Stanford adapter beside the Stanford library: the same vectors, files, paths, results and refusals."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from tiny_colbert import DIM, DOCUMENT, QUERY, export, make_checkpoint, passages

from latebolt import Index
from latebolt.adapters import stanford as ours
from later import Later, needs

colbert, their_data, theirs = Later("colbert"), Later("colbert.data"), Later("colbert.infra")
pytestmark = needs("colbert", "latebolt[dev-frameworks]")

QUERIES = ["hello world", "what is it?", "a", "", "many words " * 12]
DOCUMENTS = ["hello, world!", "abc.", "", "?!", "a much longer text, with words " * 9, "x y z"]


@pytest.fixture(scope="module", params=[False, True], ids=["mask-unattended", "mask-attended"])
def pair(request, tmp_path_factory):
    """(their checkpoint, ours), of the same weights."""
    folder = make_checkpoint(tmp_path_factory.mktemp("model") / "tiny", attend=request.param)
    made = colbert.Checkpoint(str(folder), colbert_config=theirs.ColBERTConfig(), verbose=0)
    return made, ours.Checkpoint(str(export(folder)), colbert_config=ours.ColBERTConfig())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(a checkpoint, its export)."""
    folder = make_checkpoint(tmp_path_factory.mktemp("model") / "tiny")
    return str(folder), str(export(folder))


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Theirs wants a script that ends in .py, and puts its name into paths.
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    settings = {
        "root": str(tmp_path / "experiments"),
        "experiment": "tiny",
        "name": "run",
        "avoid_fork_if_possible": True,
    }
    with ours.Run().context(ours.RunConfig(**settings)), theirs.Run().context(theirs.RunConfig(**settings)):
        yield tmp_path / "experiments"


def close(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("bsize", [None, 2])
def test_queries_have_the_same_vectors(pair, bsize):
    their, our = pair
    expected = their.queryFromText(QUERIES, bsize=bsize, to_cpu=True)
    assert tuple(expected.shape) == (len(QUERIES), QUERY, DIM)
    close(our.queryFromText(QUERIES, bsize=bsize, to_cpu=True), expected)


def test_a_query_of_full_length_loses_nothing(pair):
    their, our = pair
    expected = their.queryFromText([QUERIES[-1]], full_length_search=True)
    found = our.queryFromText([QUERIES[-1]], full_length_search=True)
    # Theirs counts three tokens fewer than there are with its markers, and so cuts the end off even now.
    assert found.shape[1] == expected.shape[1] + 3 > QUERY


@pytest.mark.parametrize("bsize", [None, 2, 64])
def test_documents_have_the_same_vectors(pair, bsize):
    their, our = pair
    expected = their.docFromText(DOCUMENTS, bsize=bsize)
    found = our.docFromText(DOCUMENTS, bsize=bsize)
    assert type(found) is (tuple if bsize else np.ndarray)
    if bsize:
        [found], [expected] = found, expected
    assert expected.shape[1] == DOCUMENT
    close(found, expected)
    assert not found[np.all(np.asarray(expected) == 0, axis=2)].any()  # zeros exactly where theirs has them


def test_documents_in_other_shapes(pair):
    their, our = pair
    for bsize in (None, 3):
        found, expected = (each.docFromText(DOCUMENTS, bsize=bsize, keep_dims=False) for each in (our, their))
        if bsize:
            [found], [expected] = found, expected
        assert type(found) is type(expected) is list
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    found, expected = (each.docFromText(DOCUMENTS, bsize=3, keep_dims="flatten") for each in (our, their))
    assert type(found) is type(expected) is tuple and found[1] == expected[1]
    close(found[0], expected[0])


def test_tokens_of_documents(pair):
    their, our = pair
    for keep_dims in (True, "flatten"):
        args = {"bsize": 64, "keep_dims": keep_dims, "return_tokens": True}
        found, expected = our.docFromText(DOCUMENTS, **args), their.docFromText(DOCUMENTS, **args)
        assert len(found) == len(expected)
        for one, other in zip(found[-1], expected[-1], strict=True):
            np.testing.assert_array_equal(one, other[: len(one)])  # flat ones are not padded here
            assert not other[len(one) :].any()


def test_tensors_where_they_are_asked_for(pair):
    their, our = pair
    made = ours.Checkpoint(our.encoder, tensors="torch")
    (found,), (expected,) = (each.docFromText(DOCUMENTS, bsize=4) for each in (made, their))
    assert type(found) is torch.Tensor and found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert type(made.queryFromText(["a"])) is torch.Tensor


def test_settings_have_the_same_defaults():
    their, our = theirs.ColBERTConfig(), ours.ColBERTConfig()
    unlike = {"root", "name", "gpus"}  # the first two depend on when and where
    for each in dataclasses.fields(their):
        if each.name not in unlike | {"clustering_mode"}:
            assert getattr(our, each.name) == getattr(their, each.name), each.name
    assert our.clustering_mode == their.clustering_mode
    assert {each.name for each in dataclasses.fields(our)} == {
        each.name for each in dataclasses.fields(their)
    }
    assert {each.name for each in dataclasses.fields(ours.RunConfig)} == {
        each.name for each in dataclasses.fields(theirs.RunConfig)
    }


def test_settings_override_each_other_alike(folders):
    for library in (theirs, ours):
        low, high = library.ColBERTConfig(nbits=2, doc_maxlen=100, root="x"), library.ColBERTConfig(nbits=4)
        made = library.ColBERTConfig.from_existing(low, None, high, library.Run().config)
        assert (made.nbits, made.doc_maxlen, made.query_maxlen, made.experiment) == (4, 100, 32, "tiny")
        assert made.root == library.Run().root != "x"  # the run's, whatever a config says
        assert made.configure(nbits=2, nope=1) == {"nope"}
        made.configure(index_name="i")
        assert made.index_path_.endswith("experiments/tiny/indexes/i")
    assert ours.Run().index_root_ == theirs.Run().index_root_
    assert ours.Run().path_ == theirs.Run().path_ and ours.Run().path_.endswith("/tiny/script/run")
    told = [lib.ColBERTConfig.load_from_checkpoint(f) for lib, f in zip((theirs, ours), folders, strict=True)]
    for name in ("query_maxlen", "doc_maxlen", "dim", "attend_to_mask_tokens", "mask_punctuation"):
        assert getattr(told[0], name) == getattr(told[1], name), name


def test_files_are_the_same():
    for writer, reader in ((their_data, ours), (ours, their_data)):
        lib, name = ("theirs", "ours") if writer is their_data else ("ours", "theirs")
        saved = writer.Ranking(data={7: [(3, 1, 2.5), (1, 2, 2.0)], 9: []}).save(f"{lib}.ranking.tsv")
        assert [tuple(row) for row in reader.Ranking(path=saved).tolist()] == [
            (7, 3, 1, 2.5),
            (7, 1, 2, 2.0),
        ], name
        saved = writer.Queries(data={7: "what", 8: "who"}).save(f"{lib}.queries.tsv")
        assert dict(reader.Queries(path=saved).items()) == {7: "what", 8: "who"}
        saved = writer.Collection(data=["one", "two"]).save(f"{lib}.collection.tsv")
        assert list(reader.Collection(path=saved)) == ["one", "two"]


REFUSED = {
    "queries that are no list": lambda lib, checkpoint: checkpoint.queryFromText("abc"),
    "documents that are no list": lambda lib, checkpoint: checkpoint.docFromText("abc"),
    "flat without bsize": lambda lib, checkpoint: checkpoint.docFromText(["a"], keep_dims="flatten"),
    "no such shape": lambda lib, checkpoint: checkpoint.docFromText(["a"], keep_dims="no"),
    "no such clustering": lambda lib, checkpoint: checkpoint.docFromText(["a"], clustering_mode="no"),
    "no such setting": lambda lib, checkpoint: lib.ColBERTConfig(nope=1),
    "no such setting to set": lambda lib, checkpoint: lib.ColBERTConfig().set("nope", 1),
    "an index that is not there": lambda lib, checkpoint: lib.ColBERTConfig.load_from_index("nowhere"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_they_refuse_we_refuse_alike(pair, call):
    with pytest.raises(Exception) as expected:  # whatever theirs raises
        call(theirs, pair[0])
    with pytest.raises(expected.type) as found:
        call(ours, pair[1])
    assert str(found.value)  # where theirs often says nothing


@pytest.mark.slow  # half a minute where torch has not compiled the library's extensions yet
def test_indexes_are_searched_alike(folders, run):
    documents = passages(80)
    found = {}
    for library, data, folder in ((theirs, their_data, folders[0]), (ours, ours, folders[1])):
        top = colbert if library is theirs else ours
        with library.Run().context(library.RunConfig(experiment="theirs" if top is colbert else "ours")):
            config = library.ColBERTConfig(nbits=8, kmeans_niters=2)
            indexer = top.Indexer(folder, config=config, verbose=0)
            path = indexer.index("i", documents)
            assert path == indexer.get_index()
            for overwrite in (False, "no"):
                with pytest.raises(AssertionError):
                    indexer.index("i", documents, overwrite=overwrite)
            assert indexer.index("i", documents, overwrite="reuse") == path
            thorough = library.ColBERTConfig(ncells=32, centroid_score_threshold=0.0, ndocs=4096)
            searcher = top.Searcher("i", collection=documents, config=thorough, verbose=0)
            with pytest.raises(FileNotFoundError):
                top.Searcher("nowhere")
            with pytest.raises(AssertionError):
                searcher.search_all(["a"])
            with pytest.raises(AssertionError):
                searcher.search("a", filter_fn=lambda pids: "none")
            with pytest.raises(ValueError, match="Invalid PIDs"):
                top.IndexUpdater(searcher.config, searcher).remove([999])
            with pytest.raises(ValueError, match="heckpoint"):
                top.IndexUpdater(searcher.config, searcher).add(["a"])
            queries = data.Queries(data={7: documents[7], "a": documents[1]})
            found[top] = {
                "path": path.removeprefix(str(run)),
                "best": searcher.search(documents[3], k=5),
                "given": searcher.search(documents[3], k=3, pids=[1, 3, 5]),
                "even": searcher.search(documents[3], k=5, filter_fn=lambda pids: pids[pids % 2 == 0]),
                "none": searcher.search(documents[3], k=5, filter_fn=lambda pids: pids[:0]),
                "all": searcher.search_all(queries, k=3).todict(),
                "many": searcher.search(documents[3], k=500),
                "text": searcher.collection[3],
            }
    their, our = found[colbert], found[ours]
    assert (their["path"], our["path"]) == ("/theirs/indexes/i", "/ours/indexes/i")
    assert our["text"] == their["text"] and our["none"][0] == their["none"][0] == []
    # Vectors of random weights are nearly alike, so that passages behind the first may change places.
    for name in ("best", "given", "even"):
        assert our[name][0][0] == their[name][0][0] and our[name][1] == their[name][1], name
        assert len(set(our[name][0]) & set(their[name][0])) >= len(their[name][0]) - 1, name
        np.testing.assert_allclose(our[name][2], their[name][2], rtol=2e-3)
        for one, other in zip(our[name], their[name], strict=True):
            assert type(one) is type(other) is list and {*map(type, one)} == {*map(type, other)}
    assert set(our["given"][0]) == {1, 3, 5} and not any(pid % 2 for pid in our["even"][0])
    assert [*our["all"]] == [*their["all"]] == [7, "a"]
    for one, other in zip(our["all"].values(), their["all"].values(), strict=True):
        assert [row[1] for row in one] == [row[1] for row in other] == [1, 2, 3]
        np.testing.assert_allclose([row[2] for row in one], [row[2] for row in other], rtol=2e-3)
    # Theirs numbers ranks up to k whatever there is; ours ends where passages do.
    assert (len(our["many"][0]), len(our["many"][1]), len(their["many"][1])) == (80, 80, 500)
    assert len(Index.open(f"{run}/ours/indexes/i")) == 80
