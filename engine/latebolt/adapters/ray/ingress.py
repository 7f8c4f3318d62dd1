"""The deployment that answers HTTP: the application of `latebolt serve`, whose indexes lie on Ray's shards.

It encodes a query once and asks the shards. Several replicas may run; each has a model, and a replica is
ready when every shard has answered it once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from latebolt.adapters.ray.cluster import keep_to_this_machine, listens_at
from latebolt.adapters.ray.shard import Handle, RayShard
from latebolt.errors import LateboltError
from latebolt.serve import log
from latebolt.serve.http.app import make_app
from latebolt.serve.keys import Keys
from latebolt.serve.process import check_reach
from latebolt.serve.settings import Settings
from latebolt.serve.state.holdings import Wanted
from latebolt.serve.state.service import Service
from latebolt.serve.state.shards import ShardedIndexes, sharded_holdings

_LOOK_SECONDS: Final = 0.05
_WRITE_SHARE: Final = 0.9  # of the time that a request has: a shard's error comes before the request's end
_REQUEST_ID: Final = b"x-request-id"


class Front:
    """The ASGI application that Ray is given: that of this process's `Ingress`, once it is there."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, or the lifespan."""

        async def pass_on(message: Any) -> None:
            if message["type"] == "http.response.start":  # Ray's proxy says the same id
                message["headers"] = [each for each in message["headers"] if each[0] != _REQUEST_ID]
            await send(message)

        await FRONT.app(scope, receive, pass_on)


FRONT: Final = Front()


class Ingress:
    """A replica that answers HTTP.

    Args:
        settings: of the server; without keys, which are given apart.
        keys: those in force. Their file is read again when it changes, where this replica finds it.
        handles: of the deployments of each index's shards, in the order of their numbers.
    """

    def __init__(self, settings: Settings, keys: Keys, handles: Mapping[str, Sequence[Handle]]) -> None:
        keep_to_this_machine()
        log.set_up(settings.log_level)
        settings = dataclasses.replace(settings, host=listens_at()[0])
        check_reach(settings, keys)  # whoever started Ray Serve has decided who reaches it
        self._settings, self._handles = settings, handles
        self._service = Service(settings, keys, holdings=sharded_holdings({}, 0.0))
        FRONT.app = make_app(self._service)
        self._service.start()

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """For Ray, at the start, and when the application is run again with other places.

        Args:
            config: `places` of each index's shards, and `seconds` that a search waits for one.
        """
        while not self._service.is_loaded:
            if self._service.failure is not None:
                raise self._service.failure
            await asyncio.sleep(_LOOK_SECONDS)
        seconds = config["seconds"], _WRITE_SHARE * self._settings.timeout
        shards = {
            # There are more handles than places for as long as others may ask what goes.
            name: [
                RayShard(handle, place, *seconds)
                for handle, place in zip(self._handles[name], places, strict=False)
            ]
            for name, places in config["places"].items()
        }
        await asyncio.to_thread(self._take, shards, config["seconds"])

    def _take(self, shards: Mapping[str, Sequence[RayShard]], seconds: float) -> None:
        """Ask each index once before it is answered for, so that no request waits for what is being opened.
        Where a shard is dead this replica answers for the others all the same."""
        indexes = self._service.indexes
        assert isinstance(indexes, ShardedIndexes)
        new = ShardedIndexes(shards, indexes.encoder_of, seconds)
        end = time.monotonic() + self._settings.timeout
        for name in shards:
            while time.monotonic() < end:
                try:
                    new.search(name, ["warm up"], Wanted(1, b"null", False, "late"))
                    break
                except LateboltError as error:
                    log.event("index not usable", logging.WARNING, index=name, **log.error_fields(error))
                    time.sleep(_LOOK_SECONDS)
        indexes.replace(shards, seconds)

    def check_health(self) -> None:
        """For Ray, which starts another replica where this raises."""
        if self._service.state == "broken":
            raise LateboltError("the encoder has stopped by an error of ours.")
