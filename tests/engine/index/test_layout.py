"""The format: exact bytes, hostile manifests, and an index written by version 1."""

from __future__ import annotations

import io
import pickle
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import add, content, documents, expected, make_store, tree

from latebolt import Index
from latebolt.errors import IndexCorrupt, IndexNewer, InvalidInput
from latebolt.index.format import layout
from latebolt.index.format.layout import (
    Column,
    Manifest,
    ModelRecord,
    decode_manifest,
    encode_manifest,
    npy_header,
)
from latebolt.index.store.backup import back_up
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store

OLD_VERSIONS = Path(__file__).parent / "old_versions"


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00v\x00" + text.encode().ljust(117) + b"\n"


def test_bytes_of_a_tiny_segment(tmp_path: Path) -> None:
    with make_store(tmp_path / "i").writer() as writer:
        writer.set_codec({"centroids": np.array([[1.0, -2.0]], np.float16)}, {"kind": "tiny"})
        draft = writer.new_segment((Column("centroid", "uint16"), Column("codes", "u1", 2)))
        codes = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
        draft.append(
            documents(["a", "b", "c"]),
            [2, 0, 1],
            {"centroid": np.array([1, 256, 3], np.uint16), "codes": codes},
        )
        draft.finish()
        writer.delete(["b"])
        writer.commit()
    files = tree(tmp_path / "i")
    assert {name: data for name, data in files.items() if name.endswith(".npy")} == {
        "codecs/1/centroids.npy": header("{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2), }")
        + bytes.fromhex("003c 00c0"),
        "segments/2/offsets.npy": header("{'descr': '<i8', 'fortran_order': False, 'shape': (4,), }")
        + bytes.fromhex("0000000000000000 0200000000000000 0200000000000000 0300000000000000"),
        "segments/2/centroid.npy": header("{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }")
        + bytes.fromhex("0100 0001 0300"),
        "segments/2/codes.npy": header("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }")
        + bytes.fromhex("0102 0304 0506"),
        "segments/2/deleted-1.npy": header("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }")
        + b"\x02",
    }
    assert set(files) - {name for name in files if name.endswith(".npy")} == {
        "manifest.json",
        "segments/2/texts.sqlite",
    }


def test_bytes_of_the_first_manifest(tmp_path: Path) -> None:
    Store.create(tmp_path, dim=64, bits=2, model=ModelRecord("m", "f", "int8", 64), settings={"a": 0.1})
    assert (tmp_path / "manifest.json").read_text() == (
        '{"digest":"61d99cb21b6222692944cabe9dc2c6c1",\n'
        ' "format": "latebolt-index",\n "format_version": 1,\n "generation": 0,\n "next_number": 1,\n'
        ' "model": {\n  "source": "m",\n  "fingerprint": "f",\n  "precision": "int8",\n  "dim": 64\n },\n'
        ' "dim": 64,\n "bits": 2,\n "settings": {\n  "a": 0.1\n },\n "codec": null,\n "codecs": {},\n '
        '"segments": []\n}\n'
    )


