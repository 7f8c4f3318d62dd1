"""Documents from files of the kinds that `readers.kinds` names, folders of them, - for standard input.

A file is one document; of .jsonl a line is one, and of tables a row. Text is UTF-8; anything else is an error
that names the file and the byte, or a reason to pass over a folder's file. Lines and rows are read as they
are needed, and of the other kinds one file at a time, so that a corpus may be larger than memory.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

from latebolt.checks import metadata_of
from latebolt.corpus.files import Skipped, SourceFile, sources_of
from latebolt.corpus.open import decode_json, lines_of, reading
from latebolt.corpus.readers.apart import ReaderProcess
from latebolt.corpus.readers.extract import Extract, Places
from latebolt.corpus.readers.kinds import JSON_LINES, SOURCE, TABLE, Kind, kind_of
from latebolt.corpus.readers.source import is_minified
from latebolt.errors import InvalidInput, LateboltError

PASSAGE_WORDS: Final = 180  # about 250 tokens: what the built-in model was trained on
STANDARD_INPUT: Final = "standard input"
_TEXT_KEYS: Final = ("text", "contents", "content", "body")
_ID_KEYS: Final = ("id", "_id", "doc_id")


@dataclass(frozen=True)
class Document:
    """One document to index.

    origin: the file and the line it comes from, for messages. bare: a line of plain text, which has no id.
    place: says where a stretch of the text (first character, end) stands in its file, as a small JSON object.
    breaks: characters before which a cut into passages is preferred, ascending.
    """

    id: str | None
    text: str
    metadata: dict[str, Any] | None
    origin: str = ""
    bare: bool = False
    place: Callable[[int, int], dict[str, Any]] | None = field(default=None, compare=False, repr=False)
    breaks: tuple[int, ...] = ()


def read_documents(
    paths: Iterable[str], whole: bool = False, skipped: list[Skipped] | None = None, ignored: bool = False
) -> Iterator[Document]:
    """Documents of all files, in order, read as they are asked for. A file that comes twice is read once.

    Args:
        whole: a file is one document, not one a passage.
        skipped: gets the files of folders that hold nothing or cannot be read as documents.
        ignored: of folders, also what their .gitignore files leave out.
    Raises:
        InvalidInput: at once for a named file that is missing or of an unknown kind, or a folder without any;
            when it is met for a named one that is empty or not UTF-8, or a line that is not a document.
        RuntimeUnavailable: at once for a named file whose kind needs a library that is not installed.
    """
    passed_over = [] if skipped is None else skipped
    sources = sources_of(list(paths), passed_over, ignored)
    return _from_sources(sources, whole, passed_over)


def _from_sources(sources: Sequence[SourceFile], whole: bool, skipped: list[Skipped]) -> Iterator[Document]:
    with ReaderProcess() as process:
        for source in sources:
            yield from documents_of(source, whole, skipped, process)


def documents_of(
    source: SourceFile, whole: bool, skipped: list[Skipped], process: ReaderProcess
) -> Iterator[Document]:
    """Documents of one file, see `read_documents`; `process` reads the kinds that are read apart."""
    if source.named or source.path is None:
        yield from _from_file(source.path, whole, process)
        return
    try:
        if kind_of(source.path) in (JSON_LINES, TABLE):
            # Read to its end before the first line is handed on: what was handed on cannot be taken back.
            for _ in _from_file(source.path, whole, process):
                pass
        if kind_of(source.path) is SOURCE and is_minified(source.path):
            skipped.append(Skipped(source.path, "is minified: most of it is one line"))
            return
        documents = _from_file(source.path, whole, process)
        first = next(documents)
    except LateboltError as error:
        reason = re.sub(r"^:(?:(\d+):)? ", _line_of, str(error).removeprefix(str(source.path)))
        skipped.append(Skipped(source.path, reason.partition(". ")[0].rstrip(".")))
        return
    yield first
    yield from documents


def _line_of(found: re.Match[str]) -> str:
    return f"in line {found[1]} " if found[1] else ""


def _from_file(path: Path | None, whole: bool, process: ReaderProcess) -> Iterator[Document]:
    kind = None if path is None else kind_of(path)
    if path is None or kind is None:
        yield from _from_lines(standard_input(), STANDARD_INPUT, as_json=None)
    elif kind is JSON_LINES:
        with reading(path) as file:
            yield from _from_lines(file, str(path), as_json=True)
    elif kind is TABLE:
        with reading(path) as file:
            yield from _from_rows(file, path)
    else:
        yield from _from_extract(_extract_of(path, kind, process), path, whole)


def _extract_of(path: Path, kind: Kind, process: ReaderProcess) -> Extract:
    if kind.apart:
        return process.read(kind.reader, path)
    extract: Extract = importlib.import_module(kind.reader).read(path)
    return extract


def _from_extract(extract: Extract, path: Path, whole: bool) -> Iterator[Document]:
    """The document that a file is, or its passages."""
    places = Places(extract)
    metadata = {"file": str(path)} | ({"title": extract.title} if extract.title else {})
    if whole:
        yield Document(str(path), extract.text, metadata, f"{path}:1", place=places, breaks=extract.breaks())
        return
    passages = list(split_passages(extract.text))
    for n, (start, stop, passage) in enumerate(passages):
        name = str(path) if len(passages) == 1 else f"{path}#{n}"
        place = places(start, stop)
        line = {"line": place["lines"][0]} if "lines" in place else place
        yield Document(name, passage, metadata | line, f"{path}:1", place=lambda *_, place=place: place)


def _from_rows(file: IO[bytes], path: Path) -> Iterator[Document]:
    """One document a row: of its text column, or else all cells with the names of their columns."""
    from latebolt.corpus.readers.table import rows_of, value_of

    for number, cells in rows_of(file, path):
        names = [column for column, _ in cells]
        text_key = next((key for key in _TEXT_KEYS if key in names), None)
        id_key = next((key for key in _ID_KEYS if key in names), None)
        as_text = {"title", text_key, id_key}
        record = {column: cell if column in as_text else value_of(cell) for column, cell in cells}
        origin = f"{path}:{number}"
        if text_key is None:
            name = record.pop(id_key) if id_key else None
            lines = "\n".join(f"{column}: {cell}" for column, cell in cells if column != id_key)
            document = Document(name, lines or f"{id_key}: {name}", record or None, origin)
        else:
            document = document_of_value(record, origin)
        yield replace(document, place=RowPlace(number))


@dataclass(frozen=True)
class RowPlace:
    """Every stretch of a row's text stands in that row."""

    row: int

    def __call__(self, start: int, stop: int) -> dict[str, Any]:
        """The row's number, as a spreadsheet counts."""
        return {"row": self.row}


