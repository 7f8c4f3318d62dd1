"""Every codec: what is stored decodes to what scores, and is as near the original as its bits allow."""

from __future__ import annotations

import numpy as np
import pytest

from latebolt.codec.base import reconstruction_report
from latebolt.codec.kmeans import default_n_centroids, spherical_kmeans
from latebolt.codec.residual_codec import ResidualCodec, lloyd_max
from latebolt.codec.restore import restore, untrained
from latebolt.errors import InvalidInput
from latebolt.kernels.maxsim import maxsim_arrays
from latebolt.kernels.reference import decode_residual_reference

# Mean cosine of a decoded vector with the original, on clustered data. Measured 0.93 / 0.97 / 0.998.
LEAST_COSINE = {1: 0.90, 2: 0.95, 4: 0.99, 8: 0.9999, 16: 0.9999}


def clustered(rng, n: int, dim: int) -> np.ndarray:
    """Token vectors as real ones lie: around centres, not evenly."""
    centres = rng.unit(64, dim)
    values = centres[rng.integers(0, 64, n)] + 0.5 * rng.unit(n, dim)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def codec_of(bits: int, values: np.ndarray):
    return untrained(values.shape[1], bits) if bits >= 8 else ResidualCodec.train(values, bits)


@pytest.mark.parametrize("bits", (1, 2, 4, 8, 16))
@pytest.mark.parametrize("dim", (48, 64, 128))
def test_near_the_original_and_scored_as_decoded(rng, bits, dim):
    values = clustered(rng, 6000, dim)
    codec = codec_of(bits, values)
    columns = codec.encode(values)
    decoded = codec.decode(columns)
    assert (decoded * values).sum(axis=1).mean() > LEAST_COSINE[bits]
    # Unit length again, but for the few whose norm lies outside the table.
    assert np.quantile(np.abs(np.linalg.norm(decoded, axis=1) - 1), 0.99) < 0.01
    offsets, query = np.array([0, 0, 100, 6000]), rng.unit(5, dim)
    got = codec.scorer(query, 1).exact(columns, offsets)
    # Byte scoring rounds the query to int8 where it meets the codes: at most half a step a dimension.
    tolerance = 1e-5 if bits == 16 else 0.004
    np.testing.assert_allclose(got, maxsim_arrays(query, decoded, offsets), rtol=tolerance)
    assert codec.bytes_per_token() == sum(a.nbytes for a in columns.values()) / 6000


@pytest.mark.parametrize("bits", (1, 2, 4, 8, 16))
def test_restored_from_its_state(rng, bits):
    values = clustered(rng, 2000, 64)
    codec = codec_of(bits, values)
    again = restore(*codec.state())
    for name, column in codec.encode(values).items():
        np.testing.assert_array_equal(again.encode(values)[name], column)


@pytest.mark.parametrize("bits", (1, 2, 4))
def test_the_packing_is_as_defined(rng, bits):
    values = clustered(rng, 500, 48)
    codec = ResidualCodec.train(values, bits)
    columns = codec.encode(values[:20])
    expected = decode_residual_reference(
        columns["codes"], columns["cell"], columns["norm"],
        codec.factors, codec.centroids, codec.weights, codec.spread, bits,
    )  # fmt: skip
    np.testing.assert_allclose(codec.decode(columns), expected, rtol=1e-5, atol=1e-6)


def test_bytes_a_token():
    sample = np.eye(128, dtype=np.float32)
    assert [ResidualCodec.train(sample, bits).bytes_per_token() for bits in (1, 2, 4)] == [19, 35, 67]


def test_training_is_reproducible(rng):
    values = clustered(rng, 3000, 64)
    a, b = ResidualCodec.train(values, 2, seed=3), ResidualCodec.train(values, 2, seed=3)
    np.testing.assert_array_equal(a.centroids, b.centroids)
    np.testing.assert_array_equal(a.levels, b.levels)
    np.testing.assert_array_equal(a.spread, b.spread)


def test_few_and_equal_tokens_can_be_trained_on():
    one = np.zeros((1, 8), np.float32)
    one[0, 0] = 1
    for sample in (one, np.repeat(one, 50, axis=0)):
        codec = ResidualCodec.train(sample, 2)
        np.testing.assert_allclose(codec.decode(codec.encode(sample)), sample, atol=1e-3)
    assert len(codec.encode(np.zeros((0, 8), np.float32))["codes"]) == 0


@pytest.mark.parametrize(("shape", "bits"), [((0, 8), 2), ((4, 12), 2), ((4, 8), 3)])
def test_what_does_not_fit_is_refused(shape, bits):
    with pytest.raises(InvalidInput):
        ResidualCodec.train(np.zeros(shape, np.float32), bits)


def test_kmeans_finds_separate_clusters(rng):
    centres = np.eye(8, dtype=np.float32)
    values = centres[rng.integers(0, 8, 800)] + 0.05 * rng.unit(800, 8)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    found = spherical_kmeans(values, 16)
    assert (found @ centres.T).max(axis=0).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_number_of_centroids_grows_with_the_corpus():
    assert [default_n_centroids(n) for n in (0, 1, 1000, 1_390_000, 10**9)] == [16, 16, 256, 8192, 65536]


def test_lloyd_max_beats_quantiles(rng):
    values = rng.standard_normal(20000).astype(np.float32)
    levels = lloyd_max(values, 4)
    # The best 4 levels of a normal distribution: +-0.4528, +-1.5104 (Max, 1960).
    np.testing.assert_allclose(levels, [-1.5104, -0.4528, 0.4528, 1.5104], atol=0.05)


def test_the_report_says_how_near(rng):
    values = clustered(rng, 3000, 64)
    reports = [reconstruction_report(codec_of(bits, values), values) for bits in (1, 2, 4, 8, 16)]
    means = [report["cosine_mean"] for report in reports]
    assert means == sorted(means) and reports[-1]["mse"] < 1e-7 < reports[0]["mse"]
    assert all(r["cosine_min"] <= r["cosine_p1"] <= r["cosine_mean"] <= 1.0001 for r in reports)
    assert [r["bytes_per_token"] for r in reports] == [11, 19, 35, 68, 128]


def test_other_placements_of_weights(rng):
    """Three weights of four codes: what is placed is what is used."""
    values = clustered(rng, 3000, 64)
    codec = ResidualCodec.train(values, 2, place=lambda residuals, n: lloyd_max(residuals, 3))
    assert len(np.unique(codec.weights)) == 3
    report = reconstruction_report(codec, values)
    assert (
        report["cosine_mean"] < reconstruction_report(ResidualCodec.train(values, 2), values)["cosine_mean"]
    )
