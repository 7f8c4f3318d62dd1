"""Damages indexes of every kind at random and uses them through every entrance, in a process of its own.

`test_damage.py` starts it and watches for signals. Every case follows from its seed and number alone:

    python damage_cases.py templates 7 123 124 .    builds the templates there if they are missing, then runs
                                                    case 123 of seed 7 and prints what came of it
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latebolt import Encoder, Index
from latebolt.errors import IndexCorrupt, IndexNotFound, LateboltError
from latebolt.index.format import layout
from latebolt.index.ingest import train
from latebolt.index.search import planning, rank
from latebolt.index.search.candidates import plan_probes
from latebolt.index.store import inverted_lists, list_centroids
from latebolt.index.store.check import check_index
from latebolt.index.store.codecs import check_columns
from latebolt.index.store.store import Store
from latebolt.kernels.lists import gather
from quick_folders import quick_folder

OLD_VERSION = Path(__file__).parent / "old_versions" / "1"
DIM = 64
# name -> bits, tokens from which centroids are learnt, whether there are lists, tokens of a passage
KINDS: dict[str, tuple[int, int, bool, int | None]] = {
    "1 bit, passages": (1, 64, False, 8),
    "2 bits, lists": (2, 64, True, None),
    "4 bits, lists, passages": (4, 64, True, 8),
    "2 bits, unquantised": (2, 1 << 30, False, None),
    "8 bits": (8, 64, False, None),
    "16 bits, passages": (16, 64, False, 8),
    "old version": (0, 0, False, None),
}
WORDS = ("bread", "sea", "engine", "river", "light", "paper", "stone", "music", "winter", "passport")


def encoder() -> Encoder:
    return Encoder.load("starter", dim=DIM, threads=1)


def text(i: int) -> str:
    return " ".join(WORDS[(i * j + j) % len(WORDS)] for j in range(1, 6 + 5 * (i % 4)))


def build(folder: Path, kind: str, model: Encoder) -> None:
    if kind == "old version":
        shutil.copytree(OLD_VERSION, folder)
        return
    bits, train.TRAIN_TOKENS, with_lists, passage = KINDS[kind]
    inverted_lists.LEAST_TOKENS = 1 if with_lists else 1 << 40
    index = Index.create(folder, model, bits=bits, passage_tokens=passage)
    for first, n in ((0, 40), (40, 12)):
        numbers = range(first, first + n)
        metadata = [{"year": 2000 + i % 20, "tag": WORDS[i % 3], "note": "x" * 250 + str(i)} for i in numbers]
        index.add([text(i) for i in numbers], [f"id {i}" for i in numbers], metadata)
    index.delete(["id 3", "id 45"])


# Damage


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != layout.LOCK)


def flip(file: Path, rng: np.random.Generator) -> None:
    data = bytearray(file.read_bytes())
    start = layout.NPY_HEADER_BYTES if file.suffix == ".npy" and rng.random() < 0.8 else 0
    for _ in range(int(rng.choice([1, 2, 8, 64]))):
        data[int(rng.integers(min(start, len(data) - 1), len(data)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)


def plausible(file: Path, rng: np.random.Generator) -> None:
    """Other numbers of the same type, or pages of the same database in other places."""
    data = bytearray(file.read_bytes())
    if file.suffix != ".npy":
        size = int(rng.choice([1, 4, 32, 4096]))
        size = min(size, len(data) // 2)
        source, place = (int(rng.integers(len(data) - size + 1)) // size * size for _ in range(2))
        data[place : place + size] = data[source : source + size]
        file.write_bytes(data)
        return
    array = np.load(file)
    values = array.reshape(-1)
    if not len(values):
        return
    start = int(rng.integers(len(values)))
    part = values[start : start + int(rng.choice([1, 2, 50, len(values)]))]
    if array.dtype.kind == "f":
        part[:] = rng.choice([0, -1, 6e4, np.nan, np.inf, 1])
    else:
        largest = np.iinfo(array.dtype).max
        others = [0, 1, largest, largest // 2, len(values), len(values) + 1, int(values.max()) + 1]
        if array.dtype.kind == "i":
            others += [-1, np.iinfo(array.dtype).min]
        if rng.random() < 0.3:
            rng.shuffle(part)
        else:
            part[:] = min(int(rng.choice(np.array(others, object))), largest)
    data[layout.NPY_HEADER_BYTES :] = array.tobytes()
    file.write_bytes(data)


def cut(file: Path, rng: np.random.Generator) -> None:
    os.truncate(file, int(rng.integers(file.stat().st_size)))


def extend(file: Path, rng: np.random.Generator) -> None:
    with file.open("ab") as out:
        out.write(rng.bytes(int(rng.choice([1, 8, 4096]))))


def empty(file: Path, rng: np.random.Generator) -> None:
    file.write_bytes(b"")


def other_thing(file: Path, rng: np.random.Generator) -> None:
    file.unlink()
    match int(rng.integers(4)):
        case 0:
            file.mkdir()
        case 1:
            file.symlink_to(file)
        case 2:
            os.mkfifo(file)
        case _:
            pass


def swap(file: Path, rng: np.random.Generator) -> None:
    """With another file of the index: any, or the one of the same name in another segment."""
    every = files_of(file.parents[2] if file.name != layout.MANIFEST else file.parent)
    alike = [path for path in every if path.name == file.name and path != file]
    other = Path(str(rng.choice(np.array(alike if alike and rng.random() < 0.5 else every, object))))
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two)
    other.write_bytes(one)


STATEMENTS = (
    "UPDATE documents SET metadata = '5' WHERE row = {row}",
    "UPDATE documents SET metadata = '{{\"a\":' WHERE row = {row}",
    "UPDATE documents SET metadata = x'ff' WHERE row = {row}",
    "UPDATE documents SET id = x'ff00' WHERE row = {row}",
    "UPDATE documents SET id = CAST(x'ff' AS TEXT) WHERE row = {row}",
    "UPDATE documents SET row = row + 1000 WHERE row = {row}",
    "UPDATE documents SET row = -5 WHERE row = {row}",
    "UPDATE texts SET text = x'ff' WHERE row = {row}",
    "UPDATE fields SET row = {large}",
    "UPDATE fields SET row = -1 - row",
    "UPDATE OR REPLACE fields SET row = 'x' WHERE row = {row}",
    "UPDATE OR REPLACE fields SET kind = 5, value = 'x' WHERE row = {row}",
    "UPDATE paths SET path = number",
    "UPDATE word_blocks SET lengths = x'00'",
    "UPDATE word_blocks SET lengths = 7",
    "UPDATE word_blocks SET lengths = zeroblob(4000)",
    "UPDATE postings SET content = x'ffffff' ",
    "UPDATE postings SET content = x'0000'",
    "UPDATE postings SET content = 'text'",
    "UPDATE postings SET content = x'0500050001010101'",
    "UPDATE postings SET first = {large}",
    "UPDATE postings SET first = -1",
    "UPDATE postings SET first = 'x'",
    "DELETE FROM documents WHERE row = {row}",
    "DELETE FROM texts",
    "DROP TABLE postings",
    "DROP TABLE fields",
    "DROP INDEX documents_by_id",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 2",
)


def statement(file: Path, rng: np.random.Generator) -> None:
    """A sound database that says something else, in a file of the recorded size."""
    size = file.stat().st_size
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode=MEMORY")
    wanted = str(rng.choice(np.array(STATEMENTS, object)))
    with contextlib.suppress(sqlite3.Error):  # an old version lacks some tables
        database.execute(wanted.format(row=int(rng.integers(12)), large=int(rng.choice([99, 1 << 40]))))
    database.close()
    os.truncate(file, size)


def forge(file: Path, rng: np.random.Generator) -> None:
    """A manifest whose digest is right, and of whose values one is wrong."""
    fields = json.loads(file.read_bytes())
    del fields["digest"]
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                collect(value[key])

    collect(fields)
    owner, key = places[int(rng.integers(len(places)))]
    old = owner[key]
    values: list[Any] = [None, -1, 0, 1, 1 << 62, "", "x", [], {}, True, 1.5]
    if isinstance(old, int):
        values += [old + 1, old * 2, max(old - 1, 0)] * 3
    owner[key] = values[int(rng.integers(len(values)))]
    body = b'",\n' + json.dumps(fields).encode()[1:]
    file.write_bytes(b'{"digest":"' + layout._digest(body) + body)


DAMAGE: dict[str, tuple[float, Callable[[Path, np.random.Generator], None]]] = {
    "flip": (3, flip),
    "plausible": (6, plausible),
    "cut": (1, cut),
    "extend": (0.5, extend),
    "empty": (0.5, empty),
    "other thing": (0.7, other_thing),
    "swap": (1.5, swap),
    "statement": (3, statement),
    "forge": (2, forge),
}


def damage(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    weights = np.array([weight for weight, _ in DAMAGE.values()])
    name = str(rng.choice(list(DAMAGE), p=weights / weights.sum()))
    files = files_of(folder)
    if name == "statement":
        files = [file for file in files if file.name == layout.TEXTS]
    elif name == "forge":
        files = [folder / layout.MANIFEST]
    file = files[int(rng.integers(len(files)))]
    DAMAGE[name][1](file, rng)
    return name, file


# Use


def actions(folder: Path, model: Encoder, template: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every entrance; each opens the index again, as another process would."""

    def opened() -> Index:
        return Index.open(folder, model)

    yield "len", lambda: len(opened())
    yield "info", lambda: opened().info()
    for k in (1, 5, 60):
        yield f"search {k}", lambda k=k: opened().search("winter bread", k)
    yield "exhaustive", lambda: opened().search("sea", 60, exhaustive=True)
    yield "many", lambda: opened().search_many(["sea", "river light"], 3)
    for where in ('year >= 2005 and tag = "bread"', 'id in ("id 1", "id 50")', f'note = "{"x" * 250}7"'):
        yield f"where {where[:8]}", lambda where=where: opened().search("stone", 5, where)
    yield "bm25", lambda: opened().search("music paper", 5, mode="bm25")
    yield "hybrid", lambda: opened().search("music paper", 5, mode="hybrid")
    yield "hybrid where", lambda: opened().search("music", 60, {"year": {"<": 2010}}, True, "hybrid")
    yield "explain", lambda: opened().search("engine", 2, explain=True)
    yield "get", lambda: opened().get(["id 1", "id 47", "nobody"])
    yield "documents", lambda: list(opened().documents())
    yield "walk", lambda: [block.token_vectors() for block in opened().iter_documents(100)]
    yield "ranked", lambda: _ranked(opened(), model)
    yield "adopt", lambda: _adopt(folder, model, template)
    yield "delete", lambda: opened().delete(["id 7", "id 41"])
    yield "add", lambda: opened().add(["new bread"], ["id 9"], [{"year": 3}])
    yield "compact", lambda: opened().compact()
    yield "search after", lambda: opened().search("bread", 5)


