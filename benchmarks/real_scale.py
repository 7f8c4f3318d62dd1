"""How long does a search among a million real passages take, and what does it find, by length of question?

Passages and questions are those of `passages.py`, their token vectors those of `real_vectors.py`, in --work:

    python benchmarks/passages.py FOLDER
    python benchmarks/real_vectors.py FOLDER
    python benchmarks/real_scale.py --work FOLDER --sizes 100000,1000000

An index of the first passages of each size, 2 bits, dim 128, is built and searched in fresh processes. Rows
are of questions: rare words, stretches of 2, 4, 8 and 16 words of passages, and those with a known answer. Of
each kind the overlap of the best and of the ten best with an exhaustive search of the same index, and for
known answers (where they are among the passages) nDCG@10 of both. Searches with a filter that 0.1 %, 1 % and
50 % of the passages pass follow, and queries a second of 1,000 at once.

--tree adds rows of another checkout, for comparison within one run: it gets the same codes, and makes what
else it keeps of them, its lists, itself (`lists_s`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness import THREAD_VARIABLES, commit, folder_bytes, peak_mb, read_stdlib, record, status_mb

DIM, BITS, K = 128, 2, 10
LENGTHS = (1, 2, 4, 8, 16)
KINDS = ("synopsis", "headword", "sentence")
CHUNK = 16_384  # passages coded at a time
SAMPLE = 196_608  # tokens the codec learns from, as an index's
FILTERS = {"0.1 %": "part = 7", "1 %": "part < 10", "50 %": "part < 500"}
OF_A_KIND = 200  # questions with a known answer
ROUNDS = 3  # of which the least counts
BATCH = 1000
SMALL = 200  # passages of a quick run


def main() -> None:
    """Rows by size, tree and kind of question."""
    given = _arguments()
    if given.child:
        print(json.dumps({"build": build, "lists": make_lists, "search": search}[given.stage](given)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        if given.quick:
            given.work, given.sizes, given.queries = Path(temporary), str(SMALL), 5
            _write_small(given.work)
        trees = {"": Path(__file__).resolve().parents[1]} | (
            {given.tree: Path(given.tree)} if given.tree else {}
        )
        rows: list[dict[str, Any]] = []
        for size in map(int, given.sizes.split(",")):
            for tree in trees.values():
                built = _child(given, tree, size, "build" if tree == trees[""] else "lists")
                for threads in map(int, given.threads.split(",")):
                    found = _child(given, tree, size, "search", threads)
                    rows += [{"commit": commit_of(tree), "documents": size} | built | row for row in found]
                if not given.keep:
                    shutil.rmtree(_index(given.work, size, tree))
            shutil.rmtree(_codes(given.work, size), ignore_errors=True)
    record("real_scale", rows, quick=given.quick)


def commit_of(tree: Path) -> str:
    """Of a checkout."""
    line = ["git", "-C", str(tree), "log", "-1", "--format=%h"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.stdout.strip() or commit()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="some docstrings; keeps no record")
    parser.add_argument("--work", type=Path, default=Path("real"), help="the folder of passages and vectors")
    parser.add_argument("--sizes", default="100000,1000000")
    parser.add_argument("--queries", type=int, default=40, help="of each kind, compared with exhaustive")
    parser.add_argument("--threads", default="2", help="one or more numbers")
    parser.add_argument("--tree", default="", help="another checkout")
    parser.add_argument(
        "--keep", action="store_true", help="leave the indexes, and take those that are there"
    )
    for name, kind in (("child", None), ("stage", str), ("documents", int), ("label", str)):
        extra: dict[str, Any] = {"action": "store_true"} if kind is None else {"type": kind}
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **extra)
    return parser.parse_args()


def _child(given: argparse.Namespace, tree: Path, size: int, stage: str, threads: int = 2) -> Any:
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    environment["PYTHONPATH"] = os.pathsep.join([str(tree / "engine"), str(Path(__file__).resolve().parent)])
    line = [sys.executable, __file__, "--child", "--stage", stage, "--work", str(given.work)]
    line += ["--documents", str(size), "--queries", str(given.queries), "--threads", str(threads)]
    line += [
        "--label",
        tree.name,
        *(["--keep"] if given.keep else []),
        *(["--tree", given.tree] if given.tree else []),
    ]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _index(work: Path, size: int, tree: Path | str) -> Path:
    return work / f"index-{size}-{Path(tree).name}"


def _write_small(folder: Path) -> None:
    """What the two scripts would write, of docstrings of the standard library."""
    from real_vectors import encode

    some = [document.text.split() for document in read_stdlib() if len(document.text.split()) < 60]
    texts = [" ".join(words) for words in some[:SMALL]]
    (folder / "passages.txt").write_text("\n".join(texts) + "\n", "utf-8")
    asked = [
        {"kind": KINDS[i % 3], "text": " ".join(text.split()[:9]), "passage": i}
        for i, text in enumerate(texts[:30])
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)) + "\n", "utf-8")
    encode(folder)


def make_lists(given: argparse.Namespace) -> dict[str, Any]:
    """An index of another checkout with the codes that are there, and the lists that it makes."""
    from latebolt.index.store.store import Store

    folder = _index(given.work, given.documents, given.label)
    if not (given.keep and folder.exists()):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_codes(given.work, given.documents), folder)
    start = time.perf_counter()
    with Store.open(folder).writer() as writer:
        if not any(segment.lists for segment in writer.segments):
            writer.merge([segment.name for segment in writer.segments])
            writer.commit()
    tokens = Store.open(folder).snapshot().n_tokens
    return {
        "tokens": tokens,
        "lists_s": time.perf_counter() - start,
        "bytes_a_token": folder_bytes(folder) / tokens,
    }


def _codes(work: Path, size: int) -> Path:
    """An index without lists, as version 1 of the format has them, which every checkout can read."""
    return work / f"codes-{size}"


def _without_lists(index: Path, target: Path) -> None:
    from latebolt.index.store import inverted_lists
    from latebolt.index.store.store import Store

    shutil.copytree(index, target)
    least, inverted_lists.LEAST_TOKENS = inverted_lists.LEAST_TOKENS, 1 << 60  # type: ignore[misc]
    with Store.open(target).writer() as writer:
        writer.merge([segment.name for segment in writer.segments])
        writer.commit()
    inverted_lists.LEAST_TOKENS = least  # type: ignore[misc]


def build(given: argparse.Namespace) -> dict[str, Any]:
    """Make the index of one size; seconds of each part."""
    from latebolt.codec.residual_codec import ResidualCodec
    from latebolt.index.documents.checked import check_documents
    from latebolt.index.store.codecs import columns_of
    from latebolt.index.store.store import Store

    folder, facts = _index(given.work, given.documents, given.label), "built.json"
    if given.keep and (folder / facts).exists():
        if given.tree and not _codes(given.work, given.documents).exists():
            _without_lists(folder, _codes(given.work, given.documents))
        kept: dict[str, Any] = json.loads((folder / facts).read_text())
        return kept
    shutil.rmtree(folder, ignore_errors=True)
    offsets = np.load(given.work / "offsets.npy")[: given.documents + 1]
    n = int(offsets[-1])
    values = np.memmap(given.work / "documents.f16", np.float16, "r").reshape(-1, DIM)[:n]
    chosen = np.sort(np.random.default_rng(0).choice(n, min(SAMPLE, n), replace=False))
    start = time.perf_counter()
    codec = ResidualCodec.train(values[chosen].astype(np.float32), BITS, n)
    trained = time.perf_counter()
    with Store.create(folder, dim=DIM, bits=BITS).writer() as writer:
        writer.set_codec(*codec.state())
        segment = writer.new_segment(columns_of(codec))
        for first in range(0, given.documents, CHUNK):
            last = min(first + CHUNK, given.documents)
            metadata = [{"part": i % 1000} for i in range(first, last)]
            documents = check_documents(last - first, [str(i) for i in range(first, last)], None, metadata)
            part = codec.encode(values[offsets[first] : offsets[last]].astype(np.float32))
            segment.append(documents, np.diff(offsets[first : last + 1]), part)
        written = time.perf_counter()
        segment.finish()
        writer.commit()
    row = {
        "tokens": n,
        "centroids": len(codec.centroids),
        "train_s": trained - start,
        "write_s": written - trained,
        "finish_s": time.perf_counter() - written,
        "build_mb": peak_mb(),
        "bytes_a_token": folder_bytes(folder) / n,
    }
    (folder / facts).write_text(json.dumps(row))
    if given.tree:
        shutil.rmtree(_codes(given.work, given.documents), ignore_errors=True)
        _without_lists(folder, _codes(given.work, given.documents))
    return row


def _questions(given: argparse.Namespace) -> dict[str, list[tuple[np.ndarray, str | None]]]:
    """By kind: token vectors, and the id of the answer."""
    read = {name: np.load(given.work / f"{name}.npy") for name in
            ("length_queries", "length_starts", "queries", "starts", "answers")}  # fmt: skip
    every = [read["length_queries"][a:b] for a, b in pairwise(read["length_starts"])]
    of_each = len(every) // len(LENGTHS)
    found: dict[str, list[tuple[np.ndarray, str | None]]] = {
        f"{words} words": [(query, None) for query in every[i * of_each : (i + 1) * of_each]]
        for i, words in enumerate(LENGTHS)
    }
    kinds = json.loads((given.work / "kinds.json").read_text())
    asked = [read["queries"][a:b] for a, b in pairwise(read["starts"])]
    for kind in KINDS:
        found[kind] = [
            (query, str(answer)) for query, answer, of in zip(asked, read["answers"], kinds, strict=True)
            if of == kind and answer < given.documents
        ][:OF_A_KIND]  # fmt: skip
    return found


def search(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a kind of question, with its hits compared before they are timed."""
    from latebolt import Index

    threads = int(given.threads)
    index = Index.open(_index(given.work, given.documents, given.label), threads=threads)
    rows = []
    asked = _questions(given)
    for kind, questions in asked.items():
        if not questions:
            continue
        found = [index.search_vectors(query, k=K) for query, _ in questions]
        times = [_least(lambda q=query: index.search_vectors(q, k=K)) for query, _ in questions]
        some = range(0, len(questions), max(1, len(questions) // given.queries))
        truth = {i: index.search_vectors(questions[i][0], k=K, exhaustive=True) for i in some}
        row = {"questions": kind, "threads": threads, "asked": len(questions), "compared": len(truth)}
        row |= _times(times) | _overlap([found[i] for i in some], list(truth.values()))
        if questions[0][1] is not None:
            answers = [answer for _, answer in questions]
            row["ndcg"] = _ndcg([found[i] for i in some], [answers[i] for i in some])
            row["ndcg_exhaustive"] = _ndcg(list(truth.values()), [answers[i] for i in some])
            row["ndcg_loss"] = row["ndcg_exhaustive"] - row["ndcg"]
        rows.append(row)
    every = [query for questions in asked.values() for query, _ in questions]
    rows[0] |= {"resident_mb": peak_mb(), "own_mb": status_mb("RssAnon")}
    for name, where in FILTERS.items():
        some_queries = every[:: max(1, len(every) // given.queries)]
        found = [index.search_vectors(query, k=K, where=where) for query in some_queries]
        times = [
            _least(lambda q=query, w=where: index.search_vectors(q, k=K, where=w)) for query in some_queries
        ]
        exact = [index.search_vectors(query, k=K, where=where, exhaustive=True) for query in some_queries]
        row = {"questions": f"all, a filter passes {name}", "threads": threads, "asked": len(some_queries)}
        rows.append(row | {"compared": len(exact)} | _times(times) | _overlap(found, exact))
    batch = [every[i % len(every)] for i in range(BATCH if given.documents > BATCH else 100)]
    start = time.perf_counter()
    many = index.search_vectors_many(batch, k=K)
    seconds = time.perf_counter() - start
    assert len(many) == len(batch)
    rows.append(
        {"questions": f"{len(batch)} at once", "threads": threads, "queries_per_s": len(batch) / seconds}
    )
    return rows


def _least(run: Callable[[], object]) -> float:
    """Milliseconds, the least of some."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def _times(times: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(times, (50, 95))
    return {"p50_ms": float(p50), "p95_ms": float(p95), "mean_ms": float(np.mean(times))}


def _overlap(found: list[Any], truth: list[Any]) -> dict[str, float]:
    """With those of equal scores taken as the same."""
    shares: dict[int, list[float]] = {1: [], K: []}
    for hits, best in zip(found, truth, strict=True):
        for n, kept in shares.items():
            if best:
                least = best[:n][-1].score
                kept.append(min(1.0, sum(hit.score >= least for hit in hits[:n]) / len(best[:n])))
    return {f"overlap_at_{n}": float(np.mean(kept)) for n, kept in shares.items()}


def _ndcg(found: list[Any], answers: list[Any]) -> float:
    """NDCG@10 with one answer a question."""
    gains = []
    for hits, answer in zip(found, answers, strict=True):
        ids = [hit.id for hit in hits]
        gains.append(1 / np.log2(ids.index(answer) + 2) if answer in ids else 0.0)
    return float(np.mean(gains))


if __name__ == "__main__":
    main()
