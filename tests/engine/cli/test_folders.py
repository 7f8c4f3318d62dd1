"""A file that is named has to be usable; an odd file of a folder is passed over and told."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

from in_process import latebolt
from latebolt.corpus.documents import read_documents
from latebolt.corpus.files import skipped_message
from latebolt.corpus.open import decode
from latebolt.errors import InvalidInput


def make_odd(folder):
    """A folder with everything odd that a file can be; how many there are."""
    folder.mkdir()
    (folder / "a.txt").write_text("ovens are hot")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "blank.md").write_bytes(b"\n \n")
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin1"))
    (folder / "wide.txt").write_bytes("\ufeffwide".encode("utf-16-le"))
    (folder / "late.jsonl").write_bytes(b'{"text": "good"}\n' * 3 + b'{"text": "caf\xe9"}\n')
    (folder / "broken.jsonl").write_bytes(b'{"text": "good"}\n{"text": \n')
    (folder / "nothing.jsonl").write_bytes(b"\n")
    (folder / "false.txt.gz").write_bytes(b"no gzip")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "folder.txt").mkdir()
    (folder / "round").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.txt")
    (folder / os.fsdecode(b"b\xff.txt")).write_text("x")
    (folder / "binary.txt").write_bytes(bytes(range(256)))
    return 13


def test_odd_files_of_a_folder_are_passed_over(tmp_path):
    n, skipped = make_odd(tmp_path / "notes"), []
    assert [d.text for d in read_documents([str(tmp_path / "notes")], skipped=skipped)] == ["ovens are hot"]
    assert len(skipped) == n, skipped
    reasons = {each.path.name: each.reason for each in skipped}
    assert reasons["latin.txt"] == "is not UTF-8 at byte 3"
    assert reasons["late.jsonl"].startswith("in line 4 is not UTF-8") or "not UTF-8" in reasons["late.jsonl"]
    assert reasons["broken.jsonl"].startswith("in line 2 is not JSON")
    message = skipped_message(skipped)
    assert "13 of the folder's files were passed over" in message and "and 8 more" in message


def test_the_command_tells_what_it_passed_over(tmp_path):
    n = make_odd(tmp_path / "my notes")
    done = latebolt("index", "i", "my notes", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["added"] == 1 and len(record["skipped"]) == n
    done = latebolt("index", "i", "my notes", "--strict", cwd=tmp_path)
    assert done.returncode == 1 and f"{n} of the folder's files were passed over" in done.stderr
    assert json.loads(latebolt("info", "i", "--json", cwd=tmp_path).stdout)["documents"] == 1
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "empty.txt").touch()
    done = latebolt("index", "j", "odd", cwd=tmp_path)
    assert done.returncode == 2 and "empty.txt is empty" in done.stderr and not (tmp_path / "j").exists()


@pytest.mark.parametrize(
    "name", ("empty.txt", "blank.md", "latin.txt", "broken.jsonl", "gone.txt", "loop.txt")
)
def test_a_named_file_stays_strict(tmp_path, name):
    make_odd(tmp_path / "notes")
    with pytest.raises(InvalidInput, match=name):
        list(read_documents([str(tmp_path / "notes"), str(tmp_path / "notes" / name)]))


def test_a_file_that_comes_twice_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    names = [str(tmp_path / "a.txt"), str(tmp_path), f"{tmp_path}/./a.txt"]
    assert [d.text for d in read_documents(names)] == ["a"]


def test_commands_in_messages_can_be_pasted(tmp_path):
    name = "its; a $(file) & 'more'.txt"
    with pytest.raises(InvalidInput) as failed:
        decode(b"caf\xe9", name)
    command = str(failed.value).partition('"')[2].removesuffix('".')
    assert shlex.split(command) == ["iconv", "-f", "latin1", "-t", "utf-8", name]
    with pytest.raises(InvalidInput, match="iconv -f utf-16"):
        decode("\ufeffa".encode("utf-16-le"), name)


def test_halves_of_characters_and_byte_order_marks(tmp_path):
    rows = ['\ufeff{"id": "a\\ud83d", "text": "flights \\ud83d", "m": {"k\\ud83d": ["\\udc00"]}}']
    rows += ['\ufeff{"id": "b", "text": "\\ud83d\\ude00"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    first, second = read_documents([str(tmp_path / "a.jsonl")])
    assert (first.id, first.text) == ("a\ufffd", "flights \ufffd")
    assert first.metadata == {"m": {"k\ufffd": ["\ufffd"]}} and second.text == "😀"
    done = latebolt("index", "i", "a.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "latebolt", "search", "i", b"flights \xe9", "--json"],
        capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(done.stdout)[0]["id"] == "a\ufffd"


@pytest.mark.parametrize(
    "line", ('{"text": "a", "m": NaN}', '{"text": "\\ud83d", "m": Infinity}', "[" * 5000)
)
def test_what_is_no_json(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(InvalidInput, match=r"a\.jsonl:1: is not JSON"):
        list(read_documents([str(tmp_path / "a.jsonl")]))


def long_row(word: str) -> str:
    return "The minutes of the meeting were read and agreed to. " * 150 + f"A {word} erupted."


def test_rows_of_jsonl_are_found_by_what_stands_at_their_end(tmp_path):
    rows = [{"id": "v", "text": long_row("volcano")}, {"id": "c", "text": "a kitten sleeps"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "long.txt").write_text(long_row("geyser"))
    assert latebolt("index", "i", "a.jsonl", "long.txt", cwd=tmp_path).returncode == 0
    for word, name in (("volcano", "v"), ("geyser", "long.txt")):
        done = latebolt("search", "i", f"a {word} erupted", "-k", "1", "--json", cwd=tmp_path)
        [hit] = json.loads(done.stdout)
        assert hit["id"] == name and word in hit["text"]
    info = json.loads(latebolt("info", "i", "--json", cwd=tmp_path).stdout)
    assert (info["documents"], info["truncated"]) == (3, 0)
    assert latebolt("index", "i", "a.jsonl", "--whole", cwd=tmp_path).returncode == 2
    done = latebolt("index", "w", "a.jsonl", "long.txt", "--whole", cwd=tmp_path)
    assert done.returncode == 0 and "2 of 3 documents were longer" in done.stderr
    info = json.loads(latebolt("info", "w", "--json", cwd=tmp_path).stdout)
    assert (info["documents"], info["passages"], info["truncated"]) == (3, 3, 2)
    assert "2 of them longer than the model reads" in latebolt("info", "w", cwd=tmp_path).stdout


def test_a_script_that_the_model_does_not_read_is_told_in_one_line(tmp_path):
    """Early, once, with the way out, and not by the model that reads it."""
    texts = ["東京は日本の首都です。人口は多い。", "大阪には城があります。", "京都には寺が多い。"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    done = latebolt("index", "plain", "a.jsonl", cwd=tmp_path)
    first, last = done.stderr.splitlines()
    assert done.returncode == 0 and last.startswith("plain: 3 added")
    assert first.startswith("latebolt: ") and 'model "starter"' in first and "--model multilingual" in first
    done = latebolt("index", "good", "a.jsonl", "--model", "multilingual", cwd=tmp_path)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"text": "奈良には鹿がいます。"}))  # those before are not encoded again
    done = latebolt("index", "plain", "a.jsonl", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["documents"] == 4 and "--model multilingual" in done.stderr


def test_texts_that_are_cut_are_told_by_every_command(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": long_row("volcano")}) + "\n")
    for arguments in (("rerank", "volcano", "a.jsonl"), ("encode", "a.jsonl", "o.npz")):
        done = latebolt(*arguments, cwd=tmp_path)
        assert done.returncode == 0 and done.stderr.count("1 of 1 documents was longer") == 1, done.stderr
    done = latebolt("rerank", "volcano", "a.jsonl", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["id"] == 0 and "1 of 1" in done.stderr


def test_rows_without_ids_beside_files(tmp_path):
    """As in the README: notes, which have names, and papers, which have none."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("bread is baked")
    rows = [{"text": "one", "year": 1}, {"text": "two"}, {"text": "two"}, "three"]
    (tmp_path / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for cwd, prefix in ((tmp_path, ""), (tmp_path / "notes", "../")):
        for _ in range(2):  # again: nothing is there twice
            files = (f"{prefix}notes", f"{prefix}papers.jsonl")
            done = latebolt("index", str(tmp_path / f"i{len(prefix)}"), *files, cwd=cwd)
            assert done.returncode == 0, done.stderr
    found = []
    for index in ("i0", "i3"):
        hits = json.loads(latebolt("search", index, "two", "--json", cwd=tmp_path).stdout)
        assert len(hits) == 5
        found.append({hit["id"] for hit in hits if hit["text"] != "bread is baked"})
    assert found[0] == found[1] and len(found[0]) == 4


def test_rows_with_and_without_ids_in_one_file(tmp_path):
    for order in ((0, 1), (1, 0)):
        lines = [json.dumps({"id": "a", "text": "one"}), json.dumps({"text": "two"})]
        (tmp_path / "a.jsonl").write_text("\n".join(lines[i] for i in order))
        done = latebolt("index", "i", "a.jsonl", cwd=tmp_path)
        assert done.returncode == 2 and f"a.jsonl:{order.index(1) + 1}: has no id" in done.stderr
        assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(("given", "expected"), ((1.0, "1"), (7, "7"), ("x", "x"), (None, None), ("", None)))
def test_ids_of_tables(tmp_path, given, expected):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": given, "text": "t"}))
    assert next(read_documents([str(tmp_path / "a.jsonl")])).id == expected


@pytest.mark.parametrize("given", (True, 1.5, [1], {"a": 1}))
def test_what_is_no_id(tmp_path, given):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": given, "text": "t"}))
    with pytest.raises(InvalidInput, match=r'a\.jsonl:1: its "id" should be'):
        list(read_documents([str(tmp_path / "a.jsonl")]))
