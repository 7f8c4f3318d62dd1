"""How many lists a centroid gets, and that lists find each token's documents, in memory or through a file."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from latebolt.codec.residual_codec import ResidualCodec
from latebolt.errors import StorageFull
from latebolt.index.store import list_centroids
from latebolt.index.store.list_centroids import assigned, learn, stored_tokens
from latebolt.kernels.list_centroids import SCALE, decode


@pytest.fixture
def tokens(rng, monkeypatch):
    monkeypatch.setattr(list_centroids, "A_LIST", 40)
    monkeypatch.setattr(list_centroids, "SAMPLED", 20)
    centres = rng.unit(30, 32)
    values = centres[rng.integers(0, 30, 6000)] + 0.1 * rng.standard_normal((6000, 32)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    codec = ResidualCodec.train(values, 2, n_centroids=16)
    return stored_tokens(codec.encode(values), codec)


def test_a_centroid_gets_lists_by_its_tokens(tokens):
    starts, centroids = learn(tokens)
    counts = np.bincount(tokens.cells, minlength=len(starts) - 1)
    sampled = np.bincount(tokens.cells[::2], minlength=len(counts))
    wanted = np.minimum(np.rint(counts / 40), sampled // 4)
    np.testing.assert_array_equal(np.diff(starts), np.maximum(wanted, counts > 0))
    assert starts[-1] == len(centroids) > 100
    lengths = np.linalg.norm(centroids.astype(float), axis=1)
    np.testing.assert_allclose(lengths, SCALE, rtol=0.03)
    for again in (learn(tokens), learn(tokens)):
        np.testing.assert_array_equal(again[1], centroids)


def test_a_centroid_of_its_own_is_nearer_to_a_list_than_the_cells(tokens):
    starts, centroids = learn(tokens)
    with assigned(tokens, starts, centroids, None) as numbers:
        vectors = decode(tokens, np.arange(len(tokens.cells)))
        own = (vectors * centroids[numbers]).sum(axis=1) / SCALE
        cells = (vectors * tokens.centroids[tokens.cells]).sum(axis=1)
    assert own.mean() > cells.mean() + 0.02


def test_a_sample_is_bounded_and_pieces_do_not_matter(tokens, monkeypatch):
    starts, centroids = learn(tokens)
    monkeypatch.setattr(list_centroids, "_DECODED", 500)
    monkeypatch.setattr(list_centroids, "_BLOCK", 700)
    for a, b in zip(learn(tokens), (starts, centroids), strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr(list_centroids, "_MOST_SAMPLED", 300)
    few, _ = learn(tokens)
    assert few[-1] < starts[-1] / 2 and (np.diff(few) == np.minimum(np.diff(few), np.diff(starts))).all()


def test_a_centroid_without_tokens_gets_no_list(tokens):
    cells = np.where(tokens.cells == 3, 4, tokens.cells).astype(tokens.cells.dtype)
    starts, _ = learn(tokens._replace(cells=cells))
    assert np.flatnonzero(np.diff(starts) == 0).tolist() == [3]


def test_lists_of_many_tokens_stand_in_a_file_meanwhile(tokens, monkeypatch, tmp_path):
    starts, centroids = learn(tokens)
    with assigned(tokens, starts, centroids, tmp_path) as numbers:
        expected = numbers.copy()
    monkeypatch.setattr(list_centroids, "_IN_MEMORY", 100)
    with assigned(tokens, starts, centroids, tmp_path) as numbers:
        assert isinstance(numbers, np.memmap)
        np.testing.assert_array_equal(numbers, expected)
    assert list(tmp_path.iterdir()) == []
    if hasattr(os, "posix_fallocate"):

        def full(*arguments):
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(StorageFull), assigned(tokens, starts, centroids, tmp_path):
            pass
        assert list(tmp_path.iterdir()) == []
