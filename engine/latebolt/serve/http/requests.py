"""From bytes to a checked request: content type, depth of nesting, JSON, and whether it fits its model."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar, get_origin

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from latebolt.checks import unknown_name
from latebolt.corpus.open import decode_json
from latebolt.serve.engine.batcher import current_ticket
from latebolt.serve.http.json_pieces import MOST_VALUES, Piece, TooDeep, TooMany, outline
from latebolt.serve.http.limits import depth_of
from latebolt.serve.http.schemas import WORD_PATTERN, ProblemBody, ValidationBody
from latebolt.serve.problems import CODES, Problem, fault, invalid, invalid_fields
from latebolt.serve.settings import NAME_PATTERN, Settings
from latebolt.serve.state.service import Service

_PHRASES = {
    400: "The request is not HTTP as it should be",
    401: "No key, or a wrong one",
    403: "The key may only read",
    404: "There is no such thing",
    409: "Does not fit what is there already",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "A field does not fit",
    429: "Too much to do; Retry-After says when to try again",
    503: "Not ready yet, stopping, out of disk or descriptors, or the data folder is gone",
    504: "Took too long",
}

_PATTERNS = {
    WORD_PATTERN: "is empty. Give it at least one word",
    NAME_PATTERN: "should be 1 to 64 of a-z, 0-9, _ and -, a letter or digit first",
}

# What other libraries call our fields.
_OTHER_NAMES = {
    **dict.fromkeys(("filter", "filters", "query_filter"), "where"),
    **dict.fromkeys(("top_k", "topk", "top_n", "limit", "size", "n_results", "num_results"), "k"),
    **dict.fromkeys(("q", "text", "query_text"), "query"),
    **dict.fromkeys(("dim", "dims"), "dimensions"),
    **dict.fromkeys(("docs", "texts", "items", "points"), "documents"),
    **dict.fromkeys(("id", "document_ids"), "ids"),
    **dict.fromkeys(("index", "index_name"), "name"),
    "nbits": "bits",
    "search_type": "mode",
}

_LARGE = 1 << 16  # bytes of a body that is read in another thread
_READERS = 2

Model = TypeVar("Model", bound=BaseModel)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers that are no result, for the description of a route."""
    every = {400, 401, 403, 408, 500, *statuses}
    return {
        status: {
            "model": ValidationBody if status == 422 else ProblemBody,
            "description": _PHRASES.get(status, CODES[status].replace("_", " ")),
        }
        for status in sorted(every)
    }


