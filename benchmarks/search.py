"""How fast is a search over a million stored tokens, beside exact NumPy, fast-plaid and xtr-warp-rs?

Real documents and queries (squad, cosqa and pubmedqa as one collection, at LATEBOLT_DATA), the built-in
model's vectors of 128 dimensions, the same for all. Each contender has its own defaults, builds in one
process and searches in another, whose memory counts: seconds to build, bytes on disk and a token, resident
memory, milliseconds a query, queries a second in one batch, nDCG@10 and the share of the exact top ten that
is found, over 250 queries of each collection. Ours also answer up to 1,000 of each: 750 queries settle a
difference in nDCG to a few thousandths only, so `lost` is what those lose to exact, with a 95 % interval.

A table by length of query follows: single words that 3 to 20 documents hold, and stretches of 2, 4, 8 and 16
words of documents. People type short questions, and a search that is right for long ones may miss theirs: for
each contender the share of questions whose first hit, and of the first ten, are those of exact scoring in
NumPy, and milliseconds. Codes themselves move some hits: what a search misses beyond is the difference to the
exhaustive row of the same bits.

fast-plaid and xtr-warp-rs need a torch of their own: `python -m venv peers; peers/bin/pip install fast-plaid
xtr-warp-rs` (or each in an environment of its own) and LATEBOLT_PEERS=peers/bin/python. The record keeps the
rows of contenders that did not take part, if this processor measured them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness import THREAD_VARIABLES, commit, data_folder, folder_bytes, kept_rows, record, status_mb

COLLECTIONS = ("squad", "cosqa", "pubmedqa")
DIM, K = 128, 10
TIMED, MORE = 250, 1000  # queries of each collection
LENGTHS, OF_A_LENGTH = (1, 2, 4, 8, 16), 100  # words of a question, questions of each
OURS = (
    "NumPy exact float32",
    "latebolt 2 bit",
    "latebolt 2 bit, exhaustive",
    "latebolt 4 bit",
    "latebolt 1 bit",
)
PEERS = ("fast-plaid 4 bit (its default)", "xtr-warp-rs 4 bit (its default)")

Found = list[tuple[int, float]]
Search = Callable[[list[np.ndarray]], list[Found]]  # queries [n, DIM] each -> the best K of each


class Data:
    """What the parent wrote: documents' and queries' token vectors.

    queries: those that are timed, and answered by all. more: those that only ours answer.
    """

    def __init__(self, folder: Path) -> None:
        self.values = np.load(folder / "documents.npy", mmap_mode="r")
        self.offsets = np.load(folder / "offsets.npy")
        queries, starts = np.load(folder / "queries.npy"), np.load(folder / "starts.npy")
        every = [queries[a:b] for a, b in pairwise(starts)]
        n_timed = int(np.load(folder / "timed.npy"))
        self.queries, self.more = every[:n_timed], every[n_timed:]
        starts, of_lengths = np.load(folder / "length_starts.npy"), np.load(folder / "length_queries.npy")
        each = [of_lengths[a:b] for a, b in pairwise(starts)]
        n = len(each) // len(LENGTHS)
        self.by_length = {words: each[i * n : (i + 1) * n] for i, words in enumerate(LENGTHS)}

    def documents(self) -> Iterator[np.ndarray]:
        """float32 [n, DIM] of each document."""
        yield from (self.values[a:b] for a, b in pairwise(self.offsets))


def questions(documents: list[str], n: int) -> list[str]:
    """n of each of LENGTHS, in that order: rare words, then stretches of documents. The same in every run."""
    rng = random.Random(5)
    held = Counter(word for text in documents for word in set(re.findall(r"[a-z]{5,}", text.lower())))
    rare = sorted(word for word, count in held.items() if 3 <= count <= 20)
    found = rng.sample(rare, n)
    for words in LENGTHS[1:]:
        for _ in range(n):
            while len(text := rng.choice(documents).split()) <= words:
                pass
            start = rng.randrange(len(text) - words)
            found.append(" ".join(text[start : start + words]))
    return found


def token_ids(encoder: Any, documents: list[str]) -> np.ndarray:
    """uint32 [n_tokens], the vocabulary id of each token vector, which a contender of `peers.py` asks for."""
    tokens = encoder.tokenize(documents, "document")
    kept = [one.ids if one.keep is None else one.ids[one.keep] for one in tokens]
    return np.concatenate(kept).astype(np.uint32)


def prepare(folder: Path, n_timed: int, n_more: int, collections: tuple[str, ...]) -> dict[str, Any]:
    """Encode and write; returns the judgements [query][document number] = grade, timed queries first."""
    from latebolt import Encoder
    from latebolt.evaluate import read_collection

    root = data_folder()
    encoder = Encoder.load("starter", dim=DIM)
    documents: list[str] = []
    asked: tuple[list[tuple[str, dict[int, int]]], ...] = ([], [])
    for name in collections:
        found = read_collection(root / name)
        number = {key: len(documents) + i for i, key in enumerate(found.documents)}
        documents += found.documents.values()
        for queries, n in zip(asked, (n_timed, n_more), strict=True):
            for key, text in found.with_queries(n).queries.items():
                grades = {number[document]: grade for document, grade in found.qrels[key].items()}
                queries.append((text, grades))
    vectors = encoder.encode_documents(documents, show_progress=True)
    query_vectors = encoder.encode_queries([text for queries in asked for text, _ in queries])
    of_lengths = encoder.encode_queries(questions(documents, OF_A_LENGTH if n_timed == TIMED else 10))
    np.save(folder / "length_queries.npy", of_lengths.values)
    np.save(folder / "length_starts.npy", of_lengths.offsets)
    np.save(folder / "documents.npy", vectors.values)
    np.save(folder / "offsets.npy", vectors.offsets)
    np.save(folder / "token_ids.npy", token_ids(encoder, documents))
    np.save(folder / "queries.npy", query_vectors.values)
    np.save(folder / "starts.npy", query_vectors.offsets)
    np.save(folder / "timed.npy", len(asked[0]))
    qrels = [grades for queries in asked for _, grades in queries]
    n_queries = len(asked[0])
    return {"qrels": qrels, "documents": len(documents), "tokens": vectors.n_tokens, "queries": n_queries}


def build(name: str, data: Data, folder: Path) -> None:
    """Make the contender's index."""
    if name.startswith("latebolt"):
        from latebolt import Index, TokenVectors

        bits = int(name.split()[1])
        index = Index.create(folder, None, bits=bits, dim=DIM)
        ids = [str(i) for i in range(len(data.offsets) - 1)]
        index.add_vectors(ids, TokenVectors(np.asarray(data.values), data.offsets))
    elif name.startswith("fast-plaid"):
        import torch
        from fast_plaid.search import FastPlaid

        FastPlaid(index=str(folder), device="cpu").create([torch.tensor(one) for one in data.documents()])
    elif name.startswith("xtr-warp"):
        import torch
        from xtr_warp.search import XTRWarp

        documents = [torch.tensor(one) for one in data.documents()]
        XTRWarp(index=str(folder)).create(documents, device="cpu", show_progress=False)


