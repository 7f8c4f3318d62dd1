"""What does an export cost, what does int8 lose, and how much memory does a long document take?

Four parts, each in a process of its own:
- small: the starter's encoder (91 MB) to all precisions: peak memory, and what the imports alone take;
- size: a checkpoint of jina-colbert-v2's full size with random weights (and its real vocabulary) to fp32
  and int8: seconds and peak memory, beside the checkpoint's size;
- long: one document of 8192 tokens through those graphs: memory over what the loaded graph holds;
- ndcg: the starter's fp32 and int8 graphs on real collections, and their mean token cosine.
Needs `latebolt[export,eval]`, the collections at LATEBOLT_DATA, and XLM-RoBERTa's tokenizer in
tokenizers/xlm-roberta beside the checkout or at LATEBOLT_SHARED; --quick takes the starter's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from harness import HERE, data_folder, kept_rows, peak_mb, record

SHARED = Path(os.environ.get("LATEBOLT_SHARED", HERE.parents[1] / "shared"))
MULTILINGUAL = SHARED / "tokenizers" / "xlm-roberta" / "tokenizer.json"
ENGLISH = HERE.parent / "engine" / "latebolt" / "models" / "starter" / "tokenizer.json"
COLLECTIONS = ("squad", "cosqa", "pubmedqa", "jsquad", "drcd")
DIM = 128
DIMS = (128, 96, 64)
PACKAGES = ("torch", "onnx")


class Shape(NamedTuple):
    """Size of a checkpoint, tokens of the long document, and the tokenizer's file."""

    layers: int
    hidden: int
    inner: int
    vocabulary: int
    tokens: int
    tokenizer: Path


WHOLE = Shape(24, 1024, 4096, 250_004, 8192, MULTILINGUAL)
SMALL = Shape(2, 256, 512, 30_600, 1024, ENGLISH)


def main() -> None:
    """Run the parts one after the other; `--part` is what a child process does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 layers, one collection; keeps no record")
    parser.add_argument("--only", choices=("small", "ndcg"), help="this part; of others the rows are kept")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep parts here, and go on where a run was stopped")
    given = parser.parse_args()
    if given.only and given.folder:
        parser.error("--folder goes on with a run of all parts; --only measures one afresh.")
    if given.part:
        print(json.dumps(PARTS[given.part](given.folder, given.quick)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for part in [given.only] if given.only else PARTS:
            kept = folder / f"{part}.json"
            if not kept.exists():
                command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
                command += ["--quick"] * given.quick
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                kept.write_text(done.stdout.splitlines()[-1])
            rows += json.loads(kept.read_text())
    if given.only and not given.quick:
        rows += kept_rows("export", rows, ("part",))
    record("export", rows, PACKAGES, given.quick)


def make(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Write the random checkpoint: in another process than the export, whose memory is measured."""
    write_checkpoint(folder / "checkpoint", SMALL if quick else WHOLE)
    return []


