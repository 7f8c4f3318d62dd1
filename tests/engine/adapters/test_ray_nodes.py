"""Shards on a Ray cluster of three nodes: what they answer, and what comes of replicas and nodes that die."""

from __future__ import annotations

import importlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import yaml

from late_imports import late_imports
from latebolt import Encoder, Index
from latebolt.client import Client
from latebolt.errors import InputNotFound, InvalidInput, LateboltError, UnknownSetting
from latebolt.sharding import split
from latebolt.sharding.set_file import shard_folder

if TYPE_CHECKING:
    import pyarrow as pa
    import ray
    import ray.data
    from ray import serve
    from ray.serve.schema import ServeDeploySchema
    from ray_nodes import Load, Nodes, kill_process, node_of, replicas, stopped

    from latebolt.adapters.parquet import read_parts
    from latebolt.adapters.ray import write_parts
    from latebolt.adapters.ray.serve import build, deploy

late = late_imports(globals())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc"),
]
DEPLOY = Path(__file__).parents[3] / "deploy"
WORDS = ["cat", "dog", "house", "moon", "river", "stone", "bird", "tree", "lamp", "door", "road", "ship"]
SMALL = {"cpus_per_replica": 0.5, "shard_options": {"resources": {"work": 0.01}}}
ON_HEAD = {"server_options": {"num_cpus": 0.5, "resources": {"head": 0.01}}}


def texts(n: int, first: int = 0) -> list[str]:
    return [
        " ".join(WORDS[(i * k + k * k) % len(WORDS)] for k in range(1, 12)) + f" {i}"
        for i in range(first, first + n)
    ]


def made(path: Path, encoder: Encoder, n: int, first: int = 0) -> Path:
    with Index.create(path, encoder, bits=8) as index:
        ids = [f"d{i}" for i in range(first, first + n)]
        index.add(texts(n, first), ids, [{"n": i} for i in range(first, first + n)])
    return path


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes(2)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield nodes
    nodes.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    return made(tmp_path_factory.mktemp("nodes") / "docs", encoder, 160)


@pytest.fixture(scope="module")
def shards(whole: Path) -> Path:
    split(whole, whole.parent / "docs.shards", 2)
    return whole.parent / "docs.shards"


