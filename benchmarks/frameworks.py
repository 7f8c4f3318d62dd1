"""What changes for users of Stanford's library and RAGatouille who change an import?

The same checkpoint (the starter's weights and head in the Stanford layout; ours is its int8 export),
the same passages (squad at LATEBOLT_DATA, or the standard library's docstrings) and the same calls. Each
contender runs in a process of its own: seconds to import and to index, milliseconds of a search, peak memory,
bytes on disk, and megabytes that its package installs with all it needs.

The libraries want an environment of their own: `python -m venv theirs; theirs/bin/pip install torch
"transformers<4.58" colbert-ai faiss-cpu ragatouille "langchain<1" packaging`, and its Python in
LATEBOLT_THEIRS. The first search of colbert-ai compiles C++ on the machine, which is not counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from encode import ASSETS, texts
from harness import THREAD_VARIABLES, arguments, record

PASSAGES, QUERIES = 1000, 100
CONTENDERS = {
    # name: (distribution, is it ours, whose surface)
    "colbert-ai": ("colbert-ai", False, "stanford"),
    "latebolt.adapters.stanford": ("latebolt", True, "stanford"),
    "RAGatouille": ("ragatouille", False, "ragatouille"),
    "latebolt.adapters.ragatouille": ("latebolt", True, "ragatouille"),
}
IMPORTS = {
    ("stanford", False): "from colbert import Indexer, Searcher\n"
    "from colbert.infra import ColBERTConfig, Run, RunConfig",
    ("stanford", True): "from latebolt.adapters.stanford import "
    "ColBERTConfig, Indexer, Run, RunConfig, Searcher",
    ("ragatouille", False): "from ragatouille import RAGPretrainedModel",
    ("ragatouille", True): "from latebolt.adapters.ragatouille import RAGPretrainedModel",
}
USES = {
    "stanford": """
context = Run().context(RunConfig(root={folder!r}, experiment="e", avoid_fork_if_possible=True))
context.__enter__()
def index():
    Indexer({model!r}, ColBERTConfig(nbits=2, doc_maxlen=180), verbose=0).index("i", passages, overwrite=True)
def opened():
    searcher = Searcher("i", collection=passages, verbose=0)
    return lambda query: searcher.search(query, k=10)
""",
    "ragatouille": """
RAG = RAGPretrainedModel.from_pretrained({model!r}, index_root={folder!r}, verbose=0)
def index():
    RAG.index(passages, index_name="i", max_document_length=180, split_documents=False)
def opened():
    found = RAGPretrainedModel.from_index({folder!r} + "/colbert/indexes/i", verbose=0)
    return lambda query: found.search(query, k=10)