def _ranked(index: Index, model: Encoder) -> None:
    """What a search of a large index does, whatever pays in one so small: by centroids, and by lists."""
    snapshot = index._store.snapshot()
    matrix = model.encode_queries(["winter bread"])[0]
    for segment in snapshot.segments:
        codec = index._codec(snapshot, segment.codec)
        check_columns(segment, codec)
        columns = {column.name: segment.column(column.name) for column in segment.columns}
        scorer = codec.scorer(matrix, 1)
        scorer.approximate(columns, segment.offsets)
        rows = np.flatnonzero(segment.alive)
        if segment.lists is not None and scorer.centroids is not None:
            for n in (1, 1000):
                probes = plan_probes(scorer.centroids, segment.lists, matrix, n, 1)
                found = gather(segment.lists.rows, probes, segment.n_documents, None, 1)
                rows = found.rows.astype(np.int64)
                scorer.approximate(columns, segment.offsets, rows)
                scorer.exact(columns, segment.offsets, rows)
        segment.first_rows(rows)


def _adopt(folder: Path, model: Encoder, template: Path) -> None:
    target = folder.parent / "target"
    shutil.copytree(template, target)
    Index.open(target, model).adopt([folder])


def old_actions(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The same for an index of an earlier version, whose codec is none of ours: what the store does."""

    def segments() -> Any:
        return Store.open(folder).snapshot().segments

    yield "blocks", lambda: [(b.ids, b.texts, b.metadata) for s in segments() for b in s.blocks(3)]
    yield "select", lambda: [s.select('version = 0 and tags in ("a", "t1")') for s in segments()]
    yield "ids", lambda: [(s.ids(), s.rows_of(["a", "b"]), s.n_live) for s in segments()]

    def change() -> None:
        with Store.open(folder).writer() as writer:
            writer.delete(["a"])
            writer.merge([segment.name for segment in writer.segments])
            writer.commit()

    yield "change", change


def contents(folder: Path) -> dict[str, Any]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def _fault(error: BaseException, folder: Path, forged: bool) -> str | None:
    """What is wrong with an error; None if it is the one to give."""
    if isinstance(error, IndexCorrupt) and str(error).startswith(str(folder)):
        return None
    # A forged manifest may say anything that could be true: another model, other files, another version.
    if forged and isinstance(error, LateboltError):
        return None
    if isinstance(error, IndexNotFound) and not (folder / layout.MANIFEST).exists():
        return None
    return f"{type(error).__module__}.{type(error).__name__}: {str(error)[:300]}"


def run(seed: int, number: int, templates: Path, work: Path, model: Encoder) -> dict[str, Any]:
    """One case: its description, and the faults that were found. The first of each kind has no damage."""
    rng = np.random.default_rng([seed, number])
    kind = list(KINDS)[number % len(KINDS)]
    _, train.TRAIN_TOKENS, with_lists, _ = KINDS[kind]
    inverted_lists.LEAST_TOKENS = 1 if with_lists else 1 << 40
    folder = work / "index"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(templates / kind, folder)
    before = contents(folder)
    name, file = ("none", folder) if number < len(KINDS) else damage(folder, rng)
    changed = contents(folder) != before
    faults: list[str] = []
    outcomes: dict[str, str] = {}

    def act(what: str, action: Callable[[], Any]) -> Any:
        start = time.monotonic()
        try:
            result = action()
            outcomes[what] = "answer"
        except Exception as error:  # noqa: BLE001 - which one it is decides
            result = None
            outcomes[what] = type(error).__name__
            fault = f"{error!r}" if name == "none" else _fault(error, folder, name == "forge")
            faults.extend([f"{what}: {fault}"] if fault else [])
        if time.monotonic() - start > 20:
            faults.append(f"{what}: took {time.monotonic() - start:.0f} s")
        return result

    problems = act("check", lambda: check_index(folder))
    if problems == [] and changed and name != "forge":
        faults.append("check found nothing")
    every = old_actions(folder) if kind == "old version" else actions(folder, model, templates / kind)
    for what, action in every:
        result = act(what, action)
        if what.startswith(("search", "where", "exhaustive", "bm25", "hybrid")) and result is not None:
            faults += [f"{what}: score {hit.score}" for hit in result if not math.isfinite(hit.score)]
    place = str(file.relative_to(folder))
    return {"case": number, "what": f"{kind}: {name} {place}", "faults": faults, "outcomes": outcomes}


def prepare(templates: Path, model: Encoder) -> None:
    for kind in KINDS:
        if not (templates / kind).exists():
            build(templates / kind, kind, model)


def use_lists_always() -> None:
    """In indexes so small lists would not pay, and so not be used."""
    for module, name, value in (
        (rank, "TOKENS_AN_ENTRY", 0),
        (planning, "LISTS", 8),
        (planning, "LEAST_LISTS", 2),
    ):
        assert hasattr(module, name)
        setattr(module, name, value)
    for name, value in {"A_LIST": 4, "SAMPLED": 4, "LEAST_SAMPLED": 1}.items():
        assert hasattr(list_centroids, name)
        setattr(list_centroids, name, value)


def tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()  # before anything can end the process


def main() -> None:
    templates, seed, first, last = Path(sys.argv[1]), *(int(value) for value in sys.argv[2:5])
    deadline = time.monotonic() + float(sys.argv[5]) if len(sys.argv) > 5 else math.inf
    model = encoder()
    use_lists_always()
    prepare(templates, model)
    with quick_folder() as work:
        for number in range(first, last):
            if time.monotonic() > deadline:
                break
            tell({"begun": number})
            tell(run(seed, number, templates, work / "case", model))


if __name__ == "__main__":
    main()
