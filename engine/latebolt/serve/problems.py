"""What goes wrong, as answers of the contract: `{"detail", "code", "request_id"}` and, for 422, `errors`.

The one table from errors to status codes. No path, trace or text of a document leaves here: messages of ours
that may hold one are replaced, and values of a request are shown only where they are numbers or flags.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from latebolt import errors

IndexState = Literal["ready", "newer_format", "damaged", "foreign", "unreadable", "other_model", "incomplete"]
INDEX_STATES: Final[tuple[IndexState, ...]] = get_args(IndexState)
_MOST_ERRORS: Final = 20  # of one request that are told
_LONGEST: Final = 400  # characters of a message

CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "validation_error",
    429: "overloaded",
    500: "internal_error",
    503: "unavailable",
    504: "timeout",
}


class Problem(errors.LateboltError):
    """An answer that is not a result.

    Args:
        detail: one sentence for the caller, and the way out.
        code: a word for programs; the status's own by default.
        headers: further ones of the answer.
        faults: for 422, which fields do not fit.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        faults: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.code = status, detail, code or CODES[status]
        self.headers, self.faults = dict(headers or {}), list(faults)

    def body(self, request_id: str) -> bytes:
        """The answer's JSON."""
        content: dict[str, Any] = {"detail": self.detail, "code": self.code, "request_id": request_id}
        if self.status == 422:
            content["errors"] = self.faults
        return msgspec.json.encode(content)


def invalid(field: str, message: str, value: Any = None, kind: str = "value_error") -> Problem:
    """422 for one field."""
    return invalid_fields([fault(field, message, value, kind)])


def fault(field: str, message: str, value: Any, kind: str) -> dict[str, Any]:
    """One entry of `errors`."""
    return {"field": field[:_LONGEST], "message": message[:_LONGEST], "type": kind, "input": shown(value)}


def invalid_fields(faults: Sequence[Mapping[str, Any]]) -> Problem:
    """422 for several fields; the first ones are told."""
    first = faults[0]
    detail = f"{first['field']}: {first['message']}" if first["field"] else str(first["message"])
    return Problem(422, detail, faults=faults[:_MOST_ERRORS])


