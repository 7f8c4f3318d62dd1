"""Token vectors as Arrow columns and Parquet parts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latebolt import Index, TokenVectors
from latebolt.adapters.parquet import (
    Stamp,
    add_parts,
    metadata_of,
    read_parts,
    strings,
    vectors_of,
    with_vectors,
    write_part,
)
from latebolt.errors import IndexCorrupt, IndexNotFound, InvalidInput, ModelMismatch
from latebolt.index.format.layout import ModelRecord
from latebolt.index.ingest.parts import listing, write_listing
from latebolt.index.store.store import Store

DIM = 16
MODEL = ModelRecord("a-model", "0" * 32, "int8", DIM)


def vectors(rng, lengths=(3, 0, 5)) -> TokenVectors:
    return TokenVectors(rng.unit(sum(lengths), DIM), np.concatenate([[0], np.cumsum(lengths)]))


def table(n: int = 3, **more) -> pa.Table:
    return pa.table({"id": [f"d{i}" for i in range(n)], "text": [f"text {i}" for i in range(n)], **more})


def test_vectors_survive_arrow_and_parquet(tmp_path, rng):
    given = vectors(rng)
    encoded = with_vectors(table(), given)
    assert encoded.schema.field("values").type == pa.list_(pa.float32())
    assert encoded.column("lengths").to_pylist() == [3, 0, 5]
    pq.write_table(encoded, tmp_path / "p.parquet", row_group_size=2)
    for each in (encoded, encoded.slice(1), pq.read_table(tmp_path / "p.parquet")):
        found = vectors_of(each, DIM)
        np.testing.assert_array_equal(found.values, given.values if each.num_rows == 3 else given.values[3:])
    assert vectors_of(encoded.slice(0, 0), DIM).values.shape == (0, DIM)


def test_columns_that_cannot_be(rng):
    with pytest.raises(InvalidInput, match="a column 'values' already"):
        with_vectors(with_vectors(table(), vectors(rng)), vectors(rng))
    encoded = with_vectors(table(), vectors(rng))
    with pytest.raises(InvalidInput, match=r"values\[0\] should be 3 vectors of 8, got 48 numbers"):
        vectors_of(encoded, 8)
    with pytest.raises(InvalidInput, match="no column 'lengths'; it has id, text, values"):
        vectors_of(encoded.drop_columns("lengths"), DIM)
    with pytest.raises(InvalidInput, match="no column 'title'; it has id, text"):
        strings(table(), "title")
    with pytest.raises(InvalidInput, match="column 'n' should be of strings, got int64"):
        strings(pa.table({"n": [1]}), "n")
    with pytest.raises(InvalidInput, match="column 'id' has a null, first in row 1"):
        strings(pa.table({"id": ["a", None]}), "id")
    assert strings(pa.table({"id": [7, 8]}), "id", integers=True) == ["7", "8"]


def test_metadata_of_a_column_or_of_all_others():
    assert metadata_of(table(year=[1, None, 3]), "id", "text") == [{"year": 1}, None, {"year": 3}]
    structs = table(metadata=[{"a": 1, "b": None}, None, {"a": 2, "b": "x"}], other=[1, 2, 3])
    assert metadata_of(structs, "id", "text") == [{"a": 1}, None, {"a": 2, "b": "x"}]
    assert metadata_of(table(metadata=['{"a": [1]}', None, "{}"]), "id", "text") == [{"a": [1]}, None, None]
    with pytest.raises(InvalidInput, match="is no JSON object"):
        metadata_of(table(metadata=["[1]", None, None]), "id", "text")


@pytest.fixture
def job(tmp_path, rng):
    """A finished job's folder with two parts."""
    folder = tmp_path / "job"
    folder.mkdir()
    names = [f"part-{c * 32}.parquet" for c in "ab"]
    for n, name in enumerate(names):
        rows = pa.table(
            {"id": [f"{n}-{i}" for i in range(3)], "text": ["a cat", "a dog", "an owl"], "n": [n, n, n]}
        )
        stamp = Stamp(MODEL, 8, "text", "id")
        write_part(with_vectors(rows, vectors(rng)), stamp, folder / name)
    write_listing(folder, listing("parquet", MODEL, 6, 16, names))
    return folder


def index_of(path, model=MODEL) -> Index:
    Store.create(path, dim=DIM, bits=16, model=model)
    return Index.open(path)


def test_parts_come_into_an_index_once(tmp_path, job):
    index = index_of(tmp_path / "i")
    assert add_parts(index, job) == add_parts(index, job) == 6
    assert len(index) == 6 and index.info()["tokens"] == 16
    [first, _] = read_parts(job)
    [hit, *_] = index.search_vectors(first.vectors[2], k=1, where="n = 0")
    assert (hit.id, hit.text, hit.metadata) == ("0-2", "an owl", {"n": 0})


def test_parts_of_another_model_or_none_or_damaged(tmp_path, job):
    for name, model in (("other", ModelRecord("b-model", "1" * 32, "int8", DIM)), ("none", None)):
        with pytest.raises(ModelMismatch, match='was encoded with model "a-model"'):
            add_parts(index_of(tmp_path / name, model), job)
    index = index_of(tmp_path / "i")
    part = job / f"part-{'b' * 32}.parquet"
    good = part.read_bytes()
    part.write_bytes(good[:-9])
    with pytest.raises(IndexCorrupt, match=r"parquet: content should be a part"):
        add_parts(index, job)
    pq.write_table(pa.table({"id": ["x"]}), part)
    with pytest.raises(IndexCorrupt, match="token vectors"):
        add_parts(index, job)
    part.unlink()
    with pytest.raises(IndexCorrupt, match="Run the job again"):
        add_parts(index, job)
    (job / "parts.json").unlink()
    with pytest.raises(IndexNotFound, match="finishes when it is run again"):
        list(read_parts(job))
