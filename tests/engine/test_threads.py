"""Cutting work into ranges, and running them from several threads at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt import threads


def ends_of(*weights):
    return np.concatenate([[7], 7 + np.cumsum(weights)]).astype(np.int64)


@given(st.lists(st.integers(0, 1000), max_size=50), st.integers(1, 8))
def test_ranges_cover_every_item_once(weights, parts):
    ranges = threads.plan_ranges(ends_of(*weights), parts)
    assert len(ranges) <= parts
    assert [i for a, b in ranges for i in range(a, b)] == list(range(len(weights)))


def test_ranges_are_cut_nearest_to_equal_weight():
    def cut(*weights):
        return threads.plan_ranges(ends_of(*weights), 2)

    assert cut(5, 5) == [(0, 1), (1, 2)]
    assert cut(1, 1, 1, 9) == [(0, 3), (3, 4)]
    assert cut(9, 1, 1, 1) == [(0, 1), (1, 4)]


def test_every_item_is_worked_on():
    seen = np.zeros(1000, int)
    names = set()

    def work(first, last):
        names.add(threading.current_thread().name)
        seen[first:last] += 1

    threads.run(np.arange(1001), 10_000, work, 3)
    assert (seen == 1).all() and len(names) > 1


def test_an_error_in_a_worker_is_raised():
    def work(first, last):
        if first:
            raise ValueError("worker")

    with pytest.raises(ValueError, match="worker"):
        threads.run(np.arange(1001), 10_000, work, 2)


def test_the_pool_works_in_a_forked_child(in_child):
    def work():
        threads.run(np.arange(1001), 10_000, lambda a, b: None, 2)
        return True

    work()
    assert in_child(work)
