"""Reads a test collection: documents, queries and judgements, from a folder in BEIR layout or named files.

What a measure would silently be wrong about is an error that names the file and the line: a judgement of a
document that is not there, an id given twice, an empty query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from latebolt.corpus.open import decode_json, reading
from latebolt.errors import InputNotFound, InvalidInput


@dataclass(frozen=True)
class Collection:
    """Documents, queries and judgements: qrels[query id][document id] = grade, relevant from 1 on.

    label: a language, or what else its results are grouped by; the name when none was given.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    label: str = ""

    def with_queries(self, most: int | None) -> Collection:
        """The same collection with at most so many queries, evenly spread over it; all for None."""
        if most is None or len(self.queries) <= most:
            return self
        # Evenly spread: neighbouring queries often ask about one document.
        step = len(self.queries) // most
        return replace(self, queries=dict(list(self.queries.items())[::step][:most]))


def read_collection(folder: str | Path, label: str = "") -> Collection:
    """A collection in BEIR layout: corpus.jsonl, queries.jsonl, qrels.tsv or qrels/test.tsv; plain or .gz.

    Only queries with a judgement are kept.

    Raises:
        InputNotFound: the folder or a file of it is missing.
        InvalidInput: a line is not what it should be; names the place.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputNotFound(f"{root}: there is no such folder.")
    corpus, queries = (
        _first(root, f"{name}.jsonl", f"{name}.jsonl.gz", f"{name}.ndjson") for name in ("corpus", "queries")
    )
    qrels = _first(root, "qrels.tsv", "qrels/test.tsv", "qrels.tsv.gz", "qrels/test.tsv.gz")
    return read_files(corpus, queries, qrels, root.resolve().name, label)


def _first(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise InputNotFound(f"{root}: should have {names[0]} or {names[1]}.")


def read_files(
    corpus: str | Path, queries: str | Path, qrels: str | Path, name: str = "", label: str = ""
) -> Collection:
    """A collection of three files.

    Args:
        corpus, queries: JSON lines with "_id" and "text" ("title" is put in front), plain or .gz.
        qrels: tab-separated query, document and grade with or without a header line, or the four columns
            of TREC.
        name: of the collection; the folder of the corpus by default.
    Raises:
        InvalidInput: see `read_collection`.
    """
    corpus, queries, qrels = Path(corpus), Path(queries), Path(qrels)
    documents = {id_: text for _, id_, text in _records(corpus)}
    if not documents:
        raise InvalidInput(f"{corpus}: has no documents.")
    judged: dict[str, dict[str, int]] = {}
    for line, query, document, grade in _judgements(qrels):
        if document not in documents:
            raise InvalidInput(f'{qrels}:{line}: judges document "{document}", which {corpus} does not have.')
        grades = judged.setdefault(query, {})
        if grades.setdefault(document, grade) != grade:
            raise InvalidInput(
                f'{qrels}:{line}: grades document "{document}" of query "{query}" {grade}, an earlier line '
                f"{grades[document]}."
            )
    asked: dict[str, str] = {}
    for line, id_, text in _records(queries):
        if id_ in judged:
            if not text:
                raise InvalidInput(f'{queries}:{line}: query "{id_}" is empty. Remove it and its judgements.')
            asked[id_] = text
    if not asked:
        raise InvalidInput(f"{qrels}: judges none of the queries in {queries}.")
    name = name or corpus.resolve().parent.name
    return Collection(name, documents, asked, judged, label or name)


def _records(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, id, text) of JSON lines; empty lines are passed over."""
    seen: set[str] = set()
    with reading(path) as file:
        for n, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = decode_json(line)
            except ValueError as error:
                raise InvalidInput(f"{path}:{n}: is not JSON ({error}).") from error
            if not isinstance(record, dict):
                record = {}
            id_, text, title = record.get("_id"), record.get("text"), record.get("title") or ""
            if not isinstance(id_, str | int) or not isinstance(text, str) or not isinstance(title, str):
                raise InvalidInput(f'{path}:{n}: should be an object with "_id" and "text".')
            id_ = str(id_)
            if id_ in seen:
                raise InvalidInput(f'{path}:{n}: has the _id "{id_}" of an earlier line.')
            seen.add(id_)
            yield n, id_, f"{title} {text}".strip()


def _judgements(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """(line, query, document, grade) of a qrels file."""
    with reading(path) as file:
        for n, content in enumerate(file, start=1):
            try:
                line = content.decode("utf-8-sig" if n == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InvalidInput(f"{path}:{n}: is not UTF-8 at byte {error.start} of the line.") from error
            row = line.split("\t")
            if len(row) != 3 and len(line.split()) == 4:
                query, _, *rest = line.split()  # TREC: query, iteration, document, grade
                row = [query, *rest]
            if not line.strip() or (n == 1 and row[0] in ("query-id", "query_id", "qid")):
                continue
            if len(row) != 3 or not all(row):
                raise InvalidInput(
                    f"{path}:{n}: should be query, document and grade, tabs between, got {row}."
                )
            try:
                yield n, row[0], row[1], int(row[2])
            except ValueError as error:
                raise InvalidInput(
                    f'{path}:{n}: the grade should be a whole number, got "{row[2]}".'
                ) from error
