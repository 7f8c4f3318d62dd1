"""`latebolt search --url`: a running server is asked, and its hits are printed as those of an index here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from servers import Running, serving

from latebolt.cli import run

KEY = "a-key-of-a-search"
QUERY = "capital of Germany"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from latebolt.client import Client

    with serving(tmp_path_factory.mktemp("search-url"), keys=KEY) as running:
        with Client(running.url, KEY) as client:
            client.create_index("cities", bits=4)
            documents = [
                {"id": "paris", "text": "Paris is the capital of France.", "since": 987},
                {"id": "berlin", "text": "Berlin is the capital of Germany. \x1b[2J", "since": 1990},
            ]
            client.add_documents("cities", documents)
        yield running


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATEBOLT_API_KEY", KEY)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["search", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.usefixtures("key")
def test_it_prints_what_a_search_here_prints(server: Running, capsys: pytest.CaptureFixture[str]):
    folder = str(server.server.service.settings.data_folder / "indexes" / "cities")
    there = ["--url", server.url, "--index", "cities"]
    for options in (
        [],
        ["--json"],
        ["--mode", "bm25"],
        ["--where", "since > 1000"],
        ["-k", "1", "--exhaustive"],
    ):
        out = printed(capsys, *there, QUERY, *options)
        assert out and out == printed(capsys, folder, QUERY, *options)
    assert "\x1b[2J" not in printed(capsys, *there, QUERY)
    both = [printed(capsys, *place, QUERY, "--explain", "--json") for place in (there, [folder])]
    one, other = map(json.loads, both)
    assert one.keys() == other.keys() and one["load_ms"] == 0
    assert [hit.keys() for hit in one["hits"]] == [hit.keys() for hit in other["hits"]]
    assert [m["document_word"] for m in one["hits"][0]["matches"]] == ["capital", "of", "Germany"]
    assert "Germany -> Germany" in printed(capsys, *there, QUERY, "--explain")
    assert printed(capsys, "--url", server.url, QUERY) == printed(capsys, *there, QUERY)  # its only index


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--index", "nothing", "a"], 1, "no index of that name. (404 index_not_found"),
        (["--index", "cities", "a", "--where", "since >"], 2, "where: "),
        (["--index", "cities", "  "], 2, "the query is empty"),
        (["--index", "cities", "here.index", "a"], 2, "with --url, the index is named by --index"),
        (["--index", "cities", "a", "--threads", "2"], 2, "--threads is for a search of an index on this"),
        (["--index", "cities", "a", "--api-key", "wrong"], 1, "not one of the server's"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_goes_wrong_is_said(
    server: Running, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
):
    assert run(["search", "--url", server.url, *arguments]) == code
    captured = capsys.readouterr()
    assert said in captured.err and "Traceback" not in captured.err and captured.out == ""


def test_without_a_server_and_without_its_option(capsys: pytest.CaptureFixture[str]):
    assert run(["search", "--url", "http://127.0.0.1:9", "--index", "a", "b"]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    assert run(["search", "--url", "nowhere", "--index", "a", "b"]) == 2
    assert run(["search", "--index", "a", "here.index", "b"]) == 2
    assert "--index is for a search of --url" in capsys.readouterr().err


@pytest.mark.usefixtures("key")
def test_which_of_several_is_asked(server: Running, capsys: pytest.CaptureFixture[str]):
    from latebolt.client import Client

    with Client(server.url, KEY) as client:
        client.create_index("more")
        assert run(["search", "--url", server.url, "a"]) == 2
        client.delete_index("more")
    assert "Give --index NAME; the server has cities, more." in capsys.readouterr().err


@pytest.mark.usefixtures("key")
def test_asking_loads_no_model_and_no_numpy(server: Running):
    code = f"""
import sys
from latebolt.cli import run
assert run(["search", "--url", {server.url!r}, "--index", "cities", {QUERY!r}]) == 0
assert not {{"numpy", "onnxruntime", "numba", "llvmlite", "tokenizers"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "berlin" in done.stdout, done.stderr
