"""Files to documents: passages, lines, JSON, compressed files, folders."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latebolt.corpus.documents import read_documents, split_passages
from latebolt.errors import InvalidInput


@given(st.lists(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=30), max_size=12))
def test_passages_keep_every_word_in_order(paragraphs):
    text = "\n\n".join(" ".join(words) for words in paragraphs)
    passages = [passage for _, _, passage in split_passages(text, words=20)]
    assert " ".join(passages).split() == text.split()
    assert all(len(passage.split()) <= 20 for passage in passages)


def test_passages_know_where_they_stand():
    text = "first\n\n" + "long " * 25 + "\n\n\nlast"
    stretches = [(start, stop) for start, stop, _ in split_passages(text, words=20)]
    long = (7, 7 + 25 * 5)
    assert stretches == [(0, 5), long, long, (len(text) - 4, len(text))]


def test_json_fields(tmp_path):
    lines = [
        {"_id": 7, "title": "T", "text": "body", "year": 1999, "empty": ""},
        {"id": "b", "contents": "c", "metadata": {"k": [1]}, "beside": 2},
        "just a string",
    ]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    first, second, third = read_documents([str(path)])
    assert (first.id, first.text, first.metadata) == ("7", "T\nbody", {"title": "T", "year": 1999})
    assert (second.id, second.text, second.metadata) == ("b", "c", {"beside": 2, "k": [1]})
    assert (third.id, third.text, third.metadata) == (None, "just a string", None)


def test_folders_are_walked_and_hidden_files_left_out(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b.txt", "a.md", "sub/c.txt", ".git/d.txt", "picture.png", "empty.txt"):
        (tmp_path / name).write_text("" if name == "empty.txt" else name)
    assert [d.text for d in read_documents([str(tmp_path)])] == ["a.md", "b.txt", "sub/c.txt"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffword".encode())
    assert [d.text for d in read_documents([str(tmp_path / "a.txt")])] == ["word"]


def test_a_broken_gzip_is_named(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(InvalidInput, match=r"a\.jsonl\.gz"):
        list(read_documents([str(tmp_path / "a.jsonl.gz")]))


def test_lines_are_read_as_they_are_asked_for(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n\n{"text": "two"}\n\xff\n')
    documents = read_documents([str(tmp_path / "a.jsonl")])
    assert [next(documents).text, next(documents).text] == ["one", "two"]
    with pytest.raises(InvalidInput, match="not UTF-8 at byte 33"):
        next(documents)


def test_missing_files_are_told_before_any_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InvalidInput, match=r"b\.txt: there is no such file"):
        read_documents([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])


def test_a_gzip_cut_short_is_named(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n' * 1000)[:-20])
    with pytest.raises(InvalidInput, match=r"a\.jsonl\.gz"):
        list(read_documents([str(tmp_path / "a.jsonl.gz")]))
