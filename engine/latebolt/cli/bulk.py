"""What `latebolt encode --on ray` reads and where: files as a Ray dataset, workers that fit the cluster."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from latebolt.adapters.ray import encode as adapter
from latebolt.adapters.ray.cluster import join_or_start
from latebolt.cli.common import is_terminal
from latebolt.corpus.documents import Document, document_of_line
from latebolt.errors import InputNotFound, InvalidInput

_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_MODEL = ("model", "precision", "dim", "device", "threads")
_ENCODE = {"as_query": "query", "pool_factor": "pool_factor", "max_vectors": "max_vectors"}


def encode_on_ray(files: tuple[str, ...], out: str, given: set[str], **options: Any) -> dict[str, Any]:
    """Encode files into parts; a summary for people and programs.

    Args:
        given: names of the options that were written out.
    """
    kind, names = _files(files)
    if kind == "lines" and (unfit := sorted(given & {"text_column", "id_column"})):
        raise InvalidInput(
            f"--{unfit[0].replace('_', '-')} is for Parquet; a line of JSON has its own names."
        )
    join_or_start(options["address"], int((options["workers"] or 1) * options["cpus_per_worker"]) + 1)
    import ray

    # Loud enough to hide our own lines: plans, bars, and pages about an error that we tell in one.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    cpus = options["cpus_per_worker"]
    fit = max(1, int((ray.cluster_resources().get("CPU", 1) - 1) / cpus))
    if kind == "lines":
        lines = ray.data.read_text(names, include_paths=True)
        dataset = lines.map_batches(documents_of_lines, batch_format="pyarrow")
    else:
        dataset = ray.data.read_parquet(names)
    encode: dict[str, Any] = {name: options[name] for name in _MODEL if name in given}
    encode |= {ours: options[name] for name, ours in _ENCODE.items() if name in given}
    summary = adapter.write_parts(
        dataset,
        out,
        options["index"],
        {**encode, "text_column": options["text_column"]},
        options["id_column"],
        options["workers"] or fit,
        options["rows_per_part"],
        {"num_cpus": cpus, "num_gpus": options["gpus_per_worker"]},
        show_progress=is_terminal(),
    )
    return summary.record()


def _files(given: tuple[str, ...]) -> tuple[str, list[str]]:
    """("lines" or "parquet", files): all of one kind; URLs are left to Ray."""
    found: list[str] = []
    for name in given:
        path = Path(name)
        if "://" in name:
            found.append(name)
        elif path.is_dir():
            inside = [str(p) for p in sorted(path.rglob("*")) if p.is_file() and _kind(p.name)]
            if not inside:
                raise InvalidInput(f"{path}: has no .parquet or .jsonl file in it.")
            found += [str(Path(p).absolute()) for p in inside]
        elif not path.exists():
            raise InputNotFound(f"{path}: there is no such file.")
        elif _kind(name) is None:
            raise InvalidInput(f"{path}: is neither a .parquet nor a .jsonl file.")
        else:
            found.append(str(path.absolute()))
    kinds = {_kind(name) or "parquet" for name in found}
    if len(kinds) > 1:
        raise InvalidInput("some files are Parquet and some are JSON lines. Encode them into two folders.")
    return kinds.pop(), found


def _kind(name: str) -> str | None:
    if name.lower().endswith(_LINES):
        return "lines"
    return "parquet" if name.lower().endswith(".parquet") else None


def documents_of_lines(batch: Any) -> Any:
    """Arrow columns `id`, `text` and `metadata` (JSON) from a batch of Ray's `text` and `path`."""
    import pyarrow as pa

    documents: list[Document] = []
    for line, path in zip(batch.column("text").to_pylist(), batch.column("path").to_pylist(), strict=True):
        beginning = line if len(line) <= 60 else line[:60] + "..."
        document = document_of_line(line, f"{path}, the line {beginning!r}")
        if document.id is None:
            raise InvalidInput(
                f'{path}, the line {beginning!r}: has no "id". Every document needs one on Ray.'
            )
        documents.append(document)
    metadata = [d.metadata and json.dumps(d.metadata, ensure_ascii=False) for d in documents]
    columns = {"id": [d.id for d in documents], "text": [d.text for d in documents], "metadata": metadata}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
