"""What is read of a file of each kind, and where it says that a stretch stands."""

from __future__ import annotations

import ast
import gzip
import json
import sysconfig
from pathlib import Path

import pytest
from corpus_files import docx_with, pdf

from latebolt.corpus.documents import Document, read_documents
from latebolt.corpus.readers.languages import LANGUAGES
from latebolt.corpus.readers.source import definitions
from latebolt.errors import InvalidInput


def only(path: Path, content: str | bytes | None = None) -> Document:
    """The one document of a file."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    [document] = read_documents([str(path)], whole=True)
    return document


def place_of(document: Document, words: str) -> dict:
    """Where the words stand."""
    start = document.text.index(words)
    assert document.place is not None
    return document.place(start, start + len(words))


def test_text(tmp_path):
    text = "one\n\ntwo\nthree\n"
    document = only(tmp_path / "a.txt", text)
    assert (document.id, document.text) == (str(tmp_path / "a.txt"), text)
    assert document.metadata == {"file": str(tmp_path / "a.txt")} and document.breaks == ()
    assert place_of(document, "one") == {"lines": [1, 1]}
    assert place_of(document, "\n\ntwo\nthree\n") == {"lines": [3, 4]}  # white space around is no part of it
    assert document.place(0, 0) == {"lines": [1, 1]} == document.place(0, 1)
    assert (
        document.place(len(text), len(text)) == {"lines": [5, 5]} == document.place(len(text), len(text) + 9)
    )


MARKDOWN = """---
title: no heading
---
before

# Bread #

about

Starter
-------
```sh
# no heading
```
feed it

### Rye
| a |
|---|
deep

# Ovens
hot
"""


def test_markdown(tmp_path):
    document = only(tmp_path / "a.md", MARKDOWN)
    assert document.text == MARKDOWN
    assert place_of(document, "before") == {"lines": [4, 4]}
    assert place_of(document, "about") == {"lines": [8, 8], "heading": "Bread"}
    assert place_of(document, "feed it") == {"lines": [15, 15], "heading": "Bread > Starter"}
    assert place_of(document, "deep\n\n# Ovens") == {"lines": [20, 22], "heading": "Bread > Starter > Rye"}
    assert place_of(document, "hot") == {"lines": [23, 23], "heading": "Ovens"}
    headings = ("# Bread", "Starter\n", "### Rye", "# Ovens")
    assert document.breaks == tuple(map(MARKDOWN.index, headings))


RST = """=====
Bread
=====

Flour
=====
white

Rye
---
dark

| not
-----

Water
=====
wet
"""


def test_rst(tmp_path):
    document = only(tmp_path / "a.rst", RST)
    assert document.text == RST
    assert place_of(document, "white") == {"lines": [7, 7], "heading": "Bread > Flour"}
    assert place_of(document, "dark") == {"lines": [11, 11], "heading": "Bread > Flour > Rye"}
    assert place_of(document, "wet") == {"lines": [18, 18], "heading": "Bread > Water"}
    assert document.breaks[:2] == (RST.index("Flour"), RST.index("Rye"))


HTML = """<!doctype html><title>The &amp; title</title><script>var x = "unseen"</script>
<p>before <b>every</b>thing</p><h1>Bread</h1>
<div>flour<br>water</div><ul><li>one<li>two</ul><h2>On<em>ly</em> rye</h2><pre>
a
  b
