"""The endpoints of named indexes and of jobs."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field
from starlette.responses import Response

from latebolt.encoder.tally import gathered
from latebolt.errors import InvalidInput
from latebolt.serve import metrics
from latebolt.serve.engine.batcher import current_ticket
from latebolt.serve.engine.coalesce import Coalescer
from latebolt.serve.http.answers import answer, matches_json
from latebolt.serve.http.requests import problems
from latebolt.serve.http.routes import Query, Routes
from latebolt.serve.http.schemas import (
    MOST_WHERE,
    AddedResponse,
    DeletedResponse,
    DeleteRequest,
    DocumentsRequest,
    DocumentsResponse,
    GetRequest,
    IndexesResponse,
    IndexInfo,
    IndexRequest,
    JobBody,
    JobsResponse,
    SearchRequest,
    SearchResponse,
    SnapshotInfo,
    SnapshotsResponse,
    UpdatedResponse,
    UpdateRequest,
    Where,
)
from latebolt.serve.problems import Problem, invalid
from latebolt.serve.settings import NAME_PATTERN
from latebolt.serve.state.holdings import Found, Wanted
from latebolt.serve.state.service import Service

Name = Annotated[str, Field(pattern=NAME_PATTERN, description="Name of an index.")]
SnapshotName = Annotated[str, Field(pattern=NAME_PATTERN, description="Name of a snapshot.")]
NewSnapshot = Annotated[
    Annotated[str, Field(pattern=NAME_PATTERN)] | None,
    Query("Name of the snapshot, as indexes have names; the time by default."),
]


def router(service: Service) -> Routes:
    """The routes."""
    routes = Routes(["Indexes"], strict=True)
    indexes, jobs = service.indexes, service.jobs

    async def run(key: tuple[str, Wanted], queries: list[str]) -> list[Found]:
        return await service.in_thread(service.searches, _search, service, *key, queries)

    # One thread is left for an explained search, or a look at an index.
    coalescer = Coalescer(run, max(1, service.settings.searches - 1))

    @routes.post(
        "/v1/indexes",
        status_code=201,
        summary="Make an index",
        responses={201: {"model": IndexInfo}, **problems(409, 413, 415, 422, 429, 503, 504)},
    )
    async def create(request: IndexRequest) -> Response:
        _name_in_log(request.name)
        dim = service.encoder(request.dimensions).dim
        cutting = request.passage_tokens, request.passage_overlap
        pooling = request.pool_factor, request.max_vectors
        made = await service.write(indexes.create, request.name, dim, request.bits, *cutting, *pooling)
        return answer(made, 201)

    @routes.get(
        "/v1/indexes",
        summary="All indexes",
        responses={200: {"model": IndexesResponse}, **problems(429, 503, 504)},
    )
    async def all_indexes() -> Response:
        found = await service.in_thread(service.searches, indexes.all)
        return answer({"object": "list", "data": found})

    @routes.get(
        "/v1/indexes/{name}",
        summary="An index in figures",
        responses={200: {"model": IndexInfo}, **problems(404, 409, 422, 429, 503, 504)},
    )
    async def describe(name: Name) -> Response:
        return answer(await service.in_thread(service.searches, indexes.describe, name))

    @routes.delete(
        "/v1/indexes/{name}",
        status_code=204,
        summary="Delete an index with all it holds",
        description="Its jobs end as cancelled.",
        responses=problems(404, 409, 422, 429, 503, 504),
    )
    async def delete(name: Name) -> Response:
        await service.write(jobs.delete_index, name)
        return Response(status_code=204)

    @routes.post(
        "/v1/indexes/{name}/documents",
        summary="Add documents, or replace those of the same ids",
        description="Answers when all of them are on disk; none is where it does not answer with 200. With "
        "background=true it answers at once with a job, which commits them some at a time, lets other "
        "writers of the index have their turns in between, and goes on after a restart of the server.",
        responses={
            200: {"model": AddedResponse},
            202: {"model": JobBody, "description": "A job"},
            **problems(404, 409, 413, 415, 422, 429, 503, 504),
        },
    )
    async def add(
        name: Name, request: DocumentsRequest, background: Annotated[bool, Query()] = False
    ) -> Response:
        documents, most = request.documents, service.settings.max_documents
        if len(documents) > most:
            raise invalid("documents", f"has {len(documents)} entries, at most {most} are taken at a time.")
        if background:
            return answer(await service.write(jobs.begin, name, documents), 202)
        added = await service.write(indexes.add, name, documents)
        counts = {"added": len(added.ids), "truncated": added.truncated, "unread_script": added.unread_script}
        return answer({"index": name, **counts, "ids": added.ids})

    @routes.post(
        "/v1/indexes/{name}/documents/delete",
        summary="Delete documents, by their ids or by a filter",
        responses={200: {"model": DeletedResponse}, **problems(404, 409, 413, 415, 422, 429, 503, 504)},
    )
    async def remove(name: Name, request: DeleteRequest) -> Response:
        _where_json(request.where)
        found = await service.write(indexes.remove, name, request.ids, request.where)
        return answer({"index": name, "deleted": found})

    @routes.patch(
        "/v1/indexes/{name}/documents",
        summary="Change documents' metadata, by their ids or by a filter",
        description="One commit, which is on disk when this answers. No text is encoded.",
        responses={200: {"model": UpdatedResponse}, **problems(404, 409, 413, 415, 422, 429, 503, 504)},
    )
    async def update(name: Name, request: UpdateRequest) -> Response:
        _where_json(request.where)
        change = {"set": request.set, "unset": request.unset, "replace": request.replace}
        chosen = request.ids, request.where
        updated = await service.write(indexes.update, name, *chosen, change)
        return answer({"index": name, "updated": updated})

    @routes.post(
        "/v1/indexes/{name}/documents/get",
        summary="Documents by their ids",
        responses={200: {"model": DocumentsResponse}, **problems(404, 409, 413, 415, 422, 429, 503, 504)},
    )
    async def read(name: Name, request: GetRequest) -> Response:
        found = await service.in_thread(service.searches, indexes.read, name, request.ids)
        return answer({"index": name, "object": "list", "documents": found})

    @routes.post(
        "/v1/indexes/{name}/search",
        summary="The best documents for a query",
        responses={200: {"model": SearchResponse}, **problems(404, 409, 413, 415, 422, 429, 503, 504)},
    )
    async def search(name: Name, request: SearchRequest) -> Response:
        where = _where_json(request.where)
        wanted = Wanted(request.k, where, request.exhaustive, request.mode, request.partial)
        is_cut = request.mode != "bm25" and await service.is_cut(request.query)
        if request.explain:
            found, missing = await service.in_thread(
                service.searches, _explain, service, name, request.query, wanted
            )
        else:
            hits, missing = await coalescer.ask((name, wanted), request.query)
            found = {"hits": [hit.record() for hit in hits]}
        told = {"missing_shards": missing} if request.partial else {}
        return answer({"index": name, "object": "list", **found, "truncated": is_cut, **told})

    @routes.post(
        "/v1/indexes/{name}/snapshot",
        status_code=201,
        tags=["Snapshots"],
        summary="Copy an index as of its last commit, while writers work",
        description="The copy is an index of its own, in a folder of the server's; it outlives the index. On "
        "one disk it shares the files of the index, which never change.",
        responses={201: {"model": SnapshotInfo}, **problems(404, 409, 422, 429, 503, 504)},
    )
    async def snapshot(name: Name, snapshot: NewSnapshot = None) -> Response:
        made = await service.write(service.snapshots.make, name, snapshot)
        return answer(made, 201)

    @routes.get(
        "/v1/snapshots",
        tags=["Snapshots"],
        summary="All snapshots",
        responses={200: {"model": SnapshotsResponse}, **problems(429, 503, 504)},
    )
    async def all_snapshots() -> Response:
        found = await service.in_thread(service.searches, service.snapshots.all)
        return answer({"object": "list", "data": found})

    @routes.delete(
        "/v1/snapshots/{name}/{snapshot}",
        status_code=204,
        tags=["Snapshots"],
        summary="Remove a snapshot",
        responses=problems(404, 422, 429, 503, 504),
    )
    async def remove_snapshot(name: Name, snapshot: SnapshotName) -> Response:
        await service.write(service.snapshots.remove, name, snapshot)
        return Response(status_code=204)

    @routes.get(
        "/v1/jobs",
        tags=["Jobs"],
        summary="Jobs, newest first",
        responses={200: {"model": JobsResponse}, **problems(429, 503, 504)},
    )
    async def all_jobs() -> Response:
        return answer({"object": "list", "data": await service.in_thread(service.searches, jobs.all)})

    @routes.get(
        "/v1/jobs/{id}",
        tags=["Jobs"],
        summary="How far a job is",
        responses={200: {"model": JobBody}, **problems(404, 422, 429, 503, 504)},
    )
    async def job(id: str) -> Response:
        return answer(jobs.get(id))

    @routes.delete(
        "/v1/jobs/{id}",
        tags=["Jobs"],
        summary="Cancel a job",
        description="Answers with its last state when nothing more of it will be committed; `committed` "
        "documents are on disk and stay. One that has ended is left as it is.",
        responses={200: {"model": JobBody}, **problems(404, 422, 429, 503, 504)},
    )
    async def cancel(id: str) -> Response:
        return answer(await service.write(jobs.cancel, id))

    return routes


def _name_in_log(index: str) -> None:
    ticket = current_ticket.get()
    if ticket is not None:
        ticket.index = index


def _where_json(where: Where) -> bytes:
    content = msgspec.json.encode(where)
    if len(content) > MOST_WHERE:
        raise invalid("where", f"has {len(content)} bytes as JSON, at most {MOST_WHERE} are taken.")
    return content


def _search(service: Service, name: str, wanted: Wanted, queries: list[str]) -> list[Found]:
    with metrics.stage("search"), gathered():  # said in the answer
        try:
            return service.indexes.search(name, queries, wanted)
        except InvalidInput as error:
            raise _problem(error) from error


def _explain(
    service: Service, name: str, query: str, wanted: Wanted
) -> tuple[dict[str, Any], tuple[int, ...]]:
    with metrics.stage("search"), gathered():
        try:
            found, missing = service.indexes.explain(name, query, wanted)
        except InvalidInput as error:
            raise _problem(error) from error
    hits = [
        {**hit.record(), "matches": matches_json(query, hit.text or "", matches)}
        for hit, matches in zip(found.hits, found.tokens, strict=True)
    ]
    explained = {
        "hits": hits,
        "stages": [stage._asdict() for stage in found.stages],
        "roads": [road._asdict() for road in found.roads],
    }
    return explained, missing


def _problem(error: InvalidInput) -> Problem:
    """The one field of a checked search request that may still not fit is its filter."""
    return invalid("where", str(error).removeprefix("where: "))