def shown(value: Any) -> Any:
    """What an error may repeat of a request: numbers and flags; of anything else only what it is."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else "a large number"
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    return "a list" if isinstance(value, list | tuple) else "an object" if isinstance(value, dict) else None


def nothing_here() -> Problem:
    """404 for a path."""
    return Problem(404, "there is nothing at this path.")


def overloaded(detail: str, seconds: float) -> Problem:
    """429 with the time after which to try again."""
    return Problem(429, detail, headers={"Retry-After": str(max(1, min(60, round(seconds))))})


def no_key() -> Problem:
    """401 where a key is needed."""
    return Problem(
        401,
        'a key is needed: send the header "Authorization: Bearer KEY".',
        headers={"WWW-Authenticate": "Bearer"},
    )


def wrong_key() -> Problem:
    """401 for a key that there is not."""
    return Problem(
        401,
        "this key is not one of the server's: it is mistyped, cut short or no longer in force.",
        "wrong_key",
        {"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


def not_ready(state: str) -> Problem:
    """503 for a server in that state, see `Service.state`."""
    if state == "stopping":
        return Problem(503, "the server is stopping.", "stopping", {"Connection": "close"})
    if state == "data_missing":
        return data_missing()
    if state == "broken":
        return Problem(503, "the encoder has stopped by an error of ours. Start the server again.", "broken")
    return Problem(503, "the model is being loaded.", "not_ready", {"Retry-After": "1"})


def folder_missing(what: str, code: str) -> Problem:
    """503 where another folder of the server has gone."""
    way_out = "Bring it back, or start the server again, which makes it."
    return Problem(503, f"the server's folder of {what} is gone. {way_out}", code)


def data_missing() -> Problem:
    """503 where the data folder has gone."""
    return Problem(
        503,
        "the data folder of the server is gone, or another one is in its place. Bring it back: nothing is "
        "made anew while the server runs.",
        "data_missing",
    )


def data_was_missing() -> Problem:
    """503 where the data folder was away while a request was worked on, and is back."""
    return Problem(
        503,
        "the data folder of the server was away for a moment while this was worked on. Try again.",
        "data_missing",
        {"Retry-After": "1"},
    )


def foreign() -> Problem:
    """409 for the folder of an index that holds something else."""
    return Problem(
        409,
        "the folder of that name in the data folder of the server holds no index. Choose another name, or "
        "move the folder away by hand.",
        "index_foreign",
    )


def standing_by() -> Problem:
    """503 for a write to a server that waits for the one before it to leave."""
    return Problem(
        503,
        "another server still writes to this folder; this one does when that has left. Try again later.",
        "standing_by",
        {"Retry-After": "5"},
    )


# Settings of requests that a message of ours may begin with.
_FIELDS: Final = frozenset(
    ("where", "ids", "metadata", "texts", "passage_tokens", "pool_factor", "max_vectors", "unset")
)


def problem_of(error: Exception) -> Problem:
    """The answer to an error that a request met; 500 for one that nobody expected."""
    if isinstance(error, Problem):
        return error
    for kind, status, code, detail in _TABLE:
        if isinstance(error, kind):
            return Problem(status, detail, code)
    if isinstance(error, errors.ShardUnavailable):
        return _shards_missing(error)
    if isinstance(error, errors.InvalidInput):
        text = str(error)[:_LONGEST]
        field = text.split(" ", 1)[0].split(":")[0].split("[")[0]
        known = field if field in _FIELDS else ""
        return Problem(422, text, faults=[fault(known, text, None, "value_error")])
    return _refused_by_system(error)


def _shards_missing(error: errors.ShardUnavailable) -> Problem:
    """503 where shards of an index give no answer, named by their numbers."""
    which = ", ".join(map(str, sorted(error.missing)))
    said = (
        f"shard {which} of the index gives"
        if len(error.missing) == 1
        else f"shards {which} of the index give"
    )
    if error.committed:
        way_out = "The others have committed their part. Send the same again: what is there stays as it is."
    else:
        way_out = 'Try again; a search may ask for what the others find with "partial": true.'
    return Problem(503, f"{said} no answer. {way_out}", "shard_unavailable", {"Retry-After": "1"})


def _refused_by_system(error: Exception) -> Problem:
    """The answer to what the system had a part in; 500 for the rest."""
    number = errors.errno_of(error)
    if number in DESCRIPTORS:
        return Problem(
            503,
            "the server has as many files and connections open as it may. Try again in a moment; who runs it "
            "can raise the limit (ulimit -n, LimitNOFILE).",
            "out_of_descriptors",
            {"Retry-After": "5"},
        )
    if number in _FULL:
        return problem_of(errors.StorageFull())
    if isinstance(error, errors.IndexInaccessible) and error.writing and number in _FORBIDDEN:
        return Problem(
            409,
            "the server may not write to the folder of the index. It can be searched; to change it, give the "
            "account of the server the right to write there, on a disk that is not read-only.",
            "index_read_only",
        )
    if isinstance(error, errors.IndexInaccessible) and not error.writing:
        return Problem(
            500,
            "the system does not let the server read the files of the index. Its log has the error; look at "
            "who owns them, and who may read them.",
            "index_unreadable",
        )
    if number in _FORBIDDEN | _BROKEN or isinstance(error, errors.IndexInaccessible):
        return Problem(
            500,
            "the system refused the server a file or folder of its own. Its log has the error; look at the "
            "disk of the data folder, and at who may write there.",
            "storage_refused",
        )
    return internal()


def internal() -> Problem:
    """500 for what nobody expected."""
    return Problem(500, "an error of ours; the request id finds it in the server's log.")


DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_BROKEN: Final = frozenset({errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ESTALE})

# First fit; details are constants since the errors' own messages name folders.
_TABLE: Final[tuple[tuple[type[Exception], int, str, str], ...]] = (
    (errors.IndexNotFound, 404, "index_not_found", "there is no index of that name."),
    (errors.IndexExists, 409, "index_exists", "there is an index of that name already."),
    (
        errors.IndexLocked,
        409,
        "index_locked",
        "another process is writing to this index. Try again when it has finished.",
    ),
    (
        errors.IndexReadOnly,
        409,
        "index_read_only",
        "the index was given to the server by the URI where it is published. Change it where it is made.",
    ),
    (
        errors.ModelMismatch,
        409,
        "model_mismatch",
        "the index was made with another model than the one served here.",
    ),
    (
        errors.OutOfMemory,
        503,
        "out_of_memory",
        "the server has not enough memory for it; send less at a time.",
    ),
    (errors.StorageFull, 503, "storage_full", "the server's disk is full; nothing has changed."),
    (
        errors.IndexNewer,
        409,
        "index_newer_format",
        "a newer version of latebolt wrote the index, in a format that this one does not know. Run that "
        "version, or restore a backup from before it.",
    ),
    (errors.IndexCorrupt, 500, "index_corrupt", 'the index is damaged; "latebolt check" says where.'),
)

# What an index that cannot be used is in the list of indexes, by the code of what it is answered with.
STATES: Final[dict[str, IndexState]] = {
    "index_newer_format": "newer_format",
    "index_corrupt": "damaged",
    "index_foreign": "foreign",
    "index_unreadable": "unreadable",
    "model_mismatch": "other_model",
    "shard_unavailable": "incomplete",
}