""",
}
SCRIPT = """
import json, sys, time
start = time.perf_counter()
{imports}
import_s = time.perf_counter() - start
if __name__ == "__main__":
    passages, queries = json.load(open({texts!r}))
    {use}
    if {step!r} == "build":
        start = time.perf_counter()
        index()
        found = {{"build_s": time.perf_counter() - start}}
    else:
        search, times = opened(), []
        search(queries[0])
        for query in queries:
            start = time.perf_counter()
            search(query)
            times.append(1e3 * (time.perf_counter() - start))
        [line] = [x for x in open("/proc/self/status") if x.startswith("VmHWM")]
        found = {{"p50_ms": sorted(times)[len(times) // 2], "import_s": import_s,
                 "peak_MB": int(line.split()[1]) * 1024 / 1e6}}
    print("@@" + json.dumps(found), flush=True)
"""
# Bytes of a distribution and of all it needs.
INSTALLED = """
import pathlib, sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from packaging.requirements import Requirement
seen = {}
def visit(name, extras):
    name = name.lower().replace("_", "-")
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return
    if name not in seen:
        files = [f for f in found.files or () if f.locate().exists()]
        seen[name] = sum(f.locate().stat().st_size for f in files)
        for line in found.requires or ():
            need = Requirement(line)
            if not need.marker or any(need.marker.evaluate({"extra": e}) for e in (*extras, "")):
                visit(need.name, need.extras)
wanted = Requirement(sys.argv[1])
visit(wanted.name, wanted.extras)
if wanted.name == "latebolt":  # where it is installed as a link to a clone, its own files are not listed
    folder = pathlib.Path(find_spec("latebolt").submodule_search_locations[0])
    files = [file for file in folder.rglob("*") if "__pycache__" not in file.parts]
    seen["latebolt"] = sum(file.stat().st_size for file in files)
print(sum(seen.values()) / 1e6)
"""


def prepare() -> None:
    """The checkpoint in the Stanford layout, and its int8 export; once a machine."""
    from safetensors.torch import load_file, save_file

    from latebolt_export import export_model
    from latebolt_export.recipe import data_file
    from latebolt_export.starter import HEAD, weights_folder

    checkpoint = ASSETS / "stanford"
    if not (checkpoint / "artifact.metadata").exists():  # written last
        checkpoint.mkdir(parents=True, exist_ok=True)
        for name in (
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "vocab.txt",
        ):
            shutil.copy(weights_folder() / name, checkpoint / name)
        with data_file(HEAD) as file:
            (head,) = load_file(file).values()
        state = load_file(weights_folder() / "model.safetensors")
        state = {f"bert.{key}": value.contiguous() for key, value in state.items()}
        save_file(state | {"linear.weight": head.float().contiguous()}, checkpoint / "model.safetensors")
        settings = {"query_maxlen": 32, "doc_maxlen": 180, "dim": 128, "attend_to_mask_tokens": False}
        (checkpoint / "artifact.metadata").write_text(json.dumps({**settings, "mask_punctuation": True}))
    if not (ASSETS / "stanford-onnx" / "latebolt.json").exists():
        export_model(checkpoint, ASSETS / "stanford-onnx", precisions=("int8",), overwrite=True)


def run(name: str, root: Path, threads: int) -> dict[str, Any]:
    """A row of one contender."""
    distribution, ours, surface = CONTENDERS[name]
    python = sys.executable if ours else os.environ["LATEBOLT_THEIRS"]
    folder = root / name
    folder.mkdir()
    names = {"folder": str(folder), "model": str(ASSETS / ("stanford-onnx" if ours else "stanford"))}
    use = USES[surface].format(**names).strip().replace("\n", "\n    ")
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}

    def step(what: str) -> dict[str, Any]:
        script = root / "script.py"
        script.write_text(
            SCRIPT.format(imports=IMPORTS[surface, ours], texts=str(root / "texts.json"), use=use, step=what)
        )
        command = [python, str(script)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=root
        )
        [line] = [x for x in done.stdout.splitlines() if x.startswith("@@")]
        return dict(json.loads(line[2:]))

    row: dict[str, Any] = {"contender": name, **step("build")}
    row["disk_MB"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    if name == "colbert-ai":
        step("search")  # compiles what it needs
    row |= step("search")
    wanted = "latebolt[cpu]" if ours else distribution
    size = subprocess.run([python, "-c", INSTALLED, wanted], stdout=subprocess.PIPE, text=True, check=True)
    row["installed_MB"] = float(size.stdout)
    return row


def main() -> None:
    """Every contender that can run."""
    given = arguments(__doc__)
    prepare()
    known = texts(PASSAGES if not given.quick else 60)
    queries = [" ".join(text.split()[:10]) for text in known[: QUERIES if not given.quick else 5]]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "texts.json").write_text(json.dumps([known, queries]))
        for name, (_, ours, _) in CONTENDERS.items():
            if ours or (os.environ.get("LATEBOLT_THEIRS") and not given.quick):
                rows.append(
                    {**run(name, root, given.threads), "passages": len(known), "threads": given.threads}
                )
                print(rows[-1], flush=True)
    record("frameworks", rows, (), given.quick)


if __name__ == "__main__":
    main()