class Reader:
    """From the bytes of bodies to checked requests. A large one is read a piece at a time, in another thread.

    Args:
        settings: its limits are those of a body.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_depth = settings.max_depth
        self._most_entries = max(settings.max_items, settings.max_documents)
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="latebolt-read")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    async def read(self, model: type[Model], content_type: bytes, body: bytes | bytearray) -> Model:
        """The request that a body is.

        Raises:
            Problem: 415, it is not said to be JSON; 422, it is not, is nested too deep, or does not fit.
        """
        if content_type.split(b";")[0].strip().lower() != b"application/json":
            raise Problem(415, 'the body should be JSON, with the header "Content-Type: application/json".')
        if len(body) > _LARGE:
            return await Service.in_thread(self._pool, self._read_pieces, model, body)
        if depth_of(body, self._max_depth) > self._max_depth:
            raise self._too_deep()
        try:
            return model.model_validate(_parsed(_without_mark(body)))
        except ValidationError as error:
            raise misfit(error.errors(), model) from None

    def _read_pieces(self, model: type[Model], body: bytes | bytearray) -> Model:
        body = _without_mark(body)
        try:
            found = outline(body, self._max_depth, self._most_entries)
        except TooDeep:
            raise self._too_deep() from None
        except TooMany:
            raise invalid(
                "",
                f"the body holds more than {self._most_entries} entries, or one of more than {MOST_VALUES} "
                "values. Send less at a time.",
            ) from None
        content = _parsed(found.rest)
        lists: dict[str, list[Any]] = {}
        if isinstance(content, dict):
            for name, value in content.items():
                pieces = found.pieces_of(value)
                if pieces is not None:
                    # The entries are checked here; the first one stands for them in what follows.
                    lists[name], content[name] = self._entries(model, name, body, pieces)
        try:
            request = model.model_validate(content)
        except ValidationError as error:
            raise misfit(error.errors(), model) from None
        for name, entries in lists.items():
            if _entry_adapter(model, name) is not None:
                request.__dict__[name] = entries
        return request

    def _entries(
        self, model: type[BaseModel], name: str, body: bytes | bytearray, pieces: list[Piece]
    ) -> tuple[list[Any], list[Any]]:
        """The checked entries of a list that is a field, and what stands for them when the rest is checked.

        That is the first one, checked; all of them as they were sent where the model has something else to
        say of them.
        """
        entries: list[Any] = []
        sent: list[Any] = []
        adapter, ticket = _entry_adapter(model, name), current_ticket.get()
        are_checked_later = adapter is None and name in model.model_fields
        for piece in pieces:
            if ticket is not None and ticket.is_cancelled:
                raise CancelledError
            values = _parsed(b"[%b]" % bytes(body[piece.start : piece.end]))
            if len(values) != piece.entries and not (len(pieces) == 1 and not values):
                raise _no_json()
            if adapter is None:
                sent += values if are_checked_later else values[: not sent]
            else:
                try:
                    entries += adapter.validate_python(values)
                except ValidationError as error:
                    faults = [_moved(each, name, len(entries)) for each in error.errors()]
                    raise misfit(faults, model) from None
        return entries, sent if adapter is None else entries[:1]

    def _too_deep(self) -> Problem:
        return invalid("", f"the body is nested more than {self._max_depth} levels deep.")


def _entry_adapter(model: type[BaseModel], name: str) -> TypeAdapter[list[Any]] | None:
    """What checks entries of a field that is a list; None where there is no such field."""
    field = model.model_fields.get(name)
    is_list = field is not None and get_origin(field.annotation) is list
    return _adapter_of(model, name) if is_list else None


@cache  # of fields that models have: names that clients make up would stay for ever
def _adapter_of(model: type[BaseModel], name: str) -> TypeAdapter[list[Any]]:
    kind: Any = model.model_fields[name].annotation
    return TypeAdapter(kind, config=model.model_config)


def _moved(each: ErrorDetails, name: str, first: int) -> dict[str, Any]:
    """A fault of the entries from `first` on, as one of the list `name`."""
    place, *inner = each["loc"]
    return {**each, "loc": (name, first + int(place), *inner)}


def _without_mark(body: bytes | bytearray) -> bytes | bytearray:
    """The body without a byte-order mark, which programs on Windows write."""
    return body[len(BOM_UTF8) :] if body.startswith(BOM_UTF8) else body


def _parsed(body: bytes | bytearray) -> Any:
    """What JSON says, halves of characters mended.

    Raises:
        Problem: 422, it is not JSON.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return decode_json(bytes(body))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise _no_json() from error


def _no_json() -> Problem:
    return invalid("", "the body is not JSON in UTF-8.", None, "json_invalid")


def misfit(errors: Sequence[Mapping[str, Any]], model: type[BaseModel] | None = None) -> Problem:
    """422, told field by field.

    Args:
        errors: pydantic's.
        model: what the body should have been; None for parameters.
    """
    return invalid_fields([_fault(each, model) for each in errors])


def _fault(each: Mapping[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    message = str(each["msg"]).removeprefix("Value error, ")
    if each["type"] == "string_pattern_mismatch":
        message = _PATTERNS[each["ctx"]["pattern"]]
    elif each["type"] == "extra_forbidden" and model is not None:
        message = unknown_name(str(each["loc"][-1]), list(model.model_fields), _OTHER_NAMES)
    return fault(_path(each["loc"]), message, each.get("input"), str(each["type"]))


def _path(location: Sequence[str | int]) -> str:
    """`documents.3.text` of ("documents", 3, "text")."""
    return ".".join(map(str, location))
