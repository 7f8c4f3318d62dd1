"""Intervals and p-values against answers that are known: every resample counted out, or worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from latebolt.evaluate.statistics import LEAST_QUERIES, Difference, holm, paired_differences, resampled_means


def every_resample(values) -> np.ndarray:
    """The bootstrap's own distribution: the mean of each of the n ** n equally likely draws."""
    return np.array([np.mean(drawn) for drawn in itertools.product(values, repeat=len(values))])


def test_resampled_means_follow_the_exact_distribution():
    values = [0.0, 0.25, 1.0, -0.5]
    exact = every_resample(values)
    found = resampled_means(np.array(values)[:, None], resamples=40_000)[:, 0]
    assert found.mean() == pytest.approx(exact.mean(), abs=0.005)
    assert found.std() == pytest.approx(exact.std(), abs=0.005)
    for point in (-0.25, 0.0, 0.1, 0.4):
        assert (found <= point).mean() == pytest.approx((exact <= point).mean(), abs=0.01)


def test_the_interval_and_p_are_those_of_the_exact_distribution():
    values = np.array([0.5, 0.3, -0.1, 0.2, 0.4, 0.1])
    exact = every_resample(values)
    [found] = paired_differences(values[:, None], resamples=40_000)
    assert found.mean == pytest.approx(1.4 / 6)
    assert found.low == pytest.approx(np.quantile(exact, 0.025), abs=0.02)
    assert found.high == pytest.approx(np.quantile(exact, 0.975), abs=0.02)


def test_p_is_twice_the_share_of_resamples_beyond_zero():
    # One loss of 1 and nine wins of 0.1: a resample's mean is above 0 exactly when it never draws the loss,
    # and below when it does; so the smaller share is 0.9 ** 10 = 0.349.
    values = np.array([-1.0] + [0.1] * 9)
    [found] = paired_differences(values[:, None], resamples=40_000)
    assert found.p == pytest.approx(2 * 0.9**10, abs=0.02)


def test_a_constant_difference_is_certain_and_none_is_none():
    [better, same, worse] = paired_differences(np.tile([0.1, 0.0, -0.1], (20, 1)), resamples=999)
    assert (better.low, better.high) == (pytest.approx(0.1), pytest.approx(0.1)) and better.mark == "+"
    assert better.p == pytest.approx(3 * 2 / 1000)  # the least p there is, times three comparisons
    assert same == Difference(0.0, 0.0, 0.0, 1.0) and same.mark == "" and worse.mark == "-"


def test_a_pair_is_compared_query_by_query(rng):
    # Both rankings vary much more between queries than they differ: only the pairing can see the difference.
    hard = rng.random(200)
    [found] = paired_differences((hard * 0.9 + 0.02 - hard * 0.9)[:, None])
    assert found.low == pytest.approx(0.02) and found.significant


def test_columns_share_their_draws(rng):
    values = rng.standard_normal((50, 1))
    means = resampled_means(np.hstack([values, 2 * values]), 200)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])


def test_intervals_hold_the_truth_about_as_often_as_they_say(rng):
    held = 0
    for seed in range(200):
        values = rng.normal(0.3, 1.0, (60, 1))
        [found] = paired_differences(values, resamples=500, seed=seed)
        held += found.low <= 0.3 <= found.high
    assert 0.90 <= held / 200 <= 0.985


def test_few_queries_get_no_mark():
    certain = np.full((LEAST_QUERIES - 1, 1), 0.5)
    assert paired_differences(certain)[0].mark == ""
    assert paired_differences(np.full((LEAST_QUERIES, 1), 0.5))[0].mark == "+"
    assert paired_differences(np.zeros((5, 0))) == []


def test_blocks_make_no_difference(monkeypatch, rng):
    values = rng.standard_normal((30, 2))
    whole = resampled_means(values, 100)
    monkeypatch.setattr("latebolt.evaluate.statistics._DRAWS", 30 * 7)
    np.testing.assert_allclose(resampled_means(values, 100), whole)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5; never below the one before.
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
