"""The endpoints of Jina's contract: token vectors, reranking, models."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from latebolt.alignment import match_tokens
from latebolt.arrays import Float32
from latebolt.encoder.text import TokenIds
from latebolt.serve import metrics
from latebolt.serve.engine.batcher import count_truncated
from latebolt.serve.http.answers import answer, matches_json, vectors_json
from latebolt.serve.http.requests import problems
from latebolt.serve.http.routes import Routes
from latebolt.serve.http.schemas import (
    ModelsResponse,
    RerankRequest,
    RerankResponse,
    VectorsRequest,
    VectorsResponse,
)
from latebolt.serve.metrics_summary import VECTOR_PATHS
from latebolt.serve.problems import fault, invalid, invalid_fields
from latebolt.serve.state.service import Service, score


def router(service: Service) -> Routes:
    """The routes."""
    routes = Routes(["Jina"])

    async def vectors(request: VectorsRequest) -> Response:
        return await _vectors(service, request)

    for path in VECTOR_PATHS:
        routes.add(
            "POST",
            path,
            vectors,
            summary="Token vectors of texts",
            name=path.rsplit("/", 1)[1],
            responses={200: {"model": VectorsResponse}, **problems(404, 413, 415, 422, 429, 503, 504)},
        )

    @routes.post(
        "/v1/rerank",
        summary="Passages by MaxSim with a query",
        responses={200: {"model": RerankResponse}, **problems(404, 413, 415, 422, 429, 503, 504)},
    )
    async def rerank(request: RerankRequest) -> Response:
        return await _rerank(service, request)

    @routes.get(
        "/v1/models",
        summary="The served model",
        responses={200: {"model": ModelsResponse}, **problems(503)},
    )
    async def models() -> Response:
        return answer({"object": "list", "data": [_model(service)]})

    return routes


async def _vectors(service: Service, request: VectorsRequest) -> Response:
    service.check_model(request.model)
    _check_count(service, "input", request.input)
    encoder = service.encoder(request.dimensions)
    kind = request.input_type or "document"
    tokens = await service.tokenize(encoder, request.input, kind)
    count_truncated(kind, sum(each.truncated for each in tokens))
    n_vectors, most = sum(len(each.ids) for each in tokens), service.settings.max_vectors
    if n_vectors > most:
        raise invalid("input", f"would give {n_vectors} vectors, at most {most} fit in an answer. Send less.")
    asked = request.embedding_type or "float"
    types = [asked] if isinstance(asked, str) else asked

    def piece_of(_: int, found: Float32) -> msgspec.Raw:
        return vectors_json(found, types, alone=isinstance(asked, str))

    pieces = await service.encode(encoder, kind, tokens, piece_of)
    with metrics.stage("answer"):
        data = [{"object": "embeddings", "index": i, "embeddings": piece} for i, piece in enumerate(pieces)]
        return answer({"model": service.model_name, "object": "list", "data": data, "usage": _usage(tokens)})


async def _rerank(service: Service, request: RerankRequest) -> Response:
    service.check_model(request.model)
    _check_count(service, "documents", request.documents)
    encoder, texts = service.encoder(), request.documents
    [query] = query_tokens = await service.tokenize(encoder, [request.query], "query")
    tokens = await service.tokenize(encoder, texts, "document")
    if request.truncation is False:
        _refuse_truncated(query, tokens)
    count_truncated("query", query.truncated)
    count_truncated("document", sum(each.truncated for each in tokens))
    [vectors] = await service.encode(encoder, "query", query_tokens, lambda _, found: found)
    scores: list[float] = await service.encode(
        encoder, "document", tokens, lambda _, found: score(vectors, found)
    )
    with metrics.stage("answer"):
        count = len(texts) if request.top_n is None else request.top_n
        best = heapq.nsmallest(count, range(len(texts)), key=lambda i: (-scores[i], i))
        results: list[dict[str, Any]] = [{"index": i, "relevance_score": scores[i]} for i in best]
        if (calibration := encoder.calibration) is not None:
            for result in results:
                rated = calibration.of(result["relevance_score"], len(vectors))
                result |= {"confidence": rated.value, "weak": rated.weak}
        if request.return_documents is not False:
            for result, i in zip(results, best, strict=True):
                result["document"] = {"text": texts[i]}
    if request.explain:
        spans = encoder.spans(request.query, "query")

        def explained(place: int, found: Float32) -> list[dict[str, Any]]:
            text = texts[best[place]]
            matches = match_tokens(vectors, spans, found, encoder.spans(text, "document"))
            return matches_json(request.query, text, matches)

        # The cache still knows these; asked for again so that a scored text leaves nothing behind.
        again = await service.encode(encoder, "document", [tokens[i] for i in best], explained)
        for result, matches in zip(results, again, strict=True):
            result["matches"] = matches
    usage = _usage([query, *tokens])
    return answer({"model": service.model_name, "object": "list", "results": results, "usage": usage})


def _usage(tokens: Sequence[TokenIds]) -> dict[str, int]:
    total = sum(len(each.ids) for each in tokens)
    truncated = sum(each.truncated for each in tokens)
    return {"total_tokens": total, "prompt_tokens": total, "truncated_texts": truncated}


def _check_count(service: Service, field: str, texts: Sequence[str]) -> None:
    most = service.settings.max_items
    if len(texts) > most:
        raise invalid(field, f"has {len(texts)} texts, at most {most} are taken. Send less at a time.")


def _refuse_truncated(query: TokenIds, documents: Sequence[TokenIds]) -> None:
    faults = [
        fault(field, "has more tokens than the model takes, and truncation is false.", None, "too_long")
        for field, tokens in [("query", query), *((f"documents.{i}", t) for i, t in enumerate(documents))]
        if tokens.truncated
    ]
    if faults:
        raise invalid_fields(faults)


def _model(service: Service) -> dict[str, Any]:
    contract = service.contract
    return {
        "id": service.model_name,
        "object": "model",
        "created": int(service.begun),
        "owned_by": contract.source.name,
        "dimensions": service.dims,
        "precision": service.precision,
        "max_tokens": contract.document.max_tokens,
        "aliases": service.aliases,
    }
