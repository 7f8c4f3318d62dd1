"""The order in which texts are encoded, and the engine that encodes them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram

from latebolt import Encoder
from latebolt.serve import metrics
from latebolt.serve.engine.batcher import Batcher, Ticket, current_ticket
from latebolt.serve.engine.cache import VectorCache
from latebolt.serve.engine.lanes import Lanes, Waiting
from latebolt.serve.problems import Problem

BUDGET = 512
REQUESTS = st.lists(
    st.tuples(st.sampled_from(["query", "document"]), st.lists(st.integers(1, 700), min_size=1, max_size=9)),
    max_size=12,
)


def drain(lanes: Lanes, takers: int = 1, budget: int = BUDGET) -> list[list[tuple[object, int]]]:
    takes = []
    while taken := lanes.take(budget, takers):
        takes.append(taken)
    return takes


@given(REQUESTS, st.integers(1, 4))
def test_every_text_is_taken_once_in_bounded_takes(requests, takers):
    lanes = Lanes()
    for number, (lane, tokens) in enumerate(requests):
        lanes.put(Waiting(number, lane, tokens, arrived=number))
    takes = drain(lanes, takers)
    everything = [text for take in takes for text in take]
    assert sorted(everything) == [
        (n, i) for n, (_, tokens) in enumerate(requests) for i in range(len(tokens))
    ]
    for take in takes:
        costs = [requests[n][1][i] for n, i in take]
        assert len(costs) == 1 or sum(costs) <= BUDGET
        assert len({requests[n][0] for n, _ in take}) == 1
    assert set(lanes.tokens.values()) == set(lanes.texts.values()) == {0}


def test_queries_go_first_and_documents_get_their_turn():
    lanes = Lanes()
    lanes.put(Waiting("document", "document", [500] * 3, 0.0))
    for n in range(20):
        lanes.put(Waiting(n, "query", [500], 1.0 + n))
    order = [take[0][0] for take in drain(lanes)]
    assert order[0] == 0
    assert order.index("document") == 8


def test_a_small_request_overtakes_a_huge_one_but_not_for_ever():
    lanes = Lanes()
    lanes.put(Waiting("huge", "document", [500] * 200, 0.0))
    lanes.put(Waiting("small", "document", [100] * 5, 0.1))
    lanes.put(Waiting("late", "document", [100] * 5, 1000.0))
    owners = [take[0][0] for take in drain(lanes)]
    assert owners == ["small"] + ["huge"] * 200 + ["late"]


def test_equal_requests_keep_their_order():
    lanes = Lanes()
    for n in range(5):
        lanes.put(Waiting(n, "document", [256, 256], 1.0))
    assert [take[0][0] for take in drain(lanes)] == [0, 1, 2, 3, 4]


def test_texts_of_several_requests_share_a_take_and_takers_share_what_waits():
    lanes = Lanes()
    for n in range(8):
        lanes.put(Waiting(n, "query", [10], float(n)))
    assert [owner for owner, _ in lanes.take(BUDGET, takers=2)] == [0, 1, 2, 3]


def test_what_is_removed_is_never_taken():
    lanes = Lanes()
    gone = Waiting("gone", "document", [10] * 50, 0.0)
    lanes.put(gone)
    lanes.put(Waiting("stays", "document", [10], 1.0))
    lanes.take(20, 1)
    lanes.remove(gone)
    assert lanes.tokens["document"] == 10
    assert [owner for take in drain(lanes) for owner, _ in take] == ["stays"]


@pytest.fixture
def batcher():
    made: list[Batcher] = []

    def make(cache_bytes: int = 0, queue_tokens: int = 1_000_000, threads: int = 2) -> Batcher:
        made.append(Batcher(threads, BUDGET, queue_tokens, VectorCache(cache_bytes)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def vectors_of(batcher: Batcher, encoder: Encoder, texts: list[str], kind: str = "document"):
    return batcher.submit(encoder, kind, encoder.tokenize(texts, kind), lambda _, vectors: vectors)


TEXTS = [f"{'a word and ' * (n % 17)} number {n}" for n in range(60)]


def test_vectors_do_not_depend_on_what_else_is_encoded(encoder: Encoder, batcher):
    engine = batcher()
    futures = [vectors_of(engine, encoder, TEXTS[n : n + 20]) for n in (0, 20, 40)]
    found = [vectors for future in futures for vectors in future.result()]
    for vectors, expected in zip(found, encoder.encode_documents(TEXTS), strict=True):
        np.testing.assert_array_equal(vectors, expected)


def test_an_encoder_run_by_the_engine_is_the_same_encoder(encoder: Encoder, batcher):
    queued = encoder.run_by(batcher().runner(encoder))
    np.testing.assert_array_equal(
        queued.encode_documents(TEXTS[:9], pool_factor=2).values,
        encoder.encode_documents(TEXTS[:9], pool_factor=2).values,
    )
    np.testing.assert_array_equal(queued.encode_queries(["a"]).values, encoder.encode_queries(["a"]).values)
    assert queued.fingerprint == encoder.fingerprint


@pytest.mark.parametrize("dim", [96, 64])
def test_another_width_of_a_loaded_graph(encoder: Encoder, dim: int):
    other = encoder.with_dim(dim)
    alone = Encoder.load("starter", dim=dim, threads=2)
    np.testing.assert_array_equal(other.encode_documents(TEXTS).values, alone.encode_documents(TEXTS).values)
    assert other.fingerprint == alone.fingerprint != encoder.fingerprint


class Blocker:
    """A text whose vectors are made only when it is let go."""

    def __init__(self, engine: Batcher, encoder: Encoder) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

        def wait(i: int, vectors: object) -> None:
            self.begun.set()
            self.let_go.wait(30)

        self.future = engine.submit(encoder, "document", encoder.tokenize(["x"], "document"), wait)
        assert self.begun.wait(30)


def test_a_cancelled_ticket_drops_what_has_not_begun(encoder: Encoder, batcher):
    engine, ticket = batcher(threads=1), Ticket()
    blocker = Blocker(engine, encoder)
    token = current_ticket.set(ticket)
    try:
        dropped = vectors_of(engine, encoder, TEXTS)
        current_ticket.reset(token)
        kept = vectors_of(engine, encoder, ["kept"])
        before = metrics.TOKENS.labels("document")._value.get()
        ticket.cancel()
        assert dropped.cancelled()
        assert engine._lanes.texts["document"] == 1, "what is dropped holds no place"
        blocker.let_go.set()
        kept.result(30)
        ran = metrics.TOKENS.labels("document")._value.get() - before
        assert ran <= 6, "only the blocker and the kept text"
        current_ticket.set(ticket)
        with pytest.raises(CancelledError):
            vectors_of(engine, encoder, ["never"])
    finally:
        current_ticket.set(None)


def test_a_full_queue_says_when_to_come_again(encoder: Encoder, batcher):
    engine = batcher(queue_tokens=300, threads=1)
    blocker = Blocker(engine, encoder)
    alone = vectors_of(engine, encoder, TEXTS)  # more than the bound, but nothing waits before it
    with pytest.raises(Problem) as refused:
        vectors_of(engine, encoder, ["one more"])
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    blocker.let_go.set()
    assert len(alone.result(30)) == len(TEXTS)


def test_a_queue_takes_what_fits_and_no_more(encoder: Encoder, batcher):
    cost = len(encoder.tokenize(["some words"], "document")[0].ids)
    engine = batcher(queue_tokens=2 * cost, threads=1)
    blocker = Blocker(engine, encoder)
    fit = [vectors_of(engine, encoder, ["some words"]) for _ in range(2)]  # the second fills it
    with pytest.raises(Problem) as refused:
        vectors_of(engine, encoder, ["some words"])
    assert refused.value.status == 429
    blocker.let_go.set()
    assert [len(future.result(30)) for future in fit] == [1, 1]


def test_a_failure_is_its_own_requests_only(encoder: Encoder, batcher):
    engine = batcher()

    def fail(i: int, vectors: object) -> None:
        raise ZeroDivisionError

    failing = engine.submit(encoder, "document", encoder.tokenize(TEXTS, "document"), fail)
    fine = vectors_of(engine, encoder, TEXTS[:5])
    with pytest.raises(ZeroDivisionError):
        failing.result(30)
    assert len(fine.result(30)) == 5


def test_known_texts_are_not_run_again(encoder: Encoder, batcher):
    engine = batcher(cache_bytes=10_000_000)
    first = vectors_of(engine, encoder, TEXTS).result(30)
    before = metrics.TOKENS.labels("document")._value.get()
    again = vectors_of(engine, encoder, TEXTS).result(30)
    assert metrics.TOKENS.labels("document")._value.get() == before
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    narrow = vectors_of(engine, encoder.with_dim(64), TEXTS[:1]).result(30)
    assert narrow[0].shape[1] == 64
    as_query = vectors_of(engine, encoder, TEXTS[:1], "query").result(30)
    np.testing.assert_array_equal(as_query[0], encoder.encode_queries(TEXTS[:1])[0])


def test_the_cache_keeps_to_its_bound_and_forgets_the_oldest(rng):
    cache = VectorCache(100_000)
    for n in range(100):
        cache.put(bytes([n]), rng.unit(10, 128))
        cache.get(b"\x00")
        assert cache.bytes <= 100_000
    assert cache.get(b"\x00") is not None
    assert cache.get(b"\x01") is None
    assert cache.get(bytes([99])) is not None
    cache.put(b"large", rng.unit(100, 128))
    assert cache.get(b"large") is None


def test_closing_finishes_what_waits(encoder: Encoder, batcher):
    engine = batcher()
    future = vectors_of(engine, encoder, TEXTS)
    engine.close()
    assert len(future.result(0)) == len(TEXTS)
    with pytest.raises(Problem, match="stopping"):
        vectors_of(engine, encoder, ["late"])


def test_a_query_does_not_wait_for_a_huge_request(encoder: Encoder, batcher):
    engine = batcher(threads=1)
    huge = vectors_of(engine, encoder, ["many words " * 60] * 400)
    time.sleep(0.1)
    vectors_of(engine, encoder, ["quick"], "query").result(30)
    assert not huge.done()
    huge.cancel()


class Failing:
    """A figure whose file cannot be written any more."""

    def __getattr__(self, _: str) -> object:
        raise OSError("no space left on device")


def test_a_figure_that_fails_fails_nobody(encoder: Encoder, batcher, monkeypatch: pytest.MonkeyPatch):
    engine = batcher(cache_bytes=10_000_000)
    for name, figure in vars(metrics).items():
        if isinstance(figure, Counter | Gauge | Histogram):
            monkeypatch.setattr(metrics, name, Failing())
    assert len(vectors_of(engine, encoder, TEXTS[:9]).result(30)) == 9
    with metrics.stage("write"):
        pass
    assert engine.is_whole
    assert all(worker.is_alive() for worker in engine._workers)


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_error_ends_a_thread_of_the_engine(
    encoder: Encoder, batcher, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
):
    engine = batcher()

    def fail(*_: object) -> None:
        raise kind

    failing = engine.submit(encoder, "document", encoder.tokenize(TEXTS[:3], "document"), fail)
    with pytest.raises(kind):
        failing.result(30)
    with monkeypatch.context() as broken:  # wherever it comes up, and not only where it is expected
        broken.setattr(engine, "_run", fail)
        with pytest.raises(kind):
            vectors_of(engine, encoder, TEXTS[:3]).result(30)
    assert len(vectors_of(engine, encoder, TEXTS[:3]).result(30)) == 3
    assert engine.is_whole


def test_an_engine_that_lost_a_thread_says_so(encoder: Encoder, batcher, monkeypatch: pytest.MonkeyPatch):
    engine = batcher()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(engine._lanes, "take", fail)
    vectors_of(engine, encoder, TEXTS[:3])
    for worker in engine._workers[:1]:
        worker.join(30)
    assert not engine.is_whole


@pytest.mark.parametrize("threads", [1, 2])
def test_a_query_does_not_wait_for_documents_that_hold_every_thread(encoder: Encoder, batcher, threads: int):
    engine = batcher(threads=threads)
    blockers = [Blocker(engine, encoder) for _ in range(threads)]
    queries = [vectors_of(engine, encoder, [f"quick {n}"] * 5, "query") for n in range(10)]
    for each in queries:
        assert len(each.result(30)) == 5
    waits = vectors_of(engine, encoder, ["a document"])
    time.sleep(0.05)
    assert not waits.done(), "the extra thread is for queries"
    for each in blockers:
        each.let_go.set()
    assert len(waits.result(30)) == 1
