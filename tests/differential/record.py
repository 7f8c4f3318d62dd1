"""Compares every kept case and writes the table: layout x library x version x settings, as JSON and Markdown.

    python -m differential.record KEPT RESULT EVERY

Every EVERYth case goes through an export and an Encoder, the others through the reading and our module.
RESULT.json holds a row a case with its settings, RESULT.md the summary and the refusals by name. A second run
takes up what RESULT.jsonl says is done.
"""

from __future__ import annotations

import collections
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from differential import comparing, keeping
from differential.texts import TEXTS

LAYOUTS = {"sentence-transformers": "MultiVectorEncoder", "colbert-ai": "Stanford"}


def rows(kept: Path, result: Path, every: int) -> list[dict[str, Any]]:
    """A row a case, from the lines of an earlier run where there are such."""
    lines = result.with_suffix(".jsonl")
    done = {}
    if lines.exists():
        done = {row["case"]: row for row in map(json.loads, lines.read_text().splitlines())}
    with lines.open("a") as out:
        for number, place in enumerate(keeping.cases(kept)):
            if place.name in done:
                continue
            found = comparing.compare(place, exported=number % every == 0)
            done[place.name] = {
                "case": place.name,
                "layout": LAYOUTS.get(found.library, "PyLate"),
                "library": found.library.partition(" ")[0],
                "version": found.version,
                "through": "export" if number % every == 0 else "module",
                "outcome": found.outcome,
                "detail": found.detail,
                "their_tokens": found.tokens[0],
                "our_tokens": found.tokens[1],
                "largest_difference": found.worst,
                "settings": found.settings,
            }
            out.write(json.dumps(done[place.name]) + "\n")
            out.flush()
    return [done[name] for name in sorted(done)]


def markdown(found: list[dict[str, Any]]) -> str:
    """The summary of rows, and the refusals by name."""
    groups = collections.defaultdict(list)
    for row in found:
        groups[row["layout"], row["library"], row["version"]].append(row)
    through = collections.Counter(row["through"] for row in found)
    out = [
        "# Checkpoints as libraries save them, beside the libraries",
        "",
        "Models drawn at random over what each library lets one set, saved by it and read by latebolt; "
        f"{len(TEXTS)} texts that hurt, as queries and as documents. {through['export']} models went through "
        f"an export (float32) and an Encoder, {through['module']} through the reading, the text rules and "
        "the PyTorch module that exports start from. The JSON file beside has a row a model, settings too. "
        "Made by `make record-differential`.",
        "",
        "| layout | library | version | models | same | refused by name | refused by "
        "the library | different | tokens, theirs | tokens, ours | largest difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (layout, library, version), members in sorted(groups.items()):
        counts = collections.Counter(row["outcome"] for row in members)
        same = [row for row in members if row["outcome"] == "same"]
        wrong = sum(count for outcome, count in counts.items() if outcome not in comparing.GOOD)
        out.append(
            f"| {layout} | {library} | {version} | {len(members)} | {counts['same']} | {counts['refused']} | "
            f"{counts['their own refusal']} | {wrong} | {sum(row['their_tokens'] for row in same):,} | "
            f"{sum(row['our_tokens'] for row in same):,} | "
            f"{max((row['largest_difference'] for row in same), default=0):.1e} |"
        )
    out += ["", "## Refusals by name", ""]
    refusals = collections.Counter(
        row["detail"].partition(": ")[2] for row in found if row["outcome"] == "refused"
    )
    out += [f"- {count} x {reason}" for reason, count in sorted(refusals.items())] or ["None."]
    wrong = [row for row in found if row["outcome"] not in comparing.GOOD]
    out += [
        "",
        "## Differences",
        "",
        *(f"- {row['case']}: {row['outcome']}: {row['detail']}" for row in wrong),
    ]
    return "\n".join(out if wrong else [*out[:-1], "None."]) + "\n"


def main(kept: Path, result: Path, every: int) -> int:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = rows(kept, result, every)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in found)
    result.with_suffix(".json").write_text(f"[\n{lines}\n]\n")
    result.with_suffix(".jsonl").unlink()
    result.with_suffix(".md").write_text(markdown(found))
    return sum(row["outcome"] not in comparing.GOOD for row in found)


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])) else 0)
