"""The requests of each endpoint as values, and documents cut into bodies: what both clients send.

Pure: nothing here waits or talks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote, urlsplit

from latebolt.checks import check_k, check_many, check_query, whole_number
from latebolt.client import answers
from latebolt.errors import InvalidInput

T = TypeVar("T")
Mode = Literal["late", "bm25", "hybrid"]
Where = str | Mapping[str, Any]

BATCH_DOCUMENTS: Final = 1000
READ_DOCUMENTS: Final = 1000  # that the server gives back at a time
_BATCH_BYTES: Final = 8_000_000  # of a body; the server takes 32 MB unless it is told otherwise


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request.

    Args:
        answer: what its answer is read as.
        may_repeat: sent a second time it changes no more, so it is when an answer was lost on the way.
    """

    method: str
    path: str
    answer: type[T]
    body: bytes | None = None
    may_repeat: bool = True


def base_url(url: str) -> str:
    """A server's address, with the path below which a proxy may have put it, without a slash at its end.

    Raises:
        InvalidInput: it is no address of a server.
    """
    parts = urlsplit(url.strip())
    try:
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number
        good = False
    if not good:
        raise InvalidInput(f'the server\'s address should be like http://127.0.0.1:8080, got "{url}".')
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidInput(
            "the server's address should have no user, question mark or hash in it. A key is api_key."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


HEALTH: Final = Call("GET", "/health", answers.Status)
READY: Final = Call("GET", "/ready", answers.Status)
MODELS: Final = Call("GET", "/v1/models", answers.Models)
INDEXES: Final = Call("GET", "/v1/indexes", answers.Indexes)
SNAPSHOTS: Final = Call("GET", "/v1/snapshots", answers.Snapshots)
JOBS: Final = Call("GET", "/v1/jobs", answers.Jobs)


def create_index(
    name: str,
    bits: int,
    dimensions: int | None,
    passage_tokens: int | None,
    passage_overlap: int | None,
    pool_factor: int,
    max_vectors: int | None,
) -> Call[answers.IndexInfo]:
    """Make an index."""
    fields = {
        "name": name,
        "bits": bits,
        "dimensions": dimensions,
        "passage_tokens": passage_tokens,
        "passage_overlap": passage_overlap,
        "pool_factor": None if pool_factor == 1 else pool_factor,  # which older servers do not know
        "max_vectors": max_vectors,
    }
    return Call("POST", "/v1/indexes", answers.IndexInfo, _body(fields), may_repeat=False)


def fitting(
    info: answers.IndexInfo,
    bits: int | None,
    dimensions: int | None,
    passage_tokens: int | None,
    passage_overlap: int | None,
    pool_factor: int | None,
    max_vectors: int | None,
) -> answers.IndexInfo:
    """An index that has the settings that are given; None fits every index.

    Raises:
        InvalidInput: it has another one.
    """
    if passage_overlap is not None and passage_tokens is not None:
        passage_overlap = min(passage_overlap, passage_tokens - 1)  # as the server makes it
    asked = {
        "bits": bits,
        "dimensions": dimensions,
        "passage_tokens": passage_tokens,
        "passage_overlap": passage_overlap,
        "pool_factor": pool_factor,
        "max_vectors": max_vectors,
    }
    for name, value in asked.items():
        has = getattr(info, name)
        if value is not None and value != has:
            raise InvalidInput(f"{info.name}: has {name} {has}; {name}={value} fits only a new index.")
    return info


def index_info(name: str) -> Call[answers.IndexInfo]:
    """An index in figures."""
    return Call("GET", _index(name), answers.IndexInfo)


def delete_index(name: str) -> Call[None]:
    """Delete an index."""
    return Call("DELETE", _index(name), type(None), may_repeat=False)


def snapshot_index(name: str, snapshot: str | None) -> Call[answers.SnapshotInfo]:
    """Copy an index as of its last commit."""
    query = "" if snapshot is None else f"?snapshot={_segment(snapshot, 'snapshot')}"
    path = f"{_index(name)}/snapshot{query}"
    return Call("POST", path, answers.SnapshotInfo, may_repeat=False)


def delete_snapshot(name: str, snapshot: str) -> Call[None]:
    """Remove a snapshot."""
    path = f"/v1/snapshots/{_segment(name, 'name')}/{_segment(snapshot, 'snapshot')}"
    return Call("DELETE", path, type(None), may_repeat=False)


def add(name: str, body: bytes) -> Call[answers.Added]:
    """Add the documents of a body; those of the same ids are replaced, so twice is once."""
    return Call("POST", f"{_index(name)}/documents", answers.Added, body)


def begin_addition(name: str, body: bytes) -> Call[answers.Job]:
    """Add them in the background."""
    return Call("POST", f"{_index(name)}/documents?background=true", answers.Job, body)


def get_documents(name: str, ids: Sequence[str]) -> Call[answers.Documents]:
    """Documents by their ids."""
    return Call("POST", f"{_index(name)}/documents/get", answers.Documents, _body({"ids": list(ids)}))


def delete_documents(name: str, ids: Iterable[str] | None, where: Where | None) -> Call[answers.Deleted]:
    """Delete documents."""
    body = _body({"ids": _listed(ids, "ids"), "where": where})
    return Call("POST", f"{_index(name)}/documents/delete", answers.Deleted, body)


def update_metadata(
    name: str,
    ids: Iterable[str] | None,
    where: Where | None,
    set: Mapping[str, Any] | None,
    unset: Iterable[str] | None,
    replace: Mapping[str, Any] | None,
) -> Call[answers.Updated]:
    """Change metadata."""
    change = {"set": set, "unset": _listed(unset, "unset"), "replace": replace}
    body = _body({"ids": _listed(ids, "ids"), "where": where, **change})
    return Call("PATCH", f"{_index(name)}/documents", answers.Updated, body)


def job(id: str) -> Call[answers.Job]:
    """How far a job is."""
    return Call("GET", f"/v1/jobs/{_segment(id, 'id')}", answers.Job)


def cancel_job(id: str) -> Call[answers.Job]:
    """End a job; one that has ended stays as it is, so twice is once."""
    return Call("DELETE", f"/v1/jobs/{_segment(id, 'id')}", answers.Job)


def search(
    name: str,
    query: str,
    k: int,
    where: Where | None,
    exhaustive: bool,
    mode: Mode,
    explain: bool,
    partial: bool,
) -> Call[answers.Found]:
    """Search an index."""
    fields = {
        "query": check_query(query),
        "k": check_k(k),
        "where": where,
        "exhaustive": exhaustive,
        "mode": mode,
        "explain": explain,
        **({"partial": True} if partial else {}),  # which servers of before do not know
    }
    return Call("POST", f"{_index(name)}/search", answers.Found, _body(fields))


def rerank(query: str, documents: Sequence[str], k: int | None) -> Call[answers.Ranked]:
    """Order passages by a query."""
    check_many(documents, "documents")
    fields = {
        "query": check_query(query),
        "documents": list(documents),
        "top_n": None if k is None else check_k(k),
        "return_documents": False,
    }
    return Call("POST", "/v1/rerank", answers.Ranked, _body(fields))


def batches(documents: Iterable[Mapping[str, Any]], most: int) -> Iterator[tuple[int, bytes]]:
    """Bodies of additions and how many documents each has, of `most` at most and of about 8 MB.

    Raises:
        InvalidInput: one is no JSON object; names its position.
    """
    check_many(documents, "documents")
    most = whole_number(most, "batch_documents")
    kept: list[str] = []
    size = 0
    for position, document in enumerate(documents):
        line = _document(document, position)
        if kept and (len(kept) >= most or size + len(line) > _BATCH_BYTES):
            yield len(kept), _documents(kept)
            kept, size = [], 0
        kept.append(line)
        size += len(line)
    if kept:
        yield len(kept), _documents(kept)


def _document(document: object, position: int) -> str:
    if not isinstance(document, Mapping):
        raise InvalidInput(
            f'documents[{position}] should be a dict of "id", "text" and maybe "metadata", got '
            f"{type(document).__name__}."
        )
    try:
        # Escaped, so halves of characters pass too; what is no JSON (NaN) is told here, not changed.
        return json.dumps(dict(document), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"documents[{position}]: is no JSON ({error}).") from error


def _listed(values: Iterable[str] | None, name: str) -> list[str] | None:
    if values is None:
        return None
    check_many(values, name)
    return list(values)


def _documents(lines: Sequence[str]) -> bytes:
    return ('{"documents":[' + ",".join(lines) + "]}").encode()


def _body(fields: Mapping[str, Any]) -> bytes:
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return json.dumps(given, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the request is no JSON ({error}).") from error


def _index(name: str) -> str:
    return f"/v1/indexes/{_segment(name, 'name')}"


def _segment(value: object, what: str) -> str:
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise InvalidInput(f"the {what} should be a name as indexes and jobs have, got {value!r}.")
    return quote(value, safe="", errors="replace")
