"""Vectors that are not of unit length: refused, or made so on request, and ranked alike at any bits."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latebolt import Index, TokenVectors, maxsim
from latebolt.errors import InvalidInput
from latebolt.index.ingest import train
from latebolt.index.ingest.unit_length import TOLERANCE, unit_vectors


def scaled(rng: Any, lengths: Any) -> np.ndarray:
    return (rng.unit(len(lengths), 16) * np.asarray(lengths)[:, None]).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_other_lengths_are_told_or_refused_at_any_number_of_bits(
    tmp_path: Path, rng: Any, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    index = Index.create(tmp_path / "i", None, bits=bits, dim=16)
    wrong = [scaled(rng, [1, 1]), scaled(rng, [1, 1, 1.3])]
    with pytest.raises(InvalidInput, match=r"token_vectors\[1\] .* length 1\.3 \(row 2\).*normalize=True"):
        index.add_vectors(["a", "b"], wrong, normalize=False)
    for zero in (None, False, True):
        with pytest.raises(InvalidInput, match=r"token_vectors\[1\] .*zeros \(row 0\).*padding"):
            index.add_vectors(["a", "b"], [scaled(rng, [1]), scaled(rng, [0, 1])], normalize=zero)
        with pytest.raises(InvalidInput, match=r"token_vectors\[0\] .*not finite"):
            index.add_vectors(["a"], [np.full((1, 16), np.nan)], normalize=zero)
    assert len(index) == 0
    with caplog.at_level(logging.WARNING, "latebolt"):
        index.add_vectors(["a", "b"], wrong, normalize=True)
        index.add_vectors(["c"], [scaled(rng, [1.02, 0.98])])
        assert not caplog.records
        index.add_vectors(["a", "b"], wrong)
    [record] = caplog.records
    assert "token_vectors[1]" in record.message and "1 of 5 vectors are made unit length" in record.message
    stored = next(iter(index.iter_documents())).token_vectors()
    np.testing.assert_allclose(np.linalg.norm(stored.values, axis=1), 1, atol=0.02)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_the_ranking_is_that_of_directions_before_and_after_the_codec_is_learnt(
    tmp_path: Path, rng: Any, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    monkeypatch.setattr(train, "TRAIN_TOKENS", 3000)
    documents = [scaled(rng, rng.uniform(0.2, 20, 20)) for _ in range(300)]
    query = rng.unit(8, 16)
    unit = [matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in documents]
    for first in (100, 300):
        index, of_unit = (Index.create(tmp_path / f"{first}{i}", None, bits=bits, dim=16) for i in range(2))
        names = [str(i) for i in range(first)]
        index.add_vectors(names, documents[:first], normalize=True)
        of_unit.add_vectors(names, unit[:first])
        assert bits >= 8 or (index.info()["centroids"] is None) == (first == 100)
        hits, same = (
            {int(h.id) for h in i.search_vectors(query, 10, exhaustive=True)} for i in (index, of_unit)
        )
        assert len(hits & same) >= 9  # a code may round to the other side
        best = set(np.argsort(-maxsim(query, unit[:first]))[:10].tolist())
        assert len(best & hits) >= {2: 5, 4: 8}.get(bits, 9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1 - TOLERANCE / 2, 1 + TOLERANCE / 2), max_size=20), st.integers(0, 99))
def test_rounding_is_accepted_and_taken_away(lengths: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(lengths), 8))
    values *= np.array(lengths)[:, None] / np.linalg.norm(values, axis=1, keepdims=True)
    vectors = TokenVectors(values.astype(np.float32), np.array([0, len(lengths)]))
    got = unit_vectors(vectors, "v", False)
    np.testing.assert_allclose(np.linalg.norm(got.values, axis=1), 1, atol=1.1e-3)
    if all(abs(length - 1) < 5e-4 for length in lengths):
        assert got is vectors


def test_lengths_beyond_what_a_float32_squares(rng: Any) -> None:
    for length in (1e30, 1e-30):
        vectors = TokenVectors.from_matrices([rng.unit(2, 8) * np.float32(length)])
        with pytest.raises(InvalidInput, match=re.escape(f"length {length:.4g}")):
            unit_vectors(vectors, "v", False)
        np.testing.assert_allclose(
            np.linalg.norm(unit_vectors(vectors, "v", True).values, axis=1), 1, atol=1e-3
        )
