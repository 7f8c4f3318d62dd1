"""Documents from files: .txt and .md in passages or whole, .jsonl one document a line, folders, - for stdin.

Text is UTF-8; anything else is an error that names the file and the byte. Lines are read as they are needed,
and of the other kinds one file at a time, so that a corpus may be larger than memory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from latebolt.errors import InvalidInput
from latebolt.reading import reading

TEXT_SUFFIXES = {".txt", ".md", ".rst", ".text", ".markdown"}
JSON_SUFFIXES = {".jsonl", ".ndjson"}
PASSAGE_WORDS = 180  # about 250 tokens: what the built-in model was trained on
_TEXT_KEYS = ("text", "contents", "content", "body")
_ID_KEYS = ("id", "_id", "doc_id")


@dataclass(frozen=True)
class Document:
    """One document to index."""

    id: str | None
    text: str
    metadata: dict[str, Any] | None


def read_documents(paths: Iterable[str], whole: bool = False) -> Iterator[Document]:
    """Documents of all files, in order, read as they are asked for.

    Args:
        whole: a .txt or .md file is one document, not one a passage.
    Raises:
        InvalidInput: at once for a file that is missing or of an unknown kind, or a folder without any;
            when it is met for one that is empty or not UTF-8, or a line that is not a document.
    """
    files = [file for name in paths for file in _files_of(name)]
    return (document for file in files for document in _from_file(file, whole))


def _files_of(name: str) -> list[Path | None]:
    """Files that a name stands for; None for standard input."""
    if name == "-":
        return [None]
    path = Path(name)
    if not path.is_dir():
        if not path.exists():
            raise InvalidInput(f"{path}: there is no such file.")
        if _kind(path) is None:
            raise InvalidInput(f"{path}: is not a .txt, .md or .jsonl file. Pipe other text in through -.")
        return [path]
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and _kind(p) is not None]
    files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not files:
        raise InvalidInput(f"{path}: has no .txt, .md or .jsonl file in it.")
    return [file for file in files if file.stat().st_size]  # an empty file of a folder is nobody's mistake


def _kind(path: Path) -> str | None:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in TEXT_SUFFIXES:
        return "text"
    return "json" if suffix.lower() in JSON_SUFFIXES else None


def decode(data: bytes, name: str, first: int = 0) -> str:
    """UTF-8 text, a byte-order mark removed.

    Args:
        first: position of data[0] in the file, for the message.
    Raises:
        InvalidInput: it is not UTF-8; names the byte.
    """
    try:
        return data.decode("utf-8-sig" if first == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{name}: is not UTF-8 at byte {first + error.start}. Convert it, e.g. with "
            f'"iconv -f latin1 -t utf-8 {name}".'
        ) from error


def _from_file(path: Path | None, whole: bool) -> Iterator[Document]:
    if path is None:
        yield from _from_lines(sys.stdin.buffer, "standard input", as_json=None)
        return
    with reading(path) as file:
        if _kind(path) == "json":
            yield from _from_lines(file, str(path), as_json=True)
            return
        text = decode(file.read(), str(path))
    if not text.strip():
        raise InvalidInput(f"{path}: is empty.")
    passages = [(1, text)] if whole else list(split_passages(text))
    for n, (line, passage) in enumerate(passages):
        name = str(path) if len(passages) == 1 else f"{path}#{n}"
        yield Document(name, passage, {"file": str(path), "line": line})


def split_passages(text: str, words: int = PASSAGE_WORDS) -> Iterator[tuple[int, str]]:
    """(first line, passage): neighbouring paragraphs together, up to about so many words.

    A paragraph that is longer on its own is cut between words.
    """
    held: list[str] = []
    held_words = first_line = 0
    for match in re.finditer(r"\S.*?(?=\n[ \t]*\n|\Z)", text, re.DOTALL):
        paragraph, line = match.group().rstrip(), text.count("\n", 0, match.start()) + 1
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
    """One document a line: JSON objects, or plain text when `as_json` is None and the first is no object."""
    position, empty = 0, True
    for n, content in enumerate(file, start=1):
        line = decode(content, name, position).strip()
        position += len(content)
        if not line:
            continue
        empty = False
        if as_json is None:
            as_json = line.startswith("{")
        yield document_of_line(line, f"{name}:{n}") if as_json else Document(None, line, None)
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
        record = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{place}: is not JSON ({error}).") from error
    if isinstance(record, str):
        return Document(None, record, None)
    if not isinstance(record, dict):
        raise InvalidInput(f'{place}: should be an object such as {{"id": "a", "text": "..."}}.')
    key = next((key for key in _TEXT_KEYS if isinstance(record.get(key), str)), None)
    if key is None:
        raise InvalidInput(f'{place}: has no "text" field that is a string.')
    id_key = next((k for k in _ID_KEYS if isinstance(record.get(k), str | int)), None)
    title = record.get("title")
    text = f"{title}\n{record[key]}" if isinstance(title, str) and title.strip() else record[key]
    metadata = record.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {k: v for k, v in record.items() if k not in (key, id_key)}
        metadata = {k: v for k, v in metadata.items() if v not in ("", None, {})}
    return Document(str(record[id_key]) if id_key else None, text, metadata or None)


def read_passages(name: str) -> list[Document]:
    """One passage a line of a text or .jsonl file, or of standard input for -.

    Raises:
        InvalidInput: see `read_documents`.
    """
    if name == "-":
        return list(_from_lines(sys.stdin.buffer, "standard input", as_json=None))
    path = Path(name)
    with reading(path) as file:
        return list(_from_lines(file, name, True if _kind(path) == "json" else None))
