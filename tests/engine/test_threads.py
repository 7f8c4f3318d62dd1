"""Cutting work into ranges, and running them from several threads at once."""

from __future__ import annotations

import threading
import time

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


def test_every_item_is_worked_on_by_several_threads():
    seen = np.zeros(1000, int)
    together = threading.Barrier(3)

    def work(first, last):
        together.wait(30)
        seen[first:last] += 1

    threads.run(np.arange(1001), 10_000, work, 3)
    assert (seen == 1).all()


def test_an_error_in_a_worker_is_raised():
    def work(first, last):
        if first:
            raise ValueError("worker")

    with pytest.raises(ValueError, match="worker"):
        threads.run(np.arange(1001), 10_000, work, 2)


def test_a_caller_takes_back_what_nobody_has_begun():
    """Long ranges hold every worker; a short call in the meantime waits for none of them."""
    begun, go_on = threading.Barrier(4), threading.Event()

    def long(first, last):
        begun.wait(30)
        assert go_on.wait(30)

    holder = threading.Thread(target=threads.run, args=(np.arange(4), 1e9, long, 3))
    holder.start()
    begun.wait(30)
    # Two of the pool's three workers are held by now; hold the third one too.
    third = threads._pool("kernel", 3).submit(go_on.wait, 30)
    seen = np.zeros(1000, int)
    here = set()

    def work(first, last):
        here.add(threading.current_thread())
        seen[first:last] += 1

    try:
        threads.run(np.arange(1001), 10_000, work, 3)
    finally:
        go_on.set()
    third.result()
    holder.join()
    assert (seen == 1).all() and here == {threading.current_thread()}


def test_long_jobs_have_workers_of_their_own():
    """While long jobs hold all of theirs, every range of a kernel finds a worker."""
    n = 3
    held, go_on = threading.Barrier(n + 1), threading.Event()

    def job(_):
        held.wait(30)
        assert go_on.wait(30)

    bulk = threading.Thread(target=threads.run_jobs, args=(range(n), job, n))
    bulk.start()
    held.wait(30)
    together = threading.Barrier(n)
    try:
        threads.run(np.arange(1001), 10_000, lambda first, last: together.wait(30), n)
    finally:
        go_on.set()
    bulk.join()


def test_a_second_bulk_call_does_not_wait_for_the_first():
    held, go_on = threading.Barrier(3), threading.Event()

    def job(_):
        held.wait(30)
        assert go_on.wait(30)

    first = threading.Thread(target=threads.run_jobs, args=(range(2), job, 2))
    first.start()
    held.wait(30)
    done = []
    threads.run_jobs(range(10), done.append, 2)
    go_on.set()
    first.join()
    assert sorted(done) == list(range(10))


@pytest.mark.parametrize("n_threads", (1, 2, 4))
def test_every_job_is_done_once(n_threads):
    done = []
    threads.run_jobs(range(500), done.append, n_threads)
    assert sorted(done) == list(range(500))
    threads.run_jobs([], done.append, n_threads)


@pytest.mark.parametrize("n_threads", (1, 2))
def test_an_error_ends_all_jobs(n_threads):
    done = []

    def job(i):
        if i == 7:
            raise ValueError("job 7")
        done.append(i)
        time.sleep(0.001)

    with pytest.raises(ValueError, match="job 7"):
        threads.run_jobs(range(2000), job, n_threads)
    count = len(done)
    time.sleep(0.01)
    assert count < 1000 and len(done) == count  # and nothing runs on


def test_an_interrupt_leaves_no_job_running():
    done = []

    def job(i):
        if threading.current_thread() is threading.main_thread() and i > 5:
            raise KeyboardInterrupt
        done.append(i)
        time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        threads.run_jobs(range(5000), job, 3)
    count = len(done)
    time.sleep(0.01)
    assert len(done) == count < 5000


def test_the_pool_works_in_a_forked_child(in_child):
    def work():
        threads.run(np.arange(1001), 10_000, lambda a, b: None, 2)
        return True

    work()
    assert in_child(work)
