"""Encoding on a local Ray cluster of two workers, one of which is killed half way."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from late_imports import late_imports
from latebolt import Encoder, Index
from latebolt.cli import run as command_line
from latebolt.errors import IndexLocked, IndexNotFound, InvalidInput, LateboltError, ModelError, ModelMismatch
from latebolt.index.format.lock import writer_lock
from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    import ray
    import ray.data
    from ray_nodes import Nodes

    from latebolt.adapters.parquet import add_parts, read_parts, vectors_of
    from latebolt.adapters.ray import EncodeTexts, write_parts

late = late_imports(globals())

pytestmark = pytest.mark.slow
HALF = {"num_cpus": 0.5}  # two workers leave a CPU of two for reading
WORDS = ["cat", "dog", "house", "moon", "river", "stone", "bird", "tree", "lamp", "door", "road", "ship"]


def texts(n: int) -> list[str]:
    return [" ".join(WORDS[(i * k + k * k) % len(WORDS)] for k in range(1, 30)) + f" {i}" for i in range(n)]


def rows(n: int) -> pa.Table:
    return pa.table({"id": [f"d{i}" for i in range(n)], "text": texts(n), "n": list(range(n))})


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster with two CPUs, as small as Ray goes."""
    nodes = Nodes(0, head_cpus=2)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield nodes.address
    nodes.close()


@pytest.fixture
def data(cluster) -> ray.data.Dataset:
    return ray.data.from_arrow(rows(240))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """An index of the built-in model with centroids."""
    path = tmp_path_factory.mktemp("trained") / "i"
    encoder = Encoder.load("starter", threads=2)
    with Index.create(path, encoder) as index:
        index.add(texts(400), ids=[f"old{i}" for i in range(400)])
        assert index.info()["centroids"]
    return path


@pytest.fixture
def index(trained, tmp_path) -> Index:
    shutil.copytree(trained, tmp_path / "i")
    return Index.open(tmp_path / "i")


def test_map_batches_adds_the_vectors(data, encoder):
    encoded = data.limit(20).map_batches(
        EncodeTexts,
        fn_constructor_kwargs={"model": "starter", "dim": 64},
        batch_size=8,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    table = pa.concat_tables(ray.get(encoded.to_arrow_refs())).sort_by("n")
    assert table.column_names == ["id", "text", "n", "values", "lengths"]
    assert table.schema.field("values").type == pa.list_(pa.float32())
    expected = encoder.with_dim(64).encode_documents(texts(20))
    found = vectors_of(table, 64)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.offsets, expected.offsets)


@pytest.mark.parametrize("batch_format", ["pyarrow", "numpy", "pandas"])
def test_batches_of_every_format_of_ray(encoder, batch_format):
    """What Ray hands to a worker, by its own conversions."""
    block = ray.data.block.BlockAccessor.for_block(rows(5))
    table = EncodeTexts(model="starter", dim=64)(block.to_batch_format(batch_format))
    expected = encoder.with_dim(64).encode_documents(texts(5))
    np.testing.assert_array_equal(vectors_of(table, 64).values, expected.values)
    assert table.column_names == ["id", "text", "n", "values", "lengths"]


def test_queries_pooling_and_what_cannot_be():
    table = rows(4)
    assert set(EncodeTexts(query=True)(table).column("lengths").to_pylist()) != {0}
    full, pooled = (EncodeTexts(pool_factor=f)(table).column("lengths").to_pylist() for f in (1, 2))
    assert sum(pooled) < 0.7 * sum(full)
    assert max(EncodeTexts(max_vectors=5)(table).column("lengths").to_pylist()) == 5 < max(full)
    encode = EncodeTexts(text_column="body")
    with pytest.raises(InvalidInput, match="no column 'body'; it has id, n, text"):
        encode(table)
    with pytest.raises(InvalidInput, match="no column 'body'"):
        encode(pd.DataFrame({"text": ["a"]}))
    with pytest.raises(ModelError, match="77"):
        EncodeTexts(dim=77)


def test_ray_tells_which_column_is_missing(data):
    with pytest.raises(Exception, match="no column 'body'; it has id, n, text"):
        data.map_batches(
            EncodeTexts,
            fn_constructor_kwargs={"text_column": "body"},
            compute=ray.data.ActorPoolStrategy(size=1),
        ).take_all()


