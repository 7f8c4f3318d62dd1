"""`latebolt serve --on ray` with a cluster of its own: what it answers, where it listens, how it ends."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from late_imports import late_imports
from latebolt import Encoder, Index
from latebolt.cli import run
from latebolt.errors import IndexNotFound, InvalidInput, LateboltError
from latebolt.sharding import split
from latebolt.sharding.set_file import shard_folder

if TYPE_CHECKING:
    from latebolt.adapters.ray import serve as adapter
    from latebolt.adapters.ray import shard
    from latebolt.adapters.ray.plan import plan_of
    from latebolt.adapters.ray.shard import ShardReplica, usual_after
    from latebolt.objects.shard_sets import publish_set

for needed in ("ray", "fsspec"):
    if find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)
late = late_imports(globals())

PROC = Path("/proc/self/net/tcp")
KEY = "a key of a test, long enough"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    root = tmp_path_factory.mktemp("on-ray")
    with Index.create(root / "docs", encoder) as index:
        index.add(["a cat sleeps", "an oven is hot", "trains run late"], ids=["cat", "oven", "train"])
    split(root / "docs", root / "docs.shards", 2)
    return root / "docs.shards"


def test_a_published_set_says_how_many_shards_it_has(shards: Path, tmp_path: Path):
    uri = (tmp_path / "published").as_uri()
    publish_set(shards, uri)
    assert plan_of({"docs": uri}).places == {"docs": [f"{uri}/shard-0", f"{uri}/shard-1"]}
    assert plan_of({"docs": uri}, shards=2).places == plan_of({"docs": uri}).places
    with pytest.raises(InvalidInput, match="has 2 shards"):
        plan_of({"docs": uri}, shards=3)


def test_what_does_not_go_together(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whole = shards.with_name("docs")
    index = ("--index", f"docs={shards}")
    for arguments, message in (
        ((), "give --index NAME=FOLDER"),
        (("--index", f"docs={whole}"), f"latebolt split {whole} {whole}.shards --shards 2"),
        ((*index, "--shards", "3"), "has 2 shards"),
        ((*index, *index), "a name is given twice"),
        ((*index, "--snapshots", "x"), "--snapshots does not go with Ray"),
        ((*index, "--device", "cuda"), "--device does not go with Ray"),
        ((*index, "--host", "0.0.0.0"), "there is no key"),
        ((*index, "--detach"), "Give the address of another"),
    ):
        assert run(["serve", "--on", "ray", *arguments]) == 2
        assert message in capsys.readouterr().err
    shutil.copytree(shards, tmp_path / "part")
    lost = shard_folder(tmp_path / "part", 1)
    shutil.rmtree(lost)
    assert run(["serve", "--on", "ray", "--index", f"docs={tmp_path / 'part'}"]) == 1
    assert f"{lost}: there is no latebolt index here" in capsys.readouterr().err
    assert run(["serve", "--on", "ray", "--index", f"docs={whole.as_uri()}"]) == 1
    assert "there is no shard set here" in capsys.readouterr().err
    assert run(["serve", "--replicas", "2"]) == 2
    assert "--replicas needs --on ray" in capsys.readouterr().err
    assert run(["serve", "--on", "ray", "--address", "127.0.0.1:1", *index]) == 1
    assert "no Ray cluster answers at 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not PROC.exists(), reason="reads which ports are open from /proc")
def test_a_cluster_of_its_own_answers_listens_to_this_machine_only_and_goes(shards: Path, tmp_path: Path):
    import httpx

    keys = tmp_path / "keys.txt"
    keys.write_text(f"{KEY}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "latebolt", "serve", "--on", "ray", "--index", f"docs={shards}"]
    command += ["--port", str(port), "--cpus-per-replica", "0.25", "--keys-file", str(keys)]
    before = set(listening())
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        for line in server.stderr:
            if line.startswith("{") and json.loads(line)["event"] == "listening":
                break
        else:
            raise AssertionError("it ended")
        url = f"http://127.0.0.1:{port}"
        body = {"query": "hot oven", "k": 1}
        assert httpx.post(f"{url}/v1/indexes/docs/search", json=body).status_code == 401
        held = {"Authorization": f"Bearer {KEY}"}
        found = httpx.post(f"{url}/v1/indexes/docs/search", json=body, headers=held, timeout=30)
        assert [hit["id"] for hit in found.json()["hits"]] == ["oven"]
        opened = [each for each in listening() if each not in before and is_ours(each[1], server.pid)]
        assert opened and {address for address, _ in opened} <= {"0100007F", MAPPED}
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()


MAPPED = "0000000000000000FFFF00000100007F"  # ::ffff:127.0.0.1


def listening() -> Iterator[tuple[str, str]]:
    """(address in hex, inode) of each socket that listens."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[1].partition(":")[0], fields[9]


def is_ours(inode: str, command: int) -> bool:
    """Whether a socket is of the command, or of a cluster that was started so."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(f"socket:[{inode}]" == str(fd.readlink()) for fd in (process / "fd").iterdir()):
                environment = (process / "environ").read_bytes()
                if b"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0" in environment or int(process.name) == command:
                    return True
        except OSError:
            continue
    return False


def test_a_replica_whose_folder_is_not_there_waits_for_it_and_ends_if_it_does_not_come(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replica, folder = ShardReplica(1), tmp_path / "shard"

    async def folder_comes() -> None:
        starting = asyncio.create_task(replica.reconfigure({"place": str(folder)}))
        await asyncio.sleep(0.2)
        assert not starting.done()
        shutil.copytree(shard_folder(shards, 0), tmp_path / "copy").rename(folder)  # all of it at once
        await starting

    asyncio.run(folder_comes())
    assert asyncio.run(replica.ask(str(folder), "state")).shard == (0, 2)
    shutil.rmtree(folder)
    shutil.copytree(shard_folder(shards, 1), folder)
    assert asyncio.run(replica.ask(str(folder), "state")).shard == (1, 2), "others may be put in its place"
    monkeypatch.setattr(shard, "_FOLDER_SECONDS", 0.0)
    with pytest.raises(IndexNotFound):
        asyncio.run(replica.reconfigure({"place": str(tmp_path / "nothing")}))


def test_why_a_replica_cannot_start_is_told_where_ray_names_its_deployment_only(
    monkeypatch: pytest.MonkeyPatch,
):
    error = "Traceback ...\nlatebolt.errors.IndexNotFound: /shared/shard-1: there is no index here\n"
    deployment = SimpleNamespace(message=f"A replica failed to start with exception. Error:\n{error}")
    application = SimpleNamespace(deployments={"docs-1": deployment})
    status = SimpleNamespace(applications={"latebolt": application})

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Deploying application latebolt failed: ['docs-1'].")

    monkeypatch.setattr(adapter.serve, "run", refuse)
    monkeypatch.setattr(adapter.serve, "status", lambda: status)
    with pytest.raises(LateboltError, match=r"cannot start: /shared/shard-1: there is no index here$"):
        adapter._run(None, "latebolt")
    deployment.message = "of something else"
    with pytest.raises(RuntimeError, match="Deploying"):
        adapter._run(None, "latebolt")


def test_what_an_answer_usually_takes_is_hardly_changed_by_one_that_hung():
    usual = 0.0
    for _ in range(100):
        usual = usual_after(usual, 0.01)
    assert usual == pytest.approx(0.01, rel=0.05)
    for _ in range(3):
        usual = usual_after(usual, 8.0)
    assert usual < 0.04
    for _ in range(100):
        usual = usual_after(usual, 1.0)
    assert usual == pytest.approx(1.0, rel=0.05), "what is slow every time is usual"
