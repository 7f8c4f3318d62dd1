"""`latebolt info`, `check` and `compact`: look at an index, verify it, tidy it."""

from __future__ import annotations

from pathlib import Path

import click

from latebolt.cli.common import human_bytes, json_option, open_index, quiet_stores
from latebolt.cli.terminal import note, print_json, say


@click.command("info")
@click.argument("index", type=click.Path())
@json_option
def info_command(index: str, as_json: bool) -> None:
    """Print what INDEX holds: documents, tokens, bytes, model, codec.

    \b
    latebolt info notes.index
    latebolt info notes.index --json
    """
    with open_index(index) as opened:
        info = opened.info()
    if as_json:
        print_json(info)
        return
    cut = f"of at most {info['passage_tokens']} tokens, {info['passage_overlap']} of them shared"
    cut += ", encoded within the text around them" if info["late_chunking"] else ""
    rows = {
        "documents": f"{info['documents']} ({info['deleted']} deleted, not yet compacted)",
        **({"passages": f"{info['passages']} {cut}"} if info["passage_tokens"] else {}),
        "tokens": f"{info['tokens']}",
        **({"pooled": pooled} if (pooled := _pooled(info["pool_factor"], info["max_vectors"])) else {}),
        **({"cut off": _cut_off(info["truncated"])} if info["truncated"] else {}),
        "model": f"{info['model']} {info['precision']}, dim {info['dim']}",
        "store": f"{info['bits']} bits, {info['bytes_per_token']:.0f} bytes a token"
        + (f", {info['centroids']} centroids" if info["centroids"] else ", no centroids yet"),
        "on disk": f"{human_bytes(info['bytes'])} in {info['segments']} segments"
        + (f" of {len(info['shards'])} shards" if "shards" in info else ""),
    }
    for name, value in rows.items():
        say(f"{name:<12}{value}")


def _pooled(factor: int, most: int | None) -> str:
    parts = [f"one vector of about {factor}"] if factor > 1 else []
    parts += [] if most is None else [f"at most {most} of a text"]
    return " and ".join(parts) + (" is kept" if parts else "")


def _cut_off(n: int) -> str:
    return f"{n} of them longer than the model reads; index again with passages to have all of it found"


@click.command("check")
@click.argument("index", type=click.Path())
@json_option
def check_command(index: str, as_json: bool) -> int:
    """Verify every byte of INDEX against its checksums; exit code 1 when something is wrong.

    Of a URI, all that its newest commit needs is read from there.

    \b
    latebolt check notes.index
    """
    from latebolt.index.places import is_uri
    from latebolt.index.store.check import check_index
    from latebolt.sharding import check_set, is_shard_set

    if is_uri(index):
        return _check_published(index, as_json)
    problems = check_set(index) if is_shard_set(Path(index)) else check_index(index)
    if as_json:
        print_json([{"path": str(p.path), "field": p.field, "message": p.message} for p in problems])
    else:
        for problem in problems:
            say(str(problem.message))
        note(f"{index}: {len(problems)} problems" if problems else f"{index}: sound")
    return 1 if problems else 0


def _check_published(uri: str, as_json: bool) -> int:
    from latebolt.objects.checking import check_published
    from latebolt.objects.object_store import ObjectStore

    quiet_stores()
    store = ObjectStore(uri)
    problems = check_published(store)
    if as_json:
        print_json([{"path": str(p.path), "field": p.field, "message": str(p)} for p in problems])
    else:
        for problem in problems:
            say(str(problem))
        note(f"{store.uri}: {len(problems)} problems" if problems else f"{store.uri}: sound")
    return 1 if problems else 0


@click.command("compact")
@click.argument("index", type=click.Path())
@json_option
def compact_command(index: str, as_json: bool) -> None:
    """Rewrite INDEX without deleted documents; searches go on meanwhile.

    \b
    latebolt compact notes.index
    """
    from latebolt import Index

    opened = Index.open(index)
    before = opened.info()
    opened.compact()
    after = opened.info()
    if as_json:
        print_json({"before": before, "after": after})
    else:
        note(
            f"{index}: {before['segments']} -> {after['segments']} segments, "
            f"{human_bytes(before['bytes'])} -> {human_bytes(after['bytes'])}"
        )
