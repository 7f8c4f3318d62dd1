"""`latebolt serve --on ray`: an application on a cluster, until a signal ends it or for good."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latebolt.errors import InvalidInput
from latebolt.index.places import is_uri
from latebolt.serve import log
from latebolt.serve.settings import Settings
from latebolt.sharding.set_file import is_shard_set


def serve_on_ray(given: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    """Serve indexes on Ray.

    Args:
        given: settings of the server that were given.
        options: those of Ray alone.
    Returns:
        The exit code.
    Raises:
        InvalidInput: they do not go together.
    """
    log.set_up(given.get("log_level", Settings.log_level))
    indexes = places(given.get("index", ()), options["shards"])
    from latebolt.adapters.ray import serve as adapter

    settings = {name: value for name, value in given.items() if name not in ("index", "workers", "data")}
    least, most = options["replicas"], options["most_replicas"] or options["replicas"]
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # ours say the same in one line
    stopping = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stopping.set())
    with adapter.running(
        indexes,
        options["address"],
        options["name"],
        keep=options["detach"],
        replicas=(least, most),
        servers=given.get("workers", 1),
        cpus_per_replica=options["cpus_per_replica"],
        seconds=options["shard_timeout"],
        settings=settings,
        shards=options["shards"],
        replicas_per_node=options["replicas_per_node"],
    ) as url:
        log.event("listening", url=url, application=options["name"], indexes=sorted(indexes))
        if not options["detach"]:
            stopping.wait()
    log.event("left running" if options["detach"] else "stopped", application=options["name"])
    return 0


def places(given: Sequence[str], shards: int | None) -> dict[str, str]:
    """Name -> place of shard sets.

    Args:
        given: NAME=PLACE of each.
        shards: how many are expected; None where folders say that.
    Raises:
        InvalidInput: one is not NAME=PLACE, a name is given twice, a folder is no set, or of another number.
    """
    if not given:
        raise InvalidInput("--on ray serves indexes that are there: give --index NAME=FOLDER.")
    found: dict[str, str] = {}
    for each in given:
        name, _, place = each.partition("=")
        if name in found:
            raise InvalidInput("--index: a name is given twice. Every index needs a name of its own.")
        found[name] = _place(each, name, place, shards)
    return found


def _place(each: str, name: str, place: str, shards: int | None) -> str:
    if is_uri(place):
        return place  # which is asked how many there are
    local = Path(Settings(index=(each,)).given_indexes[name])  # which refuses what is none
    if not is_shard_set(local):
        out = f"{local}.shards"
        raise InvalidInput(
            f"--index {each}: this is no shard set. Split the index once, which encodes nothing: "
            f'"latebolt split {local} {out} --shards {shards or 2}", and give --index {name}={out}.'
        )
    return str(local)
