"""How long until a fresh process has answered, and how much memory does it take?

Steps of an embedded process (import, model, index, one query), each process fresh, kernels cached; the
command that a person types is in cold_search.py. The index is the demo's, built on the first run. Then what
the kernels alone cost: the first scores, search and index of a process on a machine whose cache of compiled
kernels is empty, and on one where it is full.

Beside it what others need until their first answer, from the same weights: FastEmbed and PyTorch with
transformers, which score the demo's token vectors exactly, and PyLate with its own index. They are left out
where they are not installed: `pip install fastembed torch transformers` beside `latebolt[export]`, and PyLate
in an environment of its own: `python -m venv pylate; pylate/bin/pip install pylate` and
LATEBOLT_PYLATE=pylate/bin/python.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness import THREAD_VARIABLES, arguments, read_stdlib, record

EMBEDDED = """
import time; t = time.perf_counter()
import latebolt; a = time.perf_counter()
index = latebolt.Index.open({index!r}); encoder = index.encoder; b = time.perf_counter()
index.search("how do I read a zip file", k=3); c = time.perf_counter()
index.search("split a string on whitespace", k=3); d = time.perf_counter()
from latebolt.cli.common import resident_mb
import json
print(json.dumps([a - t, b - a, c - b, d - c, resident_mb()]))
"""
# What a first use waits for, beside Python and NumPy: no model is loaded, the vectors are given.
FIRST_USES = {
    "first MaxSim": """
vectors = latebolt.TokenVectors(random((4000, 128)), numpy.arange(0, 4001, 100))
latebolt.maxsim(vectors[0], vectors)
""",
    "first search of an index": """
latebolt.Index.open({index!r}).search_vectors(random((32, 128)))
""",
    "first index made and searched": """
index = latebolt.Index.create({folder!r}, None, dim=128)
index.add_vectors([str(i) for i in range(40)],
                  latebolt.TokenVectors(random((4000, 128)), numpy.arange(0, 4001, 100)))
index.search_vectors(random((32, 128)))
""",
}
QUERY = "how do I read a zip file"
# The same job with other libraries: seconds of import, loading and the first answer, and memory.
# `scores` compares with every document exactly, as their users do who have no index of token vectors.
OTHERS = {
    "FastEmbed": """
import time; t = time.perf_counter()
import numpy; from fastembed.late_interaction.colbert import Colbert; a = time.perf_counter()
values = numpy.load({folder!r} + "/values.npy", mmap_mode="r")
offsets = numpy.load({folder!r} + "/offsets.npy")
model = Colbert("colbert-ir/colbertv2.0", specific_model_path={assets!r} + "/fastembed", threads={threads})
b = time.perf_counter()
query = next(iter(model.query_embed([{query!r}])))
scores = numpy.maximum.reduceat(values @ query.T, offsets[:-1], axis=0).sum(1); scores.argmax()
c = time.perf_counter()
""",
    "PyTorch and transformers": """
import time; t = time.perf_counter()
import numpy, torch; from transformers import AutoTokenizer, BertModel
from safetensors.torch import load_file; a = time.perf_counter()
values = numpy.load({folder!r} + "/values.npy", mmap_mode="r")
offsets = numpy.load({folder!r} + "/offsets.npy")
torch.set_num_threads({threads})
tokenizer = AutoTokenizer.from_pretrained({weights!r})
model = BertModel.from_pretrained({weights!r}).eval()
head = next(iter(load_file({head!r}).values())).float()
b = time.perf_counter()
with torch.inference_mode():
    query = model(**tokenizer([{query!r}], return_tensors="pt")).last_hidden_state[0] @ head.T
    query = torch.nn.functional.normalize(query, dim=1).numpy()
scores = numpy.maximum.reduceat(values @ query.T, offsets[:-1], axis=0).sum(1); scores.argmax()
c = time.perf_counter()
""",
    "PyLate": """