</pre><table><tr><td>1<td>2<tr><td>3</table><style>unseen</style><h1>Ovens</h1>hot"""


def test_html(tmp_path):
    document = only(tmp_path / "a.html", HTML)
    assert document.text == (
        "before everything\n\nBread\n\n"
        "flour\nwater\n\none\ntwo\n\nOnly rye\n\na\n  b\n\n1 | 2\n3\n\nOvens\n\nhot"
    )
    assert document.metadata == {"file": str(tmp_path / "a.html"), "title": "The & title"}
    assert place_of(document, "before") == {}
    assert place_of(document, "flour") == {"heading": "Bread"}
    assert place_of(document, "1 | 2") == {"heading": "Bread > Only rye"}
    assert place_of(document, "\n\nOvens") == place_of(document, "hot") == {"heading": "Ovens"}
    assert document.breaks == tuple(map(document.text.index, ("Bread", "Only", "Ovens")))


def test_encodings_of_pages(tmp_path):
    page = '<meta charset="{}"><p>caf\xe9 \u20ac'
    for name, encoding in (
        ("iso-8859-1", "cp1252"),
        ("windows-1252", "cp1252"),
        ("UTF-8", "utf-8"),
        ("x", "utf-16"),
    ):
        assert only(tmp_path / "a.htm", page.format(name).encode(encoding)).text == "caf\xe9 \u20ac"
    assert only(tmp_path / "a.html.gz", gzip.compress("<p>caf\xe9".encode())).text == "caf\xe9"
    with pytest.raises(InvalidInput, match=r"a\.htm: is not UTF-8 at byte 6"):
        only(tmp_path / "a.htm", "<p>caf\xe9".encode("latin1"))
    with pytest.raises(InvalidInput, match=r"a\.htm: names an encoding that is not known \(nonsense\)"):
        only(tmp_path / "a.htm", page.format("nonsense").encode("cp1252"))


def test_pdf(tmp_path):
    document = only(pdf(tmp_path / "a.pdf", ["Bread is baked.", "", "Ovens are hot."], "All of it"))
    assert document.text == "Bread is baked.\n\nOvens are hot."
    assert document.metadata == {"file": str(tmp_path / "a.pdf"), "title": "All of it"}
    assert place_of(document, "Bread") == {"page": 1}
    assert place_of(document, "Ovens") == {"page": 3}
    assert place_of(document, "baked.\n\nOvens") == {"pages": [1, 3]}
    assert document.breaks == (document.text.index("Ovens"),)
    with pytest.raises(InvalidInput, match=r"b\.pdf: has no text in it; its pages may be pictures"):
        only(pdf(tmp_path / "b.pdf", ["", ""]))


def make_docx(path: Path) -> Path:
    import docx

    document = docx.Document()
    document.core_properties.title = "A manual"
    document.add_paragraph("before")
    document.add_heading("Bread", 1)
    document.add_paragraph("flour")
    document.add_heading("Rye", 2)
    table = document.add_table(2, 2)
    for n, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {n}"
    document.add_paragraph("ta\tb")
    own = document.styles.add_style("Ours", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    own.base_style = document.styles["Heading 1"]
    document.add_paragraph("Ovens", own)
    document.add_paragraph("hot")
    document.save(str(path))
    return path


def test_docx(tmp_path):
    document = only(make_docx(tmp_path / "a.docx"))
    assert document.text == (
        "before\n\nBread\n\nflour\n\nRye\n\ncell 0 | cell 1\ncell 2 | cell 3\n\nta\tb\n\nOvens\n\nhot"
    )
    assert document.metadata == {"file": str(tmp_path / "a.docx"), "title": "A manual"}
    assert place_of(document, "before") == {}
    assert place_of(document, "cell 3") == {"heading": "Bread > Rye"}
    assert place_of(document, "hot") == {"heading": "Ovens"}
    assert document.breaks == tuple(map(document.text.index, ("Bread", "Rye", "Ovens")))


def test_docx_that_word_writes(tmp_path):
    """Controls, boxes in two forms, and what was deleted."""
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    run = "<w:r><w:t>{}</w:t></w:r>"
    box = f"<w:txbxContent><w:p>{run.format('boxed')}</w:p></w:txbxContent>"
    body = (
        f"<w:sdt><w:sdtContent><w:p>{run.format('controlled')}</w:p></w:sdtContent></w:sdt>"
        f"<w:p>{run.format('outside')}<w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r>"
        f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
        "</w:r></w:p>"
    )
    xml = f"<w:document {w} {mc}><w:body>{body}</w:body></w:document>".encode()
    source = make_docx(tmp_path / "a.docx")
    assert only(docx_with(tmp_path / "b.docx", xml, source)).text == "controlled\n\noutside\n\nboxed"


def notebook(*cells: tuple[str, str | list[str]], **metadata) -> str:
    made = [
        {"cell_type": kind, "source": source, "outputs": [{"data": {"x": "y" * 99}}]}
        for kind, source in cells
    ]
    return json.dumps({"nbformat": 4, "metadata": metadata, "cells": made})


def test_notebook(tmp_path):
    cells = (
        ("markdown", ["# Bread\n", "text"]), ("code", ""), ("code", "# no heading\nbake()"),
        ("markdown", "## Rye\ndark"),
    )  # fmt: skip
    document = only(tmp_path / "a.ipynb", notebook(*cells, title="A title"))
    assert document.text == "# Bread\ntext\n\n# no heading\nbake()\n\n## Rye\ndark"
    assert document.metadata == {"file": str(tmp_path / "a.ipynb"), "title": "A title"}
    assert place_of(document, "text") == {"cell": 1, "heading": "Bread"}
    assert place_of(document, "bake()") == {"cell": 3, "heading": "Bread"}
    assert place_of(document, "bake()\n\n## Rye") == {"cells": [3, 4], "heading": "Bread"}
    assert place_of(document, "dark") == {"cell": 4, "heading": "Bread > Rye"}
    assert document.breaks == (document.text.index("# no"), document.text.index("## Rye"))


def rows(path: Path, content: str) -> list[Document]:
    path.write_bytes(content.encode())
    return list(read_documents([str(path)]))


def test_table_with_a_text_column(tmp_path):
    content = '\ufeffid,title,text,year,zip\n7,T,"one\ntwo",1999,01234\n\nb,,x,1.5,1.50\n'
    first, second = rows(tmp_path / "a.csv", content)
    assert (first.id, first.text) == ("7", "T\none\ntwo")
    assert first.metadata == {"title": "T", "year": 1999, "zip": "01234"}
    assert (second.id, second.text, second.metadata) == ("b", "x", {"year": 1.5, "zip": "1.50"})
    assert first.place(0, 3) == {"row": 2} and second.place(0, 1) == {"row": 4}


@pytest.mark.parametrize(
    ("name", "delimiter"), (("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t"))
)
def test_table_of_other_columns(tmp_path, name, delimiter):
    content = 'name,, price\n"rye, dark",b,3\nwheat,,,more\n'.replace(",", delimiter).replace(
        f"rye{delimiter}", "rye,"
    )
    first, second = rows(tmp_path / name, content)
    assert (first.id, first.text) == (None, "name: rye, dark\ncolumn 2: b\nprice: 3")
    assert first.metadata == {"name": "rye, dark", "column 2": "b", "price": 3}
    assert second.text == "name: wheat\ncolumn 4: more" and second.place(0, 4) == {"row": 3}


def test_table_with_ids_and_other_columns(tmp_path):
    [row] = rows(tmp_path / "a.csv", "id,a,a\n007,x,y\n")
    assert (row.id, row.text, row.metadata) == ("007", "a: x\na 3: y", {"a": "x", "a 3": "y"})


PYTHON = '''import os

@decorated(
    1,
)
# why
def first(
    a,
) -> None:
    """