def test_schema_of_the_texts(tmp_path: Path) -> None:
    with make_store(tmp_path / "i").writer() as writer:
        draft = writer.new_segment(())
        draft.append(
            documents(
                ["a", "b"], ["A", None], [{"k": {"x": [1, "s"]}, "t": True}, {"k": None, "l": "y" * 201}]
            ),
            [0, 0],
            {},
        )
        writer.commit()
    database = sqlite3.connect(tmp_path / "i" / "segments" / "1" / "texts.sqlite")
    statements = [sql for (sql,) in database.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")]
    assert statements == [*layout.TEXTS_SCHEMA, *layout.TEXTS_INDEXES]
    assert database.execute("SELECT * FROM documents").fetchall() == [
        (0, "a", '{"k":{"x":[1,"s"]},"t":true}'),
        (1, "b", '{"k":null,"l":"' + "y" * 201 + '"}'),
    ]
    assert database.execute("SELECT * FROM texts").fetchall() == [(0, "A")]
    fields = "SELECT p.path, f.kind, f.value, f.row FROM fields f JOIN paths p ON p.number = f.path"
    assert database.execute(fields).fetchall() == [
        ("k", 0, 0, 1),
        ("k", 4, 0, 0),
        ("k.x", 2, 1, 0),
        ("k.x", 3, "s", 0),
        ("k.x", 4, 0, 0),
        ("t", 1, 1, 0),
        ("l", 5, "y" * 200, 1),
    ]
    database.close()


@pytest.mark.parametrize("version", [1])
def test_an_index_of_each_version_can_be_read_and_grow(tmp_path: Path, version: int) -> None:
    path = shutil.copytree(OLD_VERSIONS / str(version), tmp_path / "i")
    assert check_index(path) == []
    store = Store.open(path)
    assert content(store.snapshot()) == expected({"a": 0, "c": 0, "b": 1, "d": 1})
    assert store.snapshot().segments[0].select('version = 0 and tags = "a"').tolist() == [True, False, True]
    with store.writer() as writer:
        add(writer, ["a"], version=9)
        writer.merge([segment.name for segment in writer.segments])
        writer.commit()
    assert content(store.snapshot()) == expected({"a": 9, "c": 0, "b": 1, "d": 1})
    assert check_index(path) == []


@given(st.sampled_from(sorted(layout.COLUMN_DTYPES)), st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_headers_are_numpys(dtype: str, axes: list[int]) -> None:
    shape = tuple(axes)
    array = np.zeros(shape, dtype)
    data = npy_header(dtype, shape) + array.tobytes()
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    assert loaded.shape == shape and loaded.dtype == array.dtype
    assert len(data) == layout.array_bytes(dtype, shape)


def test_the_longest_header_fits() -> None:
    assert len(npy_header("<f4", (2**63, 2**31))) == layout.NPY_HEADER_BYTES


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (("Codes", "u1"), "Column.name"),
        (("../x", "u1"), "Column.name"),
        (("offsets", "u1"), "Column.name"),
        (("codes", "f8"), "Column.dtype"),
        (("codes", "object"), "Column.dtype"),
        (("codes", "nothing"), "Column.dtype"),
        (("codes", "u1", 0), "Column.width"),
    ],
)
def test_columns_check_themselves(column: tuple[Any, ...], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        Column(*column)


def test_column_dtypes_have_one_spelling() -> None:
    assert Column("a", "uint16") == Column("a", ">u2") == Column("a", "<u2")


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_manifests_come_back_as_they_were(settings: dict[str, Any]) -> None:
    try:
        msgspec.json.encode(settings)
    except UnicodeEncodeError:
        return
    manifest = Manifest(layout.FORMAT, 1, 3, 9, None, 8, 2, settings)
    assert decode_manifest(encode_manifest(manifest), "m") == manifest


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    with make_store(tmp_path / "i").writer() as writer:
        writer.set_codec({"x": np.zeros(2, np.float32)}, {})
        add(writer, ["a", "b"])
        writer.delete(["a"])
        writer.commit()
    return tmp_path / "i"


def test_any_changed_byte_of_the_manifest_is_found(committed: Path) -> None:
    data = (committed / "manifest.json").read_bytes()
    for i in range(len(data)):
        for flip in (1, 0x20, 0x80):
            with pytest.raises(IndexCorrupt):
                decode_manifest(data[:i] + bytes([data[i] ^ flip]) + data[i + 1 :], "m")
    for size in range(0, len(data), 7):
        with pytest.raises(IndexCorrupt):
            decode_manifest(data[:size], "m")
    with pytest.raises(IndexCorrupt):
        decode_manifest(data + b" ", "m")


def resign(fields: dict[str, Any]) -> bytes:
    """A manifest with a right digest, as someone with bad intentions would write it."""
    body = b'",\n' + msgspec.json.encode({k: v for k, v in fields.items() if k != "digest"})[1:]
    return b'{"digest":"' + layout._digest(body) + body


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(format="other"), "format"),
        (lambda m: m.update(format_version=0), "format_version"),
        (lambda m: m.update(format_version="5"), "format_version"),
        (lambda m: m.update(format_version=True), "format_version"),
        (lambda m: m.update(unknown=1), "content"),
        (lambda m: m.update(generation=-1), "content"),
        (lambda m: m.pop("dim"), "content"),
        (lambda m: m.update(codec="7"), "codec"),
        (lambda m: m["segments"][0].update(codec="7"), r"segments\[2\]\.codec"),
        (lambda m: m["segments"][0].update(name="../../etc"), "content"),
        (lambda m: m["segments"][0].update(deleted="../x.npy"), "content"),
        (lambda m: m["segments"][0].update(deleted=None), r"segments\[2\]\.files"),
        (lambda m: m["segments"][0]["files"].pop("codes.npy"), r"segments\[2\]\.files"),
        (
            lambda m: m["segments"][0]["files"]["codes.npy"].update(dtype="|O"),
            r"segments\[2\]\.files\[codes\.npy\]",
        ),
        (
            lambda m: m["segments"][0]["files"]["codes.npy"].update(shape=[9, 2]),
            r"segments\[2\]\.files\[codes\.npy\]",
        ),
        (lambda m: m["segments"][0].update(n_tokens=99), r"segments\[2\]\.files\["),
        (lambda m: m["segments"][0]["columns"][1].update(name="/etc/passwd"), "content"),
        (
            lambda m: m["codecs"]["1"]["files"].update({"../x.npy": m["codecs"]["1"]["files"]["x.npy"]}),
            "content",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(committed: Path, change: Any, field: str) -> None:
    fields = msgspec.json.decode((committed / "manifest.json").read_bytes())
    change(fields)
    (committed / "manifest.json").write_bytes(resign(fields))
    with pytest.raises(IndexCorrupt, match=rf"manifest\.json: {field}.* should be"):
        Store.open(committed)
    [problem] = check_index(committed)
    assert problem.path == committed / "manifest.json"


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "as by an editor"])
def test_a_newer_version_is_told_and_not_called_damage(committed: Path, signed: bool) -> None:
    before = (committed / "manifest.json").read_bytes()
    fields = msgspec.json.decode(before)
    newest = layout.FORMAT_VERSIONS[-1]
    fields |= {"format_version": newest + 1, "novelty": 1}
    newer = (
        resign(fields)
        if signed
        else before.replace(b'"format_version": 1', b'"format_version": %d' % (newest + 1))
    )
    (committed / "manifest.json").write_bytes(newer)
    files = tree(committed)
    for ask in (Store.open, check_index, lambda path: back_up(path, path.parent / "copy")):
        with pytest.raises(IndexNewer, match=rf"format_version is {newest + 1}, and this version of lateb"):
            ask(committed)
    with pytest.raises(IndexNewer), Store(committed).writer():
        pass
    assert tree(committed) == files, "nothing of it is cleared away"


