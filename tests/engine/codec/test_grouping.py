"""Codecs of many centroids: about the nearest is found, the same in any company; few stay as they were."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.codec import grouping
from latebolt.codec.base import reconstruction_report
from latebolt.codec.kmeans import spherical_kmeans
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.kernels.centroids import centroid_levels, nearest


@pytest.fixture
def many(monkeypatch):
    """Few count as many: what would take minutes otherwise."""
    monkeypatch.setattr(grouping, "MANY", 512)


def tokens(rng: np.random.Generator, n: int) -> np.ndarray:
    """Vectors in clusters of clusters, as those of a language are."""
    topics = rng.unit(40, 64)
    words = topics[rng.integers(0, 40, 600)] + rng.unit(600, 64) * np.float32(0.8)
    values = words[rng.integers(0, 600, n)] + rng.unit(n, 64) * np.float32(0.5)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_few_are_searched_as_ever(rng):
    values, centroids = tokens(rng, 500), tokens(rng, 300)
    found = grouping.search(centroids)(values)
    np.testing.assert_array_equal(found, nearest(values, centroid_levels(centroids)))


def test_nearly_the_nearest_of_many(rng, many):
    values, centroids = tokens(rng, 4000), tokens(rng, 2048)
    dots = values @ centroids.T
    found = grouping.search(centroids)(values)
    chosen = dots[np.arange(len(values)), found]
    assert (found == dots.argmax(axis=1)).mean() >= 0.93
    assert (dots.max(axis=1) - chosen).mean() < 0.003


def test_groups_follow_from_the_centroids(rng):
    centroids = tokens(rng, 700)
    one, other = grouping.grouped(centroids), grouping.grouped(centroids.copy())
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    for number in range(700):
        assert (one.members[one.biases > -(2**29)] == number).sum() == grouping.COPIES


def test_groups_that_nobody_is_in_are_none(rng):
    """Centroids that are nearly one: most groups would be empty, and all that is looked at."""
    centroids = np.repeat(rng.unit(1, 16), 900, axis=0)
    centroids[400:] = rng.unit(1, 16)
    found = grouping.nearest_grouped(centroids, grouping.grouped(centroids))
    assert found.tolist() == [0] * 400 + [400] * 500


def test_groups_of_hardly_any_centroids(rng):
    centroids = rng.unit(5, 16)
    prepared = grouping.grouped(centroids)
    assert grouping.nearest_grouped(centroids, prepared).tolist() == list(range(5))


def test_a_documents_codes_are_the_same_in_any_company(rng, many):
    values = tokens(rng, 3000)
    codec = ResidualCodec.train(values, 2, n_centroids=600)
    assert len(codec.centroids) >= grouping.MANY
    whole = codec.encode(values)
    for first, last in ((0, 1), (100, 161), (2999, 3000)):
        part = codec.encode(values[first:last])
        for name, column in part.items():
            np.testing.assert_array_equal(column, whole[name][first:last])


def test_many_centroids_cost_no_quality(rng, monkeypatch):
    values = tokens(rng, 6000)
    found = []
    for least in (grouping.MANY, 512):
        monkeypatch.setattr(grouping, "MANY", least)
        centroids = spherical_kmeans(values, 700, iterations=3)
        codec = ResidualCodec.train(values, 2, n_centroids=700)
        report = reconstruction_report(codec, values[:1000])
        found.append([(values @ centroids.T).max(axis=1).mean(), report["cosine_mean"]])
    exact, grouped = np.array(found)
    assert (grouped > exact - 0.001).all(), (exact, grouped)


def test_what_only_searches_prepares_nothing(rng, many, monkeypatch):
    codec = ResidualCodec.train(tokens(rng, 2500), 2, n_centroids=600)
    monkeypatch.setattr(grouping, "grouped", lambda centroids: pytest.fail("groups for a search"))
    again = ResidualCodec(
        *(
            getattr(codec, name)
            for name in ("centroids", "levels", "spread", "factors", "bits", "unit", "far")
        )
    )
    columns = {
        "cell": np.zeros(3, np.uint16),
        "codes": np.zeros((3, 16), np.uint8),
        "norm": np.zeros(3, np.uint8),
    }
    assert again.scorer(rng.unit(4, 64)).exact(columns, np.array([0, 3])).shape == (1,)
