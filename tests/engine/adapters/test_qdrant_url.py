"""A collection behind a URL: requests of the real client, tried again while the server is away, and the
command line that copies an index there. The server is a stand-in, see `qdrant_stand_in`."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest

from late_imports import late_imports
from latebolt import Index, TokenVectors
from latebolt.cli import run
from latebolt.errors import LateboltError, ModelMismatch

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
    from qdrant_stand_in import stand_in

    from latebolt.adapters.qdrant import Collection, is_transient, readable_errors
    from latebolt.adapters.qdrant_common.push import push
    from latebolt.adapters.qdrant_common.requests import Found
    from latebolt.adapters.qdrant_common.shape import point_id
    from latebolt.adapters.qdrant_edge import Shard

late = late_imports(globals())

TEXTS = ["ZipFile.extractall unpacks an archive", "str.split cuts a string at whitespace", "a socket listens"]
IDS = ["zip", "split", "socket"]


@pytest.fixture
def server():
    with stand_in() as running:
        yield running


@pytest.fixture
def client(server):
    return QdrantClient(url=server.url, check_compatibility=False)


def latebolt(*arguments: str, env=None) -> subprocess.CompletedProcess:
    """The command line in this process: another would import the client for a second and a half."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, env or {}):
        code = run([*arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("first_stage", [None, "mean", "pooled"])
def test_texts_go_in_and_hits_come_out(server, client, encoder, first_stage):
    made = Collection.create(client, "docs", encoder, first_stage=first_stage, quantization="scalar")
    made.add(TEXTS, ids=IDS, metadata=[{"n": i} for i in range(3)])
    again = Collection.open(client, "docs", encoder)
    assert len(again) == 3 and again.first_stage == first_stage
    hits = again.search("how do I unpack a zip file", k=2)
    best = encoder.rerank("how do I unpack a zip file", TEXTS)[0]
    assert hits[0].id == "zip" and hits[0].metadata == {"n": 0}
    assert hits[0].score == pytest.approx(best.score, abs=1e-4)
    again.delete(["zip"])
    assert len(again) == 2 and "zip" not in [hit.id for hit in again.search("zip", exhaustive=True)]


def test_requests_stay_small_and_numbers_short(server, client, rng):
    made = Collection.create(client, "docs", dim=128)
    vectors = TokenVectors.from_matrices([rng.unit(400, 128) for _ in range(40)])
    made.add_vectors([str(i) for i in range(40)], vectors)
    sizes = server.sizes()
    assert len(sizes) > 2 and max(sizes) < 5_000_000
    assert sum(sizes) < 12.5 * vectors.values.size
    query = rng.unit(8, 128)
    expected = np.array([np.max(query @ matrix.T, axis=1).sum() for matrix in vectors])
    hits = made.search_vectors(query, k=40)
    assert [int(hit.id) for hit in hits] == np.argsort(-expected).tolist()
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(expected)[::-1], atol=1e-4)


def test_a_document_larger_than_a_server_takes_is_shortened(server, client, rng):
    made = Collection.create(client, "docs", dim=128)
    long_one = rng.unit(8192, 128)
    long_one[4001] = long_one[4000]  # the neighbours most alike
    made.add_vectors(["long"], TokenVectors.from_matrices([long_one]))
    [record] = server.engine.retrieve("docs", [point_id("long")], with_vectors=True)
    expected = np.delete(long_one, 4001, axis=0)
    np.testing.assert_allclose(np.array(record.vector), expected, atol=1e-6)


def test_a_request_is_tried_again_while_the_server_is_away(server, client, encoder, caplog):
    made = Collection.create(client, "docs", encoder)
    # Unavailable, busy for a second, and gone after it has written but before it has said so.
    server.faults = [(503, {}), (429, {"Retry-After": "1"}), lambda: None]
    start = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        made.add(TEXTS, ids=IDS)
    assert len(server.sizes()) == 4 and time.perf_counter() - start > 1
    assert len(made) == 3  # written twice, there once
    assert [record.message.count("Trying again") for record in caplog.records] == [1, 1, 1]


def test_patience_ends(server, client, encoder):
    made = Collection.create(client, "docs", encoder)
    made.patience = 0.5
    server.faults = [(503, {})] * 50
    with pytest.raises(UnexpectedResponse, match="503"):
        made.add(TEXTS, ids=IDS)
    assert 1 < len(server.sizes()) < 20


def test_a_refusal_is_not_tried_again(server, client, encoder):
    made = Collection.create(client, "docs", encoder)
    server.faults = [(400, {})] * 2
    with pytest.raises(UnexpectedResponse, match="400"):
        made.add(TEXTS, ids=IDS)
    assert len(server.sizes()) == 1


def test_errors_of_the_client_are_its_own(server, client, encoder):
    Collection.create(client, "docs", encoder)
    with pytest.raises(UnexpectedResponse, match="409"):
        Collection.create(client, "docs", encoder)
    with pytest.raises(UnexpectedResponse, match="404"):
        Collection.open(client, "nothing", encoder)
    with pytest.raises(ModelMismatch, match="size 128"):
        Collection.open(client, "docs", encoder.with_dim(64))
    down = QdrantClient(url="http://127.0.0.1:1", check_compatibility=False)
    with pytest.raises(ResponseHandlingException):
        Collection.open(down, "docs", encoder)


def test_a_server_that_is_down_is_told_over_grpc_too(encoder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        down = QdrantClient(
            url="http://127.0.0.1", grpc_port=port, prefer_grpc=True, check_compatibility=False, timeout=5
        )
        with pytest.raises(LateboltError, match="cannot be reached"), readable_errors("http://127.0.0.1"):
            Collection.open(down, "docs", encoder)
        made = Collection(down, "docs", Found(128, None, {}, None), encoder)
        made.patience = 0.3
        start = time.perf_counter()
        with pytest.raises(Exception, match="UNAVAILABLE") as caught:
            made.add(TEXTS, ids=IDS)
        assert is_transient(caught.value) and time.perf_counter() - start < 10
        down.close()


def test_passages_are_grouped_by_the_server(server, client, encoder, tmp_path):
    index = Index.create(tmp_path / "cut", encoder, passage_tokens=8, passage_overlap=0)
    index.add(["the cat sleeps on the sofa. the train is late. old letters.", "the moon"], ["long", "moon"])
    target = Collection.create(client, "docs", encoder, like=index, first_stage="mean")
    push(index, target)
    ours = index.search("a late train", k=2, exhaustive=True)
    hits = target.search("a late train", k=2)
    assert [(hit.id, hit.text) for hit in hits] == [(hit.id, hit.text) for hit in ours]
    index.delete(["moon"])
    assert push(index, target, prune=True).pruned == 1
    target.delete(["long"])
    assert len(target) == 0


# The command line


@pytest.fixture
def index(tmp_path, encoder) -> Index:
    index = Index.create(tmp_path / "notes.index", encoder)
    index.add(TEXTS, IDS, [{"n": i} for i in range(3)])
    return index


def test_push_to_a_url(server, index, encoder):
    done = latebolt("push", str(index.path), "--to", "qdrant", "--url", server.url, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["sent"], told["from_texts"], told["collection"]) == (3, 3, "notes")
    made = Collection.open(QdrantClient(url=server.url, check_compatibility=False), "notes", encoder)
    assert made.first_stage == "mean"
    assert [hit.id for hit in made.search("unpack a zip file", k=1)] == ["zip"]
    index.add(["the moon is bright"], ["moon"])
    index.delete(["zip"])
    done = latebolt("push", str(index.path), "--url", server.url, "--prune")
    assert done.returncode == 0 and "1 of 3 sent" in done.stderr and "1 removed" in done.stderr
    assert len(made) == 3


def test_push_to_a_path_and_to_a_shard(index, encoder, tmp_path):
    storage, shard = str(tmp_path / "storage"), str(tmp_path / "shard")
    done = latebolt(
        "push", str(index.path), "--path", storage, "--collection", "c", "--vectors", "codes", "--json"
    )
    assert done.returncode == 0 and json.loads(done.stdout)["from_codes"] == 3, done.stderr
    client = QdrantClient(path=storage)
    assert Collection.open(client, "c", encoder).search("unpack a zip file", k=1)[0].id == "zip"
    busy = latebolt("push", str(index.path), "--path", storage, "--collection", "c")
    assert busy.returncode == 1 and "already accessed" in busy.stderr
    client.close()
    for sent in (3, 0):
        done = latebolt("push", str(index.path), "--to", "qdrant-edge", "--path", shard, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["sent"] == sent, done.stderr
    with Shard.open(shard, encoder) as opened:
        assert opened.search("unpack a zip file", k=1)[0].id == "zip"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_push_goes_on_after_it_was_stopped(server, tmp_path, rng, sent, code):
    vectors = TokenVectors.from_matrices([rng.unit(200, 128) for _ in range(120)])
    index = Index.create(tmp_path / "big", None, bits=16, dim=128)
    index.add_vectors([str(i) for i in range(120)], vectors)
    command = [sys.executable, "-m", "latebolt", "push", str(index.path), "--url", server.url, "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server.faults = [None, None, lambda: running.send_signal(sent)]
    _, told = running.communicate(timeout=60)
    assert running.returncode == code
    assert ("run the same command again to go on" in told) == (sent == signal.SIGINT)
    there = server.engine.count("big").count
    assert 0 < there < 120
    done = json.loads(latebolt(*command[3:]).stdout)
    assert (done["kept"], done["sent"]) == (there, 120 - there)
    assert server.engine.count("big").count == 120


@pytest.mark.parametrize(
    ("module", "package", "command"),
    [
        ("qdrant_client", "qdrant-client", ["--path", "x"]),
        ("qdrant_edge", "qdrant-edge-py", ["--to", "qdrant-edge", "--path", "x"]),
    ],
)
def test_a_missing_package_is_named(index, module, package, command, tmp_path):
    arguments = ["push", str(index.path), *command]
    code = f"import sys; sys.modules[{module!r}] = None; from latebolt.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{package} is not installed. Run \"pip install 'latebolt[" in done.stderr


@pytest.mark.slow
def test_what_goes_wrong_is_said(server, index, encoder, tmp_path):
    place = str(index.path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        down = latebolt("push", place, "--url", url)
    assert down.returncode == 1 and down.stdout == "" and down.stderr.count("\n") == 1
    assert f"Qdrant at {url}: cannot be reached" in down.stderr and "refused" in down.stderr
    client = QdrantClient(url=server.url, check_compatibility=False)
    Collection.create(client, "notes", encoder.with_dim(64))
    other = latebolt("push", place, "--url", server.url)
    assert other.returncode == 2 and "holds token vectors of size 64" in other.stderr
    server.key = "secret"
    shut = latebolt("push", place, "--url", server.url)
    assert shut.returncode == 1 and "403 (forbidden)" in shut.stderr and "QDRANT_API_KEY" in shut.stderr
    keyed = {"QDRANT_API_KEY": "secret"}
    assert latebolt("push", place, "--url", server.url, "--collection", "new", env=keyed).returncode == 0
    for wrong, said in (
        ([], "one of --url and --path"),
        (["--url", server.url, "--path", "x"], "one of --url and --path"),
        (["--to", "qdrant-edge", "--url", server.url], "give --path instead"),
        (["--to", "qdrant-edge", "--path", "x", "--shards", "2"], "fit only --to qdrant"),
        (["--path", str(tmp_path / "s"), "--collection", "a/b"], "Qdrant at"),
    ):
        done = latebolt("push", place, *wrong)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    gone = latebolt("push", str(tmp_path / "none"), "--path", str(tmp_path / "s"))
    assert gone.returncode == 1 and "no latebolt index here" in gone.stderr
