"""Late-interaction (ColBERT-style) retrieval without PyTorch.

The public names, each loaded on first use, so that `import latebolt` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latebolt.index import places
from latebolt.onnx_runtime import switch_off_telemetry

if TYPE_CHECKING:
    import os

    from latebolt.encoder.encoder import Encoder
    from latebolt.errors import LateboltError
    from latebolt.hits import Hit
    from latebolt.index.index import Index
    from latebolt.index.store.store import Store
    from latebolt.scoring import maxsim
    from latebolt.values import TokenVectors

__version__ = "0.1.0"

switch_off_telemetry()  # before anything of this process can load ONNX Runtime


def _open_uri(uri: str, cache: str | os.PathLike[str] | None, refresh: float | None) -> Store:
    """What `Index.open` opens URIs with; loaded with the first one."""
    from latebolt.objects.remote_store import RemoteStore

    return RemoteStore.open_at(uri, cache, refresh)


def _read_at(uri: str, name: str, most: int) -> bytes:
    """What is read at URIs with."""
    from latebolt.objects.object_store import ObjectStore

    return ObjectStore(uri).read(name, 0, most)


places.register(_open_uri, _read_at)

_HOMES = {
    "Encoder": "latebolt.encoder.encoder",
    "Hit": "latebolt.hits",
    "Index": "latebolt.index.index",
    "LateboltError": "latebolt.errors",
    "TokenVectors": "latebolt.values",
    "maxsim": "latebolt.scoring",
}

__all__ = ["Encoder", "Hit", "Index", "LateboltError", "TokenVectors", "__version__", "maxsim"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latebolt' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