@pytest.fixture(scope="module")
def url(nodes: Nodes, shards: Path) -> str:
    """Of a server on the head, which asks two replicas of two shards on the two other nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    return deployed(shards)


def deployed(shards: Path, **options: Any) -> str:
    return deploy(
        {"docs": shards},
        **{
            "replicas": 2,
            "replicas_per_node": 1,
            "seconds": 8,
            **ON_HEAD,
            **SMALL,
            **options,
        },
    )


BODIES = [
    {"query": query, "k": 10, "where": "n >= 0"}
    for query in ("moon over the river", "a lamp at the door", "ship", "bird in a tree 17")
]


def as_the_library(
    path: Path, encoder: Encoder, bodies: list[dict[str, Any]]
) -> list[list[tuple[str, float]]]:
    with Index.open(path, encoder) as index:
        return [[(hit.id, hit.score) for hit in index.search(**body)] for body in bodies]


def pairs(hits: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in hits]


def wait_until_whole(seconds: float = 90.0) -> float:
    """Seconds until all replicas run again."""
    begun = time.monotonic()
    while any(len(replicas(f"docs-{number}")) < 2 for number in range(2)):
        assert time.monotonic() < begun + seconds, "replicas do not come back"
        time.sleep(0.2)
    return time.monotonic() - begun


@pytest.mark.parametrize("mode", ["late", "bm25", "hybrid"])
def test_it_answers_as_the_whole_index_does(url: str, whole: Path, encoder: Encoder, mode: Any):
    for body in [{**each, "mode": mode} for each in BODIES]:
        with httpx.Client(base_url=url, timeout=60) as client:
            answer = client.post("/v1/indexes/docs/search", json=body)
            assert answer.status_code == 200, answer.text
            assert len(answer.headers.get_list("x-request-id")) == 1
            explained = client.post("/v1/indexes/docs/search", json={**body, "explain": True}).json()
        with Index.open(whole, encoder) as index:
            expected = index.search(**body, explain=True)
        assert pairs(answer.json()["hits"]) == [(hit.id, hit.score) for hit in expected.hits]
        assert pairs(explained["hits"]) == pairs(answer.json()["hits"])
        told = [[match["similarity"] for match in hit["matches"]] for hit in explained["hits"]]
        for ours, theirs in zip(told, expected.tokens, strict=True):
            np.testing.assert_allclose(ours, [match.similarity for match in theirs], atol=1e-6)


def test_replicas_of_a_shard_are_on_different_nodes(url: str, nodes: Nodes):
    for number in range(2):
        places = [node_of(pid, nodes) for pid in replicas(f"docs-{number}").values()]
        assert len(places) == 2 and places[0] is not places[1]


def test_what_was_written_is_found_at_once_by_every_replica(url: str):
    with Client(url) as client:
        for number in range(4):
            client.add_documents("docs", [{"id": f"walrus{number}", "text": "walruses dive"}])
            for _ in range(6):  # whichever replicas are asked
                found = client.search("docs", "walruses", where="not exists(n)")
                assert {hit.id for hit in found} == {f"walrus{each}" for each in range(number + 1)}
        assert client.delete_documents("docs", [f"walrus{each}" for each in range(4)]) == 4
        assert not any(client.search("docs", "walruses", where="not exists(n)") for _ in range(6))


def test_replicas_that_die_or_hang_fail_no_request(url: str, whole: Path, encoder: Encoder):
    expected = as_the_library(whole, encoder, BODIES)
    with Load(url, BODIES, lambda number, hits: pairs(hits) == expected[number]) as load:
        load.wait_for(20)
        kill_process(next(iter(replicas("docs-0").values())))
        load.wait_for(20)
        with stopped(next(iter(replicas("docs-1").values()))):
            load.wait_for(20)
    assert load.tally.failed == [] and load.tally.wrong == []
    wait_until_whole()


def test_an_update_fails_no_request_and_mixes_nothing(
    url: str, whole: Path, shards: Path, encoder: Encoder, tmp_path: Path
):
    """Other documents, in more shards, and back again in fewer."""
    other = made(tmp_path / "other", encoder, 120, 1000)
    split(other, tmp_path / "set3", 3)
    answers = [as_the_library(path, encoder, BODIES) for path in (whole, other)]
    seen: list[int] = []

    def right(number: int, hits: list[dict[str, Any]]) -> bool:
        found = [which for which in (0, 1) if pairs(hits) == answers[which][number]]
        seen.extend(found)
        return bool(found)

    before = replicas("docs-0")
    with Load(url, BODIES, right, threads=1) as load:
        load.wait_for(5)
        for place, which in ((tmp_path / "set3", 1), (shards, 0)):
            deployed(place)
            load.wait_for(10)
            seen.clear()
            load.wait_for(5)
            assert set(seen) == {which}, "the old answers have gone"
            assert replicas("docs-0") == before, "and the replicas go on running"
    assert load.tally.failed == [] and load.tally.wrong == []


def test_a_node_that_dies_loses_nothing_that_was_acknowledged(
    url: str, nodes: Nodes, whole: Path, encoder: Encoder
):
    expected = as_the_library(whole, encoder, BODIES)

    def right(number: int, hits: list[dict[str, Any]]) -> bool:
        return pairs(hits) == expected[number]

    with Load(url, BODIES, right, writes=True) as load:
        load.wait_for(10)
        nodes.kill(nodes.others[0])
        load.wait_for(30)
        load.pause = 0.5  # what may take long, and hundreds of requests show no more than dozens
        nodes.others.append(nodes.add())
        wait_until_whole()
        load.pause = 0.1
        load.wait_for(10)
    assert load.tally.wrong == [] and load.tally.failed == [] and load.tally.acknowledged
    with Client(url) as client:
        kept = load.tally.acknowledged
        assert None not in client.get_documents("docs", kept), "acknowledged, and lost"
        assert client.delete_documents("docs", where="not exists(n)") >= len(kept)


def test_a_dead_shard_is_named_or_missing_as_asked(url: str, shards: Path, whole: Path, encoder: Encoder):
    folder = shard_folder(shards, 1)
    aside = shutil.move(folder, folder.with_name("aside"))
    try:
        for pid in replicas("docs-1").values():
            kill_process(pid)
        with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(1) as beside:
            # Each takes as long as a shard is waited for; meanwhile replicas wait for their folder.
            refusing = beside.submit(client.post, "/v1/indexes/docs/search", json=BODIES[0])
            # The other shard answers, too, when a machine busy with replicas that cannot start lets it.
            end = time.monotonic() + 120
            while True:
                answer = client.post("/v1/indexes/docs/search", json={**BODIES[0], "partial": True})
                if answer.status_code == 200 or time.monotonic() > end:
                    break
                assert answer.status_code == 503, answer.text
            partial, refused = answer.json(), refusing.result()
        assert refused.status_code == 503 and "shard 1 of the index gives no answer" in refused.text
        assert str(shards) not in refused.text
        [expected] = as_the_library(whole, encoder, [{**BODIES[0], "k": 160}])
        assert partial.get("missing_shards") == [1] and partial["hits"], partial
        assert set(pairs(partial["hits"])) < set(expected)
    finally:
        shutil.move(aside, folder)
    wait_until_whole()


def test_the_config_file_that_comes_along(shards: Path, tmp_path: Path):
    config = yaml.safe_load((DEPLOY / "ray-serve.yaml").read_text())
    ServeDeploySchema.model_validate(config)
    [described] = config["applications"]
    module, _, name = described["import_path"].partition(":")
    make, args = getattr(importlib.import_module(module), name), described["args"]
    (tmp_path / "keys").write_text("a key of a test, long enough\n")
    args["indexes"]["docs"] = str(shards)
    with pytest.raises(InputNotFound, match=r"keys\.txt"):
        make(args)
    args["settings"]["keys_file"] = str(tmp_path / "keys")
    assert isinstance(make(args), serve.Application)
    del args["settings"]["keys_file"]
    with pytest.raises(InvalidInput, match="there is no key"):
        make(args)


def test_what_does_not_fit_is_told(url: str, shards: Path, whole: Path, tmp_path: Path):
    for options, message in (
        ({"settings": {"device": "cuda"}}, "--device does not go with Ray"),
        ({"settings": {"host": "0.0.0.0"}}, "there is no key"),
        ({"settings": {"port": 1}}, "listens at 127.0.0.1, port"),
        ({"replicas": 0}, "replicas and servers should be at least 1"),
        ({"replicas": 4000}, "all replicas together want"),
    ):
        with pytest.raises(InvalidInput, match=message):
            deployed(shards, **options)
    with pytest.raises(LateboltError, match="no shard set here"):
        deployed(whole)
    for args in ({"index": {}}, {"indexes": {"docs": str(shards)}, "settings": {"prot": 1}}):
        with pytest.raises(UnknownSetting):
            build(args)
    assert httpx.get(f"{url}/ready").status_code == 200


def test_a_node_that_dies_loses_no_text_that_is_encoded(
    url: str, nodes: Nodes, encoder: Encoder, tmp_path: Path
):
    serve.delete("latebolt")
    table = pa.table({"id": [f"d{i}" for i in range(240)], "text": texts(240)})
    out, killed = tmp_path / "parts", False

    def kill() -> None:
        nonlocal killed
        while len(list(out.glob("part-*"))) < 3:
            time.sleep(0.02)
        draft = next(iter(out.glob(".part-*.draft")), None)
        victim = nodes.others[0] if draft is None else node_of(int(draft.name.split("-")[-2]), nodes)
        nodes.kill(victim)
        killed = True

    killer = threading.Thread(target=kill)
    killer.start()
    done = write_parts(
        ray.data.from_arrow(table),
        out,
        workers=(2, 2),
        rows_per_part=12,
        ray_remote_args={"num_cpus": 0.5, "resources": {"work": 0.01}},
    )
    killer.join()
    assert killed and done.texts == 240
    parts = list(read_parts(out))
    assert sorted(id for part in parts for id in part.ids) == sorted(f"d{i}" for i in range(240)), "each once"
    listed = json.loads((out / "parts.json").read_text())["parts"]
    assert {path.name for path in out.glob("*part-*")} == set(listed)
    expected = dict(zip((f"d{i}" for i in range(240)), encoder.encode_documents(texts(240)), strict=True))
    for part in parts:
        for id, vectors in zip(part.ids, part.vectors, strict=True):
            np.testing.assert_array_equal(vectors, expected[id])