def searcher(name: str, data: Data, folder: Path, threads: int) -> Search:
    """How the contender answers."""
    if name.startswith("NumPy"):
        values = np.array(data.values)

        def exact(queries: list[np.ndarray]) -> list[Found]:
            found = []
            for query in queries:
                scores = np.maximum.reduceat(values @ query.T, data.offsets[:-1], axis=0).sum(1)
                best = np.argsort(-scores, kind="stable")[:K]
                found.append([(int(i), float(scores[i])) for i in best])
            return found

        return exact
    if name.startswith("latebolt"):
        from latebolt import Index

        index = Index.open(folder)
        exhaustive = name.endswith("exhaustive")
        return lambda queries: [
            [(int(hit.id), hit.score) for hit in hits]
            for hits in index.search_vectors_many(queries, K, exhaustive=exhaustive)
        ]
    import torch

    torch.set_num_threads(threads)
    if name.startswith("fast-plaid"):
        from fast_plaid.search import FastPlaid

        plaid = FastPlaid(index=str(folder), device="cpu")
        return lambda queries: plaid.search(
            [torch.tensor(query) for query in queries], top_k=K, show_progress=False
        )
    from xtr_warp.search import XTRWarp

    warp = XTRWarp(index=str(folder)).load(device="cpu")
    return lambda queries: warp.search(
        [torch.tensor(query) for query in queries], top_k=K, num_threads=threads, show_progress=False
    )


