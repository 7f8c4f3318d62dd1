"""Do 4-bit weights pay on small devices: size, nearness to float32, nDCG, memory and speed beside int8?

The starter's encoder in forms of one float32 graph. int8 is what latebolt ships. "4 bit" has ONNX Runtime's
MatMulNBits for every matrix of the layers, symmetric, in blocks of so many weights, with the word table in
int8; accuracy level 4 multiplies bytes, level 1 float32. Nearness is of token vectors to those of float32;
nDCG is of exact MaxSim over a part of a collection. Memory is of processes that hold the encoder after one
query: resident, and the proportional part of one of two, who share pages of files alone. One call takes all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import data_folder, measure, record

DIM, THREADS = 128, 2
COLLECTIONS = ("squad", "cosqa", "pubmedqa")
DOCUMENTS, QUICK_DOCUMENTS = 500, 60  # of a collection: those that queries ask for, and others
QUERIES, QUICK_QUERIES = 200, 20
FORMS = {
    "4 bit, blocks of 32, bytes": (32, 4),
    "4 bit, blocks of 32, float32": (32, 1),
    "4 bit, blocks of 128, bytes": (128, 4),
}
QUERY = "how many people live in Berlin"


def four_bits(
    weight: npt.NDArray[np.float32], block: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A matrix [k, n] as MatMulNBits has it: uint8 [n, k / block, block / 2], float32 [n, k / block]."""
    k, n = weight.shape
    blocks = np.zeros((n, -(-k // block) * block), np.float32)
    blocks[:, :k] = weight.T
    blocks = blocks.reshape(n, -1, block)
    # The value of largest size becomes -8, the one end of -8 .. 7.
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[:, :, None], axis=2)
    step = largest / -8
    codes = np.clip(np.rint(blocks / np.where(step == 0, 1, step)) + 8, 0, 15).astype(np.uint8)
    return codes[:, :, 0::2] | codes[:, :, 1::2] << 4, step[:, :, 0].astype(np.float32)


def write_form(built: Path, out: Path, block: int, level: int) -> None:
    """A model folder whose graph, called fp32 there, has 4-bit layers and an int8 word table."""
    import onnx
    from onnx import helper

    from latebolt_export.graph import quantize
    from latebolt_export.graph.onnx_edit import Wiring, add_constant, set_nodes

    shutil.copytree(built, out, ignore=shutil.ignore_patterns("*.onnx*"))
    model = onnx.load(built / "onnx" / "model.onnx")
    matmuls = {node.name for node in model.graph.node if node.op_type == "MatMul"}
    heads = quantize.head_matmuls(model)
    quantize.quantize(model, matmuls)  # the word table alone
    wiring, nodes = Wiring(model), []
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.name in heads or node.input[1] not in wiring.constants:
            nodes.append(node)
            continue
        weight = np.asarray(wiring.value(node.input[1]), np.float32)
        codes, steps = four_bits(weight, block)
        names = [
            add_constant(model, f"{node.name}_codes", codes),
            add_constant(model, f"{node.name}_steps", steps),
        ]
        sizes = {"K": weight.shape[0], "N": weight.shape[1], "bits": 4, "block_size": block}
        nodes.append(
            helper.make_node(
                "MatMulNBits", [node.input[0], *names], list(node.output), f"{node.name}_4bit",
                domain="com.microsoft", accuracy_level=level, **sizes,
            )
        )  # fmt: skip
    set_nodes(model, nodes)
    if all(each.domain != "com.microsoft" for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used or _is_inner(model, each.name)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    (out / "onnx").mkdir(exist_ok=True)
    onnx.save(model, out / "onnx" / "model.onnx")
    about = json.loads((out / "latebolt.json").read_text())
    size = (out / "onnx" / "model.onnx").stat().st_size
    about["graphs"] = {"fp32": {**about["graphs"]["fp32"], "bytes": size, "sha256": ""}}
    (out / "latebolt.json").write_text(json.dumps(about))


def _is_inner(model: Any, name: str) -> bool:
    """Whether a graph within a node, such as a branch of an If, uses a constant of the whole."""
    return any(
        name in inner.input for node in model.graph.node for each in node.attribute for inner in each.g.node
    )


def hold(folder: str, precision: str) -> None:
    """Load, encode a query, say what it takes, and wait to be told to say what is shared."""
    from latebolt import Encoder

    encoder = Encoder.load(folder, precision, DIM, threads=THREADS)
    encoder.encode_queries([QUERY])
    print("ready", flush=True)
    sys.stdin.readline()
    rolled = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    print(json.dumps({f"{n}_MB": int(rolled[n].split()[0]) * 1024 / 1e6 for n in ("Rss", "Pss")}), flush=True)
    sys.stdin.readline()


def held(folder: Path, precision: str) -> dict[str, float]:
    """Resident memory of one of two processes with the encoder, and its proportional part."""
    command = [sys.executable, __file__, "--hold", str(folder), precision]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for each in both:
        assert each.stdout is not None and each.stdout.readline().strip() == "ready"
    said = []
    for each in both:
        assert each.stdin is not None and each.stdout is not None
        each.stdin.write("\n")
        each.stdin.flush()
        said.append(json.loads(each.stdout.readline()))
    for each in both:
        each.communicate("\n", timeout=60)
    found: dict[str, float] = said[0]
    return found


def main() -> None:
    """One row a form and a collection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one small part of a collection; keeps no record"
    )
    parser.add_argument("--hold", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.hold:
        hold(*given.hold)
        return
    from latebolt import Encoder
    from latebolt.evaluate import late_run, read_collection
    from latebolt.evaluate import measure as judged
    from latebolt_export.starter import build_starter

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        built = Path(temporary) / "built"
        build_starter(built, precisions=("fp32", "int8"))
        forms = {"float32": (built, "fp32"), "int8": (built, "int8")}
        for name, (block, level) in list(FORMS.items())[:1] if given.quick else FORMS.items():
            folder = Path(temporary) / name
            write_form(built, folder, block, level)
            forms[name] = folder, "fp32"
        n_documents, n_queries = (QUICK_DOCUMENTS, QUICK_QUERIES) if given.quick else (DOCUMENTS, QUERIES)
        for collection_name in COLLECTIONS[:1] if given.quick else COLLECTIONS:
            collection = part_of(read_collection(data_folder() / collection_name), n_documents, n_queries)
            truth: npt.NDArray[np.float32] | None = None
            for name, (folder, precision) in forms.items():
                row: dict[str, Any] = {"form": name, "collection": collection_name}
                file = folder / "onnx" / ("model_int8.onnx" if precision == "int8" else "model.onnx")
                row["MB"] = file.stat().st_size / 1e6
                with Encoder.load(folder, precision, DIM, threads=THREADS) as encoder:
                    encoder.warmup()
                    start = time.perf_counter()
                    documents = encoder.encode_documents(list(collection.documents.values()))
                    row["documents_per_s"] = len(documents) / (time.perf_counter() - start)
                    queries = encoder.encode_queries(list(collection.queries.values()))
                    row["query_ms"] = measure(lambda e=encoder: e.encode_queries([QUERY]))["median_ms"]
                truth = documents.values if truth is None else truth
                cosine = (truth * documents.values).sum(axis=1)
                row |= {"cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min())}
                run, _ = late_run(collection, queries, documents, bits=32)
                row["nDCG@10"] = judged(run, collection.qrels)["nDCG@10"]
                row |= held(folder, precision) if collection_name == COLLECTIONS[0] else {}
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    record("small_graphs", rows, ("onnx", "torch"), given.quick)


def part_of(collection: Any, n_documents: int, n_queries: int) -> Any:
    """Some queries of a collection, the documents that answer them, and others up to so many."""
    import dataclasses

    asked = list(collection.queries)[:n_queries]
    wanted = dict.fromkeys(each for query in asked for each in collection.qrels.get(query, {}))
    some = dict.fromkeys([*wanted, *list(collection.documents)[:n_documents]])
    return dataclasses.replace(
        collection,
        queries={query: collection.queries[query] for query in asked},
        documents={name: collection.documents[name] for name in some if name in collection.documents},
        qrels={query: collection.qrels[query] for query in asked if query in collection.qrels},
    )


if __name__ == "__main__":
    main()