def standard_input() -> IO[bytes]:
    """The bytes of standard input.

    Raises:
        InvalidInput: it is closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise InvalidInput(f"{STANDARD_INPUT}: is closed. Pipe text into it, or name a file.")
    return sys.stdin.buffer


def split_passages(text: str, words: int = PASSAGE_WORDS) -> Iterator[tuple[int, int, str]]:
    """(start, stop, passage): neighbouring paragraphs together, up to about so many words.

    A paragraph that is longer on its own is cut between words.
    """
    held: list[str] = []
    held_words = first = last = 0
    for match in re.finditer(r"\S.*?(?=\n[ \t]*\n|\Z)", text, re.DOTALL):
        paragraph = match.group().rstrip()
        count = len(paragraph.split())
        if held and held_words + count > words:
            yield first, last, "\n\n".join(held)
            held, held_words = [], 0
        if count > words:
            pieces = paragraph.split()
            for start in range(0, count, words):
                yield match.start(), match.end(), " ".join(pieces[start : start + words])
            continue
        if not held:
            first = match.start()
        held.append(paragraph)
        held_words += count
        last = match.end()
    if held:
        yield first, last, "\n\n".join(held)


def _from_lines(file: IO[bytes], name: str, as_json: bool | None) -> Iterator[Document]:
    """One document a line: JSON objects, or plain text when `as_json` is None and the first is no object.

    Instead of lines there may be one JSON array of them, as `latebolt search --json` prints it.
    """
    empty = True
    lines: Iterator[tuple[int, str]] = ((n, line.strip()) for n, line in lines_of(file, name))
    while (numbered := next(lines, None)) is not None:
        n, line = numbered
        if not line:
            continue
        empty = False
        if as_json is None and line.startswith("["):
            rest = [line, *(following for _, following in lines)]
            if (values := _array(rest)) is not None:
                yield from (document_of_value(v, f"{name}, entry {i}") for i, v in enumerate(values))
                return
            lines = enumerate(rest[1:], n + 1)  # text that begins with a bracket
        if as_json is None:
            as_json = line.startswith("{")
        origin = f"{name}:{n}"
        yield document_of_line(line, origin) if as_json else Document(None, line, None, origin, bare=True)
    if empty:
        raise InvalidInput(f"{name}: is empty.")


def document_of_line(line: str, origin: str) -> Document:
    """The document in a line of JSON.

    Args:
        origin: the file and line, for messages.
    Raises:
        InvalidInput: it is no object or string, or has no text.
    """
    try:
        record = decode_json(line)
    except ValueError as error:
        raise InvalidInput(f"{origin}: is not JSON ({error}).") from error
    return document_of_value(record, origin)


def _array(lines: Sequence[str]) -> list[Any] | None:
    """The entries of a JSON array; None for lines of text."""
    try:
        values = decode_json("\n".join(lines))
    except ValueError:
        return None
    return values if all(isinstance(value, str | dict) for value in values) else None


def document_of_value(record: Any, origin: str) -> Document:
    """`document_of_line` of what the line holds."""
    if isinstance(record, str):
        return Document(None, record, None, origin)
    if not isinstance(record, dict):
        raise InvalidInput(f'{origin}: should be an object such as {{"id": "a", "text": "..."}}.')
    key = next((key for key in _TEXT_KEYS if isinstance(record.get(key), str)), None)
    if key is None:
        raise InvalidInput(f'{origin}: has no "text" field that is a string.')
    id_key = next((k for k in _ID_KEYS if record.get(k) not in (None, "")), None)
    name = None if id_key is None else _id_of(record[id_key], id_key, origin)
    title = record.get("title")
    text = f"{title}\n{record[key]}" if isinstance(title, str) and title.strip() else record[key]
    try:
        metadata = metadata_of(record, {key, id_key or key})
    except InvalidInput as error:
        raise InvalidInput(f"{origin}: {error}") from error
    return Document(name, text, metadata, origin)


def _id_of(value: Any, key: str, origin: str) -> str:
    """An id as a string; 1.0, as tables with a hole in the column write it, is 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidInput(f'{origin}: its "{key}" should be a string or a whole number, got {value!r:.60}.')
    return str(value)


def read_passages(name: str) -> list[Document]:
    """One passage a line of a text or .jsonl file, or of standard input for -.

    Raises:
        InvalidInput: see `read_documents`.
    """
    if name == "-":
        return list(_from_lines(standard_input(), STANDARD_INPUT, as_json=None))
    path = Path(name)
    with reading(path) as file:
        return list(_from_lines(file, name, True if kind_of(path) is JSON_LINES else None))
