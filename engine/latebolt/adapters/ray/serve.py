"""An index on several machines, by Ray Serve: shards in replicas, and servers that ask them.

`application` is what Ray Serve runs, for those who run it themselves; `build` gives the same for a Serve
config file; `deploy` runs it and says where it answers. What runs is changed by running it again: places are
exchanged while requests are answered, replicas are replaced one after the other, and no request fails for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from latebolt import __version__
from latebolt.adapters.ray.cluster import join_or_start, missing, serve_started
from latebolt.adapters.ray.ingress import FRONT, Ingress
from latebolt.adapters.ray.plan import SECONDS, Plan, plan_of
from latebolt.adapters.ray.shard import MOST_ASKED, ShardReplica
from latebolt.adapters.settings import refuse_unknown, settings_of
from latebolt.errors import InvalidInput, LateboltError

try:
    import ray
    from ray import serve
except ImportError as error:
    raise missing() from error

NAME: Final = "latebolt"
_HEALTH_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5  # between two looks whether a replica that is to go has answered all
_QUEUED: Final = 64  # requests beyond those that a server takes, which it refuses by itself
_BUSY: Final = 4  # searches that a shard's replica works at before Ray adds another one
_OF_RAY: Final = ("replicas_per_node", "shard_options", "server_options")
_EVERYWHERE: Final = ("0.0.0.0", "::", "")


def application(
    indexes: Mapping[str, str | Path],
    replicas: int | Sequence[int] = 1,
    servers: int = 1,
    cpus_per_replica: float = 1,
    seconds: float = SECONDS,
    settings: Mapping[str, Any] | None = None,
    shards: int | None = None,
    replicas_per_node: int | None = None,
    shard_options: Mapping[str, Any] | None = None,
    server_options: Mapping[str, Any] | None = None,
) -> Any:
    """What `ray.serve.run` takes: a deployment for each shard of each index, and one that answers HTTP.

    Args:
        indexes: name -> shard set, as `latebolt split` makes it: a folder that every node reaches under this
            name, or a URI below which the shards were published, which are read only.
        replicas: of each shard; two numbers for the fewest and the most, of which Ray chooses by the load.
        servers: replicas of what answers HTTP, each with a model.
        cpus_per_replica: of a shard's replica, and so its threads, at least one.
        seconds: that a search waits for a shard before it is an error, or a partial answer.
        settings: of the server, by the names of `latebolt serve`; "threads" are those of one server, "host"
            and "port" are Ray Serve's.
        shards: how many each set is expected to have; None for any number.
        replicas_per_node: of a shard at most. By default Ray spreads them as it can; 1 makes sure that a
            shard with two replicas outlives a node, and that one more than there are nodes waits for another.
        shard_options, server_options: of Ray's actors, such as {"resources": {"disk": 1}}.
    Returns:
        A `ray.serve.Application`.
    Raises:
        InvalidInput: an argument or a setting does not fit.
        IndexNotFound: there is no shard set in a folder, or a shard of it is missing.
        IndexCorrupt: its description is damaged.
    """
    plan = plan_of(indexes, replicas, servers, cpus_per_replica, seconds, settings, shards)
    return _application(plan, {}, _new_run(), replicas_per_node, shard_options, server_options)


def build(args: dict[str, Any]) -> Any:
    """`application` for a Serve config file: `import_path: latebolt.adapters.ray.serve:build`, and `args` by
    the names of its arguments.

    Raises:
        UnknownSetting: there is no such argument.
    """
    refuse_unknown(args, settings_of(application), "latebolt.adapters.ray.serve")
    return application(**args)


def deploy(
    indexes: Mapping[str, str | Path], address: str | None = None, name: str = NAME, **options: Any
) -> str:
    """Run the application, or put it in the place of the one of that name that runs.

    Args:
        address: of the cluster; RAY_ADDRESS by default. Where that is not set either, and this process has
            joined none, one is started on this machine, which ends with this process.
        name: of the application.
        options: see `application`.
    Returns:
        The URL that it answers at, of this machine.
    Raises:
        InvalidInput: an argument does not fit, or the cluster is too small.
        LateboltError: no cluster answers, or a replica cannot start; says why.
    """
    refuse_unknown(options, settings_of(application), "deploy")
    plan = plan_of(indexes, **{key: each for key, each in options.items() if key not in _OF_RAY})
    of_ray = {key: options[key] for key in _OF_RAY if key in options}
    join_or_start(address, plan.cpus)
    there = ray.cluster_resources().get("CPU", 0)
    if there < plan.cpus:
        raise InvalidInput(
            f"the cluster has {there:g} CPUs, and all replicas together want {plan.cpus:g}. Give each less, "
            f"e.g. cpus_per_replica 0.5, or add machines."
        )
    host, port = serve_started(plan.settings.host, plan.settings.port)
    given = {key: (options.get("settings") or {}).get(key) for key in ("host", "port")}
    if given["host"] not in (None, host) or given["port"] not in (None, port):
        raise InvalidInput(
            f"Ray Serve of this cluster listens at {host}, port {port}, since it was started. Leave host and "
            f"port out, or stop it with serve.shutdown(), which ends all of its applications."
        )
    old, run = _left_over(name, plan), _new_run()
    if old:  # what servers still ask goes when none asks it any more
        _run(_application(plan, old, run, **of_ray), name)
    _run(_application(plan, {}, run, **of_ray), name)
    return f"http://{'127.0.0.1' if host in _EVERYWHERE else host}:{port}"


@contextlib.contextmanager
def running(
    indexes: Mapping[str, str | Path],
    address: str | None = None,
    name: str = NAME,
    keep: bool = False,
    **options: Any,
) -> Iterator[str]:
    """`deploy`, and at the end of the block delete the application, and a cluster that was started for it.

    Args:
        keep: leave it running, which a cluster that is started for it cannot.
    Yields:
        The URL.
    Raises:
        InvalidInput, LateboltError: see `deploy`.
    """
    joined = ray.is_initialized() or bool(address or os.environ.get("RAY_ADDRESS"))
    if keep and not joined:
        raise InvalidInput(
            "a cluster that is started here ends with this process. Give the address of another."
        )
    try:
        yield deploy(indexes, address, name, **options)
        if joined and not keep:
            serve.delete(name)
    finally:
        if not joined and ray.is_initialized():
            serve.shutdown()
            ray.shutdown()


def _run(made: Any, name: str) -> None:
    try:
        serve.run(made, name=name, route_prefix="/")
    except RuntimeError as error:
        # Why, Ray says of the deployment; of the application it says which.
        found = serve.status().applications.get(name)
        said = [each.message for each in found.deployments.values()] if found is not None else []
        messages = re.findall(r"latebolt\.[a-z_.]+\.\w+: (.*)", "\n".join([str(error), *said]))
        if not messages:
            raise
        raise LateboltError(f"a replica cannot start: {messages[-1]}") from error


def _left_over(name: str, plan: Plan) -> dict[str, int]:
    """Shards that the application of that name has, by the names of indexes, where these have fewer now."""
    found = serve.status().applications.get(name)
    had: Counter[str] = Counter()
    for each in found.deployments if found is not None else ():
        index, _, number = each.rpartition("-")
        if index and number.isdecimal():
            had[index] = max(had[index], int(number) + 1)
    return {index: n for index, n in had.items() if n > len(plan.places.get(index, ()))}


def _new_run() -> str:
    return uuid.uuid4().hex


def _application(
    plan: Plan,
    old: Mapping[str, int],
    run: str,
    replicas_per_node: int | None = None,
    shard_options: Mapping[str, Any] | None = None,
    server_options: Mapping[str, Any] | None = None,
) -> Any:
    """See `application`.

    Args:
        old: shards that stay for now although no server will ask them, by the names of indexes.
        run: whose servers these are; those of another one are replaced.
    """
    alike = {
        "ray_actor_options": {"num_cpus": plan.cpus_per_replica, **(shard_options or {})},
        "max_replicas_per_node": replicas_per_node,
    }
    bound = {}
    for name in {**plan.places, **old}:
        places = plan.places.get(name, [])
        places = places + [""] * max(0, old.get(name, 0) - len(places))
        bound[name] = [_shard(f"{name}-{number}", place, plan, alike) for number, place in enumerate(places)]
    server = serve.deployment(
        name="server",
        num_replicas=plan.servers,
        ray_actor_options={"num_cpus": plan.settings.threads, **(server_options or {})},
        user_config={"places": plan.places, "seconds": plan.seconds},
        max_ongoing_requests=plan.settings.queue_requests + _QUEUED,
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_wait_loop_s=_LOOK_SECONDS,
        graceful_shutdown_timeout_s=plan.settings.shutdown,
    )(serve.ingress(FRONT)(Ingress))
    server = server.options(version=run, _internal=True)
    return server.bind(plan.settings, plan.keys, bound)


def _shard(name: str, place: str, plan: Plan, alike: Mapping[str, Any]) -> Any:
    least, most = plan.replicas
    number: dict[str, Any] = {"num_replicas": least}
    if least < most:
        scaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": _BUSY}
        number = {"autoscaling_config": scaling}
    deployment = serve.deployment(
        name=name,
        user_config={"place": place},
        max_ongoing_requests=MOST_ASKED,
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_wait_loop_s=_LOOK_SECONDS,
        graceful_shutdown_timeout_s=plan.settings.shutdown,
        **number,
        **alike,
    )
    threads = max(1, int(plan.cpus_per_replica))
    # Ray replaces replicas of another version, and where none is told it makes up one for each run; this is
    # the one way to tell it. Another place is no other version: `reconfigure` is told of it.
    version = f"{__version__}, threads {threads}"
    return deployment(ShardReplica).options(version=version, _internal=True).bind(threads)
