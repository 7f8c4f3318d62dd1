"""Documents from files: .txt and .md, .jsonl one document a line, folders of these, - for standard input.

Text is UTF-8; anything else is an error that names the file and the byte, or a reason to pass over a folder's
file. Lines are read as they are needed, and of the other kinds one file at a time, so that a corpus may be
larger than memory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from latebolt.checks import metadata_of
from latebolt.corpus.files import Skipped, SourceFile, kind_of, sources_of
from latebolt.corpus.open import decode, decode_json, lines_of, reading
from latebolt.errors import InvalidInput, LateboltError

PASSAGE_WORDS: Final = 180  # about 250 tokens: what the built-in model was trained on
STANDARD_INPUT: Final = "standard input"
_TEXT_KEYS: Final = ("text", "contents", "content", "body")
_ID_KEYS: Final = ("id", "_id", "doc_id")


@dataclass(frozen=True)
class Document:
    """One document to index.

    place: the file and the line it comes from, for messages. bare: a line of plain text, which has no id.
    """

    id: str | None
    text: str
    metadata: dict[str, Any] | None
    place: str = ""
    bare: bool = False


def read_documents(
    paths: Iterable[str], whole: bool = False, skipped: list[Skipped] | None = None
) -> Iterator[Document]:
    """Documents of all files, in order, read as they are asked for. A file that comes twice is read once.

    Args:
        whole: a .txt or .md file is one document, not one a passage.
        skipped: gets the files of folders that hold nothing or cannot be read as documents.
    Raises:
        InvalidInput: at once for a named file that is missing or of an unknown kind, or a folder without any;
            when it is met for a named one that is empty or not UTF-8, or a line that is not a document.
    """
    passed_over = [] if skipped is None else skipped
    sources = sources_of(list(paths), passed_over)
    return (document for source in sources for document in _from_source(source, whole, passed_over))


def _from_source(source: SourceFile, whole: bool, skipped: list[Skipped]) -> Iterator[Document]:
    if source.named or source.path is None:
        yield from _from_file(source.path, whole)
        return
    try:
        if kind_of(source.path) == "json":
            # Read to its end before the first line is handed on: what was handed on cannot be taken back.
            for _ in _from_file(source.path, whole):
                pass
        documents = _from_file(source.path, whole)
        first = next(documents)
    except LateboltError as error:
        reason = re.sub(r"^:(?:(\d+):)? ", _line_of, str(error).removeprefix(str(source.path)))
        skipped.append(Skipped(source.path, reason.partition(". ")[0].rstrip(".")))
        return
    yield first
    yield from documents


def _line_of(found: re.Match[str]) -> str:
    return f"in line {found[1]} " if found[1] else ""


def _from_file(path: Path | None, whole: bool) -> Iterator[Document]:
    if path is None:
        yield from _from_lines(standard_input(), STANDARD_INPUT, as_json=None)
        return
    with reading(path) as file:
        if kind_of(path) == "json":
            yield from _from_lines(file, str(path), as_json=True)
            return
        text = decode(file.read(), str(path))
    if not text.strip():
        raise InvalidInput(f"{path}: is empty.")
    passages = [(1, text)] if whole else list(split_passages(text))
    for n, (line, passage) in enumerate(passages):
        name = str(path) if len(passages) == 1 else f"{path}#{n}"
        yield Document(name, passage, {"file": str(path), "line": line}, f"{path}:{line}")


def standard_input() -> IO[bytes]:
    """The bytes of standard input.

    Raises:
        InvalidInput: it is closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise InvalidInput(f"{STANDARD_INPUT}: is closed. Pipe text into it, or name a file.")
    return sys.stdin.buffer


def split_passages(text: str, words: int = PASSAGE_WORDS) -> Iterator[tuple[int, str]]:
    """(first line, passage): neighbouring paragraphs together, up to about so many words.

    A paragraph that is longer on its own is cut between words.
    """
    held: list[str] = []
    held_words = first_line = 0
    line, counted = 1, 0
    for match in re.finditer(r"\S.*?(?=\n[ \t]*\n|\Z)", text, re.DOTALL):
        line, counted = line + text.count("\n", counted, match.start()), match.start()
        paragraph = match.group().rstrip()
        count = len(paragraph.split())
        if held and held_words + count > words:
            yield first_line, "\n\n".join(held)
            held, held_words = [], 0
        if count > words:
            pieces = paragraph.split()
            for start in range(0, count, words):
                yield line, " ".join(pieces[start : start + words])
            continue
        if not held:
            first_line = line
        held.append(paragraph)
        held_words += count
    if held:
        yield first_line, "\n\n".join(held)


def _from_lines(file: IO[bytes], name: str, as_json: bool | None) -> Iterator[Document]:
    """One document a line: JSON objects, or plain text when `as_json` is None and the first is no object.

    Instead of lines there may be one JSON array of them, as `latebolt search --json` prints it.
    """
    empty = True
    lines: Iterator[tuple[int, str]] = lines_of(file, name)
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
        place = f"{name}:{n}"
        yield document_of_line(line, place) if as_json else Document(None, line, None, place, bare=True)
    if empty:
        raise InvalidInput(f"{name}: is empty.")


def document_of_line(line: str, place: str) -> Document:
    """The document in a line of JSON.

    Args:
        place: of the line, for messages.
    Raises:
        InvalidInput: it is no object or string, or has no text.
    """
    try:
        record = decode_json(line)
    except ValueError as error:
        raise InvalidInput(f"{place}: is not JSON ({error}).") from error
    return document_of_value(record, place)


def _array(lines: Sequence[str]) -> list[Any] | None:
    """The entries of a JSON array; None for lines of text."""
    try:
        values = decode_json("\n".join(lines))
    except ValueError:
        return None
    return values if all(isinstance(value, str | dict) for value in values) else None


def document_of_value(record: Any, place: str) -> Document:
    """`document_of_line` of what the line holds."""
    if isinstance(record, str):
        return Document(None, record, None, place)
    if not isinstance(record, dict):
        raise InvalidInput(f'{place}: should be an object such as {{"id": "a", "text": "..."}}.')
    key = next((key for key in _TEXT_KEYS if isinstance(record.get(key), str)), None)
    if key is None:
        raise InvalidInput(f'{place}: has no "text" field that is a string.')
    id_key = next((k for k in _ID_KEYS if record.get(k) not in (None, "")), None)
    name = None if id_key is None else _id_of(record[id_key], id_key, place)
    title = record.get("title")
    text = f"{title}\n{record[key]}" if isinstance(title, str) and title.strip() else record[key]
    try:
        metadata = metadata_of(record, {key, id_key or key})
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error
    return Document(name, text, metadata, place)


def _id_of(value: Any, key: str, place: str) -> str:
    """An id as a string; 1.0, as tables with a hole in the column write it, is 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidInput(f'{place}: its "{key}" should be a string or a whole number, got {value!r:.60}.')
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
        return list(_from_lines(file, name, True if kind_of(path) == "json" else None))
