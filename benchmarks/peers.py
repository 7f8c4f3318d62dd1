"""How much of the exact answer do searches of other libraries find in how many milliseconds, beside ours?

Curves, not points: each contender at several of its settings, over the same float16 token vectors, on one
thread and on two. For each: the share of exact MaxSim's first hit and of its first ten (what ties counts as
the hit it ties with), milliseconds of one query after another by length of query (1, 2, 4, 8 and 16 words,
and questions), queries a second of 1,000 at once, seconds to build (on the most threads of the run), bytes a
token on disk, resident memory. Each builds in one process and searches in another, which is held to its
threads' processors and to a limit of memory. Who would need more memory than there is is left out, and a row
says so.

What takes part, and how (`contenders/`), with what was seen on 136,439 tokens of squad:

- latebolt 2 and 4 bit: `Index.add_vectors`, `search_vectors`. It widens its search by itself, so it has one
  point, and `exhaustive`. "exact, vectors as they are" is its MaxSim kernel over the float16 file.
- TACHIOM 0.4: `Tachiom.build_from_arrays(vectors, token_ids, doclens)` with its defaults: a centroid in 128
  tokens, shared out by vocabulary ids (token_ids.npy), a product quantiser of 32 bytes, HNSW over centroids.
  Swept: `k_centroids`, `ef_search` and `k_docs_to_score`, the default and its authors' three settings for MS
  MARCO among them. Thorough settings end where its quantiser does: at 0.91 of the ten for single words, 0.96
  for questions. Its `alpha` leaves out more where it is smaller, and above 0.45 costs time alone. One query
  is one thread's.
- NumKong 7.8: `maxsim_pack` as bf16, its default, then `maxsim_packed` a document, over as many parts of
  them as threads. Nothing to set. Not exact: it picks the nearest token by bytes of which the six largest
  are clipped, so that sums are about 2 % low (of bf16, float16 and float32 alike, on every instruction set),
  and 0.85 to 0.93 of the exact ten come out.
- Col-Bandit 0.1: NumKong's kernel, with documents given up early: `ColBandit.index(list)`, `search(query,
  k)`. Swept: `alpha_ef` (0.2 by default; 1 gives up fewest). One query is one thread's.
- fast-maxsim 0.2: `maxsim_scores_variable(query, list of float32)`. Exact, with queries of 150 tokens too;
  maxsim-cpu, which it is forked from, is wrong beyond 32. Nothing to set.
- fast-plaid 1.7 and xtr-warp-rs 2.1, 4 bit by default: take part where they are named, as they build for many
  minutes. `n_ivf_probe`, `n_full_scores`; `nprobe`, `bound`: a setting on either side of the default.

They are looked for in LATEBOLT_PEERS, a Python, or here:

    python -m venv peers; peers/bin/pip install numkong fast-maxsim colbandit fast-plaid xtr-warp-rs
    pip download --no-deps --only-binary :all: --platform manylinux_2_39_x86_64 tachiom
    python -m zipfile -e tachiom-*.whl peers/lib/python3.11/site-packages  # pip wants a newer glibc than it
    LATEBOLT_PEERS=peers/bin/python python benchmarks/peers.py --folder vectors

--folder holds documents.npy, float16 [n_tokens, 128], or documents.f16, the same without a header;
offsets.npy; length_queries.npy and length_starts.npy, as many queries of each length; queries.npy, starts.npy
and timed.npy, as `search.py` writes them, whose collections are encoded into it where it is empty;
token_ids.npy, made from passages.txt where that is there. Exact answers, and with --keep the indexes, stay
there for another run. The record keeps rows of other sizes, and of contenders that did not take part.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from contenders import CONTENDERS
from contenders.base import Contender, Documents
from contenders.exact import Exact, exact_answers
from contenders.processes import build, found_at, watched
from harness import RESULTS, commit, cpu_name, folder_bytes, kept_rows, record

K, BATCH = 10, 1000
PART = 8192  # texts that are tokenised at a time
LENGTHS = ("1", "2", "4", "8", "16")  # words of a query
QUESTIONS = "questions"
Row = dict[str, Any]


def main() -> None:
    """Every contender in turn; the record grows with each."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not any(folder.glob("documents.*")):
            prepare(folder, given.quick)
        if not (folder / "token_ids.npy").exists() and (folder / "passages.txt").exists():
            write_token_ids(folder)
        documents = Documents(folder, given.documents)
        groups, batch = read_queries(folder, given.queries)
        counts = f"{len(documents):,} documents, {documents.n_tokens:,} tokens"
        print(f"{counts}, {sum(map(len, groups.values()))} queries and {len(batch)} at once", flush=True)
        exact = exact_answers(documents, groups, K)
        rows, failed = [], []
        for name in given.contenders:
            found = list(compare(CONTENDERS[name], documents, groups, batch, exact, given))
            rows += [row | {"tokens": documents.n_tokens} for row in found]
            failed += [f"{name}: {row['failed']}" for row in found if "failed" in row]
            print(*found, sep="\n", flush=True)
            if not given.quick:
                every = rows + kept_rows("peers", rows, ("contender", "tokens"))
                record("peers", every)
                here = {"tokens": documents.n_tokens, "cpu": cpu_name()}
                plot([row for row in every if here.items() <= {"cpu": cpu_name(), **row}.items()])
        if given.quick:
            record("peers", rows, quick=True)
    if failed:
        sys.exit(f"{len(failed)} failed: " + "; ".join(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small collection; keeps no record")
    parser.add_argument("--folder", type=Path, help="token vectors and queries; stays")
    parser.add_argument("--documents", type=int, help="the first so many of --folder; all by default")
    parser.add_argument("--only", help="beginnings of contenders' names, with commas; slow ones need it")
    parser.add_argument("--threads", default="1,2", help="with commas")
    parser.add_argument("--queries", type=int, default=100, help="of each length, at most")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a length, after which it is cut short")
    parser.add_argument(
        "--batch-seconds", type=float, default=4.0, help="of a batch; as above, but by estimate"
    )
    parser.add_argument("--memory", type=float, default=0.9 * free_gb(), help="GB that a contender may take")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds of a child")
    parser.add_argument("--keep", action="store_true", help="leave indexes in --folder, and take those there")
    given = parser.parse_args()
    given.threads = [int(n) for n in given.threads.split(",")]
    given.contenders = [name for name, each in CONTENDERS.items() if not each.slow]
    if given.only:
        wanted = tuple(given.only.split(","))
        given.contenders = [name for name in CONTENDERS if name.startswith(wanted)]
        if not given.contenders:
            parser.error(f"--only should begin some of {', '.join(CONTENDERS)}; got {given.only!r}.")
    if given.quick:
        given.queries, given.seconds, given.batch_seconds, given.threads = 5, 0.1, 0.1, given.threads[-1:]
    return given


def free_gb() -> float:
    """Memory that processes may still take; 8 where the system does not say."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("MemAvailable")), 8.0)


def prepare(folder: Path, quick: bool) -> None:
    """Encode the collections of `search.py`, and keep documents as float16, which everybody gets."""
    import search

    folder.mkdir(parents=True, exist_ok=True)
    numbers, names = ((20, 40), search.COLLECTIONS[-1:]) if quick else ((100, 400), search.COLLECTIONS)
    search.prepare(folder, *numbers, names)
    values = np.load(folder / "documents.npy").astype(np.float16)
    np.save(folder / "halved.npy", values)
    (folder / "halved.npy").replace(folder / "documents.npy")


def write_token_ids(folder: Path) -> None:
    """Of a folder whose texts lie in passages.txt, a line a document: the ids behind its vectors."""
    from latebolt import Encoder
    from search import DIM, token_ids

    encoder = Encoder.load("starter", dim=DIM)
    texts = (folder / "passages.txt").read_text("utf-8").splitlines()
    parts = [token_ids(encoder, texts[first : first + PART]) for first in range(0, len(texts), PART)]
    np.save(folder / "token_ids.npy", np.concatenate(parts))


def read_queries(folder: Path, most: int) -> tuple[dict[str, list[np.ndarray]], list[np.ndarray]]:
    """At most so many queries of each length, and those that are asked at once."""

    def matrices(values: str, starts: str) -> list[np.ndarray]:
        bounds, rows = np.load(folder / starts), np.load(folder / values)
        return [np.asarray(rows[a:b], np.float32) for a, b in pairwise(bounds)]

    every = matrices("length_queries.npy", "length_starts.npy")
    n = len(every) // len(LENGTHS)
    groups = {words: every[i * n : (i + 1) * n][:most] for i, words in enumerate(LENGTHS)}
    if (folder / "queries.npy").exists():
        every = matrices("queries.npy", "starts.npy")
        timed = int(np.load(folder / "timed.npy")) if (folder / "timed.npy").exists() else len(every)
        spread = np.linspace(0, timed - 1, min(most, timed)).astype(int)  # of every collection
        groups[QUESTIONS] = [every[i] for i in spread]
    return groups, [every[i % len(every)] for i in range(BATCH)]


def compare(
    contender: Contender,
    documents: Documents,
    groups: dict[str, list[np.ndarray]],
    batch: list[np.ndarray],
    exact: Exact,
    given: argparse.Namespace,
) -> Iterator[Row]:
    """Rows of one contender: sizes and speed of each setting and number of threads, then one a length."""
    python, version = found_at(contender)
    row: Row = {"contender": contender.name, "version": version, "commit": commit()}
    why = contender.refusal(documents, 1e9 * given.memory) if python else "is not installed"
    if why:
        yield row | {"left out": why}
        return
    name = f"{contender.name.replace(' ', '-').replace(',', '')}-{documents.n_tokens}"
    index = documents.folder / "indexes" / name
    call = {
        "contender": contender.name,
        "folder": str(documents.folder),
        "first": documents.first,
        "index": str(index),
        "memory": 1e9 * given.memory,
    }
    try:
        if contender.build:
            row |= build(python, call, index, max(given.threads), given.limit)
            if "failed" in row:
                yield row
                return
            row["bytes_a_token"] = folder_bytes(index) / documents.n_tokens
        asked = documents.folder / "asked.npz"
        write_queries(asked, groups, batch)
        settings = list(contender.settings)[: 2 if given.quick else None]
        details = {
            "step": "search",
            "queries": str(asked),
            "groups": list(groups),
            "settings": settings,
            "k": K,
        }
        limits = {"seconds": given.seconds, "batch_seconds": given.batch_seconds}
        lengths: list[Row] = []
        for threads in given.threads:
            answer = watched(python, call | details | limits | {"threads": threads}, given.limit)
            one = row | {"threads": threads}
            if "failed" in answer:
                yield one | answer
                continue
            for name in ("load_s", "resident_MB", "own_MB"):
                one[name] = answer[name]
            for measured in answer["settings"]:
                of_setting = rows_by_length(contender.name, threads, measured, exact)
                if of_setting[-1]["overlap@10"] < 0.2:
                    yield one | {"failed": f"{measured['setting']}: these are not the answers of MaxSim"}
                lengths += of_setting
                speed = {key: measured[key] for key in ("setting", "batch_queries_per_s", "batch_queries")}
                yield one | speed
        yield from lengths
    finally:
        if not given.keep:
            shutil.rmtree(index, ignore_errors=True)
            index.with_name(f"{index.name}.json").unlink(missing_ok=True)


def write_queries(path: Path, groups: dict[str, list[np.ndarray]], batch: list[np.ndarray]) -> None:
    """For children: rows of all queries of a group, and where each begins."""
    arrays = {}
    for name, queries in (*groups.items(), ("batch", batch)):
        arrays[name] = np.concatenate(queries)
        arrays[f"{name} starts"] = np.concatenate([[0], np.cumsum([len(query) for query in queries])])
    np.savez(path, **arrays)


def rows_by_length(contender: str, threads: int, measured: Row, exact: Exact) -> list[Row]:
    """One row a length of queries, questions last."""
    rows = []
    for words, group in measured["groups"].items():
        pairs = list(zip(exact[words], group["found"], strict=False))
        rows.append(
            {
                "table": "lengths",
                "contender": contender,
                "setting": measured["setting"],
                "threads": threads,
                "words": words,
                "queries": len(pairs),
                "overlap@1": float(np.mean([found[:1] != [] and found[0] in a for (a, _), found in pairs])),
                "overlap@10": float(np.mean([share(ten, found) for (_, ten), found in pairs])),
                "p50_ms": float(np.median(group["ms"])),
                "p95_ms": float(np.quantile(group["ms"], 0.95)),
            }
        )
    return rows


def share(ten: set[int], found: list[int]) -> float:
    """Of the exact first ten, how many are found; more than ten may tie for their places."""
    return min(1.0, len(ten & set(found)) / min(K, len(ten)))


def plot(rows: list[Row]) -> None:
    """A picture for each number of threads: milliseconds over the share of exact hits, a column a length."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    lengths = [row for row in rows if row.get("table") == "lengths"]
    for threads in sorted({row["threads"] for row in lengths}):
        words = list(dict.fromkeys(row["words"] for row in lengths))
        size = (2.6 * len(words), 5.6)
        figure, axes = pyplot.subplots(2, len(words), figsize=size, sharey=True, layout="constrained")
        for column, length in enumerate(words):
            for line, share_of in enumerate(("overlap@1", "overlap@10")):
                axis = axes[line][column]
                for name in dict.fromkeys(row["contender"] for row in lengths):
                    chosen = {"contender": name, "words": length, "threads": threads}
                    points = sorted(
                        (row[share_of], row["p50_ms"]) for row in lengths if chosen.items() <= row.items()
                    )
                    axis.semilogy(*zip(*points, strict=True), marker="o", markersize=3, label=name)
                axis.set(xlabel=share_of, title=length if length == QUESTIONS else f"words: {length}")
        axes[0][0].set_ylabel("milliseconds")
        axes[1][0].set_ylabel("milliseconds")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        millions = f"{rows[0]['tokens'] / 1e6:.1f}M"
        figure.savefig(RESULTS / f"peers-{millions}-{threads}.svg", metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
