"""What requests hold and what answers look like, for validation and for the OpenAPI description.

Requests are checked strictly: a number in quotes is no number. Fields nobody knows are ignored where Jina
ignores them, and refused by name at endpoints of our own: whoever sends one expects more than is done.
Answers are written without these models, which only describe them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from latebolt.checks import metadata_of
from latebolt.encoder.pooling import MOST_POOLING
from latebolt.index.documents.checked import CheckedDocument, check_metadata
from latebolt.serve.settings import NAME_PATTERN

_TEXT_SCHEMA: Final = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    ]
}
# Python's own idea of white space, which the encoder's check of a query uses.
WORD_PATTERN: Final = r"\S"


def _text_of(value: Any) -> Any:
    return value["text"] if isinstance(value, dict) and isinstance(value.get("text"), str) else value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 3.0 is an integer too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text = Annotated[str, BeforeValidator(_text_of), WithJsonSchema(_TEXT_SCHEMA)]
Texts = Annotated[
    list[Text],
    BeforeValidator(_listed),
    Field(min_length=1),
    WithJsonSchema(
        {"anyOf": [*_TEXT_SCHEMA["anyOf"], {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}]}
    ),
]
QueryText = Annotated[
    str,
    BeforeValidator(_text_of),
    Field(pattern=WORD_PATTERN),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": WORD_PATTERN},
                {
                    "type": "object",
                    "properties": {"text": {"type": "string", "pattern": WORD_PATTERN}},
                    "required": ["text"],
                },
            ]
        }
    ),
]
# Characters of a query and of a filter of a search. BM25 looks up every word of a query, and a filter is read
# as one, in a thread that nothing interrupts: a few megabytes of either would hold it for minutes.
MOST_QUERY: Final = 16_384
MOST_WHERE: Final = 1 << 20
MOST_READ: Final = 1_000  # documents that are given back at a time
# Bounds come first: around the validator they would be held to, but not described.
Whole = Annotated[int, BeforeValidator(_whole)]
Natural = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Factor = Annotated[int, Field(ge=1, le=MOST_POOLING), BeforeValidator(_whole)]
Id = Annotated[str, Field(min_length=1, max_length=1024)]
EmbeddingType = Literal["float", "base64", "binary", "ubinary"]


class _Model(BaseModel):
    # What checks a model is made when the first one is checked, and not while a server starts; most describe
    # answers, and never check one.
    model_config = ConfigDict(defer_build=True)


class _JinaRequest(_Model):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Request(_Model):
    model_config = ConfigDict(strict=True, extra="forbid")


def _such_as(*examples: dict[str, Any], **more: Any) -> ConfigDict:
    """For a model: requests that people can copy, and what else its schema says."""
    return ConfigDict(json_schema_extra={**more, "examples": list(examples)})


class VectorsRequest(_JinaRequest):
    """Texts to token vectors."""

    model_config = _such_as({"input": ["Berlin has 3.85 million inhabitants."], "input_type": "document"})

    model: str | None = Field(None, description="The served model's name or one of its aliases.")
    input: Texts = Field(description="A text, or a list of texts.")
    input_type: Literal["query", "document"] | None = Field(None, description="What they are; documents.")
    embedding_type: EmbeddingType | Annotated[list[EmbeddingType], Field(min_length=1)] | None = Field(
        None,
        description="float (the default), base64 (float32, little-endian, of each vector), binary or ubinary "
        "(signs of each vector, packed in bytes). A list gives an object by type.",
    )
    dimensions: Whole | None = Field(None, description="Width of the vectors, the widest by default.")


class RerankRequest(_JinaRequest):
    """Passages to order by a query."""

    model_config = _such_as(
        {
            "query": "How many people live in Berlin?",
            "documents": ["Mount Berlin is a volcano.", "Berlin has 3.85 million inhabitants."],
            "top_n": 1,
        }
    )

    model: str | None = Field(None, description="The served model's name or one of its aliases.")
    query: QueryText
    documents: list[Text] = Field(min_length=1)
    top_n: Positive | None = Field(None, description="Results wanted; all by default.")
    return_documents: bool | None = Field(None, description="Whether results hold the texts; true.")
    truncation: bool | None = Field(
        None, description="Whether texts that are too long are cut (true), or refused."
    )
    explain: bool = Field(
        False,
        description="An extension: results hold `matches`, what each token of the query matched. Their "
        "similarities sum up to the score.",
    )


class IndexRequest(_Request):
    """A new index."""

    model_config = _such_as({"name": "notes", "passage_tokens": 250})

    name: str = Field(pattern=NAME_PATTERN)
    bits: Literal[1, 2, 4, 8, 16] = Field(2, description="Residual bits a dimension; 8 is int8, 16 float16.")
    dimensions: Whole | None = Field(None, description="Width of the vectors, the widest by default.")
    passage_tokens: Positive | None = Field(
        None, description="Cut longer texts into passages of at most so many tokens."
    )
    passage_overlap: Natural | None = Field(
        None,
        description="Tokens that a passage shares with the one before. At most passage_tokens - 1, more "
        "counts as that; without passage_tokens it means nothing.",
    )
    pool_factor: Factor = Field(
        1,
        description="Keep one vector of about so many of each document or passage, by clustering its tokens.",
    )
    max_vectors: Positive | None = Field(
        None,
        description="Keep at most so many vectors of each document or passage, by clustering its tokens.",
    )


class Document(_Request):
    """One document; any other field of it is metadata too."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    id: Id = Field(description="A document with this id is replaced.")
    text: str
    metadata: dict[str, Any] | None = Field(None, description="What `where` compares.")

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, record: Any) -> Any:
        if not isinstance(record, dict) or record.keys() <= _DOCUMENT_FIELDS:
            return record
        metadata = record.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            return {"id": record.get("id"), "text": record.get("text"), "metadata": metadata}
        kept = {name: record[name] for name in ("id", "text") if name in record}
        return {**kept, "metadata": metadata_of(record, ("id", "text"))}


