"""Does late chunking find more in long documents, and what does it cost? nDCG@10 and encoding, passages by
themselves beside passages cut out of the text around them.

None of the collections has long documents, so they are made of neighbouring passages, which follow each other
as in their articles, with the questions of all. squad does not tell where an article ends, and is cut into
runs of eight passages; drcd's questions are numbered by article, and those of at least three passages are
taken. A document counts by its best passage, every document is scored, in float32. `starter` reads English,
and is not asked of Chinese. Encoding is in seconds of processor time, of all threads. Needs the collections
at LATEBOLT_DATA and `pip install 'latebolt[eval]'`.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import arguments, data_folder, record
from latebolt import Encoder
from latebolt.evaluate import Collection, Grid, evaluate_collection, read_collection
from latebolt.evaluate.cache import Encodings
from latebolt.evaluate.compare import compare
from latebolt.evaluate.passages import encoded

MEASURE = "nDCG@10"
QUERIES = 500
RUN = 8  # passages of a document of squad
LEAST = 3  # passages of an article of drcd
# Model, collection, tokens of a passage: 250 is what `latebolt index` takes.
WORK = (
    ("starter", "squad", 250),
    ("starter", "squad", 100),
    ("multilingual", "drcd", 250),
)


def joined(collection: Collection, groups: Iterable[list[str]]) -> Collection:
    """A collection of one document a group of passages, with the questions that these answer."""
    documents, home = {}, {}
    for passages in groups:
        documents[passages[0]] = "\n\n".join(collection.documents[each] for each in passages)
        home |= dict.fromkeys(passages, passages[0])
    qrels = {
        query: {home[passage]: grade for passage, grade in judged.items()}
        for query, judged in collection.qrels.items()
        if judged.keys() <= home.keys()
    }
    queries = {query: asked for query, asked in collection.queries.items() if query in qrels}
    return Collection(collection.name, documents, queries, qrels, collection.label)


def by_runs(collection: Collection) -> Collection:
    """Documents of so many neighbouring passages."""
    names = list(collection.documents)
    return joined(collection, (names[i : i + RUN] for i in range(0, len(names), RUN)))


def by_question(collection: Collection) -> Collection:
    """Documents of the passages whose questions have numbers that begin alike, which is an article's."""
    article = {
        passage: query.split("-")[0] for query, judged in collection.qrels.items() for passage in judged
    }
    names = [name for name in collection.documents if name in article]
    groups = [list(group) for _, group in itertools.groupby(names, key=article.__getitem__)]
    return joined(collection, (group for group in groups if len(group) >= LEAST))


LONG = {"squad": by_runs, "drcd": by_question}
QUICK = 12  # documents of --quick


def compared(model: str, name: str, tokens: int, threads: int, quick: bool) -> list[dict[str, Any]]:
    """A row of BM25 and one for each way to encode passages."""
    short = read_collection(data_folder() / name)
    if quick:
        some = dict(itertools.islice(short.documents.items(), QUICK * RUN))
        qrels = {query: judged for query, judged in short.qrels.items() if judged.keys() <= some.keys()}
        queries = {query: text for query, text in short.queries.items() if query in qrels}
        short = Collection(name, some, queries, qrels)
    collection = LONG[name](short).with_queries(20 if quick else QUERIES)
    grid = Grid(models=(model,), dims=[128], bits=[32], passage_tokens=tokens, late_chunking=True)
    costs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        with Encoder.load(model, "int8", 128, threads=threads) as encoder:
            encoder.warmup()
            for cutting in grid.cuttings(encoder):
                start = time.process_time()
                found = encoded(collection, encoder, Encodings(Path(folder)), cutting)
                seconds = time.process_time() - start
                costs.append({"passages": len(found.vectors), "encode_processor_s": seconds})
        evaluation = evaluate_collection(collection, grid, Path(folder), threads)
    bm25, *late = evaluation.scored
    [against] = [c for c in compare(evaluation, MEASURE) if c.against == late[0].name]
    base = {
        "collection": name,
        "documents": len(collection.documents),
        "characters a document": sum(map(len, collection.documents.values())) // len(collection.documents),
        "queries": len(collection.queries),
        "model": model,
        "passage_tokens": tokens,
    }
    rows = [{**base, "way": "BM25", MEASURE: bm25.mean(MEASURE)}]
    for way, scored, cost in zip(("by themselves", "late chunking"), late, costs, strict=True):
        rows.append({**base, "way": way, MEASURE: scored.mean(MEASURE), **cost})
    change = against.difference
    rows[-1] |= {"difference": change.mean, "low": change.low, "high": change.high, "p": change.p}
    return rows


def main() -> None:
    """Every model and collection in turn."""
    given = arguments(__doc__)
    rows: list[dict[str, Any]] = []
    for model, name, tokens in WORK[:1] if given.quick else WORK:
        rows += compared(model, name, 20 if given.quick else tokens, given.threads, given.quick)
    record("late_chunking", rows, ("ir-measures", "bm25s"), given.quick)


if __name__ == "__main__":
    main()