def run_child(step: str, name: str, data: Data, folder: Path, threads: int) -> None:
    """Build, or search and print what was found and how long it took, as JSON."""
    if step == "build":
        start = time.perf_counter()
        build(name, data, folder)
        print(json.dumps({"build_s": time.perf_counter() - start}))
        return
    search = searcher(name, data, folder, threads)
    search(data.queries[:3])
    times, found = [], []
    for query in data.queries:
        start = time.perf_counter()
        found += search([query])
        times.append(1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    search(data.queries)
    row = {
        "p50_ms": float(np.median(times)),
        "p95_ms": float(np.quantile(times, 0.95)),
        "batch_queries_per_s": len(times) / (time.perf_counter() - start),
        "resident_MB": status_mb("VmHWM"),
    }
    if name in OURS:
        found += search(data.more)
    lengths = {}
    for words, queries in data.by_length.items():
        times, hits = [], []
        for query in queries:
            start = time.perf_counter()
            hits += search([query])
            times.append(1e3 * (time.perf_counter() - start))
        lengths[words] = {"ms": times, "found": [[int(i) for i, _ in one] for one in hits]}
    whole = [[(int(i), float(s)) for i, s in one] for one in found]
    print(json.dumps({"row": row, "found": whole, "lengths": lengths}))


def run(python: str, step: str, name: str, root: Path, threads: int) -> dict[str, Any]:
    """A child's answer."""
    command = [python, __file__, "--step", step, "--contender", name, "--folder", str(root)]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    done = subprocess.run(
        [*command, "--threads", str(threads)], stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def ndcg(found: list[Found], qrels: list[dict[int, int]]) -> np.ndarray:
    """nDCG@10 of each query."""
    from latebolt.evaluate import measure_queries

    runs = {
        str(q): {str(i): 1.0 / (1 + rank) for rank, (i, _) in enumerate(one)} for q, one in enumerate(found)
    }
    judged = {str(q): {str(i): grade for i, grade in one.items()} for q, one in enumerate(qrels)}
    values = measure_queries(runs, judged)["nDCG@10"]
    return np.array([values[q] for q in runs])


def rows_by_length(contender: str, answer: dict[str, Any], exact: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a length: the share of exact hits that are found, and milliseconds."""
    rows = []
    for words, one in answer["lengths"].items():
        truth = exact["lengths"][words]["found"]
        pairs = list(zip(truth, one["found"], strict=True))
        rows.append(
            {
                "table": "lengths",
                "contender": contender,
                "words": int(words),
                "overlap@1": float(np.mean([a[:1] == b[:1] for a, b in pairs])),
                "overlap@10": float(np.mean([len(set(a) & set(b)) / K for a, b in pairs])),
                "p50_ms": float(np.median(one["ms"])),
                "p95_ms": float(np.quantile(one["ms"], 0.95)),
            }
        )
    return rows


def lost(exact: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Mean loss and its 95 % interval."""
    from latebolt.evaluate.statistics import paired_differences

    [loss] = paired_differences((exact - found)[:, None])
    interval = f"{loss.low:.4f} to {loss.high:.4f}"
    return {"lost": loss.mean, "lost, 95 %": interval, "queries for lost": len(found)}


def main() -> None:
    """Every contender in turn, over the same vectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one collection, no peers; keeps no record")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="beginnings of contenders' names, with commas; NumPy always runs")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        place = given.folder / given.contender.replace(" ", "_").replace(",", "").replace("_exhaustive", "")
        run_child(given.step, given.contender, Data(given.folder), place, given.threads)
        return
    contenders = [(name, sys.executable) for name in OURS]
    if not given.quick and (peers := os.environ.get("LATEBOLT_PEERS")):
        contenders += [(name, peers) for name in PEERS]
    if given.only:
        wanted = (OURS[0], *given.only.split(","))
        contenders = [each for each in contenders if each[0].startswith(wanted)]
        if len(contenders) == 1:
            parser.error(f"--only should begin some of {', '.join((*OURS, *PEERS))}; got {given.only!r}.")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        names = COLLECTIONS[-1:] if given.quick else COLLECTIONS
        facts = prepare(root, *((20, 40) if given.quick else (TIMED, MORE)), names)
        qrels = facts.pop("qrels")
        print(facts, flush=True)
        exact: list[Found] = []
        first: dict[str, Any] = {}
        lengths: list[dict[str, Any]] = []
        best: np.ndarray = np.zeros(0)
        for name, python in contenders:
            folder = root / name.replace(" ", "_").replace(",", "")
            row: dict[str, Any] = {"contender": name, "threads": given.threads, "commit": commit()}
            if name != OURS[0] and not name.endswith("exhaustive"):
                row |= run(python, "build", name, root, given.threads)
                size = folder_bytes(folder)
                row |= {"disk_MB": size / 1e6, "bytes_a_token": size / facts["tokens"]}
            answer = run(python, "search", name, root, given.threads)
            found = answer["found"]
            values = ndcg(found, qrels[: len(found)])
            if not rows:
                exact, best, first = found, values, answer
            row |= answer["row"] | {"nDCG@10": float(values[: facts["queries"]].mean())}
            shared = [len({i for i, _ in a} & {i for i, _ in b}) for a, b in zip(exact, found, strict=False)]
            row["overlap@10"] = float(np.mean(shared[: facts["queries"]])) / K
            row["x NumPy"] = (rows[0] if rows else row)["p50_ms"] / row["p50_ms"]
            if rows and len(values) == len(best):
                row |= lost(best[facts["queries"] :], values[facts["queries"] :])
            rows.append(row)
            lengths += rows_by_length(name, answer, first)
            print(row, *lengths[-len(LENGTHS) :], sep="\n", flush=True)
            if (name, python) == contenders[-1] or name in (OURS[-1], *PEERS):  # a peer takes many minutes
                full = [row | facts for row in rows]
                kept = kept_rows("search", full, ("contender",), ("tokens", "queries", "threads", "cpu"))
                record("search", full + kept + lengths, (), given.quick)


if __name__ == "__main__":
    main()
