"""`latebolt delete`, `update`, `export-docs` and `copy`: what they do and say, and their exit codes."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latebolt import Encoder, Index
from latebolt.cli import run
from latebolt.corpus.documents import document_of_line
from latebolt.corpus.json_lines import json_line
from latebolt.errors import InvalidInput
from latebolt.index.reencode import reencode
from latebolt.index.store.check import check_index

LONG = "  \n" + " ".join(f"Sentence {i} of a long text.\n" for i in range(40)) + "\t "
ODD = {
    "id": 3,
    "text": "not the text",
    "title": "t",
    "metadata": {"inner": [1, 2.5, None, True]},
    "big": 10**30,
    "small": -(1 << 63),
    "none": None,
    "empty": "",
    "list": [],
    "object": {},
    "a.b": "dotted",
    "": "no name",
    "Z\u00fcrich \u2028": '\u2029 \x7f \x00 "\\ \U0001f980',
    "tiny": 5e-324,
}
DOCUMENTS: list[tuple[str, str, Any]] = [
    ("a, with commas", "fresh bread", {"year": 1990, "lang": "en"}),
    ("\u00fc \U0001f980 \u2028", LONG, {"year": 2001, "author": {"name": "Ada"}}),
    ("c", "rain\nand\r\nsnow \u0085 \u2028 x", ODD),
    ("d", "[1, 2]", None),
    ("e", '{"text": "x"}', {"year": 2020}),
    ("7", " ", {"year": 2021}),
]


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Path:
    with Index.create(tmp_path / "i", encoder, 16, passage_tokens=24) as made:
        made.add(
            [text for _, text, _ in DOCUMENTS], [id for id, _, _ in DOCUMENTS], [m for _, _, m in DOCUMENTS]
        )
    return tmp_path / "i"


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """(exit code, stdout, stderr) of a command."""

    def call(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(index: Path) -> dict[str, tuple[str | None, Any]]:
    return {each.id: (each.text, each.metadata) for each in Index.open(index).documents()}


def vectors(index: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for block in Index.open(index).iter_documents():
        for id, matrix in zip(block.ids, block.token_vectors(), strict=True):
            found.setdefault(id, []).append(matrix.tobytes())
    return found


def test_documents_are_deleted_by_a_filter_or_by_ids(index: Path, cli: Any) -> None:
    code, out, err = cli("delete", index, "--where", "year < 2005", "--dry-run")
    assert (code, out.count("deleted  ")) == (0, 2) and "2 documents would be deleted" in err
    assert "deleted  a, with commas\n" in out
    told = json.loads(cli("delete", index, "--where", "year < 2005", "--dry-run", "--json")[1])
    assert (told["deleted"], told["documents"]) == (2, 6)
    assert {"action": "deleted", "id": "a, with commas"} in told["changes"]
    assert len(contents(index)) == 6
    code, out, err = cli("delete", index, "--where", "year < 2005", "--ids", "c,d,nobody")
    assert (code, out) == (0, "") and "0 documents deleted, 6 left" in err
    assert "1 document deleted, 5 left" in cli("delete", index, "--ids", "nobody, d ,d")[2]
    stdin = "a, with commas\r\n\n\u00fc \U0001f980 \u2028\nnobody\n".encode()
    done = cli("delete", index, "--ids-from", "-", "--ids", "e", "--json", stdin=stdin)
    assert done[0] == 0 and json.loads(done[1]) == {"deleted": 3, "documents": 2}
    assert list(contents(index)) == ["c", "7"]
    assert "2 documents deleted, 0 left" in cli("delete", index, "--where", "exists(id)")[2]


def test_metadata_are_updated(index: Path, cli: Any, tmp_path: Path) -> None:
    before = vectors(index)
    code, out, err = cli(
        "update", index, "--where", "year >= 2020",
        "--set", "flag=true", "--set", "lang=de", "--set", 'tags=["a", 1]', "--set", "quoted=\"2020\"",
        "--set", "sum=1=2", "--set", "nan=NaN", "--set", "nothing=", "--set", "null=null", "--unset", "year",
    )  # fmt: skip
    assert (code, out) == (0, "") and "metadata of 2 documents changed" in err
    wanted = {
        "flag": True, "lang": "de", "tags": ["a", 1], "quoted": "2020", "sum": "1=2", "nan": "NaN",
        "nothing": "", "null": None,
    }  # fmt: skip
    assert contents(index)["e"][1] == contents(index)["7"][1] == wanted
    (tmp_path / "ids.txt").write_text("e\nnobody\n")
    arguments = ("--ids-from", tmp_path / "ids.txt", "--replace", '{"only": {"x": 1}}', "--json")
    assert json.loads(cli("update", index, *arguments)[1]) == {"updated": 1, "documents": 6}
    assert "of 1 document changed" in cli("update", index, "--ids", "e", "--set", "only.x=2")[2]
    assert contents(index)["e"][1] == {"only": {"x": 2}}
    assert vectors(index) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("delete",), "give --where, --ids or --ids-from: which documents."),
        (("delete", "--where", "yeer < 3"), 'no document has the field "yeer"; there is "year"'),
        (("delete", "--where", "year <"), "expected a value"),
        (("update", "--set", "a=1"), "give --where, --ids or --ids-from"),
        (("update", "--ids", "c"), "there is nothing to change: give set, unset or replace"),
        (("update", "--ids", "c", "--set", "a"), "--set should be KEY=VALUE, got 'a'"),
        (("update", "--ids", "c", "--set", "=a"), "--set should be KEY=VALUE, got '=a'"),
        (("update", "--ids", "c", "--set", "a=1e400"), "set.a is inf, which JSON cannot hold"),
        (("update", "--ids", "c", "--replace", "{"), "--replace is not JSON"),
        (("update", "--ids", "c", "--replace", '{"a": NaN}'), "--replace is not JSON (NaN is not JSON)"),
        (("update", "--ids", "c", "--replace", "[1]"), "--replace should be an object"),
        (("update", "--ids", "c", "--replace", "{}", "--unset", "a"), "give replace, or set and unset"),
        (("copy", "new", "--whole", "--passage-tokens", "9"), "give --whole or --passage-tokens"),
        (("copy", "new", "--where", "year <"), "expected a value"),
        (("export-docs", "."), "is a folder. Name the .jsonl file"),
        (("export-docs", "out.json"), "should end with .jsonl or .jsonl.gz"),
        (("export-docs", "out.jsonl", "--where", "year <"), "expected a value"),
    ],
)
def test_misuse_is_told_and_changes_nothing(
    index: Path,
    cli: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = contents(index)
    code, out, err = cli(arguments[0], index, *arguments[1:])
    assert (code, out) == (2, "") and message in err
    assert contents(index) == before and names(tmp_path) == ["i"]
    assert cli(arguments[0], "no.index", "new" if arguments[0] == "copy" else "x.jsonl")[0] in (1, 2)


def test_a_file_of_ids_that_is_not_there(index: Path, cli: Any) -> None:
    before = contents(index)
    code, out, err = cli("delete", index, "--ids-from", "no.txt")
    assert (code, out) == (1, "") and "no.txt: there is no such file" in err and contents(index) == before


@pytest.mark.parametrize("name", ["delete", "update", "export-docs", "copy"])
def test_help_has_examples(cli: Any, name: str) -> None:
    code, out, _ = cli(name, "--help")
    assert code == 0 and out.count(f"latebolt {name} ") >= 4


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_what_is_exported_makes_the_same_documents_again(
    index: Path, cli: Any, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    code, said, err = cli("export-docs", index, out)
    assert (code, said) == (0, "") and f"6 documents written to {out}" in err
    content = gzip.decompress(out.read_bytes()) if name.endswith(".gz") else out.read_bytes()
    assert content.count(b"\n") == 6
    assert cli("index", tmp_path / "new", out, "--passage-tokens", "24", "--bits", "16")[0] == 0
    assert contents(tmp_path / "new") == contents(index)
    assert contents(index) == {id: (text, metadata) for id, text, metadata in DOCUMENTS}
    assert vectors(tmp_path / "new") == vectors(index)


def test_an_export_to_standard_output_and_of_a_part(index: Path, cli: Any) -> None:
    code, out, err = cli("export-docs", index, "-", "--where", "year >= 2020")
    assert code == 0 and "2 documents written to standard output" in err
    assert [json.loads(line) for line in out.splitlines()] == [
        {"id": "e", "text": '{"text": "x"}', "metadata": {"year": 2020}},
        {"id": "7", "text": " ", "metadata": {"year": 2021}},
    ]


def test_a_document_without_a_text_is_exported_and_told(cli: Any, tmp_path: Path, index: Path) -> None:
    textless(index, 7)
    code, out, err = cli("export-docs", index, "-", "--where", "exists(n)")
    assert code == 0 and out.splitlines()[0] == '{"id":"v0","text":null,"metadata":{"n":0}}'
    assert (
        "7 documents without a text, which an index cannot be made of: v0, v1, v2, v3, v4 and 2 more" in err
    )
    with pytest.raises(InvalidInput, match='has no "text" field'):
        document_of_line(out.splitlines()[0], "line")


def textless(index: Path, n: int) -> None:
    with Index.open(index) as opened:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((n, 2, opened.dim)).astype(np.float32)
        opened.add_vectors(
            [f"v{i}" for i in range(n)], list(rows), metadata=[{"n": i} for i in range(n)], normalize=True
        )


def test_an_export_that_fails_leaves_the_file_as_it_was(
    index: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("as it was")

    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("latebolt.corpus.json_lines.json_line", full)
        code, _, err = cli("export-docs", index, out)
    assert code == 1 and f"{out}: the disk is full, nothing was written" in err
    assert out.read_text() == "as it was" and names(tmp_path) == ["i", "out.jsonl"]
    code, _, err = cli("export-docs", index, tmp_path / "nowhere" / "out.jsonl")
    assert code == 1 and "nowhere" in err


@pytest.mark.parametrize(("n", "size"), [(10_000, 4_000), (60, 1_000_000)])
def test_an_export_holds_few_documents_at_a_time(tmp_path: Path, cli: Any, n: int, size: int) -> None:
    with Index.create(tmp_path / "i", None, 16, dim=8) as index:
        index.add_vectors(None, [np.eye(1, 8, dtype=np.float32)] * n, texts=["x" * size] * n)
    tracemalloc.start()
    assert cli("export-docs", tmp_path / "i", tmp_path / "o.jsonl")[0] == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "o.jsonl").stat().st_size > 40e6 and peak < 25e6, peak


def test_a_line_holds_any_document_that_an_index_does() -> None:
    for id, text, metadata in DOCUMENTS:
        line = json_line(id, text, metadata)
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        read = document_of_line(line.decode(), "x")
        assert (read.id, read.text, read.metadata) == (id, text, metadata)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ((), {"bits": 16, "passage_tokens": 24}),
        (("--bits", "4", "--whole"), {"bits": 4}),
        (
            ("--passage-tokens", "40", "--passage-overlap", "3"),
            {"bits": 16, "passage_tokens": 40, "passage_overlap": 3},
        ),
        (("--passage-overlap", "2"), {"bits": 16, "passage_tokens": 24, "passage_overlap": 2}),
        (("--dim", "64", "--bits", "8"), {"bits": 8, "passage_tokens": 24, "dim": 64}),
    ],
)
def test_a_copy_is_what_the_texts_would_have_made(
    index: Path, cli: Any, tmp_path: Path, options: tuple[str, ...], settings: dict[str, Any]
) -> None:
    code, out, err = cli("copy", index, tmp_path / "new", "--precision", "int8", *options)
    assert (code, out) == (0, "") and "6 documents encoded in" in err
    model = Encoder.load("starter", "int8", settings.pop("dim", None))
    with Index.create(tmp_path / "fresh", model, **settings) as fresh:
        fresh.add([t for _, t, _ in DOCUMENTS], [id for id, _, _ in DOCUMENTS], [m for _, _, m in DOCUMENTS])
    assert contents(tmp_path / "new") == contents(index) == contents(tmp_path / "fresh")
    assert vectors(tmp_path / "new") == vectors(tmp_path / "fresh")
    keys = ("dim", "bits", "passage_tokens", "passage_overlap", "model", "precision", "tokens")
    told = Index.open(tmp_path / "new").info()
    assert [told[key] for key in keys] == [Index.open(tmp_path / "fresh").info()[key] for key in keys]
    assert check_index(tmp_path / "new") == []


def test_a_copy_of_a_part_with_another_model_and_in_json(index: Path, cli: Any, tmp_path: Path) -> None:
    arguments = ("--model", "multilingual", "--where", "year >= 2000", "--json")
    code, out, _ = cli("copy", index, tmp_path / "new", *arguments)
    told = json.loads(out)
    assert code == 0 and (told["added"], told["textless"], told["model"]) == (3, 0, "multilingual")
    assert told["passage_tokens"] == 24
    assert set(contents(tmp_path / "new")) == {"e", "7", DOCUMENTS[1][0]}
    code, _, err = cli("copy", index, tmp_path / "new")
    assert code == 1 and "new" in err and len(contents(tmp_path / "new")) == 3  # something is there already


def test_passages_that_the_other_model_has_no_room_for_are_as_long_as_it_has(
    tmp_path: Path, encoder: Encoder, cli: Any
) -> None:
    with Index.create(tmp_path / "i", encoder, 16, passage_tokens=400) as index:
        index.add([LONG])
    assert cli("copy", tmp_path / "i", tmp_path / "new", "--passage-tokens", "90")[0] == 0
    assert Index.open(tmp_path / "new").info()["passage_tokens"] == 90
    from latebolt.cli.copy import _cutting

    index = Index.open(tmp_path / "i")
    assert _cutting(index, 300, None, None) == (300, None) and _cutting(index, 510, None, 7) == (400, 7)


def test_documents_without_texts_are_refused_or_left_out(index: Path, cli: Any, tmp_path: Path) -> None:
    textless(index, 7)
    code, _, err = cli("copy", index, tmp_path / "new")
    assert code == 2 and "7 documents have vectors and no text that could be encoded: 'v0'" in err
    assert "'v4' and 2 more. Leave them out (--skip-textless" in err
    assert names(tmp_path) == ["i"]
    code, _, err = cli("copy", index, tmp_path / "new", "--skip-textless")
    assert code == 0 and "6 documents encoded in" in err and "7 without a text left out" in err
    assert "v0" not in contents(tmp_path / "new") and len(contents(index)) == 13
    only = Index.create(tmp_path / "only", None, 16, dim=8)
    only.add_vectors(["v"], [np.eye(1, 8, dtype=np.float32)])
    code, _, err = cli("copy", tmp_path / "only", tmp_path / "other")
    assert code == 2 and "was made without a model. Say which one encodes its texts: --model" in err
    code, _, err = cli("copy", tmp_path / "only", tmp_path / "other", "--model", "starter")
    assert code == 2 and "1 document has vectors and no text that could be encoded: 'v'." in err


def test_a_copy_that_is_stopped_leaves_nothing_and_is_begun_again(
    index: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Encoder.encode_documents
    source = Index.open(index, encoder)

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "encode_documents", stopped)
        reencode(source, tmp_path / "new", encoder, 16)
    assert names(tmp_path) == ["i"] and Encoder.encode_documents is encode
    assert reencode(source, tmp_path / "new", encoder, 16).documents == 6


@pytest.mark.skipif(os.name != "posix", reason="no such signals here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_copy_that_a_signal_ends_is_no_index_and_can_be_begun_again(
    tmp_path: Path, cli: Any, number: int
) -> None:
    n = 4000
    with Index.create(tmp_path / "i", None, 16, dim=8) as index:
        texts = [f"{LONG} {i}" for i in range(n)]
        index.add_vectors(None, [np.eye(1, 8, dtype=np.float32)] * n, texts, [{"n": i} for i in range(n)])
    arguments = ["copy", str(tmp_path / "i"), str(tmp_path / "new"), "--model", "starter"]
    process = subprocess.Popen([sys.executable, "-m", "latebolt", *arguments], stderr=subprocess.PIPE)
    end = time.monotonic() + 120
    while names(tmp_path) == ["i"] and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode != 0 and not (tmp_path / "new" / "manifest.json").exists()
    if number != signal.SIGKILL:
        assert names(tmp_path) == ["i"]
    assert cli(*arguments, "--where", "n < 3")[0] == 0 and len(contents(tmp_path / "new")) == 3
    assert check_index(tmp_path / "new") == []