class Killer(threading.Thread):
    """Kills one worker, which is known by the draft it has open, after some parts are there."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.after, self.killed = folder, after, 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set() and not self.killed:
            time.sleep(0.002)
            if not self.folder.is_dir() or len(list(self.folder.glob("part-*"))) < self.after:
                continue
            for draft in self.folder.glob(".part-*.draft"):
                pid = int(draft.name.split("-")[-2])
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
                        os.kill(pid, signal.SIGKILL)
                        # Half way means that it left its draft behind.
                        self.killed = pid if draft.exists() else 0
                        break

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


linux = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the worker by /proc")


@linux
def test_a_killed_worker_loses_nothing_and_doubles_nothing_in_an_index(data, index, encoder, tmp_path):
    twin = shutil.copytree(index.path, tmp_path / "twin")
    out = tmp_path / "parts"
    with Killer(out, after=2) as killer:
        done = write_parts(data, out, index.path, workers=(2, 2), rows_per_part=24, ray_remote_args=HALF)
    assert killer.killed and done.texts == 240 and done.kind == "index"
    assert not list(out.glob(".part-*")), "what the dead worker left is gone"
    assert {p.name for p in out.glob("part-*")} == set(json.loads((out / "parts.json").read_text())["parts"])
    columns = {s.columns for part in out.glob("part-*") for s in Store.open(part).snapshot().segments}
    assert columns == {Store.open(index.path).snapshot().segments[0].columns}, "codes, not vectors"
    assert index.adopt(out) == 240
    assert check_index(index.path) == [] and len(index) == 640
    with Index.open(twin, encoder) as local:
        local.add(texts(240), [f"d{i}" for i in range(240)], [{"n": i} for i in range(240)])
        assert index.info()["tokens"] == local.info()["tokens"]
        for query in ("horse on the road", "moon 17"):
            ours, theirs = (i.search(query, k=30, exhaustive=True) for i in (index, local))
            assert [(h.id, h.text, h.metadata) for h in ours] == [(h.id, h.text, h.metadata) for h in theirs]
    assert index.adopt(out) == 240 and len(index) == 640


@linux
def test_a_killed_worker_loses_nothing_and_doubles_nothing_in_parquet(data, encoder, tmp_path):
    out = tmp_path / "vectors"
    with Killer(out, after=4) as killer:
        done = write_parts(data, out, rows_per_part=12, ray_remote_args=HALF)  # there is no other worker
    assert killer.killed and done.texts == 240
    found = list(read_parts(out))
    ids = [id for part in found for id in part.ids]
    assert sorted(ids) == sorted(f"d{i}" for i in range(240)), "each once"
    expected = dict(zip((f"d{i}" for i in range(240)), encoder.encode_documents(texts(240)), strict=True))
    for part in found:
        for id, vectors in zip(part.ids, part.vectors, strict=True):
            np.testing.assert_array_equal(vectors, expected[id])
    assert done.tokens == sum(len(v) for v in expected.values())
    made = Index.create(tmp_path / "made", encoder)
    assert add_parts(made, out) == 240 and len(made) == 240
    assert made.search(texts(240)[7], k=1)[0].metadata == {"n": 7}
    with pytest.raises(ModelMismatch):
        add_parts(Index.create(tmp_path / "narrow", encoder.with_dim(64)), out)


def test_a_second_run_encodes_what_is_missing_only(cluster, tmp_path):
    data, out = ray.data.from_arrow(rows(48)), tmp_path / "vectors"
    first = write_parts(data, out, rows_per_part=12, ray_remote_args=HALF)
    listed = json.loads((out / "parts.json").read_text())
    assert (first.parts, first.reused) == (4, 0)
    # A job that was stopped: no list, a part less, a draft, and a part of other data.
    (out / "parts.json").unlink()
    lost, *kept = listed["parts"]
    (out / lost).unlink()
    (out / kept[0]).write_bytes((out / kept[0]).read_bytes()[:-9])
    stale, draft = out / f"part-{'0' * 32}.parquet", out / f".part-{'1' * 32}.host-1-2.draft"
    mine = out / "notes.txt"
    for file in (stale, draft, mine):
        file.write_text("x")
    with pytest.raises(IndexNotFound, match="finishes when it is run again"):
        list(read_parts(out))
    again = write_parts(data, out, rows_per_part=12, ray_remote_args=HALF)
    assert again.reused == len(kept) - 1 == 2
    assert json.loads((out / "parts.json").read_text()) == listed
    assert not stale.exists() and not draft.exists() and mine.exists()
    # Other vectors are other parts.
    assert write_parts(data, out, encode={"dim": 64}, rows_per_part=12, ray_remote_args=HALF).reused == 0


def test_no_texts_are_no_parts(cluster, encoder, tmp_path):
    empty = ray.data.from_arrow(rows(0))
    for index in (None, Index.create(tmp_path / "i", encoder)):
        out = tmp_path / f"out{index is None}"
        done = write_parts(empty, out, None if index is None else index.path, ray_remote_args=HALF)
        assert (done.texts, done.parts) == (0, 0)
        opened = Index.open(tmp_path / "i") if index is not None else Index.create(tmp_path / "j", encoder)
        assert (opened.adopt(out) if index is not None else add_parts(opened, out)) == 0


def test_a_young_index_learns_from_its_parts(data, encoder, tmp_path):
    index = Index.create(tmp_path / "i", encoder)
    write_parts(data, tmp_path / "parts", index.path, rows_per_part=60, ray_remote_args=HALF)
    assert index.adopt(tmp_path / "parts") == 240
    info = index.info()
    assert info["tokens"] < 8192 or info["centroids"]
    assert index.search(texts(240)[9], k=1)[0].id == "d9"


def test_misuse_is_told_before_anything_is_encoded(data, index, tmp_path):
    out = tmp_path / "out"
    twice = ray.data.from_arrow(pa.concat_tables([rows(9), rows(1)]))
    empty_id = ray.data.from_arrow(pa.table({"id": ["a", None], "text": ["x", "y"]}))
    numbers = ray.data.from_arrow(pa.table({"id": [1, 2], "text": [3, 4]}))
    cases = [
        (data, {"id_column": "name"}, "no column 'name'; it has id, n, text"),
        (data, {"encode": {"text_column": "body"}}, "no column 'body'"),
        (twice, {}, "column 'id' has the id 'd0' twice"),
        (empty_id, {}, "column 'id' has a null"),
        (numbers, {}, "column 'text' should be of strings, got int64"),
        (data, {"rows_per_part": 0}, "rows_per_part"),
        (data, {"workers": (2, 2), "ray_remote_args": {"num_cpus": 1}}, "leave none to read the data"),
        (data, {"index": index.path, "encode": {"dim": 64}}, "dim: is decided by the index"),
    ]
    for dataset, options, message in cases:
        with pytest.raises(InvalidInput, match=message):
            write_parts(dataset, out, **{"ray_remote_args": HALF, **options})
        assert not (out / "parts.json").exists()
    with pytest.raises(ModelError, match="77"):
        write_parts(data, out, encode={"dim": 77})
    with pytest.raises(ModelError, match="fp32"):
        write_parts(data, out, encode={"precision": "fp32"})
    with pytest.raises(
        LateboltError, match='a worker cannot encode: device "cuda": the installed onnxruntime'
    ):
        write_parts(data, out, encode={"device": "cuda"}, ray_remote_args=HALF)
    with pytest.raises(IndexNotFound):
        write_parts(data, out, index=tmp_path / "nothing")
    with writer_lock(out), pytest.raises(IndexLocked):
        write_parts(data, out)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "latebolt", *arguments], capture_output=True, text=True)


def last_line(output: str) -> str:
    return output.rstrip("\n").rpartition("\n")[2]


def test_what_ray_prints_is_not_in_the_summary(monkeypatch, tmp_path, capsys):
    def encoded(*_: object, **__: object) -> dict[str, int]:
        sys.stdout.write("(raylet) Task _map_task failed. There are infinite retries remaining.\n")
        return {"parts": 4}

    monkeypatch.setattr("latebolt.cli.bulk.encode_on_ray", encoded)
    assert command_line(["encode", "--on", "ray", "--json", str(tmp_path), str(tmp_path / "parts")]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"parts": 4} and "(raylet)" in said.err


def test_the_command_line_from_files_to_hits(cluster, trained, tmp_path, capfd):
    index = shutil.copytree(trained, tmp_path / "i")
    (tmp_path / "lines").mkdir()
    for n in range(2):
        lines = [
            json.dumps({"_id": f"{n}-{i}", "title": "Title", "text": text, "n": i, "tags": ["a"]})
            for i, text in enumerate(texts(8))
        ]
        with gzip.open(tmp_path / "lines" / f"{n}.jsonl.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    parts = str(tmp_path / "parts")
    ray_options = ("--on", "ray", "--cpus-per-worker", "0.5", "--rows-per-part", "5")
    # From a process of its own, which joins the cluster.
    joining = ("--address", cluster, "--index", str(index), "--json")
    done = run("encode", *ray_options, *joining, str(tmp_path / "lines"), parts)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["texts"] == 16 and record["tokens"] > 16 and record["parts"] >= 4 and record["seconds"] > 0
    adopted = json.loads(run("adopt", str(index), parts, "--json").stdout)
    assert (adopted["adopted"], adopted["documents"]) == (16, 416)
    [hit] = Index.open(index).search("horse", k=1, where='n = 7 and tags = "a" and id = "1-7"')
    assert hit.text == "Title\n" + texts(8)[7]

    # From this one, which is there already.
    pq.write_table(pa.table({"key": [1, 2], "body": ["a cat", "a dog"]}), tmp_path / "c.parquet")
    (tmp_path / "bad.jsonl").write_text('{"id": 1, "text": "a"}\n{"text": "b"}\n')
    columns = ("--text-column", "body", "--id-column", "key")
    vectors = str(tmp_path / "vectors")
    assert command_line(["encode", *ray_options, *columns, str(tmp_path / "c.parquet"), vectors]) == 0
    assert "2 texts" in last_line(capfd.readouterr().err)
    assert command_line(["adopt", str(index), vectors]) == 0
    assert "2 adopted" in last_line(capfd.readouterr().err)
    for arguments, message in (
        ((str(tmp_path / "c.parquet"), vectors), "no column 'text'; it has body, key"),
        ((str(tmp_path / "bad.jsonl"), vectors), """bad.jsonl, the line '{"text": "b"}': has no "id"."""),
        ((str(tmp_path / "lines"), str(tmp_path / "c.parquet"), vectors), "two folders"),
        (("--index", str(index), "--dim", "64", str(tmp_path / "lines"), parts), "dim: is decided by"),
        (("--id-column", "key", str(tmp_path / "lines"), parts), "--id-column is for Parquet"),
    ):
        assert command_line(["encode", *ray_options, *arguments]) == 2
        told = capfd.readouterr().err
        assert message in last_line(told) and "Traceback" not in told
    assert command_line(["encode", *ray_options, str(tmp_path / "nothing"), vectors]) == 1
    assert "there is no such file" in last_line(capfd.readouterr().err)


def test_the_command_line_without_a_cluster(tmp_path, capsys):
    def said(*arguments: str) -> tuple[int, str]:
        code = command_line(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    (tmp_path / "a.txt").write_text("a cat\n")
    code, told = said("encode", str(tmp_path / "a.txt"), str(tmp_path / "a.npz"), "--workers", "2")
    assert code == 2 and "--workers needs --on ray" in told
    code, told = said("encode", "a.txt", "b.txt", str(tmp_path / "a.npz"))
    assert code == 2 and "one file can be encoded here, got 2" in told
    assert "latebolt adopt my.index" in said("encode", "--help")[1]
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a"}\n')
    done = run("encode", "--on", "ray", "--address", "127.0.0.1:1", str(tmp_path / "a.jsonl"), "out")
    assert done.returncode == 1 and "no Ray cluster answers at 127.0.0.1:1" in last_line(done.stderr)
    code, told = said("adopt", str(tmp_path / "nothing"), str(tmp_path))
    assert code == 1 and "there is no latebolt index here" in told
