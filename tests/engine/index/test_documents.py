"""What a document may be; every refusal names the position."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import make_store

from latebolt.errors import InvalidInput
from latebolt.index.documents.checked import check_documents
from latebolt.index.documents.documents import Leaf, decode_metadata, leaves

CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE


@pytest.mark.parametrize(
    ("ids", "texts", "metadata", "match"),
    [
        (["a", ""], None, None, r"ids\[11\] should be a non-empty string, got ''"),
        (["a", None], None, None, r"ids\[11\]"),
        ([3, "a"], None, None, r"ids\[10\]"),
        ([b"a"], None, None, r"ids\[10\]"),
        (["a", "b"], ["x", 3], None, r"texts\[11\] should be a string or None, got int"),
        (["a"], ["x", "y"], None, r"texts should have one entry a document, 1 in all, got 2"),
        (["a"], None, [], "metadata should have one entry a document, 1 in all, got 0"),
        (["a"], None, [[1]], r"metadata\[10\] should be a dict or None, got list"),
        (["a"], None, ["x"], r"metadata\[10\] should be a dict"),
        (["a", "b"], None, [None, {"x": {"y": float("nan")}}], r"metadata\[11\]\.x\.y is nan"),
        (["a"], None, [{"x": [1, float("-inf")]}], r"metadata\[10\]\.x is -inf"),
        (["a"], None, [{"x": {3: 4}}], r"metadata\[10\]\.x has the key 3"),
        (["a"], None, [{None: 4}], r"metadata\[10\] has the key None"),
        (["a"], None, [{"x": object()}], r"metadata\[10\]\.x is a object"),
        (["a"], None, [{"x": b"bytes"}], r"metadata\[10\]\.x is a bytes"),
        (["a"], None, [{"x": datetime.date(2020, 1, 1)}], r"metadata\[10\]\.x is a date"),
        (["a"], None, [{"x": np.zeros(3)}], r"metadata\[10\]\.x is a ndarray"),
        (["a"], None, [{"x": np.float32("nan")}], r"metadata\[10\]\.x is nan"),
        (["a"], None, [{"x": np.datetime64("2020-01-01")}], r"metadata\[10\]\.x is a date"),
        (["a"], None, [CYCLE], r"nested more than 64"),
    ],
)
def test_refusals(ids: Any, texts: Any, metadata: Any, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        check_documents(len(ids), ids, texts, metadata, first=10)


def test_halves_of_characters_become_the_replacement_character_everywhere() -> None:
    metadata = {"\ud800k": ["a\udc00", {"b": "\ud83d\ude00"}], "n": 1}
    [document] = check_documents(1, ["\udc00x"], ["xy\ud800"], [metadata])
    assert (document.id, document.text) == ("\ufffdx", "xy\ufffd")
    kept = decode_metadata(document.metadata)
    assert kept == {"\ufffdk": ["a\ufffd", {"b": "\U0001f600"}], "n": 1}
    assert {(leaf.path, leaf.value) for leaf in leaves(kept) if leaf.kind == 3} == {
        ("\ufffdk", "a\ufffd"),
        ("\ufffdk.b", "\U0001f600"),
    }


def test_scalars_of_numpy_are_those_of_python() -> None:
    given = {
        "i": np.int64(3), "u": np.uint8(4), "f": np.float32(0.5), "h": np.float16(2), "b": np.bool_(True),
        "s": np.str_("x"), "d": np.float64(1.5), "big": np.uint64(2**64 - 1),
        "l": [np.int8(-1), {"m": np.int32(7)}],
        "long": np.longdouble(0.25),
    }  # fmt: skip
    plain = {
        "i": 3, "u": 4, "f": 0.5, "h": 2.0, "b": True, "s": "x", "d": 1.5, "big": 2**64 - 1,
        "l": [-1, {"m": 7}],
        "long": 0.25,
    }  # fmt: skip
    [document] = check_documents(1, ["a"], None, [given])
    kept = decode_metadata(document.metadata)
    assert kept == plain and leaves(kept) == leaves(plain)


def test_leaves() -> None:
    found = list(leaves({"a": {"b": [1, "x", [True]]}, "c": None, "d": {}, "e": (2.5,), "f": 10**30}))
    assert found == [
        Leaf("a", 4, 0),
        Leaf("a.b", 4, 0),
        Leaf("a.b", 2, 1),
        Leaf("a.b", 3, "x"),
        Leaf("a.b", 4, 0),
        Leaf("a.b", 1, 1),
        Leaf("c", 0, 0),
        Leaf("d", 4, 0),
        Leaf("e", 4, 0),
        Leaf("e", 2, 2.5),
        Leaf("f", 2, 1e30),
    ]


@pytest.mark.parametrize(
    ("given_", "stored"),
    [
        ({"x": np.float64(0.5)}, {"x": 0.5}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": MappingProxyType({"b": 2})}), {"a": {"b": 2}}),
        ({"t": (1, 2)}, {"t": [1, 2]}),
        ({"big": 10**40, "low": -(10**25)}, {"big": 10**40, "low": -(10**25)}),
        ({"nul": "a\x00b", "": ""}, {"nul": "a\x00b", "": ""}),
    ],
)
def test_kin_of_json_types_are_accepted(given_: Any, stored: Any) -> None:
    [document] = check_documents(1, ["a"], None, [given_])
    assert decode_metadata(document.metadata) == stored


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            UNICODE.filter(bool),
            st.one_of(st.none(), UNICODE),
            st.one_of(st.none(), st.dictionaries(UNICODE, UNICODE)),
        ),
        max_size=8,
        unique_by=lambda document: document[0],
    )
)
def test_any_unicode_comes_back(
    tmp_path_factory: pytest.TempPathFactory, documents: list[tuple[Any, ...]]
) -> None:
    store = make_store(tmp_path_factory.mktemp("u") / "i")
    ids, texts, metadata = ([d[i] for d in documents] for i in range(3))
    with store.writer() as writer:
        writer.new_segment(()).append(check_documents(len(ids), ids, texts, metadata), [0] * len(ids), {})
        writer.commit()
    snapshot = store.snapshot()
    assert snapshot.n_documents == len(ids)
    for segment in snapshot.segments:
        assert [each[:3] for each in segment.documents(range(len(ids)))] == documents
        assert segment.rows_of(ids).tolist() == list(range(len(ids)))
        with store.writer() as writer:
            assert writer.delete(ids) == len(ids)
