"""Files made to stop whoever reads them: each ends in bounded time and memory with a line that names it."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from corpus_files import docx_with, pdf
from test_kinds import make_docx

from latebolt.corpus.documents import read_documents
from latebolt.corpus.files import Skipped
from latebolt.corpus.readers import apart
from latebolt.corpus.readers.apart import Limits, ReaderProcess
from latebolt.corpus.readers.languages import LANGUAGES
from latebolt.corpus.readers.source import definitions
from latebolt.errors import InvalidInput, RuntimeUnavailable

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit address space")


def refused(path: Path, content: bytes | str | None = None) -> str:
    """What is said of a file, named and in a folder; the two must agree."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput) as failed:
        list(read_documents([str(path)], whole=True))
    said = str(failed.value)
    assert str(path) in said and "\n" not in said
    skipped: list[Skipped] = []
    assert list(read_documents([str(path.parent)], whole=True, skipped=skipped)) == []
    [only] = [each for each in skipped if each.path == path]
    assert only.reason
    return said


@pytest.fixture
def process(monkeypatch):
    """A process with narrow limits, and readers that misbehave in it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with ReaderProcess(Limits(memory=600 << 20, processor=2, seconds=4)) as started:
        yield started


def ask(process: ReaderProcess, folder: Path, what: str) -> str:
    """The text that is read, or why there is none."""
    path = folder / "file"
    path.write_text(what)
    try:
        return process.read("slow_readers", path).text
    except InvalidInput as error:
        return str(error).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("what", "said"),
    (
        ("sleep", "takes longer than 2 s to read."),
        ("stubborn", "takes longer than 2 s to read."),
        ("loop", "takes longer than 2 s to read."),
        pytest.param("swallow", "needs more memory to read than a file may.", marks=LINUX),
        ("crash", "ends the process that reads it (status -6)."),
        ("nest", "is nested too deeply."),
        ("write", "is not a sound file ([Errno 27] File too large"),
        ("long", "holds more than 50 million characters."),
        ("refuse", "is refused."),
        ("raise", "is not a sound file ('a\\nsurprise')."),
        ("print", "read"),
    ),
)
def test_a_reader_that_misbehaves_ends_alone(process, tmp_path, what, said):
    started = time.monotonic()
    assert ask(process, tmp_path, "fine") == "read"
    assert ask(process, tmp_path, what).startswith(said)
    assert ask(process, tmp_path, "fine") == "read"
    assert time.monotonic() - started < 30
    written = tmp_path / "file.written"
    assert not written.exists() or written.stat().st_size == 0


def test_one_process_serves_many_files_and_then_another(process, tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "_FILES", 3)
    found = [ask(process, tmp_path, "where").split()[0] for _ in range(7)]
    assert [found.count(each) for each in dict.fromkeys(found)] == [3, 3, 1]


def test_the_process_takes_no_module_of_the_folder_it_stands_in(tmp_path, monkeypatch):
    """Whoever indexes a folder of strangers stands in it."""
    evil = f"import pathlib; pathlib.Path({str(tmp_path / 'taken')!r}).touch()"
    for name in ("selectolax.py", "json.py", "latebolt.py", "msgspec.py"):
        (tmp_path / name).write_text(evil)
    (tmp_path / "a.html").write_text("<p>one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert [document.text for document in read_documents(["a.html"])] == ["one"]
    assert not (tmp_path / "taken").exists()


@LINUX
def test_the_process_ends_with_the_run(tmp_path):
    (tmp_path / "a.html").write_text("<p>one")
    (tmp_path / "b.html").write_text("<p>two")

    def children() -> list[str]:
        found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        started = [Path(f"/proc/{child}/cmdline").read_text() for child in found]
        return [line for line in started if "corpus.readers.child" in line]

    documents = read_documents([str(tmp_path)], whole=True)
    assert next(documents).text == "one" and len(children()) == 1
    documents.close()
    assert children() == []
    assert len(list(read_documents([str(tmp_path)], whole=True))) == 2 and children() == []


@LINUX
def test_a_docx_that_unpacks_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "Limits", lambda: Limits(memory=400 << 20))
    source = make_docx(tmp_path / "whole.docx")
    head = zipfile.ZipFile(source).read("word/document.xml").partition(b"<w:body>")[0]
    (tmp_path / "bomb").mkdir()
    docx_with(tmp_path / "bomb/a.docx", head + b"<w:body>" + b"<w:p/>" * (1 << 22), source)
    assert (tmp_path / "bomb/a.docx").stat().st_size < 300_000
    said = refused(tmp_path / "bomb/a.docx")
    assert "needs more memory" in said or "ends the process" in said or "not a sound file" in said


def test_entities_of_a_docx_are_not_expanded(tmp_path):
    source = make_docx(tmp_path / "whole.docx")
    names = "abcdefghijklmnop"
    entities = '<!ENTITY a "lol">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in itertools.pairwise(names)
    )
    outside = f'<!ENTITY outside SYSTEM "file://{tmp_path}/secret">'
    (tmp_path / "secret").write_text("a secret")
    body = "<w:body><w:p><w:r><w:t>plain &p; &outside;</w:t></w:r></w:p></w:body>"
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    xml = f'<!DOCTYPE x [{entities}{outside}]><w:document xmlns:w="{namespace}">{body}</w:document>'
    path = docx_with(tmp_path / "a.docx", xml.encode(), source)
    try:
        texts = [document.text for document in read_documents([str(path)])]
    except InvalidInput as error:
        texts = [str(error)]
    assert "lol" not in texts[0] and "secret" not in texts[0] and len(texts[0]) < 1000


def test_broken_documents(tmp_path):
    (tmp_path / "pdf").mkdir()
    (tmp_path / "docx").mkdir()
    whole = pdf(tmp_path / "whole.pdf", ["Bread is baked."] * 20).read_bytes()
    assert "is not a sound PDF" in refused(tmp_path / "pdf/a.pdf", whole[:150])
    assert "is not a sound PDF" in refused(tmp_path / "pdf/a.pdf", b"no PDF")
    assert "a.pdf: " in refused(tmp_path / "pdf/a.pdf", b"")
    loop = whole.replace(b"/Kids [5 0 R", b"/Kids [2 0 R")
    (tmp_path / "loop.pdf").write_bytes(loop)
    started = time.monotonic()
    texts = [document.text for document in read_documents([str(tmp_path / "loop.pdf")], whole=True)]
    assert texts[0].count("Bread") == 19 and time.monotonic() - started < 60
    whole = make_docx(tmp_path / "whole.docx").read_bytes()
    assert "is not a sound file" in refused(tmp_path / "docx/a.docx", whole[:-100])
    assert "is not a sound file" in refused(tmp_path / "docx/a.docx", b"PK\x03\x04")
    with zipfile.ZipFile(tmp_path / "docx/a.docx", "w") as packed:
        packed.writestr("a", "b")
    assert "is not a sound file" in refused(tmp_path / "docx/a.docx")


@pytest.mark.slow
@pytest.mark.parametrize("tag", ("<b>", "<div>", "<svg><a>"))
def test_pages_nested_without_end(tmp_path, monkeypatch, tag):
    monkeypatch.setattr(apart, "Limits", lambda: Limits(1 << 30, 2, 20))
    (tmp_path / "a.html").write_text("<p>begin " + tag * (4_000_000 // len(tag)) + " end")
    started = time.monotonic()
    try:
        [document] = read_documents([str(tmp_path / "a.html")], whole=True)
        assert document.text.startswith("begin") and len(document.text) < 100_000_000
    except InvalidInput as error:
        assert (
            "takes longer than 2 s" in str(error)
            or "memory" in str(error)
            or "ends the process" in str(error)
        )
    assert time.monotonic() - started < 40


def test_notebooks_that_are_none(tmp_path):
    for content in (
        "no json",
        '{"cells": 3}',
        "[]",
        '{"worksheets": []}',
        '{"cells": ' + "[" * 100_000,
        b"\xff",
    ):
        assert "is not a notebook of nbformat 4" in refused(tmp_path / "a.ipynb", content)
    assert "has nothing in its cells" in refused(tmp_path / "a.ipynb", '{"cells": [{"source": " "}]}')


def test_tables_that_are_none(tmp_path):
    assert "a.csv:2: has a NUL byte" in refused(tmp_path / "a.csv", "a,b\n1,\0\n")
    assert "is not UTF-8" in refused(tmp_path / "a.csv", b"a,b\n1,caf\xe9\n")
    assert "is empty" in refused(tmp_path / "a.csv", "\n\n")
    assert "has no row below" in refused(tmp_path / "a.csv", "a,b\n\n")
    assert "is not a sound table" in refused(tmp_path / "a.csv", 'a,b\n1,"never closed\n' + "x\n" * 1000)
    assert "field larger than field limit" in refused(tmp_path / "a.csv", 'a\n"' + "x" * 17_000_000 + '"\n')
    text = "x" * 1_000_000  # more than Python's own limit, and it stands for the rest of the process
    (tmp_path / "b.csv").write_text(f"text\n{text}\n")
    assert [document.text for document in read_documents([str(tmp_path / "b.csv")])] == [text]
    assert csv.field_size_limit() >= 16_000_000


def test_text_that_is_none(tmp_path, monkeypatch):
    assert "is not UTF-8 at byte 5" in refused(tmp_path / "a.py", b"x = '\xe9'")
    assert "has a NUL byte at 1 and so is no text" in refused(tmp_path / "a.txt", b"a\0b\0")
    monkeypatch.setattr("latebolt.corpus.open.LARGEST_TEXT", 1000)
    assert "too much for one document. Split it" in refused(tmp_path / "a.txt", "word " * 201)
    import gzip

    assert "too much for one document" in refused(tmp_path / "b.md.gz", gzip.compress(b"word " * 1_000_000))


def test_minified_code(tmp_path):
    """Of a folder it is passed over; named, it is read, and in the time that reading takes."""
    line = 'function a(b){return"\\""+b}var c=function(d){for(;;){e("' + "x" * 30 + "')}};"
    (tmp_path / "a.min.js").write_text("/* licence */\n" + line * (5_000_000 // len(line)))
    skipped: list[Skipped] = []
    started = time.monotonic()
    assert list(read_documents([str(tmp_path)], skipped=skipped)) == []
    assert [each.reason for each in skipped] == ["is minified: most of it is one line"]
    [document] = read_documents([str(tmp_path / "a.min.js")], whole=True)
    assert len(document.text) > 4_900_000 and time.monotonic() - started < 10


@pytest.mark.parametrize("suffix", (".py", ".js", ".go", ".rs", ".java", ".cpp", ".rb"))
def test_code_made_for_patterns_takes_no_time(suffix):
    """What makes patterns try again and again: quotes, brackets, words and spaces without end."""
    pieces = (
        '\\"',
        "\\'",
        '"',
        "'",
        "`",
        "/*",
        '"""',
        "(",
        "<",
        "a ",
        "a::",
        "public ",
        "f(",
        " ",
        "\t",
        "a<",
        "*&",
    )
    started = time.monotonic()
    for piece in pieces:
        for text in (
            piece * (400_000 // len(piece)),
            (piece * 200 + "\n") * (400_000 // (200 * len(piece))),
        ):
            definitions(text, LANGUAGES[suffix])
    assert time.monotonic() - started < 40


def test_one_broken_file_among_many(tmp_path):
    for n in range(10):
        (tmp_path / f"{n}.html").write_text(f"<h1>page {n}</h1>")
        pdf(tmp_path / f"{n}.pdf", [f"page {n}"])
        (tmp_path / f"{n}.py").write_text(f"page = {n}\n")
    (tmp_path / "3.pdf").write_bytes(b"%PDF-1.4 broken")
    (tmp_path / "4.html").write_bytes(b"\xff\xfa")
    (tmp_path / "a.csv").write_text('text\none\n"two\n')
    skipped: list[Skipped] = []
    documents = list(read_documents([str(tmp_path)], whole=True, skipped=skipped))
    assert len(documents) == 28
    assert {each.path.name for each in skipped} == {"3.pdf", "4.html", "a.csv"}
    with pytest.raises(InvalidInput, match=r"3\.pdf: is not a sound PDF"):
        list(read_documents([str(tmp_path), str(tmp_path / "3.pdf")], whole=True))


@pytest.mark.parametrize(
    ("name", "library"), (("a.pdf", "pypdfium2"), ("a.html", "selectolax"), ("a.docx", "docx"))
)
def test_without_the_extra(tmp_path, monkeypatch, name, library):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted: None if wanted == library else find(wanted)
    )
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(RuntimeUnavailable, match=r"which is not installed: pip install 'latebolt\[files\]'"):
        read_documents([str(tmp_path / name)])
    skipped: list[Skipped] = []
    assert [document.text for document in read_documents([str(tmp_path)], skipped=skipped)] == ["text"]
    assert [each.path.name for each in skipped] == [name] and "latebolt[files]" in skipped[0].reason


def test_libraries_are_loaded_only_for_their_files(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.html").write_text("<p>text")
    script = (
        "import sys; from latebolt.corpus.documents import read_documents\n"
        "print(len(list(read_documents(sys.argv[1:]))))\n"
        "names = ('pypdfium2', 'docx', 'lxml', 'selectolax', 'pathspec', 'numpy', 'csv')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["2", "[]"]


MEMORY = """
import json, resource, sys
from latebolt.corpus.documents import read_documents
skipped = []
n = sum(1 for _ in read_documents(sys.argv[1:], whole=True, skipped=skipped))
used = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([n, len(skipped), *used]))
"""


@LINUX
@pytest.mark.slow
def test_memory_does_not_grow_with_the_folder(tmp_path):
    def used(files: int) -> list[int]:
        for n in range(files):
            words = f"word{n} " * 100_000
            (tmp_path / f"{n}.txt").write_text(words)
            (tmp_path / f"{n}.py").write_text(f"def f{n}():\n    return 1\n" * 20_000)
            (tmp_path / f"{n}.html").write_text(f"<p>{words}</p>")
            (tmp_path / f"{n}.csv").write_text("name,text\n" + f"a,{words[:500]}\n" * 1000)
            pdf(tmp_path / f"{n}.pdf", [words[:3000]] * 20)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    few, many = used(3), used(30)
    assert many[0] - 30 * 1000 == 30 * 4 and many[1] == 0
    assert many[2] < few[2] + 30 and many[3] < few[3] + 60, (few, many)
