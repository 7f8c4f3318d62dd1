"""Devices that share runs, and work that is done ahead: order, slow ones, failures, memory, interrupts."""

from __future__ import annotations

import contextvars
import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.encoder import fleet as fleets
from latebolt.encoder.batches import Run, Text, plan
from latebolt.encoder.fleet import Fleet, Worker
from latebolt.encoder.gpu_runs import FORMS
from latebolt.encoder.pipeline import ahead
from latebolt.errors import InvalidInput, LateboltError, ModelError, OutOfMemory, RuntimeUnavailable


def of_one_text_each(n):
    return [Run("padded", (i,)) for i in range(n)]


def doubling(job, run):
    return [2 * job[i] for i in run.texts]


def no_threads_but(before):
    """Whether all threads that were begun since have ended; waits, as they may be about to."""
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
    return not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), max_size=30),
    form=st.sampled_from(FORMS),
    budget=st.integers(1, 300),
    room=st.lists(st.integers(20, 600), min_size=1, max_size=3),
    broken=st.sets(st.integers(0, 40), max_size=1),
)
def test_results_are_in_order_or_an_error_is_told(lengths, form, budget, room, broken):
    """Of random lengths, budgets, devices of little memory and a failure in the middle."""
    texts = [Text(n) for n in lengths]

    def device(number, most):
        def run(job, part):
            if broken & set(part.texts):
                raise RuntimeError("CUDA error 700: illegal address")
            if len(part.texts) * max(lengths[i] for i in part.texts) > most:
                raise OutOfMemory("too much")
            return [(i, lengths[i]) for i in part.texts]

        return Worker(f"cuda:{number}", run, lambda: budget)

    before = set(threading.enumerate())
    fleet = Fleet([device(number, most) for number, most in enumerate(room)])
    seen = []
    try:
        found = fleet.results(None, plan(texts, form, budget), 0, lambda i, _: seen.append(i))
    except LateboltError as error:
        fails = broken & set(range(len(lengths)))
        small = isinstance(error, OutOfMemory) and min(room) < max(budget, max(lengths))
        assert small or (fails and isinstance(error, RuntimeUnavailable))
        assert 'device "cuda:' in str(error)
    else:
        assert found == [(i, n) for i, n in enumerate(lengths)]
        assert sorted(seen) == list(range(len(lengths)))
    fleet.close()
    assert no_threads_but(before)


def test_a_slow_device_takes_less():
    """The slow one holds its first runs until the other has done all that is left."""
    others_done = threading.Event()
    taken = {"slow": 0, "fast": 0}
    lock = threading.Lock()

    def slow(job, run):
        taken["slow"] += 1
        assert others_done.wait(30)
        return doubling(job, run)

    def fast(job, run):
        with lock:
            taken["fast"] += 1
            if taken["fast"] == 20 - fleets.LANES:
                others_done.set()
        return doubling(job, run)

    fleet = Fleet([Worker("cuda:0", slow), Worker("cuda:1", fast)])
    assert fleet.results(range(20), of_one_text_each(20)) == list(range(0, 40, 2))
    assert taken["slow"] <= fleets.LANES and sum(taken.values()) == 20
    fleet.close()


def test_all_devices_take_part():
    together = threading.Barrier(2 * fleets.LANES)
    names = set()

    def device(name):
        def run(job, part):
            names.add(name)
            together.wait(30)  # nobody goes on before every lane of every device has a run
            return doubling(job, part)

        return Worker(name, run)

    fleet = Fleet([device("cuda:0"), device("cuda:1")])
    fleet.results(range(4), of_one_text_each(2 * fleets.LANES))
    assert names == {"cuda:0", "cuda:1"}
    fleet.close()


