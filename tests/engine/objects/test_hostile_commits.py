"""Commits that somebody made who means harm: nothing outside the copy is touched, nothing is believed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from object_places import answers, index_with

from latebolt import Index
from latebolt.errors import IndexCorrupt, IndexNewer, IndexUnusable, StorageFull
from latebolt.index.format import layout
from latebolt.objects import commits
from latebolt.objects.commits import Commit, decode_commit, encode_commit, is_companion, number_of, parts_of
from latebolt.objects.object_store import ObjectStore
from latebolt.objects.publish import publish

NUMBER = 1


@pytest.fixture
def root(tmp_path: Path, disk: str) -> Path:
    """What is published at `disk`, as a folder."""
    index = index_with(tmp_path / "index")
    (index.path / "files.json").write_text("{}")
    publish(index.path, ObjectStore(disk))
    return tmp_path / "published here" / "notes"


def resealed(text: str) -> bytes:
    """A text as a commit or manifest that holds it, with the digest that belongs to it."""
    fields = json.loads(text)
    fields.pop("digest", None)
    body = b'",\n' + json.dumps(fields).encode()[1:]
    return b'{"digest":"' + layout._digest(body) + body


def changed(root: Path, change, manifest=None) -> None:
    """Change the commit there as its maker could have."""
    path = root / commits.commit_name(NUMBER)
    fields = json.loads(path.read_bytes())
    if manifest is not None:
        inner = json.loads(fields["manifest"])
        manifest(inner)
        fields["manifest"] = resealed(json.dumps(inner)).decode()
    change(fields)
    path.write_bytes(resealed(json.dumps(fields)))


def nothing(fields: dict) -> None:
    pass


def companion(name: str):
    def change(fields: dict) -> None:
        fields["companions"] = {name: fields["companions"]["files.json"]}

    return change


def of_segment(**values):
    return lambda inner: inner["segments"][0].update(values)


def of_file(**values):
    def change(inner: dict) -> None:
        inner["segments"][0]["files"]["texts.sqlite"].update(values)

    return change


def renamed_file(name: str):
    def change(inner: dict) -> None:
        files = inner["segments"][0]["files"]
        files[name] = files.pop("texts.sqlite")

    return change


def codec(name: str, file: str, **values):
    record = {"bytes": 136, "digest": "0" * 32, "dtype": "<f8", "shape": [1], **values}
    return lambda inner: inner["codecs"].update({name: {"info": {}, "files": {file: record}}})


HOSTILE = {
    "a companion above": (companion("../outside.json"), None),
    "a companion at the root": (companion("/tmp/outside.json"), None),
    "a companion in a folder": (companion("segments/1/offsets.npy"), None),
    "a companion of Windows": (companion("..\\outside.json"), None),
    "a companion as the manifest": (companion("manifest.json"), None),
    "a companion as the manifest elsewhere": (companion("Manifest.JSON"), None),
    "a hidden companion": (companion(".bashrc"), None),
    "a companion with a line end": (companion("files.json\n"), None),
    "a segment above": (nothing, of_segment(name="../../outside")),
    "a segment with a line end": (nothing, of_segment(name="1/..")),
    "a file above": (nothing, renamed_file("../outside.sqlite")),
    "a file at the root": (nothing, renamed_file("/tmp/outside.sqlite")),
    "a codec above": (nothing, codec("../9", "centroids.npy")),
    "a codec's file above": (nothing, codec("9", "../centroids.npy")),
    "objects in an array": (nothing, codec("9", "centroids.npy", dtype="|O")),
    "no such dtype": (nothing, codec("9", "centroids.npy", dtype="nothing")),
    "a size that is not the shape's": (nothing, codec("9", "centroids.npy", bytes=7)),
    "a digest with a path": (nothing, of_file(digest="../" + "0" * 29)),
    "a size below zero": (nothing, of_file(bytes=-1)),
    "a size that is no number": (nothing, of_file(bytes="many")),
    "a shape without a dtype": (nothing, of_file(shape=[3])),
    "a file that has no object": (nothing, of_file(digest="0" * 32)),
    "a token with a path": (lambda f: f["objects"].update(dict.fromkeys(f["objects"], "../../../x")), None),
    "objects that nobody needs": (lambda f: f["objects"].update({"0" * 32: "0" * 12}), None),
    "another number": (lambda f: f.update(number=2), None),
    "a number that is none": (lambda f: f.update(number="1"), None),
    "unknown members": (lambda f: f.update(more=1), None),
    "a manifest that is none": (lambda f: f.update(manifest="{}"), None),
    "a manifest with a wrong digest": (lambda f: f.update(manifest=f["manifest"].replace("0", "1", 1)), None),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_commits(tmp_path, root, disk, what):
    change, manifest = HOSTILE[what]
    changed(root, nothing)
    Index.open(disk, cache=tmp_path / "before").close()  # the way it is changed is not what is refused
    before = {path for path in tmp_path.rglob("*") if "copies" not in path.parts}
    changed(root, change, manifest)
    with pytest.raises(IndexCorrupt) as told:
        Index.open(disk, cache=tmp_path / "copies")
    assert disk in str(told.value)
    assert {path for path in tmp_path.rglob("*") if "copies" not in path.parts} == before
    assert not any(path.is_file() and path.name != "lock" for path in (tmp_path / "copies").rglob("*"))


@pytest.mark.parametrize("what", ["nothing", "text", "list", "deep", "cut", "changed", "not utf-8"])
def test_commits_that_are_none(root, disk, what):
    path = root / commits.commit_name(NUMBER)
    content = path.read_bytes()
    path.write_bytes(
        {
            "nothing": b"",
            "text": b"a text",
            "list": b"[1, 2]",
            "deep": b"[" * 100_000,
            "cut": content[:-10],
            "changed": content.replace(b"made", b"mad3", 1),
            "not utf-8": b'{"format":"\xff"}',
        }[what]
    )
    with pytest.raises(IndexCorrupt, match=f"{disk}/commits/"):
        Index.open(disk)


def test_a_commit_of_a_later_version(root, disk):
    changed(root, lambda fields: fields.update(format_version=2, more="things"))
    with pytest.raises(IndexNewer):
        Index.open(disk)


def test_a_commit_that_is_too_large_is_not_read(root, disk, monkeypatch):
    monkeypatch.setattr(commits, "MOST_COMMIT_BYTES", 100)
    with pytest.raises(IndexCorrupt, match="at most 100 bytes"):
        Index.open(disk)


def test_a_size_that_no_disk_has_room_for(root, disk):
    changed(root, nothing, of_file(bytes=10**17))
    with pytest.raises(StorageFull):
        Index.open(disk)


def test_files_that_lie_about_what_they_are(root, disk, tmp_path):
    """A database that is none is noticed when the index opens, and the copy is not left broken."""
    index = Index.open(disk)
    expected = answers(index)
    index.close()
    name = next(iter(json.loads((root / commits.commit_name(1)).read_bytes())["objects"]))
    assert parts_of(f"{name[:32]}-{'0' * 12}{name[32:]}") == (name, "0" * 12)
    path = root / commits.commit_name(1)
    right = path.read_bytes()

    def lie(inner: dict) -> None:
        for segment in inner["segments"]:
            segment["n_documents"] += 1  # the shapes no longer fit

    changed(root, nothing, lie)
    with pytest.raises(IndexUnusable):
        Index.open(disk, cache=tmp_path / "other")
    path.write_bytes(right)
    assert answers(Index.open(disk)) == expected


def test_names():
    assert number_of("000000000012.json") == 12
    for wrong in ("000000000000.json", "12.json", "000000000012.json\n", "../000000000012.json", "x"):
        assert number_of(wrong) is None
    for wrong in ("", "0" * 32, f"{'0' * 32}-{'0' * 12}.npy\n", f"../{'0' * 32}-{'0' * 12}"):
        assert parts_of(wrong) is None
    assert is_companion("files.json") and not is_companion("CON.json") and not is_companion("write.lock")
    assert not is_companion("a.draft") and not is_companion("a.") and not is_companion("a" * 200)


def test_a_commit_is_read_as_it_was_written(root):
    content = (root / commits.commit_name(1)).read_bytes()
    found = decode_commit(content, 1, "here")
    assert encode_commit(found.commit) == content
    assert msgspec.convert(msgspec.to_builtins(found.commit), Commit) == found.commit
