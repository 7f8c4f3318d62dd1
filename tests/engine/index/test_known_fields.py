"""Filters over fields that no document has, lists of many values, and what a segment remembers of filters."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latebolt import Index
from latebolt.errors import InvalidInput
from latebolt.index.filters import evaluate
from latebolt.index.search import known_fields


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "i", None, bits=16, dim=8)
    add(index, [{"year": 2000 + n, "author": {"name": f"a{n % 3}"}, "s": "x" * (195 + n)} for n in range(20)])
    return index


def add(index: Index, metadata: list[dict[str, Any] | None]) -> None:
    index.add_vectors(None, [np.eye(8)[:1]] * len(metadata), ["text"] * len(metadata), metadata)


def found(index: Index, where: Any) -> int:
    return len(index.search_vectors(np.eye(8)[:1], 99, where))


@pytest.mark.parametrize(
    "where",
    ["yeer > 2020", {"yeer": 2020}, "not yeer = 1", "yeer != 3", "yeer not in (3)", {"or": [{"yeer": 2}]}],
)
def test_a_name_mistyped_is_told_with_the_nearest(index: Index, where: Any) -> None:
    for ask in (found, lambda index, where: list(index.documents(where))):
        with pytest.raises(InvalidInput, match=r'the field "yeer"; there is "year".*exists\(yeer\)'):
            ask(index, where)
    with pytest.raises(InvalidInput, match=r'"autor.name"; there is "author.name"'):
        found(index, 'autor.name = "a1"')


def test_fields_that_may_come_are_answered_and_told_once(
    index: Index, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_fields, "_warned", set())
    with caplog.at_level(logging.WARNING, "latebolt"):
        for _ in range(3):
            assert found(index, 'tenant = "acme"') == 0 and found(index, 'not tenant = "acme"') == 20
    [record] = caplog.records
    assert '"tenant"' in record.message and "year" in record.message
    caplog.clear()
    assert found(index, "exists(yeer) and yeer > 2020") == 0 and found(index, "not exists(yeer)") == 20
    assert found(index, "exists(author) and year >= 2010") == 10 and found(index, {"id": "3"}) == 1
    assert not caplog.records
    add(index, [{"tenant": "acme", "yeer": 1}])
    assert found(index, 'tenant = "acme"') == found(index, "yeer = 1") == 1


def test_an_empty_index_and_one_without_metadata_can_be_filtered(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "e", None, bits=16, dim=8, with_first_add=True)
    assert found(index, "yeer = 1") == 0
    add(index, [None])
    assert found(index, "yeer = 1") == 0


def test_lists_of_many_values_are_the_sum_of_their_values(index: Index) -> None:
    values = [*range(1990, 2004), 2003.0, "x" * 199, True, None, *("x" * n for n in (200, 201, 210))]
    for field in ("year", "s"):
        one_by_one = {i for v in values for i in ids(index, {field: v})}
        assert ids(index, {field: {"in": values * 150}}) == one_by_one and one_by_one
        assert ids(index, {field: {"not in": values * 150}}) == ids(index, None) - one_by_one


def ids(index: Index, where: Any) -> set[str]:
    return {entry.id for entry in index.documents(where)}


def test_what_a_segment_remembers_is_bound_by_bytes(index: Index) -> None:
    [segment] = index._store.snapshot().segments
    selector = segment._selector
    for start in range(60):
        assert found(index, {"year": {"in": list(range(start * 10**5, start * 10**5 + 2000))}}) == 0
        held = sum(evaluate._size(expr) + answer.nbytes for expr, answer in selector._answers.items())
        assert held == selector._kept_bytes <= evaluate._KEPT_BYTES
    assert 0 < len(selector._answers) < 60
    before = len(selector._answers)
    assert found(index, {"year": {"in": list(range(2000, 20_000))}}) == 20
    assert len(selector._answers) == before, "an answer to so long a question is not kept"


def test_codecs_that_the_index_has_dropped_are_let_go(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "c", None, bits=2, dim=8)
    for round in range(3):
        centre = rng.normal(size=8) * (3 if round else 0)
        values = rng.normal(size=(9000, 8)) + centre
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        index.add_vectors(None, [values.astype(np.float32)])
        index.search_vectors(np.eye(8)[:1])
        assert set(index._codecs) - {""} <= set(index._store.snapshot().codecs)


def test_the_fields_that_there_are(index: Index) -> None:
    add(index, [{"later": {"deep": 1}}])
    known = ["author", "author.name", "later", "later.deep", "s", "year"]
    assert index.fields() == known and set(index.fields(2)) < set(known) and len(index.fields(2)) == 2
    with pytest.raises(InvalidInput, match="most"):
        index.fields(0)