def test_too_little_memory_makes_later_runs_shorter(caplog):
    """Runs that were planned longer are cut before they fail; the next are planned so."""
    sizes = []

    def run(job, part):
        sizes.append(len(part.texts))
        if len(part.texts) > 2:
            raise OutOfMemory("CUDA out of memory")
        return doubling(job, part)

    fleet = Fleet([Worker("cuda:1", run, lambda: 8192)])
    fleet._free[:] = fleet._free[:1]
    fleet._threads._max_workers = 1  # one run after another, so that their sizes are known
    runs = [Run("padded", tuple(range(i, i + 8))) for i in (0, 8)]
    with caplog.at_level(logging.WARNING):
        assert fleet.results(range(16), runs) == list(range(0, 32, 2))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert (fleet.halvings, fleet.tokens) == (2, 8192 // 4)
    assert caplog.text.count('device "cuda:1": too little memory for a run') == 2
    fleet.close()


def test_too_little_memory_for_a_text_is_told_with_the_way_out():
    def run(job, part):
        raise OutOfMemory("CUDA out of memory")

    fleet = Fleet([Worker("cuda:1", run)])
    message = r'device "cuda:1": too little memory for a run of 1 text\. Close other programs.*tokens='
    with pytest.raises(OutOfMemory, match=message):
        fleet.results([1, 2, 3], [Run("padded", (0, 1, 2))])
    with pytest.raises(OutOfMemory, match="for a run of 2 texts"):
        Fleet([Worker("cuda:1", run)]).results(range(8), [Run("padded", tuple(range(8)))])
    fleet.close()


def test_a_device_that_fails_is_named_and_nothing_goes_on():
    begun = []

    def run(job, part):
        begun.append(part)
        raise RuntimeError("CUDA failure 719: unspecified launch failure\n at file.cc")

    fleet = Fleet([Worker("cuda:3", run)])
    with pytest.raises(RuntimeUnavailable, match=r'"cuda:3" failed: CUDA failure 719: [a-z ]*\. "latebolt'):
        fleet.results(range(100), of_one_text_each(100))
    n = len(begun)
    assert n < 100
    assert fleet.results([], []) == [] and len(begun) == n
    fleet.close()


def test_errors_of_ours_stay_what_they_are():
    def run(job, part):
        raise ModelError("no such head")

    fleet = Fleet([Worker("cuda:0", run)])
    with pytest.raises(ModelError, match=r"^no such head$"):
        fleet.results([1], of_one_text_each(1))
    fleet.close()
    with pytest.raises(InvalidInput, match="closed"):
        fleet.results([1], of_one_text_each(1))


def test_an_interrupt_ends_what_waits():
    """Ctrl-C comes to the thread that plans and waits."""
    begun = []

    def runs():
        yield from of_one_text_each(3)
        raise KeyboardInterrupt

    def run(job, part):
        begun.append(part.texts[0])
        return doubling(job, part)

    fleet = Fleet([Worker("cuda:0", run)])
    with pytest.raises(KeyboardInterrupt):
        fleet.results(range(10), runs())
    assert len(begun) <= 3 and fleet.results([5], of_one_text_each(1)) == [10]
    fleet.close()


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(0, 25),
    in_flight=st.integers(1, 4),
    threads=st.none() | st.integers(1, 3),
    fails=st.none() | st.integers(0, 24),
    leaves=st.none() | st.integers(0, 24),
)
def test_work_ahead_is_in_order_bounded_and_ends(n, in_flight, threads, fails, leaves):
    before = set(threading.enumerate())
    taken, read, most = [], [], 0

    def jobs():
        for i in range(n):
            read.append(i)
            yield i

    def work(i):
        if i == fails:
            raise OSError(f"job {i}")
        return i

    results = ahead(jobs(), work, in_flight, threads)
    try:
        for result in results:
            most = max(most, len(read) - len(taken))
            taken.append(result)
            if result == leaves:
                break
    except OSError as error:
        assert str(error) == f"job {fails}"
    results.close()
    end = min(x for x in (n, fails, None if leaves is None else leaves + 1) if x is not None)
    assert taken == list(range(end))
    assert most <= in_flight
    assert no_threads_but(before)


def test_work_ahead_sees_the_callers_context():
    mark = contextvars.ContextVar("mark", default="none")
    mark.set("mine")
    assert list(ahead(range(3), lambda _: mark.get(), 2)) == ["mine"] * 3


def test_work_ahead_goes_on_while_its_results_are_used():
    second = threading.Event()
    results = ahead([first := object(), None], lambda job: job or second.set(), 2)
    assert next(results) is first
    assert second.wait(30)  # begun, though nobody has asked for it
    results.close()
