"""A Ray cluster to work on: the one that was named or joined before, or a new one on this machine.

A new one reports no use of itself, has no dashboard, and listens to this machine only: whoever reaches the
ports of a cluster can have it run any code.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final

from latebolt.errors import LateboltError, RuntimeUnavailable


def missing() -> RuntimeUnavailable:
    """The error where Ray, or what its server needs, is not installed."""
    return RuntimeUnavailable("Ray is not installed. Run \"pip install 'latebolt[cpu,serve,ray]'\".")


try:
    import ray
except ImportError as error:
    raise missing() from error

# Ray's switch for systems on which it makes no cluster of several machines, and listens to this one only.
_SWITCH: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_LOOK_SECONDS: Final = 10


def prepare_cluster() -> None:
    """Before we start a cluster: it reports no use of itself, and has a minute to begin to listen on a busy
    machine, where Ray gives it 5 seconds. What the environment says already stays."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")


def join_or_start(address: str | None, cpus: float) -> bool:
    """Join a cluster, or start one on this machine; nothing where this process has joined one already.

    Args:
        address: of the cluster; RAY_ADDRESS by default, and where that is not set either one is started.
        cpus: that the work wants; a cluster that is started says that it has as many, if the machine has
            fewer.
    Returns:
        Whether it was started, and ends with this process.
    Raises:
        LateboltError: no cluster answers there.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            host, separator, port = address.rpartition(":")
            if separator and "://" not in address and port.isdecimal():
                # Ray would try for minutes.
                socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_SECONDS).close()
            with _signals_kept():
                ray.init(address=address, **quiet)
            return False
        prepare_cluster()
        wanted = max(os.cpu_count() or 1, math.ceil(cpus))
        with _this_machine_only(), _signals_kept():
            # "local": else it would join whichever cluster somebody has started on this machine.
            ray.init("local", num_cpus=wanted, include_dashboard=False, **quiet)
    except OSError as error:
        raise LateboltError(
            f'no Ray cluster answers at {address} ({error}). Start one with "ray start --head", or leave '
            f"--address out to work on this machine."
        ) from error
    return True


def serve_started(host: str, port: int) -> tuple[str, int]:
    """Start Ray Serve, with a proxy on every node that has a replica, unless it runs.

    Returns:
        Address and port that its proxies listen at; those of its first start.
    """
    from ray import serve

    if _client() is None:
        serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
    return listens_at()


def listens_at() -> tuple[str, int]:
    """Address and port that the proxies of Ray Serve, which runs, listen at."""
    options = _client().http_config
    return options.host, options.port


def _client() -> Any:
    """Of the Ray Serve that runs; None for none. What is public does not tell where it listens."""
    from ray.serve.context import _get_global_client

    return _get_global_client(raise_if_no_controller_running=False)


def keep_to_this_machine() -> None:
    """For a replica as it starts: where the cluster listens to this machine only, its own port does, too.

    Ray Serve opens one for calls between replicas when a replica has started, on all addresses, whatever the
    cluster's are; there is no setting.
    """
    from ray.serve._private import replica

    place: Any = replica
    add_port = getattr(place, "add_port_to_grpc_server", None)
    if add_port is not None and os.environ.get(_SWITCH) == "0":
        place.add_port_to_grpc_server = lambda server, address: add_port(
            server, address.replace("[::]", "127.0.0.1")
        )


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """SIGTERM stays the caller's: Ray puts a handler in its place that aborts the process with a page of
    addresses."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _this_machine_only() -> Iterator[None]:
    """Processes of Ray that start meanwhile listen at the loopback address, not at all that there are."""
    constants = ray._private.ray_constants  # which has read the switch
    before = os.environ.get(_SWITCH), constants.ENABLE_RAY_CLUSTER
    os.environ[_SWITCH], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before[0]
