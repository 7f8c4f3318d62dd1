"""The awaiting collection beside the other one: the same requests, answers and errors, and a free loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from late_imports import late_imports
from latebolt import Index, TokenVectors
from latebolt.errors import InvalidInput, ModelMismatch

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, QdrantClient
    from qdrant_client.http.exceptions import UnexpectedResponse
    from qdrant_stand_in import stand_in

    from latebolt.adapters.qdrant import Collection
    from latebolt.adapters.qdrant_async import AsyncCollection
    from latebolt.adapters.qdrant_common.push import push

late = late_imports(globals())

TEXTS = ["ZipFile.extractall unpacks an archive", "str.split cuts a string", "a socket listens"]
IDS = ["zip", "split", "socket"]


def test_the_two_have_the_same_methods_and_arguments():
    apart = {"__len__": "count"}
    for name, method in inspect.getmembers(Collection, inspect.isroutine):
        if name.startswith("_") and name not in apart:
            continue
        if name == "write":  # of a copy, which does not await
            continue
        other = getattr(AsyncCollection, apart.get(name, name))
        mine = dict(inspect.signature(method).parameters)
        mine.pop("show_progress", None)
        assert list(inspect.signature(other).parameters) == list(mine), name


@pytest.mark.parametrize("first_stage", [None, "mean", "pooled"])
def test_both_answer_the_same(encoder, first_stage):
    with stand_in() as server:

        async def work() -> list:
            client = AsyncQdrantClient(url=server.url, check_compatibility=False)
            made = await AsyncCollection.create(
                client, "docs", encoder, first_stage=first_stage, storage="float16"
            )
            assert await made.add(TEXTS, ids=IDS, metadata=[{"n": i} for i in range(3)]) == IDS
            again = await AsyncCollection.open(client, "docs", encoder)
            assert await again.count() == 3 and again.first_stage == first_stage
            assert again.storage == "float16" and repr(again).startswith("AsyncCollection('docs', dim 128")
            found = [await again.search("unpack a zip file", k=2, exhaustive=e) for e in (False, True)]
            assert len([ids async for ids in again.point_ids()]) == 1
            await client.close()
            return found

        theirs = asyncio.run(work())
        ours = Collection.open(QdrantClient(url=server.url, check_compatibility=False), "docs", encoder)
        assert theirs == [ours.search("unpack a zip file", k=2, exhaustive=e) for e in (False, True)]
        assert theirs[0][0].id == "zip" and theirs[0][0].metadata == {"n": 0}


def test_in_the_clients_own_engine(rng):
    vectors = TokenVectors.from_matrices([rng.unit(4, 32) for _ in range(30)])

    async def work() -> None:
        client = AsyncQdrantClient(":memory:")
        made = await AsyncCollection.create(client, "docs", dim=32, first_stage="mean")
        names = [str(i) for i in range(30)]
        assert await made.add_vectors((n for n in names), vectors, ["x"] * 30) == names
        hits = await made.search_vectors(vectors[7], k=3)
        assert hits[0].id == "7" and hits[0].score == pytest.approx(4, abs=1e-3)
        assert await made.digests([]) == {}
        await made.delete(["7", "none"])
        assert await made.count() == 29
        with pytest.raises(InvalidInput, match="shape"):
            await made.search_vectors(np.zeros((2, 8)))
        with pytest.raises(InvalidInput, match="without an encoder"):
            await made.search("x")
        with pytest.raises(InvalidInput, match="one entry a document"):
            await made.add_vectors(["a"], vectors)
        with pytest.raises(InvalidInput, match="one str"):
            await made.delete("7")
        assert await made.count() == 29

    asyncio.run(work())


def test_passages_are_deleted_and_counted_as_documents(encoder, tmp_path):
    index = Index.create(tmp_path / "cut", encoder, passage_tokens=8, passage_overlap=0)
    index.add(["the cat sleeps on the sofa. the train is late. old letters.", "the moon"], ["long", "moon"])
    with stand_in() as server:
        push(
            index,
            Collection.create(QdrantClient(url=server.url, check_compatibility=False), "docs", like=index),
        )

        async def work() -> None:
            client = AsyncQdrantClient(url=server.url, check_compatibility=False)
            opened = await AsyncCollection.open(client, "docs", encoder)
            assert await opened.count() == 2
            assert [hit.id for hit in await opened.search("a late train", k=2)] == ["long", "moon"]
            await opened.delete(["long"])
            assert await opened.count() == 1 and server.engine.count("docs").count == 1
            await client.close()

        asyncio.run(work())


def test_encoding_and_points_leave_the_loop_free(encoder):
    seen = set()

    class Watched(AsyncCollection):
        def points_of(self, payloads, matrices):
            seen.add(("points", threading.get_ident()))
            return super().points_of(payloads, matrices)

        def query_matrix(self, query):
            seen.add(("query", threading.get_ident()))
            return super().query_matrix(query)

    async def work() -> None:
        made = await Watched.create(AsyncQdrantClient(":memory:"), "docs", encoder)
        await made.add(TEXTS, ids=IDS)
        await made.add_vectors(["v"], encoder.encode_documents(["a cat"]))
        assert (await made.search("unpack a zip file", k=1))[0].id == "zip"

    asyncio.run(work())
    assert {what for what, _ in seen} == {"points", "query"}
    assert threading.get_ident() not in {thread for _, thread in seen}


def test_a_request_is_tried_again_while_the_server_is_away(encoder):
    with stand_in() as server:

        async def work() -> None:
            client = AsyncQdrantClient(url=server.url, check_compatibility=False)
            made = await AsyncCollection.create(client, "docs", encoder)
            server.faults = [(503, {}), (429, {"Retry-After": "1"})]
            await made.add(TEXTS, ids=IDS)
            assert await made.count() == 3 and not server.faults
            made.patience = 0.2
            server.faults = [(503, {})] * 99
            with pytest.raises(UnexpectedResponse, match="503"):
                await made.add(TEXTS, ids=IDS)
            server.faults = [(400, {}), None]
            with pytest.raises(UnexpectedResponse, match="400"):
                await made.add(TEXTS, ids=IDS)
            assert len(server.faults) == 1
            with pytest.raises(ModelMismatch, match="size 128"):
                await AsyncCollection.open(client, "docs", encoder.with_dim(64))
            with pytest.raises(UnexpectedResponse, match="404"):
                await AsyncCollection.open(client, "none")
            await client.close()

        asyncio.run(work())