def no():
"""
    async def inner(): pass
    return 1

class Second(Base):
    x = 1

    def method(self):
        if self:
            pass
# a comment at the margin
        return 2

    y = 3
after = 4
'''


def test_python_source(tmp_path):
    document = only(tmp_path / "a.py", PYTHON)
    assert document.text == PYTHON
    for words, lines, definition in (
        ("import", 1, None), ("@decorated", 3, "first"), ("# why", 6, "first"), ("a,\n", 8, "first"),
        ("def no", 11, "first"), ("pass\n    return", [13, 14], "first.inner"), ("return 1", 14, "first"),
        ("x = 1", 17, "Second"), ("if self", 20, "Second.method"), ("return 2", 23, "Second.method"),
        ("y = 3", 25, "Second"), ("after", 26, None),
    ):  # fmt: skip
        lines = lines if isinstance(lines, list) else [lines, lines]
        expected = {"lines": lines} | ({"definition": definition} if definition else {})
        assert place_of(document, words) == expected, words
    assert {PYTHON.index("@decorated"), PYTHON.index("class Second"), PYTHON.index("after")} <= set(
        document.breaks
    )


def innermost(tree: ast.AST, lines: int) -> list[str]:
    """The definition around each line, as Python's own parser has it."""
    names = [""] * (lines + 2)

    def fill(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}.{child.name}" if prefix else child.name
                first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
                names[first : child.end_lineno + 1] = [name] * (child.end_lineno + 1 - first)
                fill(child, name)
            else:
                fill(child, prefix)

    fill(tree, "")
    return names


def test_python_definitions_are_those_of_its_parser():
    """In the standard library, on lines that hold code; comments between definitions may go with either."""
    right = wrong = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text()
        expected = innermost(ast.parse(text), text.count("\n"))
        labels = definitions(text, LANGUAGES[".py"])
        position, n, name = 0, 0, ""
        for number, line in enumerate(text.split("\n"), 1):
            stop = position + len(line)
            while n < len(labels) and labels[n][0] <= stop:
                name, n = labels[n][1], n + 1
            position = stop + 1
            if line.strip() and not line.lstrip().startswith("#"):
                right += name == expected[number]
                wrong += name != expected[number]
    assert wrong < 0.0005 * right, (right, wrong)


