"""How Qdrant keeps token vectors: names for what its two clients spell each in their own way. Pure.

The engine's own 4 and 8 bits (TurboQuant) take the place of the floats, where "int8" keeps bytes in memory
beside float16 that it compares again. Servers and clients know turbo from 1.19 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from latebolt.errors import InvalidInput


@dataclass(frozen=True)
class Storage:
    """A way to keep token vectors.

    Args:
        name: of it.
        datatype: of the vectors themselves, as Qdrant's REST interface calls it.
        quantization: of what is kept beside them, a key of `QUANTIZATIONS`, or None.
        value_bytes: that a value takes on disk.
    """

    name: str
    datatype: str
    quantization: str | None
    value_bytes: float


# From the smallest on.
STORAGES: Final = {
    each.name: each
    for each in (
        Storage("turbo4", "turbo4", None, 0.5),
        Storage("turbo8", "turbo8", None, 1),
        Storage("float16", "float16", None, 2),
        Storage("int8", "float16", "scalar", 3),
        Storage("float32", "float32", None, 4),
    )
}
QUANTIZATIONS: Final = ("scalar", "binary", "turbo")
TURBO_SINCE: Final = (1, 19)  # versions of servers and of qdrant-client


def named_storage(name: str, has_quantization: bool) -> Storage:
    """A storage by its name.

    Args:
        has_quantization: something is asked for beside it.
    Raises:
        InvalidInput: there is no such storage, or it quantises already.
    """
    found = STORAGES.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidInput(f"storage should be one of {', '.join(STORAGES)}, got {name!r}.")
    if has_quantization and found.name not in ("float32", "float16"):
        raise InvalidInput(
            f'storage "{name}" is quantised itself. Leave quantization out, or use storage "float16".'
        )
    return found