def test_newer_texts_and_codecs_are_told_too(committed: Path, tmp_path: Path) -> None:
    """Which may come without a new version of the manifest, as those of texts did."""
    [texts] = committed.glob("segments/*/texts.sqlite")
    database = sqlite3.connect(texts)
    database.execute(f"PRAGMA user_version={layout.TEXTS_VERSION + 1}")
    database.close()
    with pytest.raises(IndexNewer, match=r"texts\.sqlite: user_version is 4, and this version of lateb"):
        Store.open(committed)
    with make_store(tmp_path / "codec").writer() as writer:
        writer.set_codec({"x": np.zeros(2, np.float32)}, {"kind": "novel"})
        writer.commit()
    with pytest.raises(IndexNewer, match="the kind of the codec is novel"):
        Index.open(tmp_path / "codec").info()
    with make_store(tmp_path / "old").writer() as writer:
        writer.set_codec({"x": np.zeros(2, np.float32)}, {"kind": "residual"})
        writer.commit()
    with pytest.raises(IndexCorrupt, match=r"of before version 0\.1\.0"):
        Index.open(tmp_path / "old").info()
    sent = pickle.loads(pickle.dumps(IndexNewer("p", "format_version", "1", 2)))
    assert (sent.path, sent.field) == ("p", "format_version") and "is 2" in str(sent)
