"""`latebolt push`: copy an index into Qdrant, and go on where an earlier copy stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latebolt.cli.common import is_terminal, json_option, threads_option
from latebolt.cli.terminal import note, print_json

if TYPE_CHECKING:
    from latebolt import Index
    from latebolt.adapters.qdrant_common.points import Points


@click.command("push")
@click.argument("index", type=click.Path())
@click.option(
    "--to",
    type=click.Choice(["qdrant", "qdrant-edge"]),
    default="qdrant",
    show_default=True,
    help="A Qdrant server or local collection, or a Qdrant Edge shard.",
)
@click.option("--url", help="Of the server, e.g. http://localhost:6333.")
@click.option("--path", type=click.Path(), help="Of local storage or of the shard, instead of --url.")
@click.option("--collection", help="Its name; made if it is not there.  [default: INDEX's name]")
@click.option("--api-key", envvar="QDRANT_API_KEY", show_envvar=True, help="Of the server.")
@click.option("--grpc", is_flag=True, help="Send by gRPC instead of HTTP, to the server's port 6334.")
@click.option(
    "--vectors",
    type=click.Choice(["texts", "codes"]),
    help="Encode the texts again, or use what the codes hold.  [default: texts if INDEX has a model and "
    "1, 2 or 4 bits]",
)
@click.option(
    "--first-stage",
    type=click.Choice(["auto", "mean", "pooled", "learned", "none"]),
    default="auto",
    show_default=True,
    help="Of a new collection: what finds the candidates that MaxSim orders. auto: the cheapest of mean and "
    "pooled vectors that keeps --overlap on a sample of INDEX; learned is fitted to it.",
)
@click.option(
    "--storage",
    type=click.Choice(["auto", "turbo4", "turbo8", "float16", "int8", "float32"]),
    default="auto",
    show_default=True,
    help="Of a new collection: how token vectors are kept. auto: the smallest that keeps --overlap, which "
    "latebolt[qdrant-edge] measures; float32 without it.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.98,
    show_default=True,
    help="Least share of the exact top ten that auto and learned are to keep.",
)
@click.option(
    "--quantization",
    type=click.Choice(["scalar", "binary", "turbo"]),
    help="Of a new collection: keep quantised copies in memory.  [default: none]",
)
@click.option("--on-disk", is_flag=True, help="Of a new collection: read token vectors from disk.")
@click.option("--shards", type=click.IntRange(min=1), help="Of a new collection.  [default: the server's]")
@click.option("--replicas", type=click.IntRange(min=1), help="Of a new collection: copies of each shard.")
@click.option("--prune", is_flag=True, help="Remove from the collection what INDEX does not have.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, cuda:0,cuda:1 or auto.")
@threads_option
@json_option
def push_command(
    index: str,
    to: str,
    url: str | None,
    path: str | None,
    collection: str | None,
    api_key: str | None,
    grpc: bool,
    vectors: str | None,
    first_stage: str,
    storage: str,
    overlap: float,
    quantization: str | None,
    on_disk: bool,
    shards: int | None,
    replicas: int | None,
    prune: bool,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Copy INDEX into Qdrant: ids, texts, metadata and token vectors, for searches by MaxSim.

    Run it again after it was interrupted, or after additions to INDEX: it sends what is missing or has
    changed. Requests are tried again for two minutes while the server is away.

    When documents outgrow one machine: run Qdrant as a cluster, and give the collection several shards and
    replicas. Each machine then holds and searches a part of the documents, and any one of them may fail.

    A new collection keeps what was measured to be enough: queries are made of INDEX's own documents, and a
    first stage and a storage are kept that find 98 % of what comparing everything finds.

    \b
    latebolt push notes.index --url http://localhost:6333
    latebolt push notes.index --path ./qdrant-storage --collection notes
    latebolt push papers.index --url https://qdrant.example.org:6333 --grpc --shards 6 --replicas 2 \\
        --storage int8 --on-disk
    latebolt push notes.index --to qdrant-edge --path ./notes.shard --first-stage learned --overlap 0.95
    """
    from latebolt import Index
    from latebolt.errors import InvalidInput

    if (url is None) == (path is None):
        raise InvalidInput("give one of --url and --path: where the documents go.")
    if to == "qdrant-edge" and url is not None:
        raise InvalidInput("a Qdrant Edge shard is a folder; give --path instead of --url.")
    if to == "qdrant-edge" and (shards or replicas or grpc or on_disk or collection):
        raise InvalidInput("--collection, --grpc, --on-disk, --shards and --replicas fit only --to qdrant.")
    opened = Index.open(index, device=device, threads=threads)
    made: dict[str, Any] = {"like": opened, "quantization": quantization}
    plan = _Plan(vectors, first_stage, storage, overlap, quantization is not None)
    if to == "qdrant-edge":
        done, name = _to_edge(opened, str(path), made, plan, prune), str(path)
    else:
        made |= {"on_disk": on_disk or None, "shard_number": shards, "replication_factor": replicas}
        client = {"url": url, "path": path, "api_key": api_key, "grpc": grpc}
        name = collection or Path(index).resolve().stem
        done = _to_qdrant(opened, client, name, made, plan, prune)
    if as_json:
        print_json({"to": to, "place": url or path, "collection": name, **done})
    else:
        pruned = f", {done['pruned']} removed" if prune else ""
        note(
            f'{index}: {done["sent"]} of {done["documents"]} sent to "{name}" in {done["seconds"]:.1f} s, '
            f"{done['kept']} were there{pruned}"
        )


