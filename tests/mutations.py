"""Breaks one line in each of some modules, one at a time, and looks whether that module's tests notice.

    python tests/mutations.py [--only PART-OF-A-MODULE'S-NAME] [--write docs/mutations.md]

Each slip is made in a copy of the engine and never in this tree; the test file that should notice runs
against the copy and has to fail. Exit code 1 if a slip passes. A slip is one that a person makes: off by one,
< for <=, a value left out, a swapped pair, a sync forgotten.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
ENGINE = PROJECT / "engine" / "latebolt"


_HEAD = """# Slips that the tests notice

`python tests/mutations.py --write docs/mutations.md` wrote this page. Each slip was made in a copy of the
engine, and the test named last was the first that failed. A slip that passes asks for a test.

| module | line | with a slip | what goes wrong | noticed by |
| --- | --- | --- | --- | --- |
"""


class Mutation(NamedTuple):
    """A slip: the line `old` of a module, indentation aside, becomes `new`; `test` should fail."""

    module: str  # below engine/latebolt
    old: str
    new: str
    test: str  # below tests/engine
    slip: str  # in words


MUTATIONS = (
    Mutation(
        "kernels/programs/maxsim_residual.py",
        "token = at + j if at + j < stop else stop - 1",
        "token = at + j if at + j <= stop else stop - 1",
        "kernels/test_maxsim.py",
        "the first token of the next document is scored with a document that does not fill its last tile",
    ),
    Mutation(
        "kernels/programs/lists.py",
        "if doc >= stop:",
        "if doc > stop:",
        "kernels/test_lists.py",
        "a list is followed one document past the block whose sums are in memory",
    ),
    Mutation(
        "kernels/vector/maxima.py",
        "for value in sums[v::vectors]:",
        "for value in sums[v:]:",
        "kernels/test_maxsim.py",
        "the largest so far of a query token takes in another token's scores",
    ),
    Mutation(
        "codec/residual_codec.py",
        'share, norm = self.factors[np.asarray(columns["norm"])].T[:, :, None]',
        'norm, share = self.factors[np.asarray(columns["norm"])].T[:, :, None]',
        "codec/test_codecs.py",
        "the two factors of a stored vector are swapped",
    ),
    Mutation(
        "index/search/planning.py",
        "return max(LEAST_LEVEL, 1 << (k - 1).bit_length())",
        "return max(LEAST_LEVEL, 1 << k.bit_length())",
        "index/test_planning.py",
        "k that is a power of two is taken for the next one",
    ),
    Mutation(
        "index/search/candidates.py",
        "last = np.where(known == cells, lists.starts[known + 1], first)",
        "last = lists.starts[known + 1]",
        "index/test_candidates.py",
        "in place of a centroid that no document has, the last one's lists are visited again",
    ),
    Mutation(
        "index/store/segment_writer.py",
        "self._offsets.append(self.n_tokens + np.cumsum(counts))",
        "self._offsets.append(np.cumsum(counts))",
        "index/test_storage.py",
        "offsets begin at 0 again with each addition to a segment",
    ),
    Mutation(
        "index/store/writer.py",
        "self._sync_folders()",
        "pass",
        "index/test_crash.py",
        "folders are not made durable before the manifest that names what is in them",
    ),
    Mutation(
        "index/store/merge_policy.py",
        "if len(group) >= FAN_IN and sum(segment.n_tokens for segment in group) <= LARGEST_MERGE",
        "if len(group) > FAN_IN and sum(segment.n_tokens for segment in group) <= LARGEST_MERGE",
        "index/test_merging.py",
        "ten segments of a tier wait for an eleventh",
    ),
    Mutation(
        "index/format/proof.py",
        "part = offsets[start : start + _BLOCK + 1]",
        "part = offsets[start : start + _BLOCK]",
        "index/test_proof.py",
        "offsets are not compared across the blocks in which they are read",
    ),
    Mutation(
        "index/filters/evaluate.py",
        "self._kept_bytes -= _size(oldest) + answer.nbytes",
        "self._kept_bytes -= answer.nbytes",
        "index/test_filters.py",
        "remembered answers are counted with their filter and forgotten without it",
    ),
    Mutation(
        "index/documents/passages.py",
        "while n - start > cutting.tokens:",
        "while n - start >= cutting.tokens:",
        "index/test_passages.py",
        "a text of just as many tokens as a passage may have is cut once more",
    ),
    Mutation(
        "serve/http/guard.py",
        "if self._in_flight > self.service.settings.queue_requests:",
        "if self._in_flight >= self.service.settings.queue_requests:",
        "serve/test_guard.py",
        "one request fewer than promised may wait",
    ),
    Mutation(
        "serve/http/unpack.py",
        "data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail",
        "data = self._member.unconsumed_tail",
        "serve/test_bodies.py",
        "of a body packed in several members only the first is read",
    ),
    Mutation(
        "serve/engine/batcher.py",
        "if held and held + waiting.left > self._queue_tokens:",
        "if held and held > self._queue_tokens:",
        "serve/test_engine.py",
        "a request may put more into the queue than there is room for",
    ),
    Mutation(
        "serve/engine/cache.py",
        "self._held.move_to_end(key)",
        "self._held.move_to_end(key, last=False)",
        "serve/test_engine.py",
        "the text that was asked for last is the first to be forgotten",
    ),
    Mutation(
        "encoder/text.py",
        "return TokenIds(ids, attended, keep, len(body) > room)",
        "return TokenIds(ids, attended, keep, len(body) >= room)",
        "encoder/test_truncation.py",
        "a text that just fits is reported as cut off",
    ),
    Mutation(
        "encoder/pooling.py",
        "labels[rows] = first + ward_labels(body[rows], n)",
        "labels[rows] = ward_labels(body[rows], n)",
        "encoder/test_pooling.py",
        "the parts of a long document share their clusters",
    ),
    Mutation(
        "contract.py",
        "if not least <= rules.max_tokens <= most:",
        "if not least < rules.max_tokens <= most:",
        "test_contract.py",
        "room for one token beside the markers is refused",
    ),
    Mutation(
        "caches.py",
        "_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH",
        "_OTHERS_WRITE: Final = stat.S_IWOTH",
        "test_caches.py",
        "machine code that a group may write is loaded",
    ),
    Mutation(
        "hits.py",
        "if word.start() <= span[0] < word.end():",
        "if word.start() <= span[0] <= word.end():",
        "test_alignment.py",
        "a sign behind a word is taken for the word",
    ),
)


def mutated(mutation: Mutation, source: str) -> str:
    """The module with its slip.

    Raises:
        ValueError: the line is not in it just once.
    """
    lines = source.splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if line.strip() == mutation.old]
    if len(places) != 1:
        raise ValueError(f"{mutation.module}: has {len(places)} lines {mutation.old!r}; should have one.")
    lines[places[0]] = lines[places[0]].replace(mutation.old, mutation.new)
    return "".join(lines)


def notice(mutation: Mutation, folder: Path) -> str | None:
    """What noticed the slip: the first test that failed; None if none did.

    Raises:
        RuntimeError: the tests could not run, which says nothing.
    """
    copy = folder / "latebolt"
    shutil.copytree(ENGINE, copy, ignore=shutil.ignore_patterns("__pycache__", "models"))
    (copy / "models").symlink_to(ENGINE / "models")
    (copy / mutation.module).write_text(mutated(mutation, (ENGINE / mutation.module).read_text()))
    test = PROJECT / "tests" / "engine" / mutation.test
    # Kernels that are compiled of broken sources stay out of the user's cache.
    env = os.environ | {"PYTHONPATH": str(folder), "LATEBOLT_CACHE": str(folder.parent / "cache")}
    check = [sys.executable, "-c", "import latebolt; print(latebolt.__file__)"]
    where = subprocess.run(check, env=env, capture_output=True, text=True, check=True).stdout.strip()
    if Path(where) != copy / "__init__.py":
        raise RuntimeError(f"latebolt is imported from {where}, not from the copy")
    options = ["-x", "-rfE", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, str(test)]
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"{mutation.test}: ended by signal {-done.returncode}"
    found = re.search(r"^(?:FAILED|ERROR) \S*?tests/engine/(\S+?::\w+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or found is None:
        raise RuntimeError(f"{mutation.test} could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found[1]


def page(rows: list[tuple[Mutation, str]]) -> str:
    """docs/mutations.md."""
    return _HEAD + "".join(row(mutation) + f" {mutation.slip} | `{test}` |\n" for mutation, test in rows)


def row(mutation: Mutation) -> str:
    """How the page's row of a mutation begins."""
    cells = (cell.replace("|", "\\|") for cell in mutation[:3])
    return "|" + "".join(f" `{cell}` |" for cell in cells)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="mutations of modules whose name has this in it")
    parser.add_argument("--write", type=Path, help="where to write the table, if every slip is noticed")
    given = parser.parse_args()
    if given.only and given.write:
        parser.error("--write is for the whole table")
    rows, passed = [], []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        for i, mutation in enumerate(m for m in MUTATIONS if given.only in m.module):
            begun = time.perf_counter()
            test = notice(mutation, folder / str(i))
            took = f"{time.perf_counter() - begun:4.0f} s"
            print(f"{took}  {mutation.module}: {test or 'NOT NOTICED by ' + mutation.test}", flush=True)
            if test is None:
                passed.append(mutation)
            else:
                rows.append((mutation, test))
            shutil.rmtree(folder / str(i))
    print(f"{len(rows)} slips noticed, {len(passed)} not")
    if given.write and not passed:
        given.write.write_text(page(rows))
    return bool(passed)


if __name__ == "__main__":
    sys.exit(main())