import time; t = time.perf_counter()
from pylate import indexes, models, retrieve; a = time.perf_counter()
model = models.ColBERT({folder!r} + "/pylate", device="cpu")
retriever = retrieve.ColBERT(indexes.PLAID({folder!r}, "plaid", override=False, device="cpu"))
b = time.perf_counter()
retriever.retrieve(model.encode([{query!r}], is_query=True, show_progress_bar=False), k=3)
c = time.perf_counter()
""",
}
MEASURED = """
import json
[line] = [x for x in open("/proc/self/status") if x.startswith("VmHWM")]
print(json.dumps([a - t, b - a, c - b, int(line.split()[1]) * 1024 / 1e6]))
"""
# A folder that PyLate loads, and its index over vectors that are there already.
PREPARE_PYLATE = """
import numpy, torch; from safetensors.torch import load_file
from pylate import indexes, models
head = next(iter(load_file({head!r}).values())).float()
model = models.ColBERT({weights!r}, embedding_size=len(head), device="cpu")
model[-1].linear.weight.data = head
model.save_pretrained({folder!r} + "/pylate")
values, offsets = numpy.load({folder!r} + "/values.npy"), numpy.load({folder!r} + "/offsets.npy")
vectors = [values[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
index = indexes.PLAID({folder!r}, "plaid", override=True, device="cpu")
index.add_documents([str(i) for i in range(len(vectors))], vectors)
"""
TIMED = """
import numpy
def random(shape):
    made = numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)
    return made / numpy.linalg.norm(made, axis=1, keepdims=True)
import time; start = time.perf_counter()
import latebolt
{use}
print(time.perf_counter() - start)
"""
BLANK = "import numpy; from latebolt.cli.common import resident_mb; print(resident_mb())"


def demo_index(folder: str) -> str:
    """The demo's index under `folder`."""
    subprocess.run(
        [sys.executable, "-m", "latebolt", "demo", "--json"], cwd=folder, check=True, capture_output=True
    )
    return str(Path(folder) / "latebolt-demo" / f"python-{platform.python_version()}-2bit")


def small_index(folder: str, model: str, n_texts: int = 100) -> str:
    """An index of a few texts: loading the model is what takes time."""
    from latebolt import Encoder, Index

    texts = [document.text for document in read_stdlib()[:n_texts]]
    with Index.create(Path(folder) / model, Encoder.load(model), bits=2) as index:
        index.add(texts)
    return str(index.path)


def embedded(index: str, rounds: int) -> tuple[list[list[float]], list[float]]:
    """What `EMBEDDED` prints in each of so many fresh processes, and their seconds from start to exit."""
    steps, walls = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        command = [sys.executable, "-c", EMBEDDED.format(index=index)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        walls.append(time.perf_counter() - start)
        steps.append(json.loads(done.stdout))
    return steps, walls


def first_use(use: str, index: str, cache: str | None) -> float:
    """Seconds that a fresh process needs for one of `FIRST_USES`, its import of latebolt included.

    Args:
        cache: where compiled kernels are kept; None for the user's.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = TIMED.format(use=use.format(index=index, folder=str(Path(folder) / "index")))
        environment = dict(os.environ) if cache is None else {**os.environ, "LATEBOLT_CACHE": cache}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
    return float(done.stdout)


def first_uses(index: str, rounds: int, quick: bool) -> list[dict[str, object]]:
    """A row a use: without compiled kernels, and with them; in a quick run without for the first alone."""
    rows: list[dict[str, object]] = []
    for name, use in FIRST_USES.items():
        if quick and rows:
            row = {"what": f"{name}, kernels compiled", "ms": 1e3 * first_use(use, index, None)}
            rows.append(row)
            continue
        without, compiled = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                without.append(1e3 * first_use(use, index, cache))
                compiled.append(1e3 * first_use(use, index, cache))
        rows.append({"what": f"{name}, no kernel compiled yet", "ms": float(np.median(without))})
        rows.append({"what": f"{name}, kernels compiled", "ms": float(np.median(compiled))})
    return rows


def others(index: str, threads: int, rounds: int) -> list[dict[str, object]]:
    """A row a library that is installed."""
    from encode import ASSETS, prepare
    from latebolt import Index
    from latebolt_export.recipe import data_file
    from latebolt_export.starter import HEAD, weights_folder

    prepare()
    opened = Index.open(index)
    texts = [hit.text or "" for hit in opened.search(QUERY, k=len(opened), exhaustive=True)]
    vectors = opened.encoder.encode_documents(texts)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, data_file(HEAD) as head:
        np.save(Path(folder) / "values.npy", vectors.values)
        np.save(Path(folder) / "offsets.npy", vectors.offsets)
        names = {"folder": folder, "assets": str(ASSETS), "weights": str(weights_folder()), "head": str(head)}
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}

        def run(python: str, script: str) -> str:
            script = script.format(**names, query=QUERY, threads=threads)
            command = [python, "-c", script]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            return done.stdout

        for name, script in OTHERS.items():
            python = sys.executable
            if name == "PyLate":
                python = os.environ.get("LATEBOLT_PYLATE", "")
                if not python:
                    continue
                run(python, PREPARE_PYLATE)
            elif name == "FastEmbed" and importlib.util.find_spec("fastembed") is None:
                continue
            found = [json.loads(run(python, script + MEASURED).splitlines()[-1]) for _ in range(rounds)]
            rows.append(_first_answer(name, found))
            print(rows[-1], flush=True)
    return rows


def _first_answer(name: str, found: list[list[float]]) -> dict[str, object]:
    """A row of seconds of import, loading and answer, and of MB, each a list of runs."""
    imported, loaded, answered, memory = np.median(found, axis=0)
    parts = {"import_ms": 1e3 * imported, "load_ms": 1e3 * loaded, "answer_ms": 1e3 * answered}
    return {"what": f"first answer: {name}", "ms": sum(parts.values()), **parts, "peak_MB": memory}


def main() -> None:
    """Medians over fresh processes."""
    given = arguments(__doc__)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have theirs; so should ours
    rounds = 1 if given.quick else 15
    with tempfile.TemporaryDirectory() as folder:
        n_texts = 20 if given.quick else 100
        index = small_index(folder, "starter", n_texts) if given.quick else demo_index(folder)
        steps, walls = embedded(index, rounds)
        multilingual, _ = embedded(small_index(folder, "multilingual", n_texts), rounds)
        uses = first_uses(index, 1 if given.quick else 5, given.quick)
        beside = [] if given.quick else others(index, given.threads, 5)
        blank = subprocess.run([sys.executable, "-c", BLANK], capture_output=True, text=True, check=True)
    imported, opened, first, second, memory = np.median(steps, axis=0)
    rows = [
        {"what": "import latebolt", "ms": 1e3 * imported},
        {"what": "open the index and load the model", "ms": 1e3 * opened},
        {"what": "first search", "ms": 1e3 * first},
        {"what": "second search", "ms": 1e3 * second},
        {"what": "embedded process, start to exit", "ms": 1e3 * float(np.median(walls)), "peak_MB": memory},
        _first_answer("latebolt", [[a, b, c, mb] for a, b, c, _, mb in steps]),
        _first_answer("latebolt, multilingual", [[a, b, c, mb] for a, b, c, _, mb in multilingual]),
        *beside,
        *uses,
        {"what": "a process that imports NumPy only", "peak_MB": float(blank.stdout)},
    ]
    record("cold_start", rows, ("fastembed", "torch", "transformers"), given.quick)


if __name__ == "__main__":
    main()
