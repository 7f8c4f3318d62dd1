"""docs/operations.md: its commands run as they stand, and what it names is there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers import Lines, Running, process, serving, wait_until
from test_half_closed import Held

from latebolt.errors import StorageFull
from latebolt.gpu import nvml
from latebolt.serve.gpu_figures import GpuFigures
from latebolt.serve.problems import CODES, problem_of
from readme_snippets import PROJECT, snippets

PAGE = PROJECT / "docs" / "operations.md"
OLD, OTHER = "2xJ0wq1Yt0a7G8mB1n4hTg4kYd3Q9v6p", "9fKq3ZbW5xR2vT8yN1mC4dS7gH0jL6pQ"


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:][_titles().index(title)]


def _titles() -> list[str]:
    return re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)


def blocks(title: str) -> list[str]:
    """The commands of a section that are run here and not by the test of all pages."""
    return [
        s.code
        for s in snippets(PAGE)
        if s.kind == "sh" and s.not_run is not None and s.code in section(title)
    ]


def indented(title: str, word: str) -> str:
    """The block of configuration in which a word stands."""
    found = re.findall(r"(?:^(?:    .*)?\n)+", section(title), re.MULTILINE)
    [block] = [each for each in found if re.search(rf"^    {word}", each, re.MULTILINE)]
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


def carry_out(commands: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder, env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


needs = {
    name: pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} here")
    for name in ("bash", "openssl", "curl", "jq", "nginx", "promtool")
}


@needs["bash"]
@needs["openssl"]
@needs["curl"]
def test_keys_are_rotated_as_it_says(tmp_path: Path):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"# label: search page\n{OLD} read\n# label: import at night\n{OTHER} write")
    with process(tmp_path / "data", "--workers", "2", "--keys-file", str(keys)) as (server, client):
        lines = Lines(server)
        wait_until(lambda: len(lines.of("ready")) == 2)
        begin, end = (code.replace(":8080", f":{client.base_url.port}") for code in blocks("Rotate keys"))

        def allowed(key: str) -> bool:
            header = {"Authorization": f"Bearer {key}"}
            return httpx.get(f"{client.base_url}/v1/models", headers=header, verify=False).status_code == 200

        def told(event: str) -> set[int]:
            return {line["process"] for line in lines.of(event)}

        assert allowed(OLD) and allowed(OTHER)
        assert '"id"' in carry_out(begin, tmp_path, server=str(server.pid))  # the new one is good at once
        wait_until(lambda: len(told("keys read again")) == 2)
        new = keys.read_text().split("\n")[-2].removesuffix(" read")
        assert all(allowed(key) for key in (OLD, OTHER, new))
        labels = {"search page", "import at night", "search page, new"}
        wait_until(lambda: {line["key"] for line in lines.of("request") if "key" in line} == labels)
        text = "".join(lines.text)
        (tmp_path / "server.log").write_text(text)
        n = text.count('"key":"search page"')
        assert carry_out(end, tmp_path, server=str(server.pid)).split() == [str(n)] and n > 0
        wait_until(lambda: len(lines.of("keys read again")) >= 4)
        assert [allowed(key) for key in (OLD, OTHER, new)] == [False, True, True]
        assert told("keys not read") == set() and keys.stat().st_mode & 0o777 == 0o600


@needs["bash"]
@needs["jq"]
def test_the_log_is_read_as_it_says(tmp_path: Path):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"# label: search page\n{OLD} read\n")
    with process(tmp_path / "data", "--keys-file", str(keys)) as (server, client):
        lines = Lines(server)
        key = {"Authorization": f"Bearer {OLD}"}
        client.delete("/v1/indexes/a", headers={**key, "X-Request-ID": "one"})
        client.get("/v1/models", headers={**key, "X-Request-ID": "two"})
        client.get("/v1/models", headers={"X-Request-ID": "three"})
        wait_until(lambda: {line["request_id"] for line in lines.of("request")} >= {"one", "two", "three"})
        (tmp_path / "server.log").write_text("".join(line for line in lines.text if line.startswith("{")))
    [code] = blocks("Watch")
    refused, counted = (carry_out(each, tmp_path) for each in code.splitlines())
    rows = [
        row.split("\t")[1:]
        for row in refused.splitlines()
        if "unavailable" not in row and "not_ready" not in row
    ]
    assert rows == [["127.0.0.1", "search page", "a", "forbidden"], ["127.0.0.1", "", "", "unauthorized"]]
    assert "2 search page" in [row.strip() for row in counted.splitlines()]


def test_every_figure_and_code_that_it_names_is_there(client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    text, told = section("Watch"), client.get("/metrics").text
    families = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    monkeypatch.setattr(nvml, "gpu", lambda number: nvml.Gpu("a card", 10, 4, 50))
    families |= {family.name for family in GpuFigures((0,)).collect()}  # told where a server runs on one
    named = set(re.findall(r"\b(?:latebolt|process)_[a-z_]+[a-z]\b", text))
    assert len(named) > 12
    assert {name.removesuffix("_bucket") for name in named} <= families
    codes = {*CODES.values(), problem_of(StorageFull("")).code}
    assert set(re.findall(r'code="(\w+)"', text)) <= codes


def test_its_configuration_for_prometheus_is_yaml():
    yaml = pytest.importorskip("yaml")
    [scraped] = yaml.safe_load(indented("Watch", "scrape_configs"))["scrape_configs"]
    assert scraped["job_name"] == "latebolt"
    [group] = yaml.safe_load(indented("Watch", "groups"))["groups"]
    assert len(group["rules"]) > 5 and all(rule.keys() >= {"alert", "expr"} for rule in group["rules"])


@needs["promtool"]
def test_prometheus_takes_its_rules(tmp_path: Path):
    _, _, rules = indented("Watch", "scrape_configs").partition("groups:")
    (tmp_path / "rules.yml").write_text(f"groups:{rules}")
    assert "SUCCESS" in carry_out("promtool check rules rules.yml", tmp_path)


@pytest.fixture
def behind_nginx(tmp_path: Path) -> Iterator[tuple[str, Running]]:
    """The page's own configuration, at a free port and without TLS."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(tmp_path / "data", trusted_proxies="127.0.0.1") as running:
        said = indented("Behind a proxy", "upstream latebolt").replace(
            "listen 443 ssl;", f"listen 127.0.0.1:{port};"
        )
        said = said.replace("127.0.0.1:8080", running.url.removeprefix("http://"))
        (tmp_path / "nginx.conf").write_text(
            "daemon off; pid nginx.pid; events {}\n"
            "http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f;\n"
            f"uwsgi_temp_path u; scgi_temp_path s;\n{said}\n}}\n"
        )
        command = [
            "nginx",
            "-p",
            str(tmp_path),
            "-c",
            str(tmp_path / "nginx.conf"),
            "-e",
            str(tmp_path / "error.log"),
        ]
        with subprocess.Popen(command) as nginx:
            url = f"http://127.0.0.1:{port}"
            try:
                wait_until(lambda: _answers(url))
                yield url, running
            finally:
                nginx.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", verify=False).status_code == 200
    except httpx.TransportError:
        return False


