"""Inverted lists against their plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt.kernels.lists import count_lists, fill_lists, gather
from latebolt.kernels.reference import gather_reference, lists_reference
from latebolt.kernels.shapes import LIST_BLOCK


@settings(deadline=None)  # the first example may compile a kernel
@given(
    st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=12),
    st.sampled_from((np.uint16, np.uint32)),
    st.integers(0, 9),
)
def test_lists_hold_each_document_once(documents, dtype, cut):
    cells = np.array([cell for document in documents for cell in document], dtype)
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    expected = lists_reference(cells, offsets, 9)
    counts = count_lists(cells, offsets, 9)
    assert counts.tolist() == [len(rows) for rows in expected]
    for first, last in ((0, cut), (cut, 9)):  # made in two pieces, as a large segment's are
        made = fill_lists(cells, offsets, first, counts[first:last])
        assert made.tolist() == [row for rows in expected[first:last] for row in rows]


def probes_of(expected, chosen):
    """The table `gather` takes for (cell, gain, token) triples, sorted as it wants them."""
    ends = np.concatenate([[0], np.cumsum([len(rows) for rows in expected])])
    ordered = sorted(chosen, key=lambda probe: (probe[2], -probe[1]))
    return np.array([[ends[c], ends[c + 1], gain, token] for c, gain, token in ordered], np.int64)


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 255), st.integers(1, 40)), max_size=30),
    st.integers(0, 1000),
)
def test_gather_takes_the_best_gain_of_each_query_token(n_documents, chosen, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, n_documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    expected = lists_reference(rng.integers(0, 9, lengths.sum()), offsets, 9)
    rows = np.array([row for some in expected for row in some], np.uint32)
    probes = probes_of(expected, chosen).reshape(-1, 4)
    allowed = rng.random(n_documents) < 0.7
    want = np.array(gather_reference(expected, chosen, n_documents))
    np.testing.assert_array_equal(spread_out(gather(rows, probes, n_documents), n_documents), want)
    found = gather(rows, probes, n_documents, allowed)
    np.testing.assert_array_equal(spread_out(found, n_documents), np.where(allowed, want, 0))


def spread_out(found, n_documents):
    """The sum of every document, each of which may be found once."""
    sums = np.zeros(n_documents)
    sums[found.rows] = found.sums
    assert np.count_nonzero(sums) == len(found.rows)
    return sums


@pytest.mark.parametrize("n_documents", (LIST_BLOCK, LIST_BLOCK + 1, 5 * LIST_BLOCK - 7))
def test_gather_is_the_same_on_any_number_of_threads(rng, monkeypatch, n_documents):
    monkeypatch.setattr("latebolt.threads.LEAST_NS", 1)
    offsets = np.arange(0, 4 * n_documents + 1, 4)
    cells = rng.integers(0, 50, offsets[-1]).astype(np.uint16)
    counts = count_lists(cells, offsets, 50)
    rows, ends = fill_lists(cells, offsets, 0, counts), np.concatenate([[0], np.cumsum(counts)])
    chosen = [(cell, 1 + cell, 1 + cell % 3) for cell in range(20)]
    probes = np.array(
        [
            [ends[c], ends[c + 1], gain, token]
            for c, gain, token in sorted(chosen, key=lambda p: (p[2], -p[1]))
        ]
    )
    want = np.zeros(n_documents, np.int64)
    for token in (1, 2, 3):
        gains = np.where((cells < 20) & (cells % 3 == token - 1), cells.astype(np.int64) + 1, 0)
        want += gains.reshape(n_documents, 4).max(axis=1)
    alone = gather(rows, probes, n_documents, None, 1)
    np.testing.assert_array_equal(spread_out(alone, n_documents), want)
    for threads in (2, 3):
        found = gather(rows, probes, n_documents, None, threads)
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_list_that_goes_back_cannot_write_outside():
    """A row below the block at hand would be written in front of its sums, where the positions of the probes
    stand: the first probe would not reach its last row."""
    block = LIST_BLOCK
    rows = np.array([3, 2 * block + 7, block + 5, block - 2, 2 * block + 9, 2**32 - 1, 4], np.uint32)
    probes = np.array([[0, 2, 9, 1], [2, 7, 8, 2]])
    found = gather(rows, probes, 3 * block, None, 1)
    gained = {3: 9, 2 * block + 7: 9, block + 5: 8, 2 * block + 9: 8}
    assert dict(zip(found.rows.tolist(), found.sums.tolist(), strict=True)) == gained


@pytest.mark.parametrize("n_tokens", (1000, 3000, 8192))
def test_sums_of_many_tokens_do_not_run_over(n_tokens):
    rows = np.arange(3, dtype=np.uint32)
    gains = 400 - np.arange(3)
    probes = np.array([[d, 3, gains[d], t] for t in range(1, n_tokens + 1) for d in range(3)])
    found = gather(rows, probes, 3)
    sums = dict(zip(found.rows.tolist(), found.sums.tolist(), strict=True))
    most = ((1 << 32 - n_tokens.bit_length()) - 1) >> n_tokens.bit_length()
    # The first list, of the largest gain, has all three documents.
    assert [sums[d] for d in range(3)] == [n_tokens * min(400, most)] * 3
