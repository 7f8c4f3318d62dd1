"""Documents unlike those the codec learnt from: they wait as float16, then get centroids of their own."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt import Index, TokenVectors
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.errors import InvalidInput
from latebolt.index.ingest import train
from latebolt.index.store.check import check_index

DIM = 64


def kind(rng, n: int, seed: int, axis: int) -> TokenVectors:
    """Documents of 20 tokens around 100 centres of their own, all of them on one side of an axis."""
    centres = np.random.default_rng(seed).standard_normal((100, DIM)).astype(np.float32) * 0.3
    centres[:, axis] += 3
    values = centres[rng.integers(0, 100, n * 20)] + 0.1 * rng.standard_normal((n * 20, DIM))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return TokenVectors(values, np.arange(0, n * 20 + 1, 20))


@pytest.fixture
def old(rng) -> TokenVectors:
    return kind(rng, 1000, 1, axis=0)


@pytest.fixture
def new(rng) -> TokenVectors:
    return kind(rng, 1000, 2, axis=1)


def names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def codec_of(index: Index) -> ResidualCodec:
    snapshot = index._store.snapshot()
    codec = index._codec(snapshot, snapshot.codec.name)
    assert isinstance(codec, ResidualCodec)
    return codec


def error_of(codec: ResidualCodec, vectors: TokenVectors) -> float:
    return float(((codec.decode(codec.encode(vectors.values)) - vectors.values) ** 2).mean())


def mean_reciprocal_rank(index: Index, vectors: TokenVectors, prefix: str) -> float:
    """Queries are a few noisy tokens of a document; which is to be found."""
    rng = np.random.default_rng(3)
    ranks = []
    for i in range(0, 100):
        query = vectors[i][:6] + 0.25 * rng.standard_normal((6, DIM)).astype(np.float32)
        found = [hit.id for hit in index.search_vectors(query, k=10, exhaustive=True)]
        ranks.append(1 / (1 + found.index(f"{prefix}{i}")) if f"{prefix}{i}" in found else 0.0)
    return float(np.mean(ranks))


def test_new_documents_are_kept_as_well_as_in_a_fresh_index(tmp_path, old, new, monkeypatch):
    index = Index.create(tmp_path / "i", None, dim=DIM)
    index.add_vectors(names("o", 1000), old)
    before, n_before = codec_of(index), index.info()["centroids"]
    stored = [np.array(s.column("cell")) for s in index._store.snapshot().segments]
    index.add_vectors(names("n", 1000), new)
    after = codec_of(index)
    np.testing.assert_array_equal(after.centroids[:n_before], before.centroids)
    assert len(after.centroids) > n_before and len(index._store.snapshot().codecs) == 1
    for cells, segment in zip(stored, index._store.snapshot().segments, strict=False):
        np.testing.assert_array_equal(cells, segment.column("cell"))  # nothing old was rewritten
    fresh = Index.create(tmp_path / "f", None, dim=DIM)
    both = TokenVectors.from_matrices([*old, *new])
    fresh.add_vectors(names("o", 1000) + names("n", 1000), both)
    assert error_of(after, new) < 1.1 * error_of(codec_of(fresh), new)
    assert error_of(before, new) > 1.5 * error_of(after, new), "the new kind is far from the old"
    for vectors, prefix in ((old, "o"), (new, "n")):
        assert (
            mean_reciprocal_rank(index, vectors, prefix) > mean_reciprocal_rank(fresh, vectors, prefix) - 0.01
        )
    assert check_index(index.path) == []
    index.compact()
    assert index.info()["segments"] == 1 and len(index) == 2000


def test_few_outliers_wait_as_float16_and_are_found_meanwhile(tmp_path, old, new):
    index = Index.create(tmp_path / "i", None, dim=DIM)
    index.add_vectors(names("o", 1000), old)
    n_before = index.info()["centroids"]
    per_add = 100  # 2,000 tokens: a quarter of what is learnt from
    for start in range(0, 300, per_add):
        index.add_vectors([f"n{i}" for i in range(start, start + per_add)], new[start : start + per_add])
        assert index.info()["centroids"] == n_before
        assert {s.codec for s in index._store.snapshot().segments} >= {None}
        assert index.search_vectors(new[start][:6], k=1)[0].id == f"n{start}"
    index.add_vectors([f"n{i}" for i in range(300, 600)], new[300:600])
    assert index.info()["centroids"] > n_before
    assert None not in {s.codec for s in index._store.snapshot().segments}
    assert len(index) == 1600 and index.search_vectors(new[5][:6], k=1)[0].id == "n5"
    assert check_index(index.path) == []


def test_more_of_the_same_changes_nothing(tmp_path, rng, old, new):
    index = Index.create(tmp_path / "i", None, dim=DIM)
    index.add_vectors(names("o", 1000), old)
    index.add_vectors(names("n", 1000), new)
    known = index.info()["centroids"]
    for seed, axis in ((1, 0), (2, 1)):
        index.add_vectors(names(f"more{seed}", 500), kind(rng, 500, seed, axis))
    assert index.info()["centroids"] == known
    assert None not in {s.codec for s in index._store.snapshot().segments}


def test_centroids_stay_within_bounds(tmp_path, rng, old, monkeypatch):
    """Ever new kinds: there are never more than twice the centroids that all tokens together would get."""
    from latebolt.codec.kmeans import default_n_centroids

    index = Index.create(tmp_path / "i", None, dim=DIM)
    index.add_vectors(names("o", 1000), old)
    for axis in range(2, 8):
        index.add_vectors(names(f"k{axis}", 450), kind(rng, 450, axis, axis))
        info = index.info()
        assert info["centroids"] <= train.MOST_CENTROIDS * default_n_centroids(info["tokens"])
    assert len(index) == 1000 + 6 * 450


def test_cells_may_need_more_bits(rng):
    """Past 65,536 centroids new codes have uint32 cells, and the scorer of the new codec reads both."""
    values = rng.unit(400, 8)
    small = ResidualCodec.train(values, 2, n_centroids=20)
    large = ResidualCodec(
        np.concatenate([small.centroids, rng.unit(65600, 8)]),
        small.levels, small.spread, small.factors, 2, small.unit, small.far,
    )  # fmt: skip
    assert {name: dtype for name, dtype, _ in large.columns}["cell"] == "<u4"
    offsets = np.arange(0, 401, 20)
    query = rng.unit(4, 8)
    written = small.encode(values)
    np.testing.assert_array_equal(
        large.scorer(query).exact(written, offsets), small.scorer(query).exact(written, offsets)
    )
    assert large.scorer(query).approximate(large.encode(values), offsets) is not None


def test_a_codec_of_an_earlier_kind_is_refused(rng):
    from latebolt.codec.restore import restore

    codec = ResidualCodec.train(rng.unit(400, 8), 2)
    arrays, info = codec.state()
    assert restore(arrays, info).far == codec.far and codec.outlying(rng.unit(50, 8)).any()
    with pytest.raises(InvalidInput, match=r'codec kind "residual" is unknown .* or build the index again'):
        restore(arrays, {**info, "kind": "residual"})