@needs["nginx"]
def test_nginx_as_it_says(behind_nginx: tuple[str, Running], caplog: pytest.LogCaptureFixture):
    url, _ = behind_nginx
    with caplog.at_level("INFO", "latebolt.serve"):
        asked = {"Host": "search.example", "X-Forwarded-For": "6.6.6.6", "X-Request-ID": "one"}
        assert httpx.get(f"{url}/v1/models", headers=asked).status_code == 200

        def clients() -> list[str]:
            said = [getattr(record, "fields", {}) for record in caplog.records]
            return [fields["client"] for fields in said if fields.get("request_id") == "one"]

        wait_until(lambda: bool(clients()))
    # nginx was asked from this machine, which is trusted, so what it was told counts as well.
    assert clients() == ["6.6.6.6"]
    described = httpx.get(f"{url}/openapi.json", headers={"Host": "search.example"}).json()
    assert described["servers"] == [{"url": "http://search.example"}]


@needs["nginx"]
def test_what_a_client_of_nginx_asked_is_dropped_when_it_leaves(
    behind_nginx: tuple[str, Running], monkeypatch: pytest.MonkeyPatch
):
    url, running = behind_nginx
    held = Held(running, monkeypatch, url)
    held.ask(closes=False).close()
    wait_until(held.left.is_set)
    held.may_go.set()
