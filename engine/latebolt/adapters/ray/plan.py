"""What an application on Ray Serve is made of: decided from what was asked, before Ray has a part in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from latebolt.adapters.settings import refuse_unknown
from latebolt.checks import check_timeout
from latebolt.errors import InvalidInput
from latebolt.index.format.manifest_file import read_manifest
from latebolt.index.places import is_uri, masked
from latebolt.serve.keys import Keys
from latebolt.serve.process import check_reach, keys_of
from latebolt.serve.settings import INDEX_NAME, Settings, option
from latebolt.sharding.set_file import read_set, shard_place

SECONDS: Final = 10.0
# Settings of `latebolt serve` that mean nothing here, and why.
UNFIT: Final = {
    "index": "Indexes are given by their names and places.",
    "snapshots": "A server of shards makes no snapshots.",
    "overlap": "What runs is replaced without a pause anyway.",
    "device": "Servers of shards encode on the CPU.",
    "gpu_batch_tokens": "Servers of shards encode on the CPU.",
    "gpu_streams": "Servers of shards encode on the CPU.",
}


@dataclass(frozen=True)
class Plan:
    """An application.

    Args:
        places: of each index's shards, by their numbers.
        replicas: of each shard, the fewest and the most.
        servers: replicas of what answers HTTP.
        cpus_per_replica: of a shard.
        seconds: that a search waits for a shard.
        settings, keys: of the server.
    """

    places: dict[str, list[str]]
    replicas: tuple[int, int]
    servers: int
    cpus_per_replica: float
    seconds: float
    settings: Settings
    keys: Keys

    @property
    def cpus(self) -> float:
        """That all of it holds at the least."""
        n_shards = sum(map(len, self.places.values()))
        return n_shards * self.replicas[0] * self.cpus_per_replica + self.servers * self.settings.threads


def plan_of(
    indexes: Mapping[str, str | Path],
    replicas: int | Sequence[int] = 1,
    servers: int = 1,
    cpus_per_replica: float = 1,
    seconds: float = SECONDS,
    settings: Mapping[str, Any] | None = None,
    shards: int | None = None,
) -> Plan:
    """See `serve.application`.

    Raises:
        InvalidInput: an argument or a setting does not fit.
        IndexNotFound, IndexCorrupt: see `read_set`; or of a shard that is a folder.
    """
    if not indexes:
        raise InvalidInput('indexes should name at least one, such as {"docs": "docs.shards"}.')
    for name in indexes:
        if not INDEX_NAME.match(name):
            raise InvalidInput(f'indexes: "{name}" is no name. A name has up to 64 of a-z, 0-9, _ and -.')
    least, most = (replicas, replicas) if isinstance(replicas, int) else replicas
    if not 1 <= least <= most or servers < 1 or cpus_per_replica <= 0:
        raise InvalidInput(
            f"replicas and servers should be at least 1, and cpus_per_replica above 0, got {replicas}, "
            f"{servers} and {cpus_per_replica}."
        )
    chosen = _settings(settings or {})
    keys = keys_of(chosen)
    check_reach(chosen, keys)
    places = {name: _places(place, shards) for name, place in indexes.items()}
    seconds = check_timeout(seconds)
    # Keys go as digests: whatever a cluster is told can be read by whoever reaches its ports.
    told = dataclasses.replace(chosen, keys="")
    return Plan(places, (least, most), servers, cpus_per_replica, seconds, told, keys)


def _settings(given: Mapping[str, Any]) -> Settings:
    known = [each.name for each in dataclasses.fields(Settings)]
    refuse_unknown(given, known, "settings")
    for name, why in UNFIT.items():
        if name in given:
            raise InvalidInput(f"{option(name)} does not go with Ray. {why}")
    return Settings(**{"threads": 1, **given})


def _places(place: str | Path, shards: int | None) -> list[str]:
    """Of a set's shards, by their numbers."""
    if not is_uri(str(place)):
        place = Path(place).expanduser().absolute()
    there = read_set(place).shards
    if shards not in (None, there):
        raise InvalidInput(
            f"{masked(str(place))}: has {there} shards. Leave shards out, or split it into {shards} "
            f'("latebolt split").'
        )
    places = [str(shard_place(place, number)) for number in range(there)]
    if not is_uri(str(place)):
        for each in places:
            read_manifest(Path(each))  # else replicas would look for it one after the other, for a minute
    return places
