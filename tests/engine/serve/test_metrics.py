"""Figures as Prometheus reads them: well formed, of what there is, and of every process."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from servers import process, wait_until, workers_of

PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
# What "promtool check metrics" warns of, of what applies here.
ABBREVIATED = {"s", "ms", "us", "ns", "sec", "secs", "b", "kb", "mb", "gb", "h", "hr", "pct"}
NO_BASE_UNITS = {"milliseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "percent", "bits"}


def faults_of(text: str) -> list[str]:
    """What promtool would say of an exposition."""
    found, families = [], list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    found += [f"{name} stands in two places" for name in {n for n in names if names.count(n) > 1}]
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for f in families for sample in f.samples]
    found += [f"{each} is there twice" for each in set(series) if series.count(each) > 1]
    return found + [fault for family in families for fault in _faults_of(family)]


def _faults_of(family: Metric) -> Iterable[str]:
    words = set(family.name.split("_"))
    if not family.documentation.strip():
        yield f"{family.name} has no help"
    if family.type in ("unknown", "untyped"):
        yield f"{family.name} has no type"
    if not re.fullmatch("[a-z][a-z0-9_]*", family.name):
        yield f"{family.name} is no name in snake_case"
    if family.type != "counter" and family.name.endswith("_total"):
        yield f"{family.name} ends as a counter and is none"
    if family.type in words - {"info"}:
        yield f"{family.name} has its type in its name"
    if family.type not in PARTS and family.name.endswith(("_sum", "_count", "_bucket")):
        yield f"{family.name} ends as a part of a histogram"
    for word in words & (ABBREVIATED | NO_BASE_UNITS):
        yield f"{family.name}: {word} is no base unit written out"
    for sample in family.samples:
        ends = PARTS.get(family.type, ("_total",) if family.type == "counter" else ("",))
        if sample.name not in {family.name + end for end in ends}:
            yield f"{sample.name} is no series of a {family.type}"
        if family.type == "counter" and not sample.value >= 0:
            yield f"{sample.name} is below zero"
        for label in sample.labels:
            if label.startswith("__") or not re.fullmatch("[a-z][a-z0-9_]*", label):
                yield f"{sample.name}: {label} is no label"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n", "ends as a counter"),
        ("# TYPE a gauge\na 1\n", "has no help"),
        ("# HELP a A.\na 1\n", "has no type"),
        ("# HELP a_ms A.\n# TYPE a_ms gauge\na_ms 1\n", "ms is no base unit"),
        ("# HELP a A.\n# TYPE a gauge\na 1\na 2\n", "is there twice"),
        ("# HELP a_gauge A.\n# TYPE a_gauge gauge\na_gauge 1\n", "its type in its name"),
    ],
)
def test_the_check_finds_what_is_wrong(text: str, fault: str):
    assert any(fault in each for each in faults_of(text))


def documents(*names: str) -> dict[str, object]:
    return {"documents": [{"id": name, "text": f"text of {name}"} for name in names]}


def figures(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Series of a name: labels -> value."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_what_prometheus_reads_is_well_formed(client: httpx.Client, index: str):
    client.post(f"{index}/search", json={"query": "capital"})
    client.post("/v1/rerank", json={"query": "capital", "documents": []})
    text = client.get("/metrics").text
    assert faults_of(text) == []
    assert figures(text, "process_resident_memory_bytes")[()] > 1e6
    if shutil.which("promtool") is not None:
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_series_of_a_deleted_index_go(client: httpx.Client):
    client.post("/v1/indexes", json={"name": "going"})
    client.post("/v1/indexes/going/documents", json=documents("a", "b"))
    of_it = (("index", "going"),)
    assert figures(client.get("/metrics").text, "latebolt_documents")[of_it] == 2
    client.delete("/v1/indexes/going")
    assert 'index="going"' not in client.get("/metrics").text
    client.post("/v1/indexes", json={"name": "going"})
    assert figures(client.get("/metrics").text, "latebolt_documents")[of_it] == 0
    client.delete("/v1/indexes/going")


def test_series_of_an_index_that_others_took_away_go(running, client: httpx.Client):
    client.post("/v1/indexes", json={"name": "taken"})
    assert 'index="taken"' in client.get("/metrics").text
    folder = running.server.service.settings.data_folder / "indexes" / "taken"
    folder.rename(folder.with_name(".taken"))
    assert 'index="taken"' not in client.get("/metrics").text


def test_several_processes(tmp_path: Path):
    with process(tmp_path, "--workers", "2") as (server, client):

        def fresh(method: str, path: str, body: object = None) -> httpx.Response:
            """A connection of its own, so that either process may get it."""
            return httpx.request(method, f"{client.base_url}{path}", json=body, timeout=30, verify=False)

        wait_until(lambda: "latebolt_ready 2.0" in fresh("GET", "/metrics").text)
        fresh("POST", "/v1/indexes", {"name": "going"})
        for n in range(6):
            fresh("POST", "/v1/indexes/going/documents", documents(f"d{n}"))
        text = fresh("GET", "/metrics").text
        assert figures(text, "latebolt_documents") == {(("index", "going"),): 6}
        assert faults_of(text) == []

        # Each process's own, as the system has them.
        workers = {str(each) for each in workers_of(server)}
        assert len(workers) == 2
        for name in (
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_cpu_seconds_total",
        ):
            found = figures(text, name)
            assert {dict(labels)["pid"] for labels in found} == {str(server.pid), *workers}, name
        resident = figures(text, "process_resident_memory_bytes")
        for one in workers:
            kept = int(Path(f"/proc/{one}/statm").read_text().split()[1]) * 4096
            assert resident[(("pid", one),)] == pytest.approx(kept, rel=0.5)
        started = figures(text, "process_start_time_seconds")
        assert started[(("pid", str(server.pid)),)] <= min(started.values()) + 0.02

        fresh("DELETE", "/v1/indexes/going")
        for _ in range(6):
            assert 'index="going"' not in fresh("GET", "/metrics").text
        assert fresh("GET", "/metrics.json").status_code == 200
