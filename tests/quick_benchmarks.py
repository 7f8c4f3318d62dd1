"""Loads benchmarks, and runs them with --quick on small collections under the names of the real ones.

These are in the BEIR layout. Documents are docstrings of the standard library, a query is the first sentence
of one: enough to prove that a benchmark runs from end to end on any machine, and nothing to quote figures of.
"""

from __future__ import annotations

import atexit
import functools
import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from latebolt.corpus.stdlib import read_stdlib

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ("squad", "cosqa", "pubmedqa", "jsquad", "drcd")
DOCUMENTS = 120
STDLIB = "stdlib.json"
WORDS = range(16, 61)  # few tokens to encode: encoding them is most of what a quick run takes


def write_collections(root: Path) -> Path:
    """A folder each, of other documents each; and what each benchmark would read of the library again."""
    whole = read_stdlib()
    root.mkdir(exist_ok=True)
    (root / STDLIB).write_text(json.dumps([(each.id, each.text, each.metadata) for each in whole]))
    some = [document for document in whole if len(document.text.split()) in WORDS]
    for number, name in enumerate(NAMES):
        documents = some[number * DOCUMENTS : (number + 1) * DOCUMENTS]
        folder = root / name
        folder.mkdir(parents=True)
        corpus = [{"_id": each.id, "text": each.text} for each in documents]
        queries = [{"_id": f"q{i}", "text": _sentence(each.text)} for i, each in enumerate(documents)]
        for file, rows in (("corpus", corpus), ("queries", queries)):
            with gzip.open(folder / f"{file}.jsonl.gz", "wt", encoding="utf-8") as out:
                out.writelines(json.dumps(row) + "\n" for row in rows)
        judged = [f"q{i}\t{each.id}\t1\n" for i, each in enumerate(documents)]
        (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    return root


def _sentence(text: str) -> str:
    """The first sentence behind the line with the name."""
    return text.partition("\n")[2].partition(". ")[0][:200]


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A benchmark's module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def run_quick(name: str, *arguments: object, data: Path | None = None) -> str:
    """What a benchmark prints with --quick; it must end well and leave no record.

    Args:
        data: a folder of collections; the small ones by default.
    """
    records = _records()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "LATEBOLT_DATA": str(data or _small_collections()),
            "LATEBOLT_STDLIB": str(_small_collections() / STDLIB),
            # Beside other tests, threads of OpenMP wait for each other by spinning.
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    assert _records() == records
    assert len(done.stdout.splitlines()) >= 3
    return done.stdout


@functools.cache
def _small_collections() -> Path:
    root = Path(tempfile.mkdtemp(prefix="latebolt-collections-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return write_collections(root)


def _records() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").iterdir()}
