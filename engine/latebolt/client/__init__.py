"""A small client for a running `latebolt serve`: `Client`, and `AsyncClient` for programs that await.

Typed answers, retries with growing pauses, errors that say what the server said. Needs httpx2 (the extra
`client`) and loads neither NumPy nor the engine: a program that only asks stays small.
"""

from __future__ import annotations

from latebolt.client.answers import Added, Document, IndexInfo, Job, ModelInfo, SnapshotInfo
from latebolt.client.asynchronous import AsyncClient
from latebolt.client.synchronous import Client
from latebolt.errors import RequestInvalid, ServerError, ServerUnreachable

__all__ = [
    "Added",
    "AsyncClient",
    "Client",
    "Document",
    "IndexInfo",
    "Job",
    "ModelInfo",
    "RequestInvalid",
    "ServerError",
    "ServerUnreachable",
    "SnapshotInfo",
]