_DOCUMENT_FIELDS: Final = frozenset(("id", "text", "metadata"))


def _checked(value: Any, check: ValidatorFunctionWrapHandler) -> CheckedDocument:
    if isinstance(value, CheckedDocument):  # of a body that is read in pieces
        return value
    document: Document = check(value)
    return CheckedDocument(document.id, document.text, check_metadata(document.metadata, "metadata"))


class DocumentsRequest(_Request):
    """Documents to add or replace."""

    model_config = _such_as(
        {
            "documents": [
                {"id": "passport", "text": "Renew a passport with form DS-82, by post.", "year": 2024},
                {"id": "bike", "text": "The bicycle needs new brake pads.", "metadata": {"year": 2019}},
            ]
        }
    )

    documents: list[Annotated[Document, WrapValidator(_checked)]]


Where = Annotated[str, Field(max_length=MOST_WHERE // 16)] | dict[str, Any] | None
_SOME: Final[dict[str, Any]] = {
    "anyOf": [
        {"required": ["ids"], "properties": {"ids": {"type": "array"}}},
        {"required": ["where"], "properties": {"where": {"type": "object", "minProperties": 1}}},
    ]
}


class _Chosen(_Request):
    """Some documents of an index."""

    model_config = ConfigDict(json_schema_extra=_SOME)

    ids: list[str] | None = Field(None, description="These; unknown ids are ignored.")
    where: Where = Field(None, description="Those whose metadata satisfy it, see the search.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.ids is None and self.where is None:
            raise ValueError("give ids or where: which documents.")
        return self


class DeleteRequest(_Chosen):
    """Documents to delete; with ids and where, those that both name."""

    model_config = _such_as({"ids": ["bike"]}, {"where": {"year": {"<": 2020}}}, **_SOME)


def _given(**properties: dict[str, Any]) -> dict[str, Any]:
    """That these are there, and so."""
    return {"required": list(properties), "properties": properties}


_NOTHING: Final = {"type": "null"}
_SET: Final = {"type": "object", "minProperties": 1}
_UNSET: Final = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
_CHANGE: Final[dict[str, Any]] = {
    "anyOf": [
        {"properties": {"replace": _NOTHING}, **{"anyOf": [_given(set=_SET), _given(unset=_UNSET)]}},
        _given(replace={"type": "object"}) | {"not": {"anyOf": [_given(set=_SET), _given(unset=_UNSET)]}},
    ]
}


class UpdateRequest(_Chosen):
    """Metadata to change; give set or unset, or replace."""

    model_config = _such_as(
        {"ids": ["passport"], "set": {"read": True}},
        {"where": {"year": {"<": 2020}}, "unset": ["year"]},
        allOf=[_SOME, _CHANGE],
    )

    set: dict[str, Any] | None = Field(
        None,
        description="Fields that get these values. A dotted name is a field inside another, where there is "
        "that other.",
    )
    unset: list[str] | None = Field(None, description="Fields that go.")
    replace: dict[str, Any] | None = Field(None, description="All of the metadata; {} for none.")


class GetRequest(_Request):
    """Documents to give back."""

    model_config = _such_as({"ids": ["passport", "bike"]})

    ids: Annotated[list[Id], Field(max_length=MOST_READ)]


_SCALAR: Final = {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "null")]}
_ORDERED: Final = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_SCALARS: Final = {"type": "array", "items": _SCALAR}
FILTER_REF: Final = {"$ref": "#/components/schemas/Filter"}
# A filter as an object. Its text form has a grammar that no schema can tell, so that stands in words only.
FILTER: Final = {
    "type": "object",
    "title": "Filter",
    "description": "Fields and what they should be; and, or and not join filters.",
    "properties": {
        "and": {"type": "array", "items": FILTER_REF},
        "or": {"type": "array", "items": FILTER_REF},
        "not": FILTER_REF,
    },
    "additionalProperties": {
        "anyOf": [
            *_SCALAR["anyOf"],
            {
                "type": "object",
                "properties": {
                    **dict.fromkeys(("=", "==", "!="), _SCALAR),
                    **dict.fromkeys(("<", "<=", ">", ">="), _ORDERED),
                    **dict.fromkeys(("in", "not in"), _SCALARS),
                    "exists": {"type": "boolean"},
                },
                "additionalProperties": False,
            },
        ]
    },
}


class SearchRequest(_Request):
    """A search."""

    model_config = _such_as(
        {"query": "how do I renew my passport", "k": 3},
        {"query": "passport", "mode": "bm25", "where": {"year": {">=": 2020}}, "explain": True},
    )

    query: Annotated[str, Field(pattern=WORD_PATTERN, max_length=MOST_QUERY)]
    k: Annotated[int, Field(ge=1, le=1000), BeforeValidator(_whole)] = 10
    where: Where = Field(
        None,
        description="Only documents whose metadata satisfy it, as an object or as text, e.g. "
        '{"year": {">=": 2020}} or \'year >= 2020\'.',
    )
    mode: Literal["late", "bm25", "hybrid"] = "late"
    exhaustive: bool = Field(False, description="Score every document exactly.")
    explain: bool = Field(False, description="Hits hold `matches`, and the answer `stages` and `roads`.")
    partial: bool = Field(
        False,
        description="Of an index on several shards: where some give no answer in time, take the hits of the "
        "others, and `missing_shards`. Otherwise that is an error, 503. An index of a data folder has none "
        "that could be missing.",
    )


class Fault(_Model):
    """What does not fit in one field."""

    field: str
    message: str
    type: str
    input: Any = Field(description="Numbers and flags as they are; of anything else only what it is.")


class ProblemBody(_Model):
    """An answer that is no result."""

    detail: str
    code: str
    request_id: str


class ValidationBody(ProblemBody):
    """An answer to a request that does not fit."""

    errors: list[Fault]


class Usage(_Model):
    """Tokens that the model was given."""

    total_tokens: int
    prompt_tokens: int
    truncated_texts: int = Field(description="An extension: texts whose end the model did not read.")


_Matrix = list[list[float]]


class VectorsByType(_Model):
    """Vectors of a text in several types."""

    float: _Matrix | None = None
    base64: list[str] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None


class Vectors(_Model):
    """Token vectors of one text, one entry a token."""

    object: Literal["embeddings"]
    index: int
    embeddings: _Matrix | list[str] | VectorsByType


class VectorsResponse(_Model):
    """Token vectors of all texts, in order."""

    model: str
    object: Literal["list"]
    data: list[Vectors]
    usage: Usage


class Part(_Model):
    """Characters of a text: [start, end) in Unicode code points."""

    start: int
    end: int
    text: str


class Match(_Model):
    """A token of the query and the token it matched best; null for markers, which no characters stand for."""

    query: Part | None
    document: Part | None
    similarity: float = Field(
        description="The cosine of the two; in mode bm25 the word's share of what the rarest weighs."
    )
    telling: bool = Field(
        description="Whether it says anything of the text: the word is not in many of the index's texts, and "
        "the match stands out from the rest of the text."
    )


CONFIDENCE: Final = Field(
    None,
    ge=0,
    le=1,
    description="How likely the text answers the query, whatever the length of the query; not there where "
    "the model has no calibration, and in mode bm25. An extension of Jina's contract.",
)
WEAK: Final = Field(
    None, description="Whether `confidence` is below the point that was measured for the model: a weak match."
)


class TextOnly(_Model):
    """A document of a rerank request."""

    text: str


class RerankResult(_Model):
    """One passage. `index` is its position in the request."""

    index: int
    relevance_score: float
    document: TextOnly | None = None
    confidence: float | None = CONFIDENCE
    weak: bool | None = WEAK
    matches: list[Match] | None = None


class RerankResponse(_Model):
    """Passages, best first."""

    model: str
    object: Literal["list"]
    results: list[RerankResult]
    usage: Usage


class Model(_Model):
    """The served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: list[int]
    precision: str
    max_tokens: int
    aliases: list[str]


class ModelsResponse(_Model):
    """The models; one."""

    object: Literal["list"]
    data: list[Model]


class IndexInfo(_Model):
    """An index."""

    name: str
    object: Literal["index"]
    state: Literal["ready"]
    documents: int
    passages: int
    tokens: int
    bytes: int
    deleted: int
    generation: int
    dimensions: int
    bits: int
    passage_tokens: int | None
    passage_overlap: int | None
    pool_factor: int
    max_vectors: int | None
    model: str | None
    precision: str | None


class UnusableIndex(_Model):
    """An index, or a folder of its name, that cannot be used; what is asked of it is an error."""

    name: str
    object: Literal["index"]
    state: Literal["newer_format", "damaged", "foreign", "unreadable", "other_model", "incomplete"] = Field(
        description="newer_format: a newer version of latebolt wrote it; damaged: files are missing or not "
        "as they were written; foreign: the folder holds something else; unreadable: the system does not let "
        "the server read it; other_model: made with another model than the one served here; "
        "incomplete: a shard of it gives no answer."
    )
    detail: str = Field(description="What it is, and the way out.")


class IndexesResponse(_Model):
    """All indexes, by name."""

    object: Literal["list"]
    data: list[IndexInfo | UnusableIndex]


class SnapshotInfo(_Model):
    """A copy of an index. Its figures are null where it is not ready."""

    object: Literal["snapshot"]
    index: str
    name: str
    state: Literal["ready", "newer_format", "damaged", "foreign", "unreadable"]
    created: float | None
    documents: int | None
    bytes: int | None = Field(description="Of its files, which it may share with the index.")
    generation: int | None = Field(description="Of the index, when it was copied.")


class SnapshotsResponse(_Model):
    """All snapshots, by index and name."""

    object: Literal["list"]
    data: list[SnapshotInfo]


class AddedResponse(_Model):
    """Documents that are on disk; `truncated` of them, or of their passages, were not read to the end."""

    index: str
    added: int
    truncated: int
    unread_script: bool = Field(
        description="Whether most of the texts, by a sample, are in a script that the model does not read: "
        "search them with mode bm25, or serve a model that does, such as multilingual."
    )
    ids: list[str]


class DeletedResponse(_Model):
    """How many of the documents there were."""

    index: str
    deleted: int


class UpdatedResponse(_Model):
    """How many documents have other metadata now."""

    index: str
    updated: int


class DocumentBody(_Model):
    """A document as it is stored."""

    id: str
    text: str | None
    metadata: dict[str, Any] | None


class DocumentsResponse(_Model):
    """Documents in the order of the ids; null for one that is not there."""

    index: str
    object: Literal["list"]
    documents: list[DocumentBody | None]


class JobBody(_Model):
    """An addition in the background: `committed` documents, in the order they were sent, are on disk."""

    id: str
    object: Literal["job"]
    index: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"] = Field(
        description="cancelled: by a request, or with its index. interrupted: its documents were lost; send "
        "them again."
    )
    documents: int
    committed: int = Field(
        description="All of them when it is done. After a restart it goes on behind these."
    )
    created: float
    ended: float | None
    detail: str | None
    code: str | None = Field(description="Of a job that failed: the code of an answer to the same.")
    truncated: int | None = Field(description="Of a job that is done, as in the answer to an addition.")
    unread_script: bool | None = Field(description="As `truncated`.")


class JobsResponse(_Model):
    """Jobs, newest first."""

    object: Literal["list"]
    data: list[JobBody]


class SearchHit(_Model):
    """A document that was found."""

    id: str
    score: float
    text: str | None
    metadata: dict[str, Any] | None
    place: dict[str, Any] | None = Field(
        None, description='Where the text stands in what it was read from, such as {"page": 3}; if known.'
    )
    confidence: float | None = CONFIDENCE
    weak: bool | None = WEAK
    matches: list[Match] | None = None


class Stage(_Model):
    """A stage of a search and its time."""

    name: str
    ms: float
    documents: int


class Road(_Model):
    """How a segment was searched (exact, centroids or lists), and why."""

    segment: str
    way: str
    why: str


class SearchResponse(_Model):
    """Hits, best first."""

    index: str
    object: Literal["list"]
    hits: list[SearchHit]
    truncated: bool = Field(description="Whether the query has an end that the model did not read.")
    stages: list[Stage] | None = None
    roads: list[Road] | None = None
    missing_shards: list[int] | None = Field(
        None,
        description="Where `partial` was asked for: numbers of the shards whose documents are not among the "
        "hits.",
    )


class Health(_Model):
    """A word on the server's state."""

    status: str


class RequestSummary(_Model):
    """Requests of one kind and their times; null where there were none."""

    requests: int
    p50_ms: float | None
    p95_ms: float | None


class MetricsSummary(_Model):
    """The server in figures, since its start."""

    requests: dict[str, RequestSummary]
    in_flight: int
    queue_texts: int
    queue_tokens: int
    cache_hits: int
    cache_misses: int
    errors: dict[str, int]