def size(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Export the checkpoint and say what it took."""
    from latebolt_export import export_model

    steps: list[tuple[float, str]] = []
    start = time.perf_counter()

    def note(step: str) -> None:
        steps.append((time.perf_counter() - start, step))
        print(f"{steps[-1][0]:7.1f} s  {peak_mb():6.0f} MB  {step}", file=sys.stderr)

    made = export_model(folder / "checkpoint", folder / "model", precisions=("fp32", "int8"), progress=note)
    checkpoint_mb = (folder / "checkpoint" / "model.safetensors").stat().st_size / 1e6
    row = {
        "part": "size",
        "layers": (SMALL if quick else WHOLE).layers,
        "seconds": time.perf_counter() - start,
        "checkpoint_mb": checkpoint_mb,
        "peak_mb": peak_mb(),
    }
    for file in sorted((folder / "model" / "onnx").iterdir()):
        row[file.name] = file.stat().st_size / 1e6
    parity = made.parity["precisions"]
    row["fp32_max_abs"] = parity["fp32"][str(DIM)]["max_abs"]
    row["int8_cosine_mean"] = parity["int8"][str(DIM)]["cosine_mean"]
    return [row]


def small(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Export a small checkpoint and say what it took over the libraries."""
    import importlib

    from latebolt_export.requirements import need_export_libraries, need_graph_libraries
    from latebolt_export.starter import build_starter, weights_folder

    need_graph_libraries()
    need_export_libraries()
    for name in (
        "source.checkpoint",
        "torch.trace",
        "graph.fuse",
        "variants",
        "judge.quality",
        "judge.side_by_side",
    ):
        importlib.import_module(f"latebolt_export.{name}")
    if quick:  # comparing is half of what it takes
        importlib.import_module("latebolt_export.judge.parity").TEXTS = 16
    imports, start = peak_mb(), time.perf_counter()
    build_starter(folder / "small", precisions=("fp32", "int8") if quick else ("fp32", "fp16", "int8"))
    weights = sum(file.stat().st_size for file in weights_folder().glob("*.safetensors")) / 1e6
    row = {"part": "small", "seconds": time.perf_counter() - start, "checkpoint_mb": weights}
    row |= {"imports_mb": imports, "peak_mb": peak_mb()}
    return [row | {"times": (row["peak_mb"] - imports) / weights}]


def long(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Memory of one long document over that of the session that has run a short one."""
    rows, shape = [], SMALL if quick else WHOLE
    for precision in ("fp32", "int8"):
        call = f"e.long_child({str(folder / 'model')!r}, {precision!r}, {shape.vocabulary}, {shape.tokens})"
        code = f"import export as e; print({call})"
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, cwd=HERE
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]) | {"layers": shape.layers})
    return rows


def long_child(model: str, precision: str, vocabulary: int, tokens: int) -> str:
    """One graph in a fresh process, as the runtime opens it."""
    import numpy as np

    from latebolt import contract
    from latebolt.encoder.session import Session

    read = contract.read(Path(model))
    graph = read.graph(precision)
    session = Session(Path(model) / graph.file, graph, read.head(DIM), threads=2)
    ids = np.random.default_rng(0).integers(5, vocabulary - 10, tokens)
    session.run(ids[:32], 32)
    before = peak_mb()
    start = time.perf_counter()
    session.run(ids, tokens)
    seconds = time.perf_counter() - start
    row = {"part": "long", "precision": precision, "tokens": tokens, "seconds": seconds}
    return json.dumps(row | {"loaded_mb": before, "more_mb": peak_mb() - before})


def ndcg(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """fp32 and int8 of the starter, at every width, exact float32 MaxSim over every document.

    Its heads are nested, so the narrower vectors are the first dimensions of the widest, made unit length.
    """
    import numpy as np

    from latebolt import Encoder, TokenVectors
    from latebolt.evaluate import late_run, measure, read_collection
    from latebolt_export.starter import build_starter

    built = folder / "small"  # which the part before has made
    if not built.exists():
        build_starter(built, precisions=("fp32", "int8"))
    encoders = {p: Encoder.load(built, p, max(DIMS)) for p in ("fp32", "int8")}

    def narrow(vectors: TokenVectors, dim: int) -> TokenVectors:
        values = vectors.values[:, :dim]
        return TokenVectors(values / np.linalg.norm(values, axis=1, keepdims=True), vectors.offsets)

    rows = []
    for name in COLLECTIONS[2:3] if quick else COLLECTIONS:
        collection = read_collection(data_folder() / name)
        documents = {p: e.encode_documents(list(collection.documents.values())) for p, e in encoders.items()}
        queries = {p: e.encode_queries(list(collection.queries.values())) for p, e in encoders.items()}
        for dim in DIMS:
            narrowed = {p: narrow(vectors, dim) for p, vectors in documents.items()}
            row: dict[str, Any] = {"part": "ndcg", "collection": name, "dim": dim}
            row["queries"] = len(collection.queries)
            for precision, vectors in narrowed.items():
                run, _ = late_run(collection, narrow(queries[precision], dim), vectors, bits=32)
                row[f"{precision}_ndcg"] = measure(run, collection.qrels)["nDCG@10"]
            row["loss_percent"] = 100 * (1 - row["int8_ndcg"] / row["fp32_ndcg"])
            cosine = (narrowed["fp32"].values * narrowed["int8"].values).sum(1)
            row |= {"cosine_mean": float(cosine.mean()), "cosine_p1": float(np.quantile(cosine, 0.01))}
            print(row, file=sys.stderr)
            rows.append(row)
    return rows


def write_checkpoint(folder: Path, shape: Shape) -> None:
    """A checkpoint in jina-colbert-v2's published layout, bfloat16, random weights."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    folder.mkdir()
    hidden = shape.hidden
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 0.02) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * scale).bfloat16()

    def linear(name: str, rows: int, width: int, scale: float = 0.02) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": normal(rows, width, scale=scale), f"{name}.bias": normal(rows)}

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": 1 + normal(hidden), f"{name}.bias": normal(hidden)}

    state = {
        "roberta.embeddings.word_embeddings.weight": normal(shape.vocabulary, hidden),
        "roberta.embeddings.token_type_embeddings.weight": normal(1, hidden),
        "linear.weight": normal(DIM, hidden),
        **norm("roberta.emb_ln"),
        **linear("roberta.pooler.dense", hidden, hidden),
    }
    for number in range(shape.layers):
        layer = f"roberta.encoder.layers.{number}"
        state |= linear(f"{layer}.mixer.Wqkv", 3 * hidden, hidden, 0.04)
        state |= linear(f"{layer}.mixer.out_proj", hidden, hidden)
        state |= linear(f"{layer}.mlp.fc1", shape.inner, hidden) | linear(
            f"{layer}.mlp.fc2", hidden, shape.inner
        )
        state |= norm(f"{layer}.norm1") | norm(f"{layer}.norm2")
    save_file(state, folder / "model.safetensors")
    config = {
        "vocab_size": shape.vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": 16,
        "intermediate_size": shape.inner,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "max_position_embeddings": shape.tokens + 2,
        "position_embedding_type": "rotary",
        "rotary_emb_base": 10000.0,
    }
    metadata = {"query_maxlen": 32, "doc_maxlen": 300, "dim": DIM, "attend_to_mask_tokens": True}
    metadata |= {"query_token_id": "[QueryMarker]", "doc_token_id": "[DocumentMarker]"}
    tokenizer = Tokenizer.from_file(str(shape.tokenizer))
    pairs = {role: (f"<{role}>", f"[{role.upper()}]") for role in ("pad", "mask", "unk")}
    special = {role: pair[pair[1] in tokenizer.get_vocab()] for role, pair in pairs.items()}
    tokenizer.add_special_tokens(["[QueryMarker]", "[DocumentMarker]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (
        ("config.json", config),
        ("artifact.metadata", metadata),
        ("tokenizer_config.json", {f"{role}_token": token for role, token in special.items()}),
    ):
        (folder / name).write_text(json.dumps(content))


PARTS = {"small": small, "make": make, "size": size, "long": long, "ndcg": ndcg}

if __name__ == "__main__":
    main()
