"""How do building and searching grow from ten thousand to ten million passages?

Passages of about 60 tokens made from real ones (`simulate.py`), 2 bits, dim 128. Each size is built and then
searched in fresh processes: build time, bytes, resident memory, milliseconds a query, overlap with the
exhaustive top 10, and what the difference costs in nDCG@10 against known answers.

Up to --encode-up-to passages every token is encoded like any other. Above, a passage's codes are copied from
those of the variants it is cut from (cell, codes and norm, token by token), because finding the nearest of
49,152 centroids for 6e8 tokens would take a quarter of an hour more; what a search sees is the same. Ten
million:

    python benchmarks/scale.py --sizes 10000000 --work FOLDER_WITH_30_GB

Needs the collections at LATEBOLT_DATA and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import RESULTS, child, commit, data_folder, kept_rows, peak_mb, record, status_mb
from latebolt import Index
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.index.documents.checked import check_documents
from latebolt.index.store.store import Column, Store
from simulate import read_queries, read_source, write_vectors

CHUNK = 20_000  # passages made and written at a time
SAMPLE = 196_608  # tokens the codec learns from, as Index does
NAMES, QUICK_NAMES = ("squad", "pubmedqa", "cosqa"), ("squad",)  # the starter reads English
LARGEST, EXTRAPOLATED = 10_000_000, "extrapolated"
FILTERED_UP_TO = 1_000_000  # passages that get metadata, for the search with a filter


def main() -> None:
    """One row a size; a plot beside the record."""
    given = _arguments()
    if given.child:
        stage = build if given.stage == "build" else search
        print(json.dumps([stage(given)]))
        return
    rows = []
    sizes = "600,1500" if given.quick else given.sizes
    for size in sizes.split(","):
        common = ["--documents", size, "--work", given.work, "--encode-up-to", str(given.encode_up_to)]
        common += ["--queries", str(given.queries), *(["--quick"] if given.quick else [])]
        built = Path(given.work) / f"{size}.json"  # so that a run cut short does not build again
        if not built.exists():
            built.write_text(json.dumps(child(__file__, ["--stage", "build", *common], given.threads)))
        [row] = json.loads(built.read_text())
        [found] = child(__file__, ["--stage", "search", *common], given.threads)
        rows.append(row | found)
        if not given.keep:
            built.unlink()
            shutil.rmtree(Path(given.work) / size)
    rows = [row | {"commit": commit()} for row in rows]
    if not given.quick:
        kept = kept_rows("scale", rows, ("documents",))
        rows = sorted([*(row for row in kept if row["codes"] != EXTRAPOLATED), *rows], key=_size)
    if not given.quick and rows[-1]["documents"] < LARGEST:
        rows.append(extrapolated(rows, LARGEST))
    record("scale", rows, quick=given.quick)
    if not given.quick:
        plot(rows, RESULTS / "scale.svg")


def extrapolated(rows: list[dict[str, Any]], n: int) -> dict[str, Any]:
    """What the last two sizes lead one to expect of `n` passages: every figure as a power of their number."""
    before, last = rows[-2:]
    steps = np.log(n / last["documents"]) / np.log(last["documents"] / before["documents"])
    row: dict[str, Any] = {"documents": n, "codes": EXTRAPOLATED}
    for name in ("tokens", "bytes", "p50_ms", "p95_ms", "resident_mb", "own_mb", "exhaustive_ms"):
        row[name] = float(last[name] * (last[name] / before[name]) ** steps)
    return row


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="600 and 1,500 passages; keeps no record")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="rows of other sizes are kept")
    parser.add_argument("--work", default="scale-work", help="a folder for vectors and indexes")
    parser.add_argument("--encode-up-to", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=60, help="of each collection")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="leave the indexes for another run")
    for name, kind in (("child", None), ("stage", str), ("documents", int)):
        extra: dict[str, Any] = {"action": "store_true"} if kind is None else {"type": kind}
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **extra)
    return parser.parse_args()


def _size(row: dict[str, Any]) -> int:
    return int(row["documents"])


def _vectors(given: argparse.Namespace) -> Path:
    root = data_folder()
    work = Path(given.work)
    work.mkdir(parents=True, exist_ok=True)
    names = QUICK_NAMES if given.quick else NAMES
    cache = work / f"vectors-{'-'.join(names)}-{given.queries}.npz"
    write_vectors(cache, root, list(names), given.queries)
    return cache


def build(given: argparse.Namespace) -> dict[str, Any]:
    """Make the index of one size; seconds of each part."""
    source, n = read_source(_vectors(given), variants=1 if given.quick else 4), given.documents
    rng = np.random.default_rng(0)
    folder = Path(given.work) / str(n)
    shutil.rmtree(folder, ignore_errors=True)
    encoded = n <= given.encode_up_to
    lengths, _ = source.draw(2000, rng)
    start = time.perf_counter()
    sample = source.values[rng.choice(len(source.values), min(SAMPLE, len(source.values)), replace=False)]
    codec = ResidualCodec.train(sample.astype(np.float32), 2, int(lengths.mean() * n))
    trained = time.perf_counter()
    columns = {} if encoded else codec.encode(source.values.astype(np.float32))
    with Store.create(folder, dim=128, bits=2).writer() as writer:
        writer.set_codec(*codec.state())
        segment = writer.new_segment([Column(*spec) for spec in codec.columns])
        names = [f"answer {i}" for i in range(len(source.planted))]
        planted = check_documents(len(names), names, None, None)
        segment.append(planted, source.planted.lengths, codec.encode(source.planted.values))
        for first, size in _chunks(n - len(names)):
            lengths, places = source.draw(size, rng)
            if encoded:
                part = codec.encode(source.values[places].astype(np.float32))
            else:
                part = {name: column[places] for name, column in columns.items()}
            names = [f"{i}" for i in range(first, first + size)]
            metadata = [{"part": i % 1000} for i in range(first, first + size)]
            documents = check_documents(size, names, None, metadata if n <= FILTERED_UP_TO else None)
            segment.append(documents, lengths, part)
        written = time.perf_counter()
        segment.finish()
        writer.commit()
    done = time.perf_counter()
    return {
        "documents": n,
        "codes": "encoded" if encoded else "copied",
        "centroids": len(codec.centroids),
        "train_s": trained - start,
        "write_s": written - trained,
        "finish_s": done - written,
        "build_mb": peak_mb(),
    }


def _chunks(n: int) -> Iterator[tuple[int, int]]:
    return ((first, min(CHUNK, n - first)) for first in range(0, n, CHUNK))


def search(given: argparse.Namespace) -> dict[str, Any]:
    """Search the index of one size; every hit list is checked before it is timed."""
    queries, answering = read_queries(_vectors(given))
    answers = [f"answer {i}" for i in answering]
    # Exhaustive answers take seconds there: some queries of each collection.
    some = range(0, len(queries), 6 if given.documents > FILTERED_UP_TO else 1)
    index = Index.open(Path(given.work) / str(given.documents))
    found = [index.search_vectors(query, k=10) for query in queries]
    row: dict[str, Any] = {"tokens": index.info()["tokens"], "bytes": index.info()["bytes"]}
    row["lists"] = any(segment.lists is not None for segment in index._store.snapshot().segments)
    times = [_timed(lambda q=query: index.search_vectors(q, k=10)) for query in queries for _ in range(3)]
    row["p50_ms"], row["p95_ms"] = (float(v) for v in np.percentile(times, (50, 95)))
    # The first counts pages of mapped files, which the system takes back when others need them.
    row["resident_mb"], row["own_mb"] = peak_mb(), status_mb("RssAnon")
    if given.documents <= FILTERED_UP_TO:
        hits = [index.search_vectors(query, k=10, where="part = 7") for query in queries]
        assert all(hit.metadata == {"part": 7} for some in hits for hit in some)
        times = [_timed(lambda q=query: index.search_vectors(q, k=10, where="part = 7")) for query in queries]
        row["filtered_p50_ms"] = float(np.median(times))
    truth = [index.search_vectors(queries[i], k=10, exhaustive=True) for i in some]
    found, answers = [found[i] for i in some], [answers[i] for i in some]
    overlap = [len({h.id for h in a} & {h.id for h in b}) / len(b) for a, b in zip(found, truth, strict=True)]
    row["overlap_at_10"], row["exhaustive_queries"] = float(np.mean(overlap)), len(some)
    row["ndcg_exhaustive"] = _ndcg(truth, answers)
    row["ndcg_loss"] = row["ndcg_exhaustive"] - _ndcg(found, answers)
    times = [_timed(lambda q=query: index.search_vectors(q, k=10, exhaustive=True)) for query in queries[:5]]
    row["exhaustive_ms"] = float(np.median(times))
    return row


def _timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def _ndcg(found: list[Any], answers: list[str]) -> float:
    """NDCG@10 with one answer a query."""
    ranks = [[hit.id for hit in hits].index(a) if a in [hit.id for hit in hits] else None
             for hits, a in zip(found, answers, strict=False)]  # fmt: skip
    return float(np.mean([0.0 if rank is None else 1 / np.log2(rank + 2) for rank in ranks]))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds and megabytes over passages; dashed is extrapolated."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    expected = [row for row in rows if row["codes"] == EXTRAPOLATED]
    rows = [row for row in rows if row["codes"] != EXTRAPOLATED]
    sizes = [row["documents"] for row in rows]
    for name in ("p50_ms", "p95_ms", "filtered_p50_ms", "exhaustive_ms"):
        points = [(row["documents"], row[name]) for row in rows if name in row]
        [line] = left.loglog(*zip(*points, strict=True), marker="o", label=name.replace("_ms", ""))
        _continue(left, points[-1], [(row["documents"], row[name]) for row in expected if name in row], line)
    left.set(xlabel="passages", ylabel="milliseconds a query")
    left.legend()
    for name, unit, label in (("bytes", 1e6, "on disk"), ("resident_mb", 1, "resident while searching")):
        values = [row[name] / unit for row in rows]
        [line] = right.loglog(sizes, values, marker="o", label=label)
        more = [(row["documents"], row[name] / unit) for row in expected]
        _continue(right, (sizes[-1], values[-1]), more, line)
    right.set(xlabel="passages", ylabel="MB")
    right.legend()
    figure.savefig(path, metadata={"Date": None})


def _continue(axes: Any, last: tuple[float, float], more: list[tuple[float, float]], line: Any) -> None:
    """A dashed line to hollow points: what was not measured."""
    if more:
        style = {"linestyle": "--", "marker": "o", "markerfacecolor": "none", "color": line.get_color()}
        axes.loglog(*zip(last, *more, strict=True), **style)


if __name__ == "__main__":
    main()