OTHERS = {
    ".js": (
        "export default class Oven {\n  #heat = 1;\n"
        "  async bake(bread) {\n    if (bread) {\n      MARK\n    }\n  }\n}\n",
        "Oven.bake",
    ),
    ".tsx": ("export const Page: FC = ({ a }) => {\n  return <p>MARK</p>;\n};\n", "Page"),
    ".ts": ("interface A {\n  b: string;\n}\n/** says */\n"
        "export function f<T>(\n  a: T,\n): T {\n  MARK;\n}\n", "f"),
    ".go": ("package a\n\nfunc (s *Server) Serve(c int) error {\n"
        "\treturn `\nfunc no() {`\n\tMARK\n}\n", "Server.Serve"),
    ".rs": ("impl<'a, T: Clone> fmt::Display for Oven<'a> {\n"
        "    pub(crate) fn heat(&self) {\n        MARK\n    }\n}\n", "Oven.heat"),
    ".java": (
        "package a;\n\npublic final class Oven<T> extends B {\n"
        "    @Override\n    public List<T> heat(int a) throws E {\n"
        "        for (int i : a) {\n            MARK\n        }\n    }\n}\n",
        "Oven.heat",
    ),
    ".kt": ("data class Oven(val a: Int) {\n"
        "    override suspend fun <T> heat(a: T): T {\n        MARK\n    }\n}\n", "Oven.heat"),
    ".cs": ("namespace A\n{\n    class Oven\n    {\n        public int Heat(int a)\n"
        "        {\n            MARK\n        }\n    }\n}\n", "A.Oven.Heat"),
    ".c": ("#include <a.h>\n\nstatic int *heat(struct oven *o,\n"
        "                 int a)\n{\n#ifdef X\n    MARK;\n#endif\n}\n", "heat"),
    ".cpp": ("class Oven : public B {\npublic:\n"
        "    int heat() const {\n        MARK;\n    }\n};\n", "Oven.heat"),
    ".cc": ("void Oven::heat(int a) {\n  while (a) {\n    MARK;\n  }\n}\n", "Oven::heat"),
    ".rb": ("module A\n  class Oven < B\n    def heat?(a)\n"
        "      MARK\n    end\n  end\nend\n", "A.Oven.heat?"),
    ".sh": ("heat() {\n    MARK\n}\n", "heat"),
    ".lua": ("local function heat(a)\n  MARK\nend\n", "heat"),
    ".ex": ("defmodule A.Oven do\n  def heat(a) do\n    MARK\n  end\nend\n", "A.Oven.heat"),
    ".sql": ("CREATE TABLE IF NOT EXISTS ovens (\n    MARK int\n);\n", "ovens"),
    ".swift": ("public struct Oven {\n    mutating func heat(_ a: Int) {\n"
        "        MARK\n    }\n}\n", "Oven.heat"),
    ".php": ("<?php\nclass Oven\n{\n    public function heat($a)\n"
        "    {\n        MARK\n    }\n}\n", "Oven.heat"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", OTHERS)
def test_source_of_other_languages(tmp_path, suffix):
    text, definition = OTHERS[suffix]
    text += "\nunrelated = 1\n"
    document = only(tmp_path / f"a{suffix}", text)
    assert place_of(document, "MARK")["definition"] == definition
    assert "definition" not in place_of(document, "unrelated")


def test_passages_of_older_indexes_say_where_they_begin(tmp_path):
    pdf(tmp_path / "a.pdf", ["word " * 100] * 3)
    (tmp_path / "b.txt").write_text("one\n\n" + "long " * 200)
    found = list(read_documents([str(tmp_path / "a.pdf"), str(tmp_path / "b.txt")]))
    assert [document.metadata for document in found] == [
        {"file": str(tmp_path / "a.pdf"), "page": 1}, {"file": str(tmp_path / "a.pdf"), "page": 2},
        {"file": str(tmp_path / "a.pdf"), "page": 3}, {"file": str(tmp_path / "b.txt"), "line": 1},
        {"file": str(tmp_path / "b.txt"), "line": 3}, {"file": str(tmp_path / "b.txt"), "line": 3},
    ]  # fmt: skip
    assert found[1].place(0, 5) == {"page": 2}
