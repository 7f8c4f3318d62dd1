"""Choosing candidates from lists: what is left out is bounded, and a search by lists finds the best."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latebolt import Index, TokenVectors
from latebolt.errors import IndexCorrupt
from latebolt.index.search import candidates, planning, rank
from latebolt.index.search.candidates import joined, plan_probes
from latebolt.index.search.explain import Trace
from latebolt.index.search.query import Request
from latebolt.index.store import inverted_lists
from latebolt.index.store.check import check_index
from latebolt.index.store.inverted_lists import Lists
from latebolt.kernels.centroids import centroid_scores, nearest_cells
from latebolt.kernels.lists import count_lists, fill_lists, gather
from latebolt.kernels.shapes import LIST_STEPS

N_DOCUMENTS = 3000


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 320), st.integers(0, 100))
def test_nearest_cells(n_cells, n_query, n, seed):
    dots = np.random.default_rng(seed).standard_normal((n_cells, n_query)).astype(np.float32)
    scores = centroid_scores(dots)
    cells, found = nearest_cells(scores, n)
    assert cells.shape == found.shape == (n_query, min(n, n_cells))
    for token in range(n_query):
        column = scores.table[:, token].astype(int)
        assert found[token].tolist() == sorted(column, reverse=True)[:n] == column[cells[token]].tolist()
        assert len(set(cells[token].tolist())) == len(cells[token])
        steps = list(zip(found[token].tolist(), (-cells[token]).tolist(), strict=True))
        assert steps == sorted(steps, reverse=True)


@settings(deadline=None)  # the first example may compile a kernel
@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 1000), st.booleans())
def test_documents_gain_what_their_centroids_have_over_what_is_not_visited(n_query, n_probes, seed, filtered):
    """With lists of centroids: what is left out is bounded."""
    rng = np.random.default_rng(seed)
    dots = rng.standard_normal((50, n_query)).astype(np.float32)
    scores = centroid_scores(dots)
    lengths = rng.integers(1, 8, 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    cells = rng.integers(0, 40, offsets[-1]).astype(np.uint16)  # the last ten centroids have no document
    counts = count_lists(cells, offsets, 40)
    lists = Lists(fill_lists(cells, offsets, 0, counts), np.concatenate([[0], np.cumsum(counts)]))
    allowed = rng.random(200) < 0.5 if filtered else None
    probes = plan_probes(scores, lists, np.zeros((n_query, 8), np.float32), n_probes)
    sums = np.zeros(200)
    gains = gather(lists.rows, probes, 200, allowed)
    sums[gains.rows] = gains.sums
    assert (gains.sums > 0).all() and len(set(gains.rows.tolist())) == len(gains.rows)
    least = np.sort(scores.table[:, :n_query], axis=0)[::-1][min(n_probes, 50) - 1] * (n_probes < 50)
    best = np.array(
        [scores.table[cells[a:b], :n_query].max(axis=0) for a, b in pairwise(offsets.tolist())]
    ).astype(int)
    want = np.maximum(best - least, 0).sum(axis=1) * (1 if allowed is None else allowed)
    np.testing.assert_array_equal(sums, want)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 1000))
def test_the_lists_nearest_to_each_token_are_visited(monkeypatch, n_query, n_probes, seed):
    """With lists that have centroids of their own."""
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((30, 8)).astype(np.float32)
    query = rng.standard_normal((n_query, 8)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(rng.integers(0, 4, 25))])  # the last five have no document
    own = np.rint(127 * rng.uniform(-1, 1, (starts[-1], 8))).astype(np.int8)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 9, starts[-1]))])
    lists = Lists(np.zeros(offsets[-1], np.uint32), offsets, starts, own)
    scores = centroid_scores(centroids @ query.T)
    monkeypatch.setattr(candidates, "LEAST_CELLS", 30)  # all are looked at
    monkeypatch.setattr(candidates, "LOOKED_AT", 1000)
    table = plan_probes(scores, lists, query, n_probes)
    products = own @ query.T / 127
    for token in range(n_query):
        mine = table[table[:, 3] == token + 1]
        best = np.argsort(-products[:, token], kind="stable")
        n = min(n_probes, len(own))
        numbers = np.searchsorted(offsets, mine[:, 0])
        assert mine[:, 1].tolist() == offsets[numbers + 1].tolist() and len(set(numbers.tolist())) == n
        error = 1e-5 + np.ptp(products[:, token]) / (LIST_STEPS - 1)
        np.testing.assert_allclose(products[numbers, token], products[best[:n], token], atol=error)
        least = products[best[n], token] if n < len(own) else min(products[:, token].min(), 0) - scores.step
        gains = np.rint((products[best[:n], token] - least) / scores.step)
        np.testing.assert_allclose(mine[:, 2], np.maximum(gains, 1), atol=1)
        assert (np.diff(mine[:, 2]) <= 0).all()
    assert (np.diff(table[:, 3]) >= 0).all()


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((400, 64)).astype(np.float32)
    lengths = rng.integers(5, 30, N_DOCUMENTS)
    lengths[7] = 0
    values = centres[rng.integers(0, 400, lengths.sum())] + rng.standard_normal((lengths.sum(), 64)) * 0.5
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return TokenVectors(values, np.concatenate([[0], np.cumsum(lengths)]))


@pytest.fixture
def eager(monkeypatch, pruned):
    """Small segments get lists, and lists are used."""
    monkeypatch.setattr(inverted_lists, "LEAST_TOKENS", 1000)
    monkeypatch.setattr(inverted_lists, "_ENTRIES", 5000)
    monkeypatch.setattr(rank, "TOKENS_AN_ENTRY", 0.1)
    for name, value in (("LISTS", 256), ("LEAST_LISTS", 8), ("LEAST_LEVEL", 16), ("FIRST_ROUND", 64)):
        monkeypatch.setattr(planning, name, value)


@pytest.fixture
def asked(monkeypatch):
    """What was ranked: documents that lists brought up, or the rows that were ranked by centroids."""
    seen: list[tuple[str, int | None]] = []
    gathered, ranked = rank.gather, rank._by_centroids

    def gather(*arguments):
        found = gathered(*arguments)
        seen.append(("lists", len(found.rows)))
        return found

    def by_centroids(segment, scorer, columns, rows, look):
        seen.append(("centroids", None if rows is None else len(rows)))
        return ranked(segment, scorer, columns, rows, look)

    monkeypatch.setattr(rank, "gather", gather)
    monkeypatch.setattr(rank, "_by_centroids", by_centroids)
    return seen


BUILT: dict[int, tempfile.TemporaryDirectory[str]] = {}


def make(path, vectors):
    """A copy of an index that is built once with lists, and once without."""
    least = inverted_lists.LEAST_TOKENS
    if least not in BUILT:
        BUILT[least] = tempfile.TemporaryDirectory(prefix="latebolt-built-")
        with Index.create(Path(BUILT[least].name, "i"), None, dim=64) as index:
            index.add_vectors(None, vectors, metadata=[{"part": i % 30} for i in range(len(vectors))])
    shutil.copytree(Path(BUILT[least].name, "i"), path)
    return Index.open(path)


def lists_of(index):
    return [segment.lists for segment in index._store.snapshot().segments]


def test_search_by_lists_finds_what_exhaustive_search_finds(tmp_path, vectors, eager, asked):
    index = make(tmp_path / "i", vectors)
    assert lists_of(index) != [None]
    agree = 0
    for i in range(20):
        query = vectors[i * 100][:8]
        fast, all_ = index.search_vectors(query, k=10), index.search_vectors(query, k=10, exhaustive=True)
        assert fast[0].id == all_[0].id == str(i * 100)
        agree += len({hit.id for hit in fast} & {hit.id for hit in all_})
    assert agree >= 196
    assert {way for way, _ in asked} == {"lists"} and max(n for _, n in asked) < N_DOCUMENTS


def test_what_is_gained_and_centroids_rank_alike():
    gains, by_centroids = np.array([[3, 1, 2], [1, 5, 4]], np.float32)
    ranking = joined(gains, by_centroids)
    assert ranking.dtype == np.float32 and ranking.tolist() == [2, 3, 3]


def test_filters_and_deletions_apply_before_the_cut(tmp_path, vectors, eager, asked):
    index = make(tmp_path / "i", vectors)
    query = vectors[100][:8]
    best = [hit.id for hit in index.search_vectors(query, k=300)]
    assert index.delete(best[:250]) == 250
    del asked[:]
    fast, all_ = index.search_vectors(query, k=10), index.search_vectors(query, k=10, exhaustive=True)
    assert {way for way, _ in asked} == {"lists"}
    assert len(fast) == 10 and not {hit.id for hit in fast} & set(best[:250])
    assert len({hit.id for hit in fast} & {hit.id for hit in all_}) >= 8
    some = index.search_vectors(query, k=10, where="part in (3, 4, 5, 6, 7, 8, 9)")
    truth = index.search_vectors(query, k=10, where="part in (3, 4, 5, 6, 7, 8, 9)", exhaustive=True)
    assert len(some) == 10 and len({hit.id for hit in some} & {hit.id for hit in truth}) >= 8


def test_few_documents_behind_a_filter_are_ranked_without_lists(tmp_path, vectors, eager, asked, monkeypatch):
    monkeypatch.setattr(rank, "TOKENS_AN_ENTRY", 10)
    index = make(tmp_path / "i", vectors)
    hits = index.search_vectors(vectors[100][:8], k=10, where="part = 3")
    assert len(hits) == 10 and asked == [("centroids", N_DOCUMENTS // 30)]


def test_a_filter_with_fewer_documents_than_k_gives_them_all(tmp_path, vectors, eager):
    index = make(tmp_path / "i", vectors)
    assert len(index.search_vectors(vectors[100][:8], k=500, where="part = 3")) == N_DOCUMENTS // 30


def test_hits_do_not_depend_on_the_number_of_threads(tmp_path, vectors, eager, monkeypatch):
    index = make(tmp_path / "i", vectors)
    query = vectors[100][:8]
    expected = index.search_vectors(query, k=30)
    monkeypatch.setattr("latebolt.threads.LEAST_NS", 1)
    for cpus in (1, 2, 3):
        monkeypatch.setattr("latebolt.threads.available_cpus", lambda cpus=cpus: cpus)
        assert index.search_vectors(query, k=30) == expected


def test_where_lists_bring_up_too_few_all_are_ranked(tmp_path, vectors, eager, asked, monkeypatch):
    """A list a token misses documents, and what follows finds them."""
    index = make(tmp_path / "i", vectors)
    for name in ("LISTS", "LEAST_LISTS"):
        monkeypatch.setattr(planning, name, 1)
    agree = 0
    for i in range(20):
        query = vectors[i * 100][:2]
        truth = {hit.id for hit in index.search_vectors(query, k=100, exhaustive=True)}
        agree += len(truth & {hit.id for hit in index.search_vectors(query, k=100)})
    assert agree >= 1900 and {way for way, _ in asked} == {"lists", "centroids"}


def test_lists_are_made_when_segments_merge(tmp_path, vectors, eager):
    index = make(tmp_path / "i", vectors)
    index.add_vectors(["late"], vectors[5:6])
    assert sum(lists is not None for lists in lists_of(index)) == 1
    index.delete(["17"])
    index.compact()
    [lists] = lists_of(index)
    [segment] = index._store.snapshot().segments
    cells, offsets = segment.column("cell"), segment.offsets
    for cell in (0, 3, len(lists.starts) - 2):
        documents = np.searchsorted(offsets, np.flatnonzero(cells == cell), side="right") - 1
        first, last = lists.offsets[lists.starts[cell : cell + 2]]
        assert np.unique(lists.rows[first:last]).tolist() == np.unique(documents).tolist()
    assert check_index(index.path) == []


def test_an_index_without_lists_says_version_1_and_one_with_them_5(tmp_path, vectors, eager, monkeypatch):
    """So that an older reader opens what it can read, and says what is missing for the rest."""
    monkeypatch.setattr(inverted_lists, "LEAST_TOKENS", 10**9)
    plain = make(tmp_path / "plain", vectors)
    assert '"format_version": 1,' in (plain.path / "manifest.json").read_text()
    assert lists_of(plain) == [None]
    monkeypatch.setattr(inverted_lists, "LEAST_TOKENS", 1000)
    plain.compact()
    plain.delete(["3"])
    plain.compact()
    assert '"format_version": 5,' in (plain.path / "manifest.json").read_text()
    assert lists_of(plain) != [None]


def test_lists_that_do_not_span_their_entries_are_refused(tmp_path, vectors, eager):
    index = make(tmp_path / "i", vectors)
    [path] = index.path.rglob("list_offsets.npy")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexCorrupt, match="first and last"):
        Index.open(index.path)


@pytest.mark.parametrize("n_query", [1, planning.LISTS_ALONE, planning.LISTS_ALONE + 1])
def test_an_explanation_shows_the_lists(tmp_path, vectors, eager, n_query):
    index = make(tmp_path / "i", vectors)
    query = np.concatenate([vectors[100], vectors[101], vectors[102]])[:n_query]
    assert len(query) == n_query
    trace = Trace(wanted=True)
    index._each(
        index._snapshot(Request()), [(query, "")], lambda each, _: each.find(Request(k=3)), trace=trace
    )
    stages = {stage.name: stage for stage in trace.stages}
    brought_up = stages["choose by lists"]
    assert brought_up.ms > 0 and 3 <= brought_up.documents < N_DOCUMENTS
    scored = stages["score exactly"].documents
    assert brought_up.documents >= scored > 0
    # Of what longer queries bring up that which gains most is ranked by centroids, too.
    assert ("rank by centroids" in stages) == planning.ranks_by_both(n_query)
    if planning.ranks_by_both(n_query):
        assert brought_up.documents >= stages["rank by centroids"].documents >= scored