@dataclass(frozen=True)
class _Plan:
    """How a new collection is to keep documents, as far as the command line says."""

    vectors: Any
    first_stage: str
    storage: str
    overlap: float
    is_quantised: bool

    def chosen(self, index: Index, storages: tuple[str, ...]) -> dict[str, Any]:
        """Arguments of `create`, of what is measured where something is left open; and tell of it."""
        from latebolt.adapters.qdrant_common.trial import chosen, is_open
        from latebolt.adapters.qdrant_common.vectors import default_vectors

        if self.is_quantised or self.first_stage == "none":
            storages = storages[-1:]
        if self.first_stage == "none":
            return {"storage": storages[-1] if self.storage == "auto" else self.storage}
        vectors = self.vectors or default_vectors(index)
        if len(index) and is_open(self.first_stage, self.storage, storages):
            note("measuring what keeps enough, on a sample of the index")
        stage, storage, choice = chosen(
            index, vectors, self.first_stage, self.storage, self.overlap, storages
        )
        if choice is not None:
            note(str(choice))
        measured = None if choice is None else choice.record()
        return {"first_stage": stage, "storage": storage, "measured": measured}


def _to_qdrant(
    index: Index, client: dict[str, Any], name: str, made: dict[str, Any], plan: _Plan, prune: bool
) -> dict[str, Any]:
    from latebolt.adapters.qdrant import Collection, connect, readable_errors
    from latebolt.adapters.qdrant_common.requests import storages_of

    with readable_errors(client["url"] or client["path"]), contextlib.closing(connect(**client)) as connected:
        if connected.collection_exists(name):
            target = Collection.open(connected, name)
        else:
            storages = storages_of(connected)
            if plan.storage == "auto" and len(storages) > 1 and not _has_edge():
                note("qdrant-edge-py is not installed, so storages are not measured: float32.")
                storages = storages[-1:]
            made |= plan.chosen(index, storages)
            target = Collection.create(connected, name, **made)
        with _interruptible():
            return _push(index, target, plan.vectors, prune)


def _to_edge(index: Index, path: str, made: dict[str, Any], plan: _Plan, prune: bool) -> dict[str, Any]:
    from latebolt.adapters.qdrant_common.storage import STORAGES
    from latebolt.adapters.qdrant_edge import Shard

    there = Shard.exists(path)
    if not there:
        made |= plan.chosen(index, tuple(STORAGES))
    with Shard.open(path) if there else Shard.create(path, **made) as target:
        with _interruptible():
            done = _push(index, target, plan.vectors, prune)
        target.optimize()
        return done


def _has_edge() -> bool:
    try:
        import qdrant_edge  # noqa: F401 - whether it can be
    except ImportError:
        return False
    return True


def _push(index: Index, target: Points, vectors: Any, prune: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from latebolt.adapters.qdrant_common.push import push

    done = asdict(push(index, target, vectors, prune, show_progress=is_terminal()))
    return {
        **done,
        "first_stage": target.first_stage,
        "storage": target.storage,
        "measured": target.mark.get("measured"),
    }


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note("what was sent is there; run the same command again to go on.")
        raise
